package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// seat is a client without a socket: what it is sent waits until the test reads
// it.
type seat struct {
	Client
	ends looseLink
}

func newSeat(id string, enc codec, bounds queueBounds) *seat {
	s := &seat{}
	s.id, s.link, s.enc = id, &s.ends, enc
	s.out.bounds = &bounds
	s.out.busy = true // the test is the flusher
	return s
}

// read takes what waits, from the queue or else a page of the history.
func (s *seat) read() (frames []*frame) {
	q := &s.out
	q.mu.Lock()
	var b batch
	if len(q.items) > 0 {
		q.takeSomeLocked(&b)
		q.mu.Unlock()
		return append(frames, b.frames...)
	}
	if len(q.sources) == 0 {
		q.mu.Unlock()
		return nil
	}
	src := q.sources[0].source
	q.mu.Unlock()
	frames, more := src.refill()
	q.served(src, more)
	return frames
}

// readAll reads until nothing waits.
func (s *seat) readAll(t *testing.T) (messages []told) {
	t.Helper()
	for range 100_000 {
		for _, f := range s.read() {
			messages = append(messages, s.decode(t, f))
		}
		if st := s.out.state(time.Now()); st.Messages == 0 && st.Behind == 0 {
			return messages
		}
	}
	t.Fatal("reading does not end")
	return nil
}

func (s *seat) decode(t *testing.T, f *frame) (m told) {
	t.Helper()
	if err := json.Unmarshal(payloadOf(s.wire(f)), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// outline is messages as "1-3 gap(4-9) 10".
func outline(messages []told) string {
	var out []string
	from, to := uint64(0), uint64(0)
	end := func() {
		if to > 0 {
			out = append(out, fmt.Sprintf("%d-%d", from, to))
		}
		from, to = 0, 0
	}
	for _, m := range messages {
		switch {
		case m.Type == "gap":
			end()
			var g struct{ From, To uint64 }
			json.Unmarshal(m.Data, &g)
			out = append(out, fmt.Sprintf("gap(%d-%d)", g.From, g.To))
		case to > 0 && m.Offset == to+1:
			to++
		default:
			end()
			from, to = m.Offset, m.Offset
		}
	}
	end()
	return strings.Join(out, " ")
}

// newLooseHub is a hub without a server, with one pattern.
func newLooseHub(t testing.TB, opts ...TopicOption) (*hub, *Pattern) {
	t.Helper()
	m := newMetrics()
	h := newHub(newMemoryBroker(), newFlushPool(m, time.Second), m)
	text, err := parseTemplate("room:{id}")
	if err != nil {
		t.Fatal(err)
	}
	p := &Pattern{template: text, handlers: map[string]*handling{}, metrics: m}
	for _, o := range opts {
		if err := o(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.settle(), h.declare(p)); err != nil {
		t.Fatal(err)
	}
	return h, p
}

func (s *seat) join(t testing.TB, h *hub, p *Pattern, name string, from *Position) (*member, joined) {
	t.Helper()
	m := &member{client: &s.Client}
	var outcome joined
	if err := h.join(context.Background(), p, name, m, from, func(j joined) { outcome = j }); err != nil {
		t.Fatal(err)
	}
	return m, outcome
}

func publishN(t testing.TB, h *hub, name string, n int) {
	t.Helper()
	for range n {
		if err := h.publish(context.Background(), &Event{Topic: name, Name: "n", Data: json.RawMessage(`"x"`)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMemberThatFallsBehindReadsOnFromTheHistory(t *testing.T) {
	for _, tt := range []struct {
		keep int
		want string
	}{
		{1000, "1-520"},
		{520, "1-520"},
		{50, "1-16 gap(17-450) 451-520"},
		{3, "1-16 gap(17-497) 498-520"},
	} {
		h, p := newLooseHub(t, History(tt.keep, 0))
		bounds := queueBounds{messages: 16, bytes: 1 << 20}
		stalled, lively := newSeat("stalled", envelopeCodec{}, bounds), newSeat("lively", envelopeCodec{}, bounds)
		stalled.join(t, h, p, "room:1", nil)
		lively.join(t, h, p, "room:1", nil)
		var got []told
		for range 50 {
			publishN(t, h, "room:1", 10)
			got = append(got, lively.readAll(t)...)
			if st := stalled.Queue(); st.Messages > 16 {
				t.Fatalf("%d messages wait for the stalled member, want at most 16", st.Messages)
			}
		}
		if st := stalled.Queue(); st.Messages != 16 || st.Behind != 1 {
			t.Errorf("queue of the stalled member: %+v, want 16 messages and one topic behind", st)
		}
		if got := outline(got); got != "1-500" {
			t.Errorf("the lively member saw %s, want 1-500", got)
		}
		var late []told
		for i := range 20 { // it comes back while publishing goes on
			for _, f := range stalled.read() {
				late = append(late, stalled.decode(t, f))
			}
			if i == 0 {
				continue
			}
			late = append(late, stalled.readAll(t)...)
			publishN(t, h, "room:1", 1)
		}
		publishN(t, h, "room:1", 1)
		late = append(late, stalled.readAll(t)...)
		if got := outline(late); got != tt.want {
			t.Errorf("History(%d): the stalled member saw %s, want %s", tt.keep, got, tt.want)
		}
		if got := outline(lively.readAll(t)); got != "501-520" && tt.keep > 20 {
			t.Errorf("History(%d): the lively member saw %s, want 501-520", tt.keep, got)
		}
	}
}

// ahead is a broker whose history already has what it has yet to deliver, as one
// on another machine may.
type ahead struct {
	Broker
	events []*Event
}

func (a *ahead) Read(_ context.Context, _ string, _ Retention, after uint64, limit int) ([]*Event, Position, error) {
	page := a.events[min(after, uint64(len(a.events))):]
	return page[:min(len(page), limit)], Position{Epoch: "e", Offset: uint64(len(a.events))}, nil
}

func TestEventThatTheHistoryGaveIsNotDeliveredAgain(t *testing.T) {
	h, p := newLooseHub(t, History(100, 0))
	s := newSeat("s", envelopeCodec{}, queueBounds{messages: 16, bytes: 1 << 20})
	m, _ := s.join(t, h, p, "room:1", nil)
	log := &ahead{}
	for i := range 9 {
		log.events = append(log.events, &Event{Topic: "room:1", Name: "n", Data: json.RawMessage("1"), Offset: uint64(i + 1), Epoch: "e"})
	}
	m.topic.broker = log
	m.topic.deliver(log.events[0])
	m.topic.mu.Lock()
	m.lagLocked(1)
	m.topic.mu.Unlock()
	for _, e := range log.events[1:4] {
		m.topic.deliver(e)
	}
	log.events = log.events[:7]
	got := s.readAll(t)
	log.events = log.events[:9]
	for _, e := range log.events[4:] {
		m.topic.deliver(e)
	}
	if got := outline(append(got, s.readAll(t)...)); got != "1-9" {
		t.Errorf("the member saw %s, want 1-9", got)
	}
}

func TestRecoveryOutcomes(t *testing.T) {
	h, p := newLooseHub(t, History(10, 0))
	bounds := queueBounds{messages: 64, bytes: 1 << 20}
	newSeat("first", envelopeCodec{}, queueBounds{messages: 1, bytes: 1}).join(t, h, p, "room:1", nil)
	publishN(t, h, "room:1", 25)
	_, now := newSeat("x", envelopeCodec{}, bounds).join(t, h, p, "room:1", nil)
	epoch := now.position.Epoch
	for _, tt := range []struct {
		from   *Position
		want   Recovery
		replay string
	}{
		{nil, RecoveryFresh, ""},
		{&Position{epoch, 25}, RecoveryComplete, ""},
		{&Position{epoch, 20}, RecoveryReplayed, "21-25"},
		{&Position{epoch, 15}, RecoveryReplayed, "16-25"},
		{&Position{epoch, 14}, RecoveryReload, ""},
		{&Position{epoch, 0}, RecoveryReload, ""},
		{&Position{epoch, 26}, RecoveryReload, ""},
		{&Position{epoch, 1 << 60}, RecoveryReload, ""},
		{&Position{"other", 20}, RecoveryReload, ""},
		{&Position{"", 25}, RecoveryReload, ""},
	} {
		s := newSeat("s", envelopeCodec{}, bounds)
		m, j := s.join(t, h, p, "room:1", tt.from)
		if j.recovery != tt.want || *j.position != (Position{epoch, 25}) {
			t.Errorf("from %v: %s at %v, want %s at 25", tt.from, j.recovery, *j.position, tt.want)
		}
		if got := outline(s.readAll(t)); got != tt.replay {
			t.Errorf("from %v: replayed %q, want %q", tt.from, got, tt.replay)
		}
		h.leave(m)
	}
	plain, q := newLooseHub(t)
	_, j := newSeat("s", envelopeCodec{}, bounds).join(t, plain, q, "room:1", &Position{epoch, 25})
	if j.recovery != RecoveryReload || j.position != nil {
		t.Errorf("without history: %s at %v, want reload and no position", j.recovery, j.position)
	}
}

// countingCodec counts how often events are encoded.
type countingCodec struct {
	codec
	events *atomic.Int64
}

func (c countingCodec) encode(dst []byte, m *outbound) ([]byte, opcode) {
	if m.kind == kindEvent {
		c.events.Add(1)
	}
	return c.codec.encode(dst, m)
}

func TestPublishEncodesOncePerCodec(t *testing.T) {
	h, p := newLooseHub(t, History(100, 0))
	one, two := countingCodec{envelopeCodec{}, new(atomic.Int64)}, countingCodec{flatCodec{}, new(atomic.Int64)}
	var seats []*seat
	for i := range 60 {
		bounds := queueBounds{messages: 64, bytes: 1 << 20}
		if i%3 == 0 {
			bounds.messages = 2 // it will read from the history
		}
		enc := codec(one)
		if i%2 == 0 {
			enc = two
		}
		s := newSeat(fmt.Sprint(i), enc, bounds)
		s.join(t, h, p, "room:1", nil)
		seats = append(seats, s)
	}
	publishN(t, h, "room:1", 20)
	var frames [2]map[*frame]bool
	frames[0], frames[1] = map[*frame]bool{}, map[*frame]bool{}
	for i, s := range seats {
		n := 0
		for range 1000 {
			for _, f := range s.read() {
				frames[i%2][f] = true
				n++
			}
		}
		if n != 20 {
			t.Errorf("member %d got %d events, want 20", i, n)
		}
	}
	if a, b := one.events.Load(), two.events.Load(); a != 20 || b != 20 {
		t.Errorf("20 events were encoded %d and %d times, want once per codec", a, b)
	}
	if a, b := len(frames[0]), len(frames[1]); a != 20 || b != 20 {
		t.Errorf("members hold %d and %d frames, want the same 20", a, b)
	}
}

func TestOnlyLargeEventsAreToBeCompressed(t *testing.T) {
	for n, want := range map[int]bool{deflateMin - 1: false, deflateMin: true} {
		e := &Event{Topic: "room:1", Name: "n", Data: json.RawMessage(strings.Repeat("1", n))}
		if got := e.frame(envelopeCodec{}, &stream{}).flat != nil; got != want {
			t.Errorf("%d bytes: compressed %v, want %v", n, got, want)
		}
	}
}

func TestPublishSkipsWhoIsExcepted(t *testing.T) {
	for _, bound := range []int{64, 1} { // from the stream, and from the history
		h, p := newLooseHub(t, History(100, 0))
		bounds := queueBounds{messages: bound, bytes: 1 << 20}
		a, b := newSeat("a", envelopeCodec{}, bounds), newSeat("b", envelopeCodec{}, bounds)
		a.join(t, h, p, "room:1", nil)
		b.join(t, h, p, "room:1", nil)
		publishN(t, h, "room:1", 3)
		h.publish(t.Context(), &Event{Topic: "room:1", Name: "n", Data: json.RawMessage("1"), Except: "a"})
		publishN(t, h, "room:1", 1)
		if got := outline(a.readAll(t)); got != "1-3 5-5" {
			t.Errorf("a saw %s, want all but 4", got)
		}
		if got := outline(b.readAll(t)); got != "1-5" {
			t.Errorf("b saw %s, want 1-5", got)
		}
	}
}

func TestSlowMemberCostsOnlyItself(t *testing.T) {
	h, p := newLooseHub(t)
	slow := newSeat("slow", envelopeCodec{}, queueBounds{messages: 4, bytes: 1 << 20})
	fast := newSeat("fast", envelopeCodec{}, queueBounds{messages: 400, bytes: 1 << 20})
	slow.join(t, h, p, "room:1", nil)
	fast.join(t, h, p, "room:1", nil)
	publishN(t, h, "room:1", 5)
	if got := slow.ends.reasons(); len(got) != 1 || got[0] != ReasonSlowConsumer {
		t.Errorf("the slow member was ended as %v, want slow_consumer", got)
	}
	if got := fast.ends.reasons(); got != nil {
		t.Errorf("the fast member was ended as %v", got)
	}
	if got := len(fast.readAll(t)); got != 5 {
		t.Errorf("the fast member got %d events, want 5", got)
	}
}

func TestNothingFollowsALeave(t *testing.T) {
	h, p := newLooseHub(t, History(100, 0))
	s := newSeat("s", envelopeCodec{}, queueBounds{messages: 2, bytes: 1 << 20})
	m, _ := s.join(t, h, p, "room:1", nil)
	newSeat("other", envelopeCodec{}, queueBounds{messages: 2, bytes: 1 << 20}).join(t, h, p, "room:1", nil)
	publishN(t, h, "room:1", 5) // it is behind now
	if !h.leave(m) {
		t.Fatal("there was no membership")
	}
	if h.leave(m) {
		t.Error("left twice")
	}
	publishN(t, h, "room:1", 5)
	if got := outline(s.readAll(t)); got != "1-2" {
		t.Errorf("after the leave came %s, want only what was queued before, 1-2", got)
	}
}

func BenchmarkTopicDeliver(b *testing.B) {
	for _, n := range []int{1, 16, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			h, p := newLooseHub(b)
			seats := make([]*seat, n)
			for i := range seats {
				seats[i] = newSeat(fmt.Sprint(i), envelopeCodec{}, queueBounds{messages: 256, bytes: 1 << 20})
				seats[i].join(b, h, p, "room:1", nil)
			}
			t := h.lookup("room:1")
			data := json.RawMessage(`"` + strings.Repeat("x", 126) + `"`)
			for b.Loop() {
				t.deliver(&Event{Topic: "room:1", Name: "n", Data: data})
				for _, s := range seats {
					s.out.mu.Lock()
					s.out.resetLocked()
					s.out.mu.Unlock()
				}
			}
		})
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, keep := range []int{0, 1000} {
		b.Run(fmt.Sprintf("history=%d", keep), func(b *testing.B) {
			b.ReportAllocs()
			var opts []TopicOption
			if keep > 0 {
				opts = append(opts, History(keep, time.Hour))
			}
			h, p := newLooseHub(b, opts...)
			s := newSeat("s", envelopeCodec{}, queueBounds{messages: 256, bytes: 1 << 20})
			s.join(b, h, p, "room:1", nil)
			for b.Loop() {
				h.publish(context.Background(), &Event{Topic: "room:1", Name: "n", Data: json.RawMessage("1")})
				s.out.mu.Lock()
				s.out.resetLocked()
				s.out.mu.Unlock()
			}
		})
	}
}

// A client that cannot be told that it has joined would wait for the answer for
// ever.
func TestJoinWhoseAnswerFindsNoRoomEndsTheConnection(t *testing.T) {
	s := newQuietServer(t, WithQueue(1, 1<<20))
	p := s.Topic("room:{id}")
	server, client := tcpPair(t)
	defer client.Close()
	c := &conn{node: s.node, terms: s.main.terms}
	c.id, c.link, c.enc, c.pool = "c", c, envelopeCodec{}, s.node.pool
	c.out.bounds = &s.node.bounds
	c.open(&upgraded{nc: server}, 1<<16)
	c.out.busy = true
	c.out.push(textFrame('a', 10))
	c.out.push(textFrame('b', 10)) // replies have as much room again
	ch := newChannel(&session{conn: c}, "room:1", p, nil)
	if err := ch.join(task{}, nil); err != nil {
		t.Fatal(err)
	}
	if c.reason != ReasonSlowConsumer {
		t.Errorf("the connection ended as %q, want slow_consumer", c.reason)
	}
	ch.leave(c.reason)
}
