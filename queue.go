package realtime

import (
	"encoding/json"
	"sync"
	"time"
)

// Policy says what happens to a topic's events when a member's outbound queue is
// at its bound ([WithQueue]). Nothing is lost in silence: a member that loses
// events finds a gap in their place, or is closed with a reason. Replies and pushes
// know no policy: if there is no room for one, the connection is closed.
type Policy struct {
	name policyName
	key  func(event string, data json.RawMessage) string
}

type policyName string

const (
	closeSlow  policyName = "close_slow"
	dropOldest policyName = "drop_oldest"
	dropNewest policyName = "drop_newest"
	keepLatest policyName = "keep_latest"
	catchUp    policyName = "catch_up"
)

// The policies for slow clients. CloseSlow is the default of a topic without
// history, CatchUp of one with history, which it needs.
var (
	CloseSlow  = Policy{name: closeSlow}  // close the connection as slow_consumer
	DropOldest = Policy{name: dropOldest} // lose this topic's oldest queued event
	DropNewest = Policy{name: dropNewest} // lose the event that did not fit
	CatchUp    = Policy{name: catchUp}    // read on from the history once there is room
)

// KeepLatest replaces a queued event of the same key by the newer one, as suits
// cursors and prices. key is called once per publish, on the publisher's
// goroutine and not under a lock. An event whose key is not queued takes the
// place of the topic's oldest one.
func KeepLatest(key func(event string, data json.RawMessage) string) Policy {
	return Policy{name: keepLatest, key: key}
}

// stream is what the queue knows of a topic: which frames belong together when
// some of them must go.
type stream struct {
	name string
	*rules
}

// rules are what all streams of one pattern have in common.
type rules struct {
	policy policyName
	drops  counter
}

// frame is one encoded message, shared by every queue it stands in and never
// changed once pushed. A gap is the exception: it belongs to one queue, grows
// while it waits there, and is encoded when it is taken.
type frame struct {
	wire   []byte // header and payload, ready for the socket
	flat   *squeezed
	stream *stream // nil for replies, pushes and control frames
	gap    *gap
	key    string // KeepLatest only
	offset uint64
	born   time.Time // when it was published
}

// squeezed holds the compressed form of a frame, made by the first connection
// that wants it.
type squeezed struct {
	once sync.Once
	wire []byte
}

// pushed is what became of a frame.
type pushed uint8

const (
	pushQueued  pushed = iota // it waits; a flusher is at work already
	pushWake                  // it waits; the caller must have the queue flushed
	pushDropped               // the policy took it or an older one; no flush needed
	pushLag                   // no room on a CatchUp topic: the member must read from history
	pushSlow                  // no room: the caller must close the connection
	pushClosed                // the connection is ending; the frame is gone
)

// queueBounds are shared by all queues of a server.
type queueBounds struct {
	messages int
	bytes    int
	high     int // messages at which a client counts as falling behind
	low      int // and at which it has caught up
}

// queue holds the frames that wait for one socket. push never blocks, and that
// alone is why it may run under a topic's lock.
type queue struct {
	bounds *queueBounds

	mu      sync.Mutex // guards the following
	items   []*frame
	first   [2]*frame // where items starts: an idle queue owns no heap
	box     *[]*frame // the pooled slice behind items, nil while first is enough
	bytes   int
	busy    bool          // somebody is flushing and will look again
	ending  bool          // the close frame is queued; pushes are refused
	dropped bool          // what waited before the end is not to be written
	sources []lagging     // members that read from history, in turn
	turn    bool          // it is theirs: what waits was taken last
	idle    chan struct{} // closed when nobody flushes any more; made on demand

	water   func(high bool) // nil without WithWaterMarks; set before the first push
	flooded bool            // above the high mark and not yet at the low one
	told    bool            // what water was last told
	telling bool            // a goroutine is telling it
}

// lagging is a source, and how many of the frames that wait were queued before it
// fell behind: its own earlier events may be among them.
type lagging struct {
	source source
	ahead  int
}

// source gives a queue the events that it had no room for.
type source interface {
	// refill returns the next frames and whether there may be more. It is
	// called without the queue's lock, by the one goroutine that flushes.
	refill() (frames []*frame, more bool)
}

// slices are what queues grow into when more than two frames wait.
var slices64 = sync.Pool{New: func() any { s := make([]*frame, 0, 64); return &s }}

// push queues f behind everything that waits, by the rules of its stream's
// policy when there is no room.
func (q *queue) push(f *frame) pushed {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ending {
		return pushClosed
	}
	if q.fullLocked(f) {
		if done, res := q.overflowLocked(f); done {
			return res
		}
	}
	q.appendLocked(f)
	return q.wakeLocked()
}

// pushGap queues the news that events of a stream are missing, which no policy
// takes out again. It has as much room as what belongs to no topic.
func (q *queue) pushGap(s *stream, g *gap) pushed {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ending {
		return pushClosed
	}
	if last := q.lastGapLocked(s); last != nil {
		last.join(g)
		return q.wakeLocked()
	}
	switch n := len(q.items); {
	case n >= q.bounds.messages && s.policy == catchUp:
		return pushLag
	case n >= 2*q.bounds.messages:
		return pushSlow
	}
	q.appendLocked(&frame{stream: s, gap: g})
	return q.wakeLocked()
}

// pushAll queues frames one after the other. The first that is not queued ends it
// and is the result.
func (q *queue) pushAll(frames []*frame) (res pushed) {
	for _, f := range frames {
		one := q.push(f)
		if one > pushWake {
			return one
		}
		res = max(res, one)
	}
	return res
}

// finish queues frames that no bound stops and refuses everything after them. It
// reports whether the caller must flush; ok is false when the queue was ending
// already.
func (q *queue) finish(drop bool, frames ...*frame) (res pushed, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ending {
		return pushClosed, false
	}
	if q.dropped = drop; drop {
		answer := q.answerLocked()
		q.resetLocked()
		if answer != nil {
			q.appendLocked(answer)
		}
	}
	for _, f := range frames {
		q.appendLocked(f)
	}
	q.ending = true
	q.sources, q.turn = nil, false
	return q.wakeLocked(), true
}

// answerLocked returns the answer to the handshake if it still waits, nil if not:
// without it the client would not understand its close. It is known by its H, of
// HTTP, which no frame begins with (it would be an unfinished close frame).
func (q *queue) answerLocked() *frame {
	if len(q.items) > 0 && len(q.items[0].wire) > 0 && q.items[0].wire[0] == 'H' {
		return q.items[0]
	}
	return nil
}

// abandon drops everything, for good: the socket takes no more bytes.
func (q *queue) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.resetLocked()
	q.ending = true
	q.sources, q.turn = nil, false
	q.idleLocked()
}

func (q *queue) idleLocked() {
	q.busy = false
	if q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
}

// whenIdle returns a channel that is closed when all that waits by now has been
// written or given up, nil if it has been already.
func (q *queue) whenIdle() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.busy {
		return nil
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	return q.idle
}

// await waits until the queue is idle, but not for ever.
func (q *queue) await(most time.Duration) {
	idle := q.whenIdle()
	if idle == nil {
		return
	}
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-idle:
	case <-late.C:
	}
}

func (q *queue) isEnding() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ending
}

func (q *queue) wakeLocked() pushed {
	if q.busy {
		return pushQueued
	}
	q.busy = true
	return pushWake
}

func (q *queue) appendLocked(f *frame) {
	if q.items == nil {
		q.items = q.first[:0]
	}
	if len(q.items) == len(q.first) && q.box == nil {
		q.box = slices64.Get().(*[]*frame)
		q.items = append((*q.box)[:0], q.items...)
		clear(q.first[:])
	}
	q.items = append(q.items, f)
	q.bytes += len(f.wire)
	if q.water != nil && !q.flooded && len(q.items) >= q.bounds.high {
		q.floodLocked(true)
	}
}

// floodLocked has the water callback called, in order and outside the lock: a
// push may hold a topic's lock.
func (q *queue) floodLocked(high bool) {
	q.flooded = high
	if !q.telling {
		q.telling = true
		go q.tell()
	}
}

// ebbLocked has the water callback called when the low mark is reached.
func (q *queue) ebbLocked() {
	if q.flooded && len(q.items) <= q.bounds.low {
		q.floodLocked(false)
	}
}

func (q *queue) tell() {
	for {
		q.mu.Lock()
		high := q.flooded
		if high == q.told {
			q.telling = false
			q.mu.Unlock()
			return
		}
		q.told = high
		q.mu.Unlock()
		q.water(high)
	}
}

// overflowLocked makes room for f or decides against it. done means that f needs
// no place any more.
func (q *queue) overflowLocked(f *frame) (done bool, res pushed) {
	if f.stream == nil {
		return true, pushSlow
	}
	switch f.stream.policy {
	case catchUp:
		return true, pushLag
	case dropNewest:
		q.loseLocked(f)
	case dropOldest, keepLatest:
		if q.makeRoomLocked(f) {
			q.appendLocked(f)
		} else {
			q.loseLocked(f)
		}
	default:
		return true, pushSlow
	}
	if q.busy {
		return true, pushDropped
	}
	q.busy = true
	return true, pushWake
}

// fullLocked reports whether f is over a bound. A queue without bytes takes a
// frame of any size, or it would never be sent.
//
// What belongs to no topic gets as much room again. A policy that drops keeps
// the queue of a slow client at its bound: else the first ping or reply would
// close it as a slow consumer, which the policy is there to avoid.
func (q *queue) fullLocked(f *frame) bool {
	room := 1
	if f.stream == nil {
		room = 2
	}
	return len(q.items) >= room*q.bounds.messages || q.overBytesLocked(f, room)
}

func (q *queue) overBytesLocked(f *frame, room int) bool {
	return q.bytes > 0 && q.bytes+len(f.wire) > room*q.bounds.bytes
}

// makeRoomLocked evicts events of f's stream, one at least, until there is room
// for f: the one of the same key first, then the oldest.
func (q *queue) makeRoomLocked(f *frame) bool {
	oldest := func(*frame) bool { return true }
	sameKey := func(o *frame) bool { return o.key == f.key }
	if !q.evictLocked(f.stream, sameKey) && !q.evictLocked(f.stream, oldest) {
		return false
	}
	for q.overBytesLocked(f, 1) {
		if !q.evictLocked(f.stream, oldest) {
			return false
		}
	}
	return true
}

// evictLocked replaces the oldest event of s that fits by a gap, or adds it to
// the gaps next to it in the stream. So no two gaps follow each other, and there
// are never many more of them than events.
func (q *queue) evictLocked(s *stream, fits func(*frame) bool) bool {
	before := -1 // the last gap of this stream with no event of it after
	for i, o := range q.items {
		switch {
		case o.stream != s:
		case o.gap != nil:
			before = i
		case !fits(o):
			before = -1
		default:
			q.bytes -= len(o.wire)
			s.drops.Add(1)
			if before < 0 {
				q.items[i] = newGap(o)
				q.joinGapsLocked(i)
				return true
			}
			q.items[before].gap.add(1, o.offset, o.offset)
			q.removeLocked(i)
			q.joinGapsLocked(before)
			return true
		}
	}
	return false
}

// joinGapsLocked adds the gap that is next in the stream to the one at i.
func (q *queue) joinGapsLocked(i int) {
	g := q.items[i]
	for j := i + 1; j < len(q.items); j++ {
		o := q.items[j]
		if o.stream != g.stream {
			continue
		}
		if o.gap != nil {
			g.gap.join(o.gap)
			q.removeLocked(j)
		}
		return
	}
}

func (q *queue) removeLocked(i int) {
	end := len(q.items) - 1
	copy(q.items[i:], q.items[i+1:])
	q.items[end] = nil
	q.items = q.items[:end]
}

// loseLocked puts a gap where f would have stood.
func (q *queue) loseLocked(f *frame) {
	f.stream.drops.Add(1)
	if g := q.lastGapLocked(f.stream); g != nil {
		g.add(1, f.offset, f.offset)
		return
	}
	q.appendLocked(newGap(f))
}

// lastGapLocked returns the gap that is the last of a stream to wait, nil if that
// is an event.
func (q *queue) lastGapLocked(s *stream) *gap {
	for i := len(q.items) - 1; i >= 0; i-- {
		if o := q.items[i]; o.stream == s {
			return o.gap
		}
	}
	return nil
}

func newGap(f *frame) *frame {
	return &frame{stream: f.stream, born: f.born,
		gap: &gap{dropped: 1, policy: string(f.stream.policy), from: f.offset, to: f.offset}}
}

// batch is what take hands out: the frames, and the slice to give back.
type batch struct {
	frames []*frame
	few    [16]*frame
	box    *[]*frame
}

// take moves what waits into b, at most few frames if some is set, and reports
// whether there was anything. If not, the queue is idle from then on, unless
// sources are waiting: their first is returned then, and the caller goes on
// owning the queue.
//
// A flusher that may block takes few, since a policy cannot drop what is taken.
func (q *queue) take(b *batch, some bool) (src source, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ebbLocked()
	switch n := len(q.items); {
	case n == 0:
		return q.restLocked()
	case q.turn && q.sources[0].ahead == 0: // else a lively topic would starve it
		q.turn = false
		return q.sources[0].source, true
	case q.box == nil || some && n > len(b.few):
		q.takeSomeLocked(b)
	default:
		b.frames, b.box = q.items, q.box
		q.items, q.box, q.bytes = nil, nil, 0
	}
	q.overtakeLocked(-len(b.frames))
	return nil, true
}

// overtakeLocked notes that there are n frames more before what the sources have.
func (q *queue) overtakeLocked(n int) {
	for i := range q.sources {
		q.sources[i].ahead = max(0, q.sources[i].ahead+n)
	}
	q.turn = len(q.sources) > 0
}

func (q *queue) restLocked() (src source, ok bool) {
	if len(q.sources) > 0 {
		q.turn = false
		return q.sources[0].source, true
	}
	q.idleLocked()
	return nil, false
}

func (q *queue) takeSomeLocked(b *batch) {
	b.frames = b.few[:copy(b.few[:], q.items)]
	for _, f := range b.frames {
		q.bytes -= len(f.wire)
	}
	n := copy(q.items, q.items[len(b.frames):])
	clear(q.items[n:])
	q.items = q.items[:n]
}

// more reports whether the flusher, done with a batch, is to go on. If not, the
// queue is idle.
func (q *queue) more() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ebbLocked()
	if len(q.items) > 0 {
		return true
	}
	_, ok := q.restLocked()
	return ok
}

// release gives back what take handed out.
func (b *batch) release() {
	clear(b.frames)
	if b.box != nil {
		if cap(b.frames) <= 1024 {
			*b.box = b.frames[:0]
			slices64.Put(b.box)
		}
		b.box = nil
	}
	b.frames = nil
}

// putBack returns frames that were taken and not written to the head of the
// queue.
func (q *queue) putBack(frames []*frame) {
	if len(frames) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dropped {
		return
	}
	q.overtakeLocked(len(frames))
	waiting := append([]*frame(nil), q.items...)
	q.resetLocked()
	for _, f := range frames {
		if f.gap != nil {
			f.wire = nil // it may grow again
		}
		q.appendLocked(f)
	}
	for _, f := range waiting {
		q.appendLocked(f)
	}
}

func (q *queue) resetLocked() {
	clear(q.items)
	if q.box != nil {
		*q.box = q.items[:0]
		slices64.Put(q.box)
	}
	clear(q.first[:])
	q.items, q.box, q.bytes = nil, nil, 0
}

// lag adds a source. It reports whether the caller must have the queue flushed.
func (q *queue) lag(s source) pushed {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ending {
		return pushClosed
	}
	q.sources = append(q.sources, lagging{s, len(q.items)})
	return q.wakeLocked()
}

// served moves the first source behind the others, or drops it when it has no
// more to give.
func (q *queue) served(s source, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.sources) == 0 || q.sources[0].source != s {
		return
	}
	if q.sources = q.sources[1:]; more {
		q.sources = append(q.sources, lagging{source: s})
	} else if len(q.sources) == 0 {
		q.sources, q.turn = nil, false
	}
}

// QueueState is how much waits for one client.
type QueueState struct {
	Messages int
	Bytes    int
	Age      time.Duration // of the oldest waiting message; 0 if none, or if that was not published
	Behind   int           // topics that the client reads from history because it fell behind
}

func (q *queue) state(now time.Time) QueueState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := QueueState{Messages: len(q.items), Bytes: q.bytes, Behind: len(q.sources)}
	if len(q.items) > 0 && !q.items[0].born.IsZero() {
		s.Age = now.Sub(q.items[0].born)
	}
	return s
}
