package realtime

import (
	"context"
	"testing"
	"time"
)

// aheadBroker has an event in its log that it has not delivered yet, as a broker
// over a network does.
type aheadBroker struct{ log []*Event }

func (*aheadBroker) Publish(context.Context, *Event, Retention) error { return nil }

func (*aheadBroker) Subscribe(context.Context, string, Retention, func(*Event)) (*Position, func(), error) {
	return &Position{Epoch: "e"}, func() {}, nil
}

func (b *aheadBroker) Read(_ context.Context, _ string, _ Retention, after uint64, _ int) ([]*Event, Position, error) {
	return b.log[after:], Position{Epoch: "e", Offset: uint64(len(b.log))}, nil
}

func TestAnEventReadFromTheHistoryIsNotDeliveredAgain(t *testing.T) {
	rt, err := New(Anonymous())
	if err != nil {
		t.Fatal(err)
	}
	b := &aheadBroker{}
	for i := range 3 {
		b.log = append(b.log, &Event{Topic: "a", Name: "e", Data: []byte("1"), Offset: uint64(i + 1), Epoch: "e", Time: time.Now()})
	}
	c := &Client{link: &looseLink{}}
	c.enc, c.pool = envelopeCodec{}, rt.node.pool
	c.out.bounds, c.out.busy = &queueBounds{messages: 10, bytes: 1 << 20}, true
	p := rt.Topic("a", History(10, 0))
	tp := &topic{kindred: &kindred{pattern: p, broker: b, pool: rt.node.pool, count: p.count}}
	tp.stream = stream{"a", &rules{policy: catchUp}}
	m := &member{client: c}
	if err := tp.join(t.Context(), m, nil, func(joined) {}); err != nil {
		t.Fatal(err)
	}
	tp.deliver(b.log[0])
	c.out.items = nil
	m.lagLocked(0)
	for more := true; more; {
		_, more = m.refill() // reads the third before it is delivered
		tp.mu.Lock()
		if m.cursor >= 3 && tp.last.Offset == 1 {
			tp.mu.Unlock()
			tp.deliver(b.log[1])
			continue
		}
		tp.mu.Unlock()
	}
	tp.deliver(b.log[2])
	if n := len(c.out.items); n != 0 {
		t.Errorf("%d events are delivered twice", n)
	}
}
