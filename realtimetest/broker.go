package realtimetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// Broker tests what every [realtime.Broker] must do, each part as a sub-test
// with a broker of its own from open and topics that no other run has used. Most
// of it runs in real time, since the events may go through another process; an
// event may take ten seconds to arrive.
func Broker(t *testing.T, open func() realtime.Broker) {
	for name, test := range map[string]func(*brokerTest){
		"events arrive as they were published":            (*brokerTest).carries,
		"offsets are dense under concurrent publishers":   (*brokerTest).orders,
		"two subscribers see the same order":              func(t *brokerTest) { t.agrees(hour) },
		"and do without history":                          func(t *brokerTest) { t.agrees(realtime.Retention{}) },
		"topics count for themselves":                     (*brokerTest).separates,
		"a subscription starts right after its position":  (*brokerTest).starts,
		"the position outlives the subscribers":           (*brokerTest).remembers,
		"read returns pages":                              (*brokerTest).pages,
		"no more than the size is kept":                   (*brokerTest).bounds,
		"nothing older than the age is kept":              (*brokerTest).ages,
		"nothing is delivered after stop":                 (*brokerTest).stops,
		"a topic without history has order, no positions": (*brokerTest).forgets,
	} {
		t.Run(name, func(t *testing.T) {
			test(&brokerTest{T: t, b: open(), topic: "t:" + rand.Text()})
		})
	}
}

// hour keeps all that a test publishes.
var hour = realtime.Retention{Size: 1000, Age: time.Hour}

type brokerTest struct {
	*testing.T
	b     realtime.Broker
	topic string
}

// subscription notes what is delivered.
type subscription struct {
	t    *brokerTest
	from *realtime.Position
	stop func()

	inside atomic.Int32 // calls of deliver under way

	mu   sync.Mutex // guards the following
	got  []*realtime.Event
	news chan struct{}
}

func (t *brokerTest) subscribe(topic string, keep realtime.Retention) *subscription {
	t.Helper()
	s := &subscription{t: t, news: make(chan struct{}, 1)}
	from, stop, err := t.b.Subscribe(context.Background(), topic, keep, s.deliver)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	s.from, s.stop = from, sync.OnceFunc(stop)
	t.Cleanup(s.stop)
	if (from != nil) != keep.Keeps() {
		t.Fatalf("Subscribe returned position %v, want one exactly when the topic keeps history (%v)", from, keep.Keeps())
	}
	if from != nil && from.Epoch == "" {
		t.Fatalf("Subscribe returned a position without an epoch")
	}
	return s
}

func (s *subscription) deliver(e *realtime.Event) {
	if s.inside.Add(1) != 1 {
		s.t.Errorf("deliver was called while it ran")
	}
	defer s.inside.Add(-1)
	runtime.Gosched() // lets a second call show itself
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, e)
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *subscription) events() []*realtime.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*realtime.Event(nil), s.got...)
}

// want waits for n events and returns them.
func (s *subscription) want(n int) []*realtime.Event {
	s.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		got := s.events()
		if len(got) >= n {
			if len(got) > n {
				s.t.Fatalf("%d events were delivered, want %d", len(got), n)
			}
			return got
		}
		select {
		case <-s.news:
		case <-late.C:
			s.t.Fatalf("%d events were delivered within %v, want %d", len(got), patience, n)
		}
	}
}

func (t *brokerTest) publish(topic string, keep realtime.Retention, name string) {
	t.Helper()
	e := &realtime.Event{Topic: topic, Name: name, Data: json.RawMessage(`{"n":` + fmt.Sprintf("%q", name) + `}`), Time: time.Now()}
	if err := t.b.Publish(context.Background(), e, keep); err != nil {
		t.Errorf("Publish: %v", err)
	}
}

func (t *brokerTest) publishMany(n int, keep realtime.Retention) {
	t.Helper()
	for i := range n {
		t.publish(t.topic, keep, fmt.Sprint(i+1))
	}
}

func (t *brokerTest) read(after uint64, limit int, keep realtime.Retention) ([]*realtime.Event, realtime.Position) {
	t.Helper()
	events, newest, err := t.b.Read(context.Background(), t.topic, keep, after, limit)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return events, newest
}

// wantOffsets checks that events have the offsets from first to last, in one
// epoch.
func (t *brokerTest) wantOffsets(events []*realtime.Event, epoch string, first, last uint64) {
	t.Helper()
	if want := int(last + 1 - first); len(events) != want {
		t.Fatalf("got %d events, want %d, from %d to %d", len(events), want, first, last)
	}
	for i, e := range events {
		if want := first + uint64(i); e.Offset != want || e.Epoch != epoch {
			t.Fatalf("event %d is at %s/%d, want %s/%d", i, e.Epoch, e.Offset, epoch, want)
		}
	}
}

func (t *brokerTest) carries() {
	s := t.subscribe(t.topic, hour)
	sent := realtime.Event{Topic: t.topic, Name: "näme", Data: json.RawMessage(`{"b": [1,2.50,"\u0041"], "a":null}`),
		Except: "connection", Time: time.Now()}
	want := struct{ topic, name, data, except string }{sent.Topic, sent.Name, string(sent.Data), sent.Except}
	at := sent.Time
	if err := t.b.Publish(context.Background(), &sent, hour); err != nil {
		t.Fatal(err)
	}
	live := s.want(1)
	kept, _ := t.read(0, 10, hour)
	for where, events := range map[string][]*realtime.Event{"delivered": live, "read": kept} {
		if len(events) != 1 {
			t.Fatalf("%s %d events, want 1", where, len(events))
		}
		e := events[0]
		if got := (struct{ topic, name, data, except string }{e.Topic, e.Name, string(e.Data), e.Except}); got != want {
			t.Errorf("%s %+v, want %+v", where, got, want)
		}
		if off := e.Time.Sub(at).Abs(); off > time.Millisecond {
			t.Errorf("%s a time that is off by %v, want at most a millisecond", where, off)
		}
	}
}

func (t *brokerTest) orders() {
	s := t.subscribe(t.topic, hour)
	const publishers, each = 8, 25
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			for i := range each {
				t.publish(t.topic, hour, fmt.Sprintf("%d/%03d", p, i))
			}
		})
	}
	all.Wait()
	got := s.want(publishers * each)
	t.wantOffsets(got, s.from.Epoch, 1, publishers*each)
	last := map[byte]string{}
	for _, e := range got {
		if p := e.Name[0]; e.Name <= last[p] {
			t.Fatalf("%s came after %s of the same publisher", e.Name, last[p])
		}
		last[e.Name[0]] = e.Name
	}
	kept, newest := t.read(0, publishers*each, hour)
	t.wantOffsets(kept, s.from.Epoch, 1, publishers*each)
	if want := (realtime.Position{Epoch: s.from.Epoch, Offset: publishers * each}); newest != want {
		t.Errorf("newest is %v, want %v", newest, want)
	}
	for i, e := range kept {
		if e.Name != got[i].Name {
			t.Fatalf("%d is %q in the history and was delivered as %q", e.Offset, e.Name, got[i].Name)
		}
	}
}

func (t *brokerTest) agrees(keep realtime.Retention) {
	a, b := t.subscribe(t.topic, keep), t.subscribe(t.topic, keep)
	var all sync.WaitGroup
	for p := range 4 {
		all.Go(func() {
			for i := range 25 {
				t.publish(t.topic, keep, fmt.Sprintf("%d/%d", p, i))
			}
		})
	}
	all.Wait()
	first, second := a.want(100), b.want(100)
	for i := range first {
		if first[i].Name != second[i].Name {
			t.Fatalf("event %d is %q to one and %q to the other", i, first[i].Name, second[i].Name)
		}
	}
}

func (t *brokerTest) separates() {
	other := t.topic + ":other"
	a, b := t.subscribe(t.topic, hour), t.subscribe(other, hour)
	t.publish(t.topic, hour, "1")
	t.publish(other, hour, "1")
	t.publish(t.topic, hour, "2")
	t.wantOffsets(a.want(2), a.from.Epoch, 1, 2)
	t.wantOffsets(b.want(1), b.from.Epoch, 1, 1)
}

// starts joins a lively topic again and again: what is read up to the position
// and what is delivered after it must be the whole stream, once.
func (t *brokerTest) starts() {
	const total, joins = 300, 10
	var subs []*subscription
	published := make(chan struct{})
	go func() {
		defer close(published)
		t.publishMany(total, hour)
	}()
	for range joins {
		subs = append(subs, t.subscribe(t.topic, hour))
		time.Sleep(time.Millisecond / 2)
	}
	<-published
	for _, s := range subs {
		live := s.want(total - int(s.from.Offset))
		t.wantOffsets(live, s.from.Epoch, s.from.Offset+1, total)
		before, _ := t.read(0, int(s.from.Offset)+1, hour)
		if n := int(s.from.Offset); len(before) < n {
			t.Fatalf("%d events are readable up to position %d", len(before), n)
		}
	}
}

func (t *brokerTest) remembers() {
	s := t.subscribe(t.topic, hour)
	if s.from.Offset != 0 {
		t.Errorf("the first position is %d, want 0", s.from.Offset)
	}
	t.publishMany(3, hour)
	s.want(3)
	s.stop()
	t.publishMany(2, hour)
	again := t.subscribe(t.topic, hour)
	if want := (realtime.Position{Epoch: s.from.Epoch, Offset: 5}); *again.from != want {
		t.Errorf("the position is %v, want %v", *again.from, want)
	}
	if _, newest := t.read(5, 1, hour); newest != *again.from {
		t.Errorf("Read says the newest is %v, Subscribe %v", newest, *again.from)
	}
	events, _ := t.read(0, 10, hour)
	t.wantOffsets(events, s.from.Epoch, 1, 5)
}

func (t *brokerTest) pages() {
	t.publishMany(10, hour)
	_, newest := t.read(0, 1, hour)
	for _, c := range []struct {
		after       uint64
		limit       int
		first, last uint64
	}{
		{0, 100, 1, 10}, {0, 3, 1, 3}, {3, 3, 4, 6}, {9, 3, 10, 10}, {8, 2, 9, 10},
		{10, 3, 1, 0}, {11, 3, 1, 0}, {1 << 52, 3, 1, 0},
	} {
		events, at := t.read(c.after, c.limit, hour)
		if at != newest || at.Offset != 10 {
			t.Errorf("after %d: the newest is %v, want %v at 10", c.after, at, newest)
		}
		t.wantOffsets(events, newest.Epoch, c.first, c.last)
	}
}

func (t *brokerTest) bounds() {
	keep := realtime.Retention{Size: 4, Age: time.Hour}
	s := t.subscribe(t.topic, keep)
	for n := uint64(1); n <= 10; n++ {
		t.publish(t.topic, keep, fmt.Sprint(n))
		events, newest := t.read(0, 100, keep)
		if newest.Offset != n {
			t.Fatalf("the newest is %d, want %d", newest.Offset, n)
		}
		first := uint64(1)
		if n > 4 {
			first = n - 3
		}
		t.wantOffsets(events, s.from.Epoch, first, n)
	}
	events, _ := t.read(2, 2, keep)
	t.wantOffsets(events, s.from.Epoch, 7, 8) // from the oldest kept
	s.want(10)
}

func (t *brokerTest) ages() {
	keep := realtime.Retention{Size: 10, Age: 100 * time.Millisecond}
	s := t.subscribe(t.topic, keep)
	t.publishMany(3, keep)
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		events, newest := t.read(0, 10, keep)
		if want := (realtime.Position{Epoch: s.from.Epoch, Offset: 3}); newest != want {
			t.Fatalf("the newest is %v, want %v: the position has no age", newest, want)
		}
		if len(events) == 0 {
			if waited := time.Since(start); waited < keep.Age/2 {
				t.Errorf("the events are gone after %v, want them for %v", waited, keep.Age)
			}
			break
		}
		if time.Since(start) > patience {
			t.Fatalf("%d events are still there after %v, want them gone after %v", len(events), patience, keep.Age)
		}
	}
	t.publish(t.topic, keep, "4")
	t.wantOffsets(s.want(4), s.from.Epoch, 1, 4)
}

func (t *brokerTest) stops() {
	s, other := t.subscribe(t.topic, hour), t.subscribe(t.topic, hour)
	t.publish(t.topic, hour, "1")
	s.want(1)
	s.stop()
	t.publish(t.topic, hour, "2")
	t.wantOffsets(other.want(2), other.from.Epoch, 1, 2)
	if n := len(s.events()); n != 1 {
		t.Errorf("%d events were delivered, want the one before stop", n)
	}
}

func (t *brokerTest) forgets() {
	keep := realtime.Retention{}
	t.publish(t.topic, keep, "to nobody")
	s := t.subscribe(t.topic, keep)
	t.publishMany(20, keep)
	for i, e := range s.want(20) {
		if e.Name != fmt.Sprint(i+1) || e.Offset != 0 || e.Epoch != "" {
			t.Errorf("event %d is %q at %q/%d, want %d without a position", i, e.Name, e.Epoch, e.Offset, i+1)
		}
	}
	if events, newest := t.read(0, 10, keep); len(events) != 0 || newest != (realtime.Position{}) {
		t.Errorf("Read returned %d events and position %v, want none", len(events), newest)
	}
}
