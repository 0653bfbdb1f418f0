package realtimetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// SharedBrokers tests what the brokers of two nodes must do together, beside what
// [Broker] asks of each. open returns two that have the same topics, for each
// sub-test anew.
//
// A broker that cannot do what a part tests names it in unmet, by its name here: the
// part is skipped and says why, and fails if it does not exist.
func SharedBrokers(t *testing.T, open func() (a, b realtime.SharedBroker), unmet ...Unmet) {
	reasons := map[string]string{}
	for _, u := range unmet {
		reasons[u.Part] = u.Reason
	}
	for name, test := range map[string]func(*pairTest){
		"both nodes see one order, with history":                   func(t *pairTest) { t.agree(hour) },
		"both nodes see one order, without history":                func(t *pairTest) { t.agree(realtime.Retention{}) },
		"a publisher's own node has the event, with history":       func(t *pairTest) { t.comesHome(hour) },
		"a publisher's own node has the event, without history":    func(t *pairTest) { t.comesHome(realtime.Retention{}) },
		"an event is the same on the other node":                   func(t *pairTest) { t.travels(hour) },
		"and without history":                                      func(t *pairTest) { t.travels(realtime.Retention{}) },
		"a subscription starts right after its position":           (*pairTest).starts,
		"a topic that is left and joined again has no old events":  (*pairTest).returns,
		"who has no members can publish":                           (*pairTest).works,
		"both nodes read the same":                                 (*pairTest).reads,
		"what one node stops the other keeps":                      (*pairTest).keeps,
		"topics are told apart whatever their names, with history": func(t *pairTest) { t.separates(hour) },
		"and without":                              func(t *pairTest) { t.separates(realtime.Retention{}) },
		"many topics come at once":                 (*pairTest).crowds,
		"the state is told until it is not wanted": (*pairTest).watches,
	} {
		reason, skip := reasons[name]
		delete(reasons, name)
		t.Run(name, func(t *testing.T) {
			if skip {
				t.Skipf("NOT MET: %s", reason)
			}
			a, b := open()
			topic := "t:" + rand.Text()
			test(&pairTest{T: t, a: &brokerTest{t, a, topic}, b: &brokerTest{t, b, topic}, topic: topic})
		})
	}
	for name := range reasons {
		t.Errorf("there is no part %q that could be unmet", name)
	}
}

// Unmet is a part of a suite that an implementation cannot pass, which its documentation
// says as well.
type Unmet struct{ Part, Reason string }

type pairTest struct {
	*testing.T
	a, b  *brokerTest
	topic string
}

// both runs f for the two nodes at once, several times each.
func (t *pairTest) both(times int, f func(node *brokerTest, who string)) {
	var all sync.WaitGroup
	for n := range times {
		all.Go(func() { f(t.a, fmt.Sprintf("a%d", n)) })
		all.Go(func() { f(t.b, fmt.Sprintf("b%d", n)) })
	}
	all.Wait()
}

func (t *pairTest) agree(keep realtime.Retention) {
	on, other := t.a.subscribe(t.topic, keep), t.b.subscribe(t.topic, keep)
	const publishers, each = 4, 25
	t.both(publishers, func(node *brokerTest, who string) {
		for i := range each {
			node.publish(t.topic, keep, fmt.Sprintf("%s/%03d", who, i))
		}
	})
	here, there := on.want(2*publishers*each), other.want(2*publishers*each)
	last := map[string]string{}
	for i, e := range here {
		if e.Name != there[i].Name || e.Offset != there[i].Offset || e.Epoch != there[i].Epoch {
			t.Fatalf("event %d is %q at %s/%d on one node, %q at %s/%d on the other",
				i, e.Name, e.Epoch, e.Offset, there[i].Name, there[i].Epoch, there[i].Offset)
		}
		who, _, _ := strings.Cut(e.Name, "/")
		if e.Name <= last[who] {
			t.Fatalf("%s came after %s of the same publisher", e.Name, last[who])
		}
		last[who] = e.Name
	}
	if keep.Keeps() {
		t.a.wantOffsets(here, on.from.Epoch, 1, 2*publishers*each)
	}
}

// comesHome publishes on both nodes: whatever else is under way, the publisher's
// own event is there when Publish returns, or an answer would overtake it.
func (t *pairTest) comesHome(keep realtime.Retention) {
	subs := map[*brokerTest]*subscription{t.a: t.a.subscribe(t.topic, keep), t.b: t.b.subscribe(t.topic, keep)}
	t.both(3, func(node *brokerTest, who string) {
		for i := range 20 {
			name := fmt.Sprintf("%s/%d", who, i)
			node.publish(t.topic, keep, name)
			if !subs[node].has(name) {
				t.Errorf("%s was not delivered on its own node when Publish returned", name)
				return
			}
		}
	})
}

// has reports whether an event of that name was delivered.
func (s *subscription) has(name string) bool {
	for _, e := range s.events() {
		if e.Name == name {
			return true
		}
	}
	return false
}

func (t *pairTest) travels(keep realtime.Retention) {
	s := t.b.subscribe(t.topic, keep)
	large := fmt.Sprintf("%q", strings.Repeat("x", 256<<10))
	for _, sent := range []*realtime.Event{
		{Name: "näme", Data: json.RawMessage(`{"b": [1,2.50,"\u0041 \u2028<"], "a":null}`), Except: "somebody"},
		{Name: "bytes", Data: json.RawMessage(`"AAEC"`), Binary: true},
		{Name: "null", Data: json.RawMessage("null")},
		{Name: "large", Data: json.RawMessage(large)},
	} {
		sent.Topic, sent.Time = t.topic, time.Now()
		want, at := sent.Data, sent.Time
		if err := t.a.b.Publish(context.Background(), sent, keep); err != nil {
			t.Fatal(err)
		}
		for !s.has(sent.Name) {
			s.await()
		}
		e := s.events()[len(s.events())-1]
		if e.Topic != t.topic || e.Name != sent.Name || e.Except != sent.Except || e.Binary != sent.Binary || !bytes.Equal(e.Data, want) {
			t.Errorf("%s arrived as %s of %q, except %q, bytes %v: %.100s", sent.Name, e.Name, e.Topic, e.Except, e.Binary, e.Data)
		}
		if off := e.Time.Sub(at).Abs(); off > time.Millisecond {
			t.Errorf("%s arrived with a time that is off by %v", sent.Name, off)
		}
		if e.Offset != sent.Offset || e.Epoch != sent.Epoch {
			t.Errorf("%s arrived at %s/%d, its publisher had it at %s/%d", sent.Name, e.Epoch, e.Offset, sent.Epoch, sent.Offset)
		}
	}
}

// await waits for news.
func (s *subscription) await() {
	s.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-s.news:
	case <-late.C:
		s.t.Fatalf("nothing was delivered within %v", patience)
	}
}

// starts joins on one node while the other publishes.
func (t *pairTest) starts() {
	const total = 200
	subs, published := []*subscription(nil), make(chan struct{})
	go func() {
		defer close(published)
		t.a.publishMany(total, hour)
	}()
	for range 10 {
		subs = append(subs, t.b.subscribe(t.topic, hour))
		time.Sleep(time.Millisecond)
	}
	<-published
	for _, s := range subs {
		t.b.wantOffsets(s.want(total-int(s.from.Offset)), s.from.Epoch, s.from.Offset+1, total)
	}
}

// returns leaves and joins on one node while the other publishes.
func (t *pairTest) returns() {
	const total = 200
	published := make(chan struct{})
	go func() {
		defer close(published)
		t.a.publishMany(total, hour)
	}()
	for range 20 {
		s := t.b.subscribe(t.topic, hour)
		time.Sleep(time.Millisecond)
		s.stop()
		got := s.events()
		t.b.wantOffsets(got, s.from.Epoch, s.from.Offset+1, s.from.Offset+uint64(len(got)))
	}
	<-published
	again := t.b.subscribe(t.topic, hour)
	if again.from.Offset != total {
		t.Errorf("joined at %d after all was published, want %d", again.from.Offset, total)
	}
	t.a.publish(t.topic, hour, "last")
	t.b.wantOffsets(again.want(1), again.from.Epoch, total+1, total+1)
}

func (t *pairTest) works() {
	t.a.publishMany(3, hour)
	s := t.b.subscribe(t.topic, hour)
	if s.from.Offset != 3 {
		t.Fatalf("joined at %d after 3 events of a node without members, want 3", s.from.Offset)
	}
	t.a.publish(t.topic, hour, "4")
	t.b.wantOffsets(s.want(1), s.from.Epoch, 4, 4)
	events, _ := t.b.read(0, 10, hour)
	t.b.wantOffsets(events, s.from.Epoch, 1, 4)
}

func (t *pairTest) reads() {
	keep := realtime.Retention{Size: 10, Age: time.Hour}
	t.both(2, func(node *brokerTest, who string) {
		for i := range 10 {
			node.publish(t.topic, keep, fmt.Sprintf("%s/%d", who, i))
		}
	})
	here, at := t.a.read(0, 100, keep)
	there, newest := t.b.read(0, 100, keep)
	if at != newest || at.Offset != 40 {
		t.Errorf("the newest is %v on one node and %v on the other, want 40", at, newest)
	}
	t.a.wantOffsets(here, at.Epoch, 31, 40)
	t.b.wantOffsets(there, at.Epoch, 31, 40)
	for i := range here {
		if here[i].Name != there[i].Name || !bytes.Equal(here[i].Data, there[i].Data) {
			t.Fatalf("%d is %q on one node and %q on the other", here[i].Offset, here[i].Name, there[i].Name)
		}
	}
}

func (t *pairTest) keeps() {
	for _, keep := range []realtime.Retention{hour, {}} {
		topic := t.topic + fmt.Sprint(keep.Size)
		on, other, second := t.a.subscribe(topic, keep), t.b.subscribe(topic, keep), t.b.subscribe(topic, keep)
		t.a.publish(topic, keep, "1")
		on.want(1)
		second.want(1)
		other.want(1)
		on.stop()
		second.stop()
		t.b.publish(topic, keep, "2")
		t.a.publish(topic, keep, "3")
		other.want(3)
		if n, m := len(on.events()), len(second.events()); n != 1 || m != 1 {
			t.Errorf("%d and %d events were delivered to who had stopped after 1", n, m)
		}
	}
}

// oddNames are names of topics that some protocol or server might take for
// something else, among them ones that patterns would match.
func oddNames(run string) []string {
	var names []string
	for _, odd := range []string{"", "x", "X", "*", ">", "?", ".", ".x", ".*", ".>", "{x}", "{}", "}{", "{", " ", "  ", ":", "::", ":x", "ü", "u\u0308", "u",
		"日本", "🙂", "\"", "'", "\\", "/", "%", "%20", "$", "#", "+", "[x]", "~", "=", "=2A", "_", "-", "\u00a0", "\u2028"} {
		names = append(names, run+odd, odd+run)
	}
	names = append(names, run+strings.Repeat("n", 255-len(run)), run+strings.Repeat("n", 254-len(run)))
	seen := map[string]bool{}
	var once []string
	for _, name := range names {
		if !seen[name] {
			once = append(once, name)
		}
		seen[name] = true
	}
	return once
}

func (t *pairTest) separates(keep realtime.Retention) {
	run := rand.Text()[:8]
	names := oddNames(run)
	if !keep.Keeps() { // those of the server keep nothing
		names = append(names, "\x00"+run, "\x00nodes"+run, "\x00node:"+run, "\x00presence:"+names[0], "\x00presence:"+names[len(names)-1])
	}
	subs := map[string]*subscription{}
	for _, name := range names {
		subs[name] = t.b.subscribe(name, keep)
	}
	for _, name := range names {
		t.a.publish(name, keep, "1")
		t.a.publish(name, keep, "2")
	}
	for _, name := range names {
		got := subs[name].want(2)
		if got[0].Topic != name || got[1].Topic != name || got[0].Name != "1" || got[1].Name != "2" {
			t.Errorf("%q got %q of %q and %q of %q, want its own 1 and 2", name, got[0].Name, got[0].Topic, got[1].Name, got[1].Topic)
		}
		if keep.Keeps() {
			t.b.wantOffsets(got, subs[name].from.Epoch, 1, 2)
		}
	}
}

// crowds joins and publishes to many topics at once, and leaves them.
func (t *pairTest) crowds() {
	const topics = 200
	var all sync.WaitGroup
	for n := range topics {
		keep := hour
		if n%2 == 0 {
			keep = realtime.Retention{}
		}
		all.Go(func() {
			name := fmt.Sprintf("%s:%d", t.topic, n)
			from, stop, err := t.b.b.Subscribe(context.Background(), name, keep, func(*realtime.Event) {})
			if err != nil || (from != nil) != keep.Keeps() {
				t.Errorf("Subscribe: %v, %v", from, err)
				return
			}
			defer stop()
			t.a.publish(name, keep, "1")
		})
	}
	all.Wait()
}

func (t *pairTest) watches() {
	for _, node := range []*brokerTest{t.a, t.b} {
		var calls atomic.Int32
		told := make(chan realtime.BrokerStatus, 16)
		stop := node.b.(realtime.SharedBroker).Watch(func(s realtime.BrokerStatus) {
			calls.Add(1)
			select {
			case told <- s:
			default:
			}
		})
		for late := time.After(patience); ; {
			select {
			case s := <-told:
				if s.State == realtime.BrokerHealthy && s.Err != nil {
					t.Errorf("healthy, but %v", s.Err)
				}
				if s.State != realtime.BrokerHealthy {
					continue
				}
			case <-late:
				t.Fatalf("not told that it is healthy within %v", patience)
			}
			break
		}
		stop()
		before := calls.Load()
		node.publishMany(3, hour)
		if n := calls.Load() - before; n != 0 {
			t.Errorf("told %d times after stop", n)
		}
	}
}
