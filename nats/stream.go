package nats

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/seed-58bc6ac1/realtime"
)

// stream is a topic with history that has members or publishers here.
type stream struct {
	b       *Broker
	topic   string
	subject string        // under which its events are stored
	copies  string        // under which they are carried to the nodes
	turn    chan struct{} // full while an event is being stored: those of one node do not compete
	mending chan struct{} // full while the server's stream is read

	users int       // guarded by Broker.mu: calls under way, and subscriptions
	used  time.Time // guarded by Broker.mu: when the last of them ended

	mu   sync.Mutex // guards the following; held while delivering
	subs []*subscription
	sub  *client.Subscription // not nil while there are subs: then at is what was delivered
	next *client.Subscription // while sub is being made

	at      position // zero if it is not known
	since   time.Time
	seqs    []uint64      // where the newest events are stored, the last one at
	heard   uint64        // highest sequence that the server has mentioned
	stale   bool          // it may be that heard was not delivered
	queued  bool          // for a mendLoop
	suspect uint64        // sequence that was not here at the last look
	own     own           // what the publisher whose turn it is has sent
	moved   chan struct{} // closed when at changes, nil if nobody waits
}

// own is an event on its way to the server.
type own struct {
	id    uint64
	taken bool // it has come back, and was delivered
	at    position
}

const (
	// manySeqs is how many sequences of the newest events a stream remembers, so that
	// a client that was away for a moment is served by one short page.
	manySeqs = 128

	// idleStreams is how many streams are remembered that nobody uses at the moment.
	idleStreams = 10_000
)

func newID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// begin returns the beginning of a new epoch.
func begin() position { return position{epoch: rand.Text()[:12], id: newID()} }

// stream returns the stream of a topic for a user, who calls leave afterwards.
func (b *Broker) stream(topic string) *stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.streams[topic]
	if s == nil {
		name := token(topic)
		s = &stream{b: b, topic: topic, subject: b.config.prefix + ".h." + name, copies: b.config.prefix + ".r." + name,
			turn: make(chan struct{}, 1), mending: make(chan struct{}, 1)}
		b.streams[topic] = s
	}
	s.users++
	return s
}

func (b *Broker) leave(s *stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.users--
	s.used = time.Now()
	if s.users == 0 && len(b.streams) > idleStreams {
		delete(b.streams, s.topic)
	}
}

// subscribeStored implements Subscribe for topics with history.
func (b *Broker) subscribeStored(ctx context.Context, topic string, keep realtime.Retention, deliver func(*realtime.Event)) (*realtime.Position, func(), error) {
	if err := b.store.fit(ctx, keep.Size); err != nil {
		return nil, nil, err
	}
	s, one := b.stream(topic), &subscription{deliver}
	from, err := s.subscribe(ctx, one)
	if err != nil {
		b.leave(s)
		return nil, nil, err
	}
	return &from, func() { s.unsubscribe(one); b.leave(s) }, nil
}

func (s *stream) subscribe(ctx context.Context, one *subscription) (realtime.Position, error) {
	if from, ok := s.join(one, nil, stored{}); ok {
		return from, nil
	}
	if err := enter(ctx, s.mending); err != nil {
		return realtime.Position{}, err
	}
	defer exit(s.mending)
	if from, ok := s.join(one, nil, stored{}); ok {
		return from, nil
	}
	if err := s.b.connected(); err != nil {
		return realtime.Position{}, err
	}
	return s.open(ctx, one)
}

// open subscribes at the server and then looks where the topic stands: what is
// stored later is heard of.
func (s *stream) open(ctx context.Context, one *subscription) (realtime.Position, error) {
	sub, err := s.b.listen(s.copies, s)
	if err != nil {
		return realtime.Position{}, err
	}
	s.mu.Lock()
	s.next, s.heard = sub, 0
	s.mu.Unlock()
	at, err := stored{}, s.b.nc.FlushWithContext(ctx)
	if err == nil {
		at, err = s.look(ctx)
	}
	if err != nil {
		s.mu.Lock()
		s.next = nil
		s.mu.Unlock()
		s.b.unlisten(s.copies, s)
		sub.Unsubscribe()
		return realtime.Position{}, err
	}
	from, _ := s.join(one, sub, at)
	return from, nil
}

// look returns where the topic stands, and begins its first epoch if there is none.
func (s *stream) look(ctx context.Context) (stored, error) {
	for {
		last, ok, err := s.b.store.last(ctx, s.subject)
		if err != nil || ok {
			return last, err
		}
		first := record{position: begin(), kind: kindPosition}
		first.seq, err = s.b.store.append(ctx, s.subject, &first, 0, memoryUnused)
		if !errors.Is(err, errConflict) {
			return stored{first, time.Now()}, err
		}
	}
}

// join adds a subscription if the stream is followed already, or from now on by sub,
// from a message on.
func (s *stream) join(one *subscription, sub *client.Subscription, at stored) (from realtime.Position, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub != nil {
		s.sub, s.next, s.stale = sub, nil, false
		s.at, s.since, s.seqs = at.position, at.at, nil
		if s.heard > s.at.seq {
			s.mendLocked()
		}
	}
	if s.sub == nil {
		return from, false
	}
	s.subs = append(s.subs, one)
	return realtime.Position{Epoch: s.at.epoch, Offset: s.at.offset}, true
}

func (s *stream) unsubscribe(one *subscription) {
	s.mu.Lock()
	s.subs = slices.DeleteFunc(s.subs, func(o *subscription) bool { return o == one })
	last := len(s.subs) == 0
	s.mu.Unlock()
	if last {
		s.hush()
	}
}

// hush ends the subscription at the server, unless somebody has come meanwhile. What
// is known of the topic remains as a guess for publishers.
func (s *stream) hush() {
	s.mu.Lock()
	sub := s.sub
	if sub == nil || len(s.subs) > 0 && s.b.ended.Err() == nil {
		s.mu.Unlock()
		return
	}
	s.sub, s.seqs, s.stale = nil, nil, false
	opening := s.next != nil
	s.mu.Unlock()
	if !opening {
		s.b.unlisten(s.copies, s)
	}
	sub.Unsubscribe() // it fails when the connection is gone, and the subscription with it
}

// hear implements [hearer]: a message that the server has stored.
func (s *stream) hear(m *client.Msg) {
	r, err := parseRecord(m.Data)
	if err != nil {
		return // not from a node of ours
	}
	r.seq = number(m, "Nats-Sequence")
	s.b.mention(r.seq)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.Sub == s.sub && s.sub != nil:
		if !s.takeLocked(&r, nil) {
			s.heard = max(s.heard, r.seq)
			s.mendLocked()
		}
	case m.Sub == s.next && s.next != nil:
		s.heard = max(s.heard, r.seq)
	}
}

// takeLocked delivers r if it is the next in line, and reports whether it was, or has
// been here before. ready is its event, nil if it has to be decoded.
func (s *stream) takeLocked(r *record, ready *realtime.Event) bool {
	switch at := &s.at; {
	case r.epoch != at.epoch:
		return false
	case r.seq <= at.seq:
		return r.offset <= at.offset
	case r.kind == kindPosition:
		if r.offset != at.offset || r.id != at.id {
			return false
		}
		at.seq, s.since = r.seq, time.Now()
		return true
	case r.offset != at.offset+1 || r.previous != at.id:
		return false
	}
	if ready == nil {
		var err error
		if ready, err = r.eventOf(s.topic); err != nil { // of a node that is newer than this one
			ready = s.gapTo(r.offset)
		}
	}
	s.advanceLocked(r.position)
	s.deliverLocked(ready)
	return true
}

func (s *stream) advanceLocked(at position) {
	s.at, s.since = at, time.Now()
	if len(s.seqs) == 2*manySeqs {
		s.seqs = append(s.seqs[:0], s.seqs[manySeqs:]...)
	}
	s.seqs = append(s.seqs, at.seq)
	if at.id == s.own.id {
		s.own.taken, s.own.at = true, at
	}
	s.movedLocked()
}

func (s *stream) movedLocked() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

func (s *stream) deliverLocked(e *realtime.Event) {
	for _, one := range s.subs {
		one.deliver(e)
	}
}

// gapTo returns the news that everything after at is missing, up to an offset.
func (s *stream) gapTo(offset uint64) *realtime.Event {
	return &realtime.Event{Topic: s.topic, Epoch: s.at.epoch, Offset: offset, Gap: &realtime.Gap{From: s.at.offset + 1, To: offset}}
}

// seqOf returns where the event at offset is stored, 0 if that is not known.
func (s *stream) seqOf(epoch string, offset uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sub == nil || s.at.epoch != epoch || offset > s.at.offset || s.at.offset-offset >= uint64(len(s.seqs)) {
		return 0
	}
	return s.seqs[len(s.seqs)-1-int(s.at.offset-offset)]
}

// enter waits for a place that one at a time can have.
func enter(ctx context.Context, place chan struct{}) error {
	select {
	case place <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func exit(place chan struct{}) { <-place }
