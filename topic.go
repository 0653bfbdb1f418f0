package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// topic is one topic with members on this node.
type topic struct {
	stream
	*kindred
	stop    func()                  // ends the broker's subscription; set before it is open
	opening atomic.Pointer[opening] // nil when the subscription stands
	refs    int                     // guarded by the hub's shard

	presence attendance // nil without Presence; set by the hub, never changed

	mu      sync.Mutex // guards the following
	members roll[*member]
	last    Position             // of the newest delivered event
	replays map[*member][]*Event // what members that are behind recover, read when they joined
}

// opening is a subscription that does not stand yet, or failed.
type opening struct {
	done chan struct{} // closed when it is known which
	err  error         // why it failed; set before done is closed
}

// attendance keeps who is present in a topic, and tells its members. It is guarded
// by the topic's lock.
type attendance interface {
	// admitLocked queues who is present for m, which has just become a member,
	// and reports whether there was no room.
	admitLocked(m *member) (slow bool)

	// leftLocked is called when m is no member any more.
	leftLocked(m *member)

	// close is called without a lock, once the last member has gone.
	close()
}

// member is one connection's membership in one topic: what
// deliveries look at comes first.
type member struct {
	client *Client
	topic  *topic // nil while not joined

	// Guarded by the topic's lock.
	cursor  uint64 // the last event that it got from the history, which may be ahead of deliver
	at      int32  // index in topic.members
	behind  bool   // it reads from the history instead of the live stream
	removed bool   // it has left

	present *attendee // with Presence
}

// inlineMembers is how many members a topic may have for its events to be
// written by the publisher itself, while the pool is calm: with so few a worker
// would start when the publisher could be done.
const inlineMembers = 16

// lookAhead is how many members a delivery looks at before it queues the event for
// the first of them. In a large crowd each is far from the processor's caches; looked
// at one right after the other they come together, in about the time of one.
const lookAhead = 16

// delivery is one event on its way to the members of a topic.
type delivery struct {
	topic  *topic
	event  *Event
	inline bool // the publisher writes it
	queued int
	slow   []*Client
	wake   chain
	direct [inlineMembers]*outlet
	n      int // in direct
}

// deliver queues e for every member. The broker calls it in the stream's order.
func (t *topic) deliver(e *Event) {
	d := delivery{topic: t, event: e}
	t.mu.Lock()
	d.inline = t.members.len() <= inlineMembers && t.pool.calm(e.Time)
	if e.Offset > 0 {
		t.advanceLocked(Position{Epoch: e.Epoch, Offset: e.Offset})
	}
	for i := range t.members.blocks() {
		d.queueLocked(t.members.block(i))
	}
	t.count.deliveries.Add(float64(d.queued))
	t.mu.Unlock()
	t.pool.flushAll(d.direct[:d.n])
	t.pool.add(&d.wake)
	for _, c := range d.slow {
		c.link.disconnect(ReasonSlowConsumer, nil, nil)
	}
}

// queueLocked queues the event for some of the members.
func (d *delivery) queueLocked(members []*member) {
	e, t := d.event, d.topic
	var encs [lookAhead]codec
	for len(members) > 0 {
		some := members[:min(lookAhead, len(members))]
		members = members[len(some):]
		for i, m := range some {
			encs[i] = m.client.enc
		}
		for i, m := range some {
			if m.behind || e.Offset > 0 && e.Offset <= m.cursor || e.Except != "" && m.client.id == e.Except {
				continue
			}
			f := e.frame(encs[i], &t.stream)
			if f == nil {
				continue
			}
			d.queued++
			switch m.client.out.push(f) {
			case pushWake:
				d.wakeLocked(m.client)
			case pushLag:
				m.lagLocked(e.Offset - 1)
			case pushSlow:
				d.slow = append(d.slow, m.client)
			}
		}
	}
}

// wakeLocked has c's queue flushed: by the publisher in the end, or by workers.
func (d *delivery) wakeLocked(c *Client) {
	if !d.inline && c.raw != nil {
		if d.wake.add(&c.outlet); d.wake.n == share {
			d.topic.pool.add(&d.wake)
		}
		return
	}
	if d.n == len(d.direct) { // only without descriptors
		go c.writeLoop()
		return
	}
	d.direct[d.n] = &c.outlet
	d.n++
}

// advanceLocked notes the position of a new event. Cursors are of one epoch.
func (t *topic) advanceLocked(p Position) {
	if p.Epoch != t.last.Epoch {
		for i := range t.members.blocks() {
			for _, m := range t.members.block(i) {
				m.cursor = 0
			}
		}
	}
	t.last = p
}

// frame returns e as c encodes it, encoded once for all members.
func (e *Event) frame(c codec, s *stream) *frame {
	slot := &e.frames[c.slot()]
	switch f := slot.Load(); f {
	case nil:
	case noFrame:
		return nil
	default:
		return f
	}
	f := seal(c, &outbound{kind: kindEvent, topic: e.Topic, event: e.Name, data: e.Data, binary: e.Binary, offset: e.Offset})
	if f == nil {
		slot.Store(noFrame)
		return nil
	}
	f.stream, f.key, f.offset, f.born = s, e.key, e.Offset, e.Time
	if len(e.Data) >= deflateMin {
		f.flat = &squeezed{}
	}
	slot.Store(f)
	return f
}

// noFrame stands for an event that a protocol has no message for.
var noFrame = &frame{}

// lagLocked lets the member go on from the history after cursor.
func (m *member) lagLocked(cursor uint64) {
	m.behind, m.cursor = true, cursor
	if m.client.out.lag(m) == pushWake {
		go m.client.writeLoop()
	}
}

// refillEvents is how many events a member that is behind reads at a time: it is
// all that it costs in memory.
const refillEvents = 32

// refill implements [source]: the next events from the history, after a gap if
// it does not reach back any more. With nothing left the member is back on the
// live stream.
func (m *member) refill() (frames []*frame, more bool) {
	t := m.topic
	t.mu.Lock()
	cursor, last, gone := m.cursor, t.last, m.removed || !m.behind
	events := t.replayLocked(m)
	if !gone && len(events) == 0 && cursor >= last.Offset {
		m.behind, gone = false, true
	}
	t.mu.Unlock()
	if gone {
		return nil, false
	}
	if len(events) == 0 {
		var now Position
		var err error
		if events, now, err = m.read(cursor); err != nil {
			m.client.link.disconnect(brokerReason(err), nil, fmt.Errorf("read history of %s: %w", t.name, err))
			return nil, false
		}
		if now.Epoch != last.Epoch {
			return nil, m.astray(last)
		}
	}
	frames, cursor = m.framesOf(events, cursor, last.Offset)
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.removed {
		return nil, false // nothing follows the end of a membership
	}
	if t.last.Epoch == last.Epoch {
		m.cursor = cursor
	}
	return frames, true
}

// readTime is how long the broker may take to give a page of history to a member
// that is behind.
const readTime = 10 * time.Second

func (m *member) read(after uint64) ([]*Event, Position, error) {
	ctx := newDeadline(m.client.Context(), readTime)
	defer ctx.end()
	return m.topic.broker.Read(ctx, m.topic.name, m.topic.pattern.keep, after, refillEvents)
}

// astray is called for a member whose history is not that of the stream after last:
// it began anew. The member is told with all others, which may have been already; it
// reports whether there is something to read for it then.
func (m *member) astray(last Position) (more bool) {
	t := m.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last.Epoch == last.Epoch {
		m.behind, m.cursor = false, last.Offset
	}
	return m.behind
}

// replayToLocked has a member that is behind get events before it reads on.
func (t *topic) replayToLocked(m *member, events []*Event) {
	if t.replays == nil {
		t.replays = map[*member][]*Event{}
	}
	t.replays[m] = events
}

// replayLocked takes the next page of what m recovers, nil if that is all read.
func (t *topic) replayLocked(m *member) []*Event {
	all := t.replays[m]
	page := all[:min(len(all), refillEvents)]
	if len(page) == len(all) {
		delete(t.replays, m)
	} else {
		t.replays[m] = all[len(page):]
	}
	return page
}

// framesOf encodes a page that was read after cursor, with a gap where events are
// missing, and returns the new cursor. An empty page means that nothing up to last
// is left.
func (m *member) framesOf(events []*Event, cursor, last uint64) (frames []*frame, end uint64) {
	if len(events) == 0 && cursor < last {
		return append(frames, m.gapUpTo(last, cursor)), last
	}
	for _, e := range events {
		if e.Gap == nil && e.Offset > cursor+1 {
			frames = append(frames, m.gapUpTo(e.Offset-1, cursor))
		}
		if cursor = e.Offset; e.Except == m.client.id {
			continue
		}
		if e.Gap != nil {
			frames = append(frames, &frame{stream: &m.topic.stream, gap: e.anew()})
		} else if f := e.frame(m.client.enc, &m.topic.stream); f != nil {
			frames = append(frames, f)
		}
	}
	return frames, cursor
}

// gapUpTo tells of events after cursor that the history does not have any more.
func (m *member) gapUpTo(to, cursor uint64) *frame {
	m.topic.count.behind.Add(1)
	return &frame{stream: &m.topic.stream, gap: &gap{
		dropped: to - cursor, policy: string(catchUp), from: cursor + 1, to: to}}
}

// anew is how members are told that a stream began anew after e.
func (e *Event) anew() *gap {
	return &gap{unknown: true, policy: gapReload, epoch: e.Epoch, offset: e.Offset}
}

// join makes m a member. admit is called under the topic's lock, after the place
// in the stream is taken and before any event of it: it queues the answer, and
// must not block. Who is present follows the answer.
func (t *topic) join(ctx context.Context, m *member, from *Position, admit func(joined)) error {
	missed, reaches, err := t.missed(ctx, from)
	if err != nil {
		return err
	}
	t.mu.Lock()
	outcome := t.recoverLocked(from, reaches)
	m.topic, m.at, m.removed = t, int32(t.members.add(m)), false
	if t.pattern.keep.Keeps() {
		t.count.recoveries[outcome.recovery].Add(1)
	}
	admit(outcome)
	slow := t.presence != nil && t.presence.admitLocked(m)
	switch outcome.recovery {
	case RecoveryComplete:
		m.cursor = from.Offset
	case RecoveryReplayed:
		t.replayToLocked(m, missed)
		m.lagLocked(from.Offset)
	}
	t.mu.Unlock()
	if slow {
		m.client.link.disconnect(ReasonSlowConsumer, nil, nil)
	}
	return nil
}

// missed returns the events after from, and whether those are all that there
// were. They are read before the client is promised a replay, so that what is
// published meanwhile cannot push them out of the history.
func (t *topic) missed(ctx context.Context, from *Position) (events []*Event, reaches bool, err error) {
	if from == nil || !t.pattern.keep.Keeps() {
		return nil, false, nil
	}
	events, newest, err := t.broker.Read(ctx, t.name, t.pattern.keep, from.Offset, t.pattern.keep.Size)
	if err != nil {
		return nil, false, fmt.Errorf("read history of %s: %w", t.name, err)
	}
	return events, newest.Epoch == from.Epoch && from.Offset <= newest.Offset &&
		(from.Offset == newest.Offset || len(events) > 0 && events[0].Offset == from.Offset+1), nil
}

func (t *topic) recoverLocked(from *Position, reaches bool) joined {
	j := joined{recovery: RecoveryReload}
	if t.pattern.keep.Keeps() {
		position := t.last
		j.position = &position
	}
	switch {
	case from == nil:
		j.recovery = RecoveryFresh
	case !reaches || j.position == nil || from.Epoch != t.last.Epoch:
	case from.Offset >= t.last.Offset: // on another node it may have got further
		j.recovery, *j.position = RecoveryComplete, *from
	default:
		j.recovery = RecoveryReplayed
	}
	return j
}

// leave ends m's membership: no event is queued for it from now on. It reports
// whether there was one to end.
func (t *topic) leave(m *member) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.removed || m.topic != t {
		return false
	}
	t.members.remove(int(m.at)).at = m.at
	m.removed, m.behind = true, false
	delete(t.replays, m)
	if t.presence != nil {
		t.presence.leftLocked(m)
	}
	return true
}

// clients returns the members as of now.
func (t *topic) clients() []*Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	cs := make([]*Client, 0, t.members.len())
	for i := range t.members.blocks() {
		for _, m := range t.members.block(i) {
			cs = append(cs, m.client)
		}
	}
	return cs
}

// size returns how many members there are.
func (t *topic) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.members.len()
}

// all iterates over a snapshot of the members.
func (t *topic) all() iter.Seq[*Client] {
	return func(yield func(*Client) bool) {
		for _, c := range t.clients() {
			if !yield(c) {
				return
			}
		}
	}
}

// eventData returns the data of an event that the host wants sent: payload as JSON,
// if event is a name that can be sent.
func eventData(event string, payload any) (json.RawMessage, error) {
	if err := checkName(event, maxEventBytes); err != nil {
		return nil, err
	}
	return marshal(payload)
}

// marshal returns payload as JSON. A json.RawMessage is taken as it is, if it is
// valid: one bad value would break the frames of every member.
func marshal(payload any) (json.RawMessage, error) {
	switch p := payload.(type) {
	case nil:
		return json.RawMessage("null"), nil
	case json.RawMessage:
		if len(p) == 0 {
			return json.RawMessage("null"), nil
		}
		if !isJSON(p) {
			return nil, fmt.Errorf("realtime: payload is not valid JSON")
		}
		return p, nil
	}
	return encode(payload)
}
