package redis_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// quick has faults noticed soon, so that tests are.
var quick = []redis.Option{redis.Timeout(500 * time.Millisecond), redis.Heartbeat(200 * time.Millisecond)}

var (
	kept  = realtime.Retention{Size: 100_000, Age: time.Hour}
	short = realtime.Retention{Size: 5, Age: time.Hour}
)

func publish(b *redis.Broker, topic, name string, keep realtime.Retention) error {
	e := &realtime.Event{Topic: topic, Name: name, Data: json.RawMessage("1"), Time: time.Now()}
	return b.Publish(context.Background(), e, keep)
}

// publishUntil publishes again and again until it works.
func publishUntil(t *testing.T, b *redis.Broker, topic, name string, keep realtime.Retention) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := publish(b, topic, name, keep)
		if err == nil {
			return
		}
		if !errors.Is(err, realtime.ErrBrokerDown) || time.Since(start) > patience {
			t.Fatalf("Publish: %v", err)
		}
	}
}

// watch notes the states.
type watch struct {
	mu   sync.Mutex // guards the following
	seen []realtime.BrokerStatus
}

func watching(t *testing.T, b *redis.Broker) *watch {
	w := &watch{}
	t.Cleanup(b.Watch(func(s realtime.BrokerStatus) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, s)
	}))
	w.await(t, realtime.BrokerHealthy)
	return w
}

func (w *watch) last() realtime.BrokerStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[len(w.seen)-1]
}

// await waits until this is the state.
func (w *watch) await(t *testing.T, want realtime.BrokerState) {
	t.Helper()
	for start := time.Now(); w.last().State != want; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("it is %v, want %v", w.last(), want)
		}
	}
}

// saw reports whether it was in that state since it was healthy first.
func (w *watch) saw(states ...realtime.BrokerState) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := slices.IndexFunc(w.seen, func(s realtime.BrokerStatus) bool { return s.State == realtime.BrokerHealthy })
	return slices.ContainsFunc(w.seen[first:], func(s realtime.BrokerStatus) bool { return slices.Contains(states, s.State) })
}

// awaitTrouble waits until it was not healthy once.
func (w *watch) awaitTrouble(t *testing.T) {
	t.Helper()
	for start := time.Now(); !w.saw(realtime.BrokerDegraded, realtime.BrokerDown); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatal("it has been healthy all the time")
		}
	}
}

// traffic publishes on two nodes until it is told to stop, each event again and again
// until that works.
type traffic struct {
	stop atomic.Bool
	all  sync.WaitGroup
	done [2]int // events of each node
}

func (f *traffic) start(topic string, nodes ...*redis.Broker) {
	for n, b := range nodes {
		f.all.Go(func() {
			for ; !f.stop.Load(); f.done[n]++ {
				name := fmt.Sprintf("%d/%06d", n, f.done[n])
				for start := time.Now(); publish(b, topic, name, kept) != nil && time.Since(start) < patience; {
					time.Sleep(5 * time.Millisecond)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

func (f *traffic) end() {
	f.stop.Store(true)
	f.all.Wait()
}

// checkLossless checks that every event of both publishers came, in their order. An
// event may have come twice with two numbers: its publisher had no answer.
func (f *traffic) checkLossless(t *testing.T, names []string) {
	t.Helper()
	last := map[string]string{}
	count := map[string]int{}
	for _, name := range names {
		who, _, _ := strings.Cut(name, "/")
		if name < last[who] {
			t.Fatalf("%s came after %s", name, last[who])
		}
		if name != last[who] {
			count[who]++
		}
		last[who] = name
	}
	for n, done := range f.done {
		if got := count[fmt.Sprint(n)]; got != done {
			t.Errorf("%d events of node %d came, want %d", got, n, done)
		}
	}
}

func TestNothingIsLostWhenConnectionsAreKilled(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := open(t, s.URL(), quick...), open(t, s.URL(), quick...)
	w := watching(t, b)
	on, plain := listen(t, b, "topic", kept), listen(t, b, "plain", realtime.Retention{})
	var f traffic
	f.start("topic", a, b)
	for _, kind := range []string{"pubsub", "pubsub", "normal", "pubsub", "normal", "pubsub"} {
		time.Sleep(100 * time.Millisecond)
		if _, err := s.CLI("CLIENT", "KILL", "TYPE", kind); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	f.end()
	publishUntil(t, a, "topic", "end", kept)
	names, gaps := checkStory(t, *on.from, on.hears("end"))
	if gaps > 0 {
		t.Errorf("%d gaps although all is stored", gaps)
	}
	f.checkLossless(t, names[:len(names)-1])
	plain.until("a gap", func(got []*realtime.Event) bool { return len(got) > 0 && *got[0].Gap == realtime.Gap{} })
	w.await(t, realtime.BrokerHealthy)
	if !w.saw(realtime.BrokerDegraded, realtime.BrokerDown) {
		t.Error("the lost connections were not told")
	}
}

func TestAFlushIsANewEpoch(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := open(t, s.URL(), quick...), open(t, s.URL(), quick...)
	on, quiet := listen(t, b, "topic", kept), listen(t, b, "quiet", kept)
	for i := range 3 {
		publishUntil(t, a, "topic", fmt.Sprint(i), kept)
		publishUntil(t, a, "quiet", fmt.Sprint(i), kept)
	}
	on.want(3)
	quiet.want(3)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	publishUntil(t, a, "topic", "after", kept)
	names, gaps := checkStory(t, *on.from, on.hears("after"))
	if got := strings.Join(names, " "); got != "0 1 2 after" || gaps != 1 {
		t.Errorf("heard %q and %d gaps, want all and one", got, gaps)
	}
	got := quiet.until("a gap", func(got []*realtime.Event) bool { return len(got) == 4 })
	if e := got[3]; e.Gap == nil || *e.Gap != (realtime.Gap{}) || e.Epoch == quiet.from.Epoch || e.Offset != 0 {
		t.Errorf("heard %s after the flush, want a new epoch at 0", story(got))
	}
}

func TestAHoleThatIsNotStoredIsToldAsGap(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr)
	a, b := open(t, s.URL(), quick...), open(t, "redis://"+p.Addr, quick...)
	w := watching(t, b)
	on := listen(t, b, "topic", short)
	publishUntil(t, a, "topic", "0", short)
	on.want(1)
	p.Cut()
	w.await(t, realtime.BrokerDown)
	for i := range 20 {
		publishUntil(t, a, "topic", fmt.Sprint(i+1), short)
	}
	p.Heal()
	got := on.hears("20")
	names, _ := checkStory(t, *on.from, got)
	if want := "0 16 17 18 19 20"; strings.Join(names, " ") != want {
		t.Errorf("heard %v, want %s", names, want)
	}
	if g := got[1].Gap; g == nil || *g != (realtime.Gap{From: 2, To: 16}) {
		t.Errorf("heard %s, want a gap from 2 to 16", story(got))
	}
	w.await(t, realtime.BrokerHealthy)
}

// TestNothingHangs has the server out of reach in every way, and a publisher who must
// have an answer within the timeout, or at once when it is known.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		begin, end func(*redistest.Server, *redistest.Proxy)
	}{
		"stopped": {func(s *redistest.Server, _ *redistest.Proxy) { s.Stop() }, func(s *redistest.Server, _ *redistest.Proxy) { s.Cont() }},
		"cut":     {func(_ *redistest.Server, p *redistest.Proxy) { p.Cut() }, func(_ *redistest.Server, p *redistest.Proxy) { p.Heal() }},
		"half open": {func(_ *redistest.Server, p *redistest.Proxy) { p.HalfOpen() },
			func(_ *redistest.Server, p *redistest.Proxy) { p.Heal() }},
		"killed": {func(s *redistest.Server, _ *redistest.Proxy) { s.Kill() }, func(s *redistest.Server, _ *redistest.Proxy) { s.Restart() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, redistest.Durable)
			p := redistest.StartProxy(t, s.Addr)
			b := open(t, "redis://"+p.Addr, quick...)
			w := watching(t, b)
			on, plain := listen(t, b, "topic", kept), listen(t, b, "plain", realtime.Retention{})
			publishUntil(t, b, "topic", "before", kept)
			fault.begin(s, p)
			checkOutage(t, b, w, plain)
			fault.end(s, p)
			w.await(t, realtime.BrokerHealthy)
			publishUntil(t, b, "topic", "after", kept)
			names, gaps := checkStory(t, *on.from, on.hears("after"))
			if names[0] != "before" || gaps > 0 {
				t.Errorf("heard %v and %d gaps", names, gaps)
			}
			publishUntil(t, b, "plain", "after", realtime.Retention{})
			got := plain.until("a gap", func(got []*realtime.Event) bool {
				return hasGap(got) &&
					slices.ContainsFunc(got, func(e *realtime.Event) bool { return e.Name == "after" })
			})
			if n := len(slices.DeleteFunc(got, func(e *realtime.Event) bool { return e.Gap != nil })); n != 1+outagePlain {
				t.Errorf("%d events on the plain topic, want each of %d once: %s", n, 1+outagePlain, story(got))
			}
		})
	}
}

func hasGap(got []*realtime.Event) bool {
	return slices.ContainsFunc(got, func(e *realtime.Event) bool { return e.Gap != nil })
}

// outagePlain is how many plain events checkOutage publishes.
const outagePlain = 4

func checkOutage(t *testing.T, b *redis.Broker, w *watch, plain *ear) {
	t.Helper()
	start := time.Now()
	if err := publish(b, "plain", "first", realtime.Retention{}); err != nil {
		t.Errorf("publishing to members here: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the first publish took %v with a timeout of 500ms", took)
	}
	err := publish(b, "topic", "during", kept)
	if !errors.Is(err, realtime.ErrBrokerDown) {
		t.Errorf("publishing what cannot be stored: %v", err)
	}
	w.await(t, realtime.BrokerDown)
	if w.last().Err == nil {
		t.Error("down, and no reason")
	}
	start = time.Now()
	for i := range outagePlain - 1 {
		if err := publish(b, "topic", "during", kept); !errors.Is(err, realtime.ErrBrokerDown) {
			t.Errorf("publishing what cannot be stored: %v", err)
		}
		if err := publish(b, "plain", fmt.Sprint(i), realtime.Retention{}); err != nil {
			t.Errorf("publishing to members here: %v", err)
		}
	}
	if took := time.Since(start); took > 300*time.Millisecond {
		t.Errorf("publishing while it is known to be down took %v", took)
	}
	plain.want(outagePlain)
}

func TestRefusalsAreClear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begin, end []string
		want       string
		state      realtime.BrokerState
	}{
		"replica":     {[]string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}, "replica", realtime.BrokerDown},
		"full":        {[]string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"}, "memory is full", realtime.BrokerDegraded},
		"no replicas": {[]string{"CONFIG", "SET", "min-replicas-to-write", "1"}, []string{"CONFIG", "SET", "min-replicas-to-write", "0"}, "too few replicas", realtime.BrokerDegraded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			b := open(t, s.URL(), quick...)
			w := watching(t, b)
			plain := listen(t, b, "plain", realtime.Retention{})
			publishUntil(t, b, "topic", "before", kept)
			if _, err := s.CLI(c.begin...); err != nil {
				t.Fatal(err)
			}
			if err := publish(b, "topic", "during", kept); !errors.Is(err, realtime.ErrBrokerDown) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("publishing: %v, want that it says %q", err, c.want)
			}
			w.await(t, c.state)
			if err := publish(b, "plain", "during", realtime.Retention{}); err != nil {
				t.Errorf("publishing to a plain topic: %v", err)
			}
			plain.hears("during")
			if _, err := s.CLI(c.end...); err != nil {
				t.Fatal(err)
			}
			w.await(t, realtime.BrokerHealthy)
			publishUntil(t, b, "topic", "after", kept)
		})
	}
}

// TestWhatCouldNotBePublishedIsAGapOnOtherNodes has one node out of reach, which does
// not keep its members from talking; the members elsewhere hear that they missed it.
// TestAPlainTopicCanBeJoinedDuringAnOutage: who comes to a node that is cut off talks to
// the others there, and to everybody once it is not any more.
func TestAPlainTopicCanBeJoinedDuringAnOutage(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr)
	a, b := open(t, "redis://"+p.Addr, quick...), open(t, s.URL())
	w := watching(t, a)
	p.Cut()
	w.await(t, realtime.BrokerDown)
	here := listen(t, a, "plain", realtime.Retention{})
	if err := publish(a, "plain", "alone", realtime.Retention{}); err != nil {
		t.Error(err)
	}
	here.hears("alone")
	if _, _, err := a.Subscribe(context.Background(), "kept", kept, func(*realtime.Event) {}); !errors.Is(err, realtime.ErrBrokerDown) {
		t.Errorf("subscribing to a history: %v, want ErrBrokerDown: nobody knows its position", err)
	}
	p.Heal()
	here.until("a gap", hasGap)
	publishUntil(t, b, "plain", "from afar", realtime.Retention{})
	here.hears("from afar")
}

func TestWhatCouldNotBePublishedIsAGapOnOtherNodes(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr)
	a, b := open(t, "redis://"+p.Addr, quick...), open(t, s.URL())
	w, other := watching(t, a), watching(t, b)
	here, there := listen(t, a, "plain", realtime.Retention{}), listen(t, b, "plain", realtime.Retention{})
	p.Cut()
	w.await(t, realtime.BrokerDown)
	if err := publish(a, "plain", "alone", realtime.Retention{}); err != nil {
		t.Error(err)
	}
	here.hears("alone")
	p.Heal()
	there.until("a gap", hasGap)
	here.until("a gap", hasGap)
	if other.saw(realtime.BrokerDegraded, realtime.BrokerDown) {
		t.Error("the other node had an outage: the test shows nothing")
	}
}

// TestRecoveryDoesNotWaitForTheHeartbeat has a publisher find out that the server does
// not answer, long before the next heartbeat.
func TestRecoveryDoesNotWaitForTheHeartbeat(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b := open(t, s.URL(), redis.Timeout(500*time.Millisecond), redis.Heartbeat(time.Hour))
	w := watching(t, b)
	s.Stop()
	if err := publish(b, "topic", "during", kept); !errors.Is(err, realtime.ErrBrokerDown) {
		t.Errorf("publishing: %v", err)
	}
	w.await(t, realtime.BrokerDown)
	s.Cont()
	w.await(t, realtime.BrokerHealthy)
}

// TestABusyScriptIsWaitedOut has the server busy with somebody's endless script.
func TestABusyScriptIsWaitedOut(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "busy-reply-threshold 100", "enable-debug-command yes")
	b := open(t, s.URL(), quick...)
	w := watching(t, b)
	on := listen(t, b, "topic", kept)
	publishUntil(t, b, "topic", "before", kept)
	done := make(chan struct{})
	go func() {
		defer close(done)
		other := newClient(t, s.Addr)
		other.Do(context.Background(), other.B().Arbitrary("EVAL", "while true do end", "0").Build())
	}()
	w.await(t, realtime.BrokerDown)
	if err := publish(b, "topic", "during", kept); !errors.Is(err, realtime.ErrBrokerDown) {
		t.Errorf("publishing: %v", err)
	}
	if _, err := s.CLI("SCRIPT", "KILL"); err != nil {
		t.Fatal(err)
	}
	<-done
	w.await(t, realtime.BrokerHealthy)
	if _, err := s.CLI("DEBUG", "SLEEP", "1"); err != nil {
		t.Fatal(err)
	}
	publishUntil(t, b, "topic", "after", kept)
	if _, gaps := checkStory(t, *on.from, on.hears("after")); gaps > 0 {
		t.Errorf("%d gaps", gaps)
	}
}

// TestARestartWithoutItsDataIsANewEpoch kills the server while two nodes publish.
func TestARestartWithoutItsDataIsANewEpoch(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := open(t, s.URL(), quick...), open(t, s.URL(), quick...)
	w := watching(t, a)
	watching(t, b)
	on, other := listen(t, a, "topic", kept), listen(t, b, "topic", kept)
	var f traffic
	f.start("topic", a, b)
	on.want(20)
	s.Kill()
	w.await(t, realtime.BrokerDown)
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	w.await(t, realtime.BrokerHealthy)
	f.end()
	publishUntil(t, a, "topic", "end", kept)
	for _, l := range []*ear{on, other} {
		if _, gaps := checkStory(t, *l.from, l.hears("end")); gaps != 1 {
			t.Errorf("%d gaps, want that of the new epoch: %s", gaps, story(l.hears("end")))
		}
	}
}

// TestAFailoverThatLostEventsIsANewEpoch goes over to a replica that had stopped
// following: what it lacks was delivered, and its numbers are given again.
func TestAFailoverThatLostEventsIsANewEpoch(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]int{"fewer than before": 1, "as many as before": 5, "more than before": 9} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			master := redistest.Start(t)
			replica := redistest.StartReplica(t, master)
			before, after := redistest.StartProxy(t, master.Addr), redistest.StartProxy(t, replica.Addr)
			address := &moving{}
			address.to.Store(&before.Addr)
			a, b := openMoving(t, address), openMoving(t, address)
			w := watching(t, b)
			on, quiet := listen(t, b, "topic", kept), listen(t, b, "quiet", kept)
			for i := range 5 {
				publishUntil(t, a, "topic", fmt.Sprint(i), kept)
				publishUntil(t, a, "quiet", fmt.Sprint(i), kept)
			}
			on.want(5)
			if _, err := master.CLI("WAIT", "1", "10000"); err != nil {
				t.Fatal(err)
			}
			if _, err := replica.CLI("REPLICAOF", "NO", "ONE"); err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				publishUntil(t, a, "topic", "lost"+fmt.Sprint(i), kept)
				publishUntil(t, a, "quiet", "lost"+fmt.Sprint(i), kept)
			}
			on.want(10)
			quiet.want(10)
			address.to.Store(&after.Addr)
			before.Cut()
			w.awaitTrouble(t)
			for i := range again {
				publishUntil(t, a, "topic", fmt.Sprintf("again%d", i), kept)
			}
			w.await(t, realtime.BrokerHealthy)
			on.until("a gap", hasGap)
			quiet.until("a gap", hasGap)
			publishUntil(t, a, "topic", "end", kept)
			publishUntil(t, a, "quiet", "end", kept)
			for _, l := range []*ear{on, quiet} {
				if _, gaps := checkStory(t, *l.from, l.hears("end")); gaps != 1 {
					t.Errorf("%d gaps, want one: %s", gaps, story(l.hears("end")))
				}
			}
		})
	}
}
