package realtime

import (
	"context"
	"encoding/json"
	"testing"
)

// theBroker delivers what the test wants, from a log that the test fills.
type theBroker struct {
	Broker
	log     []*Event
	epoch   string
	reading func() // called by Read after it has looked
	deliver func(*Event)
}

func (b *theBroker) Subscribe(_ context.Context, _ string, _ Retention, deliver func(*Event)) (*Position, func(), error) {
	b.deliver = deliver
	return &Position{Epoch: b.epoch}, func() {}, nil
}

func (b *theBroker) Read(_ context.Context, _ string, _ Retention, after uint64, limit int) ([]*Event, Position, error) {
	page, at := b.log[min(after, uint64(len(b.log))):], Position{b.epoch, uint64(len(b.log))}
	if b.reading != nil {
		b.reading()
	}
	return page[:min(len(page), limit)], at, nil
}

// begin starts an epoch with so many events in its log.
func (b *theBroker) begin(epoch string, n int) {
	b.epoch, b.log = epoch, nil
	for i := range n {
		b.log = append(b.log, &Event{Topic: "room:1", Name: "n", Data: json.RawMessage("1"), Epoch: epoch, Offset: uint64(i + 1)})
	}
}

func newBrokered(t *testing.T, b *theBroker, opts ...TopicOption) (*hub, *Pattern) {
	h, p := newLooseHub(t, opts...)
	h.broker = b
	h.adopt(p)
	return h, p
}

// A client that comes from another node may have seen more than has arrived here.
func TestWhoIsAheadOfThisNodeHasMissedNothing(t *testing.T) {
	b := &theBroker{}
	b.begin("e", 9)
	h, p := newBrokered(t, b, History(100, 0))
	bounds := queueBounds{messages: 16, bytes: 1 << 20}
	first, s := newSeat("first", envelopeCodec{}, bounds), newSeat("s", envelopeCodec{}, bounds)
	first.join(t, h, p, "room:1", nil)
	for _, e := range b.log[:5] {
		b.deliver(e)
	}
	_, j := s.join(t, h, p, "room:1", &Position{"e", 7})
	if j.recovery != RecoveryComplete || *j.position != (Position{"e", 7}) {
		t.Errorf("joined as %s at %v, want complete at 7", j.recovery, *j.position)
	}
	if _, j := newSeat("beyond", envelopeCodec{}, bounds).join(t, h, p, "room:1", &Position{"e", 10}); j.recovery != RecoveryReload || j.position.Offset != 5 {
		t.Errorf("from beyond the end joined as %s at %v, want reload at 5", j.recovery, *j.position)
	}
	for _, e := range b.log[5:] {
		b.deliver(e)
	}
	if got := outline(s.readAll(t)); got != "8-9" {
		t.Errorf("after 7 came %s, want 8-9", got)
	}
	b.deliver(&Event{Topic: "room:1", Epoch: "e", Offset: 9, Gap: &Gap{From: 8, To: 9}}) // old news
	b.deliver(&Event{Topic: "room:1", Epoch: "e", Offset: 12, Gap: &Gap{From: 10, To: 12}})
	if got := outline(s.readAll(t)); got != "gap(10-12)" {
		t.Errorf("then came %s, want one gap, 10-12", got)
	}
}

// A member that is behind may find another epoch in the log before or after the
// news of it has come.
func TestWhoIsBehindDoesNotMixEpochs(t *testing.T) {
	for _, early := range []bool{true, false} {
		b := &theBroker{}
		b.begin("old", 40)
		h, p := newBrokered(t, b, History(100, 0))
		s := newSeat("s", envelopeCodec{}, queueBounds{messages: 4, bytes: 1 << 20})
		m, _ := s.join(t, h, p, "room:1", nil)
		for _, e := range b.log {
			b.deliver(e)
		}
		b.begin("new", 20)
		news := func() {
			b.reading = nil
			b.deliver(&Event{Topic: "room:1", Epoch: "new", Offset: 3, Gap: &Gap{}})
		}
		if early {
			b.reading = news
		}
		got := s.readAll(t)
		if !early {
			news()
		}
		for _, e := range b.log[3:] {
			b.deliver(e)
			got = append(got, s.readAll(t)...)
		}
		if got := outline(got); got != "1-4 gap(0-0) 4-20" {
			t.Errorf("news before the page %v: saw %s, want 1-4, a gap, 4-20", early, got)
		}
		if m.behind {
			t.Errorf("news before the page %v: still behind", early)
		}
	}
}

func TestAHoleInThePageOfAHistoryIsAGap(t *testing.T) {
	b := &theBroker{}
	b.begin("e", 12)
	h, p := newBrokered(t, b, History(100, 0))
	s := newSeat("s", envelopeCodec{}, queueBounds{messages: 2, bytes: 1 << 20})
	s.join(t, h, p, "room:1", nil)
	for _, e := range b.log {
		b.deliver(e)
	}
	whole := b.log
	b.log = append(append([]*Event{}, whole[:6]...), whole[9:]...)
	got, m := s.read(), s.out.sources[0].source.(*member)
	page, _ := m.framesOf(b.log[2:], 2, 12)
	var seen []told
	for _, f := range append(got, page...) {
		seen = append(seen, s.decode(t, f))
	}
	if got := outline(seen); got != "1-6 gap(7-9) 10-12" {
		t.Errorf("saw %s, want a gap from 7 to 9", got)
	}
}

func TestGapsBecomeOne(t *testing.T) {
	drop := gap{dropped: 1, policy: "drop_oldest", from: 5, to: 5}
	hole := gap{dropped: 2, policy: gapBroker, from: 6, to: 7}
	unknown := gap{unknown: true, policy: gapBroker}
	plain := gap{dropped: 3, policy: "drop_newest"}
	anew := gap{unknown: true, policy: gapReload, epoch: "e", offset: 2}
	for name, tt := range map[string]struct{ first, next, want gap }{
		"drops":             {drop, gap{dropped: 1, policy: "drop_oldest", from: 6, to: 6}, gap{dropped: 2, policy: "drop_oldest", from: 5, to: 6}},
		"a drop and a hole": {drop, hole, gap{dropped: 3, policy: gapBroker, from: 5, to: 7}},
		"a hole and a drop": {hole, gap{dropped: 1, policy: "drop_oldest", from: 8, to: 8}, gap{dropped: 3, policy: gapBroker, from: 6, to: 8}},
		"an unknown number": {plain, unknown, gap{dropped: 3, policy: gapBroker, unknown: true}},
		"it stays unknown":  {unknown, plain, gap{dropped: 3, policy: gapBroker, unknown: true}},
		"a new epoch":       {hole, anew, anew},
		"what follows it":   {anew, gap{dropped: 1, policy: "drop_oldest", from: 3, to: 3}, gap{unknown: true, policy: gapReload, epoch: "e", offset: 3}},
		"and another one":   {anew, gap{unknown: true, policy: gapReload, epoch: "f"}, gap{unknown: true, policy: gapReload, epoch: "f"}},
	} {
		got := tt.first
		got.join(&tt.next)
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}
