package nats_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// hour keeps all that a test publishes.
var hour = realtime.Retention{Size: 1000, Age: time.Hour}

// patience is how long something may take on a busy machine.
const patience = 30 * time.Second

// tape notes what is delivered.
type tape struct {
	t    *testing.T
	from realtime.Position
	stop func()

	mu  sync.Mutex // guards the following
	got []*realtime.Event
}

func record(t *testing.T, b realtime.Broker, topic string, keep realtime.Retention) *tape {
	t.Helper()
	p := &tape{t: t}
	from, stop, err := b.Subscribe(context.Background(), topic, keep, func(e *realtime.Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	if from != nil {
		p.from = *from
	}
	p.stop = stop
	return p
}

func (p *tape) events() []*realtime.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*realtime.Event(nil), p.got...)
}

// until waits until ok is true of what was delivered.
func (p *tape) until(what string, ok func([]*realtime.Event) bool) []*realtime.Event {
	p.t.Helper()
	var got []*realtime.Event
	waitFor(p.t, func() bool { got = p.events(); return ok(got) }, func() string {
		return fmt.Sprintf("%s; %d were delivered: %s", what, len(got), describe(got))
	})
	return got
}

// want waits for exactly n.
func (p *tape) want(n int) []*realtime.Event {
	p.t.Helper()
	got := p.until(fmt.Sprintf("want %d events", n), func(got []*realtime.Event) bool { return len(got) >= n })
	if len(got) > n {
		p.t.Fatalf("want %d events, %d were delivered: %s", n, len(got), describe(got))
	}
	return got
}

func describe(events []*realtime.Event) string {
	s := ""
	for _, e := range events[max(0, len(events)-20):] {
		if s += fmt.Sprintf(" %s/%d %s", e.Epoch, e.Offset, e.Name); e.Gap != nil {
			s += fmt.Sprintf("GAP%+v", *e.Gap)
		}
	}
	return s
}

// waitFor looks again and again: what is waited for happens in another process, as it
// were, and tells nobody.
func waitFor(t *testing.T, ok func() bool, what func() string) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: %s", patience, what())
		}
	}
}

func publish(b realtime.Broker, topic string, keep realtime.Retention, name string) error {
	return b.Publish(context.Background(), &realtime.Event{Topic: topic, Name: name, Data: json.RawMessage("1"), Time: time.Now()}, keep)
}

func mustPublish(t *testing.T, b realtime.Broker, topic string, keep realtime.Retention, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := publish(b, topic, keep, name); err != nil {
			t.Fatalf("Publish %s: %v", name, err)
		}
	}
}

// count returns the names from first to last.
func count(first, last int) (names []string) {
	for n := first; n <= last; n++ {
		names = append(names, fmt.Sprint(n))
	}
	return names
}

// wantRun checks that events are numbered from first on in one epoch, without a gap.
func wantRun(t *testing.T, events []*realtime.Event, epoch string, first uint64) {
	t.Helper()
	for i, e := range events {
		if want := first + uint64(i); e.Gap != nil || e.Offset != want || e.Epoch != epoch || e.Name != fmt.Sprint(want) {
			t.Fatalf("event %d of %s is not %d of %s", i, describe(events), want, epoch)
		}
	}
}

// states notes how a broker stands.
type states struct {
	mu  sync.Mutex // guards the following
	all []realtime.BrokerState
}

func watch(t *testing.T, b realtime.SharedBroker) *states {
	s := &states{}
	t.Cleanup(b.Watch(func(status realtime.BrokerStatus) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all = append(s.all, status.State)
	}))
	return s
}

func (s *states) now() realtime.BrokerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[len(s.all)-1]
}

func (s *states) await(t *testing.T, want realtime.BrokerState) {
	t.Helper()
	waitFor(t, func() bool { return s.now() == want }, func() string {
		return fmt.Sprintf("the broker is %v, want %v", s.now(), want)
	})
}
