package nats_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/nats"
)

func hasGap(events []*realtime.Event) bool {
	return slices.ContainsFunc(events, func(e *realtime.Event) bool { return e.Gap != nil })
}

func TestNothingIsLostWhenTheServerRestarts(t *testing.T) {
	h := newHost(t)
	a, b := h.node(), h.node()
	here, there := record(t, a, "t", hour), record(t, b, "t", hour)
	plain := record(t, b, "p", realtime.Retention{})
	state := watch(t, a)
	mustPublish(t, a, "t", hour, count(1, 5)...)
	h.stop()
	state.await(t, realtime.BrokerDown)
	h.start()
	state.await(t, realtime.BrokerHealthy)
	plain.until("want a gap", hasGap)
	mustPublish(t, a, "t", hour, count(6, 10)...)
	wantRun(t, here.want(10), here.from.Epoch, 1)
	wantRun(t, there.want(10), here.from.Epoch, 1)
}

func TestPublishingWhileCutOff(t *testing.T) {
	h := newHost(t)
	a := h.node()
	stored, plain := record(t, a, "t", hour), record(t, a, "p", realtime.Retention{})
	state := watch(t, a)
	h.stop()
	state.await(t, realtime.BrokerDown)
	start := time.Now()
	if err := publish(a, "t", hour, "1"); !errors.Is(err, realtime.ErrBrokerDown) {
		t.Errorf("publishing to a topic with history: %v, want ErrBrokerDown", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %v", took)
	}
	mustPublish(t, a, "p", realtime.Retention{}, "1", "2")
	mustPublish(t, a, "nobody", realtime.Retention{}, "1")
	if n := len(plain.events()); n != 2 {
		t.Errorf("%d events of the topic without history were delivered here, want 2", n)
	}
	late := record(t, a, "p2", realtime.Retention{}) // works without a server
	h.start()
	state.await(t, realtime.BrokerHealthy)
	mustPublish(t, a, "p2", realtime.Retention{}, "1")
	late.until("want the event", func(got []*realtime.Event) bool { return len(got) > 0 && got[len(got)-1].Name == "1" })
	mustPublish(t, a, "t", hour, "1")
	wantRun(t, stored.want(1), stored.from.Epoch, 1)
}

func TestMembersReloadWhenTheServerHasLostItsStore(t *testing.T) {
	h := newHost(t)
	a, b := h.node(), h.node()
	here, there := record(t, a, "t", hour), record(t, b, "t", hour)
	mustPublish(t, a, "t", hour, count(1, 3)...)
	there.want(3)
	h.stop()
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	h.start()
	var gap *realtime.Event
	for _, p := range []*tape{here, there} {
		got := p.until("want a gap", hasGap)
		if gap = got[3]; gap.Epoch == here.from.Epoch || gap.Epoch == "" || *gap.Gap != (realtime.Gap{}) {
			t.Fatalf("got %s, want a gap with a new epoch", describe(got))
		}
	}
	waitFor(t, func() bool { return publish(a, "t", hour, "1") == nil }, func() string { return "cannot publish" })
	for _, p := range []*tape{here, there} {
		got := p.until("want the event", func(got []*realtime.Event) bool { return got[len(got)-1].Name == "1" })
		if e := got[len(got)-1]; e.Offset != 1 || e.Epoch != got[len(got)-2].Epoch {
			t.Errorf("got %s, want 1 of the new epoch", describe(got))
		}
	}
}

// TestMembersReloadWhenTheServerHasLostItsNewestEvents starts the server with a copy of
// its store that is older than what it had acknowledged.
func TestMembersReloadWhenTheServerHasLostItsNewestEvents(t *testing.T) {
	h := newHost(t)
	a, b := h.node(), h.node()
	here, there := record(t, a, "t", hour), record(t, b, "t", hour)
	mustPublish(t, a, "t", hour, count(1, 3)...)
	h.stop()
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	h.start()
	waitFor(t, func() bool { return publish(a, "t", hour, "4") == nil }, func() string { return "cannot publish" })
	here.want(4)
	there.want(4)
	h.stop()
	h.dir = old
	h.start()
	for _, p := range []*tape{here, there} {
		got := p.until("want a gap", hasGap)
		if gap := got[4]; gap.Epoch == p.from.Epoch || gap.Gap.From != 0 {
			t.Errorf("got %s, want a new epoch", describe(got))
		}
	}
}

// TestAnotherHistoryIsNoticed has a node that knows nothing go on where the server has
// lost events: it cannot know better, but those who had the events do.
func TestAnotherHistoryIsNoticed(t *testing.T) {
	h := newHost(t)
	a := h.node(nats.Heartbeat(time.Hour))
	here := record(t, a, "t", hour)
	mustPublish(t, a, "t", hour, count(1, 3)...)
	_, nc := connect(t, h.server.URL())
	js, _ := jetstream.New(nc)
	stream, err := js.Stream(context.Background(), "realtime")
	if err != nil {
		t.Fatal(err)
	}
	last, err := stream.GetLastMsgForSubject(context.Background(), "realtime.h.t")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(context.Background(), last.Sequence); err != nil {
		t.Fatal(err)
	}
	other := h.node()
	mustPublish(t, other, "t", hour, "another 3", "another 4")
	got := here.until("want a gap", hasGap)
	if gap := got[3]; gap.Epoch == here.from.Epoch {
		t.Errorf("got %s, want a new epoch", describe(got))
	}
	mustPublish(t, other, "t", hour, "more")
	here.until("want more", func(got []*realtime.Event) bool { return got[len(got)-1].Name == "more" })
}

func TestWhatIsMissedIsRead(t *testing.T) {
	h := newHost(t)
	p := newProxy(t, h.server.URL())
	far, _ := connect(t, p.url())
	near := h.node()
	there, plain := record(t, far, "t", hour), record(t, far, "p", realtime.Retention{})
	quiet := record(t, far, "quiet", hour)
	state := watch(t, far)
	mustPublish(t, near, "t", hour, count(1, 5)...)
	there.want(5)
	p.cut()
	state.await(t, realtime.BrokerDown)
	mustPublish(t, near, "t", hour, count(6, 400)...)
	p.heal()
	wantRun(t, there.want(400), there.from.Epoch, 1)
	plain.until("want a gap", hasGap)
	if n := len(quiet.events()); n != 0 {
		t.Errorf("a topic without events got %s", describe(quiet.events()))
	}
	mustPublish(t, far, "t", hour, "401")
	wantRun(t, there.want(401), there.from.Epoch, 1)
}

func TestWhatIsGoneIsAGap(t *testing.T) {
	h := newHost(t)
	p := newProxy(t, h.server.URL())
	far, _ := connect(t, p.url())
	near := h.node()
	few := realtime.Retention{Size: 10, Age: time.Hour}
	there := record(t, far, "t", few)
	state := watch(t, far)
	mustPublish(t, near, "t", few, count(1, 5)...)
	there.want(5)
	p.cut()
	state.await(t, realtime.BrokerDown)
	mustPublish(t, near, "t", few, count(6, 200)...)
	p.heal()
	got := there.until("want 200", func(got []*realtime.Event) bool { return got[len(got)-1].Offset == 200 })
	gap := got[5]
	if gap.Gap == nil || gap.Gap.From != 6 || gap.Gap.To != gap.Offset || gap.Epoch != there.from.Epoch || gap.Offset > 190 {
		t.Fatalf("after 5 came %+v, want a gap from 6 on: %s", gap, describe(got))
	}
	wantRun(t, got[6:], there.from.Epoch, gap.Offset+1)
}

func TestAServerThatDoesNotAnswer(t *testing.T) {
	h := newHost(t)
	p := newProxy(t, h.server.URL())
	a, _ := connect(t, p.url(), nats.Timeout(500*time.Millisecond), nats.InFlight(3))
	stored, plain := record(t, a, "t", hour), record(t, a, "p", realtime.Retention{})
	state := watch(t, a)
	p.stall()
	start := time.Now()
	var all sync.WaitGroup
	var refused atomic.Int32
	for n := range 20 {
		all.Go(func() {
			err := publish(a, "t", hour, fmt.Sprint("x", n))
			if !errors.Is(err, realtime.ErrBrokerDown) {
				t.Errorf("publishing: %v, want ErrBrokerDown", err)
			} else if strings.Contains(err.Error(), "on their way") {
				refused.Add(1)
			}
		})
	}
	all.Go(func() { mustPublish(t, a, "p", realtime.Retention{}, "1") })
	all.Wait()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("publishing failed after %v, want it bounded", took)
	}
	if refused.Load() == 0 {
		t.Error("20 events waited for the server at the same time, want at most 3")
	}
	state.await(t, realtime.BrokerDown)
	if n := len(plain.events()); n != 1 {
		t.Errorf("%d events were delivered here, want 1", n)
	}
	p.resume()
	p.cut()
	p.heal()
	state.await(t, realtime.BrokerHealthy)
	waitFor(t, func() bool { return publish(a, "t", hour, "last") == nil }, func() string { return "cannot publish" })
	got := stored.until("want the last", func(got []*realtime.Event) bool { return len(got) > 0 && got[len(got)-1].Name == "last" })
	for i, e := range got { // some of those that failed may have been stored
		if e.Offset != uint64(i+1) || e.Gap != nil {
			t.Errorf("got %s, want dense offsets", describe(got))
		}
	}
}

// TestAnAnswerThatIsLate has the server store an event whose publisher does not hear of
// it until it counts the answer as lost: it finds out, and stores it once.
func TestAnAnswerThatIsLate(t *testing.T) {
	h := newHost(t)
	for _, members := range []bool{true, false} {
		t.Run(fmt.Sprint("members=", members), func(t *testing.T) {
			t.Parallel()
			topic := fmt.Sprint("t", members)
			p := newProxy(t, h.server.URL())
			far, _ := connect(t, p.url(), nats.Timeout(6*time.Second), nats.Heartbeat(time.Hour))
			near := h.node()
			there := record(t, near, topic, hour)
			own := there
			if members {
				own = record(t, far, topic, hour)
			}
			mustPublish(t, far, topic, hour, "1")
			there.want(1)
			p.mute()
			done := make(chan error)
			go func() { done <- publish(far, topic, hour, "2") }()
			there.want(2)
			mustPublish(t, near, topic, hour, "3")
			select {
			case err := <-done:
				t.Fatalf("Publish returned %v without an answer", err)
			case <-time.After(2200 * time.Millisecond): // a third of the time-out is over
			}
			p.resume()
			if err := <-done; err != nil {
				t.Fatalf("Publish: %v", err)
			}
			mustPublish(t, far, topic, hour, "4")
			wantRun(t, there.want(4), there.from.Epoch, 1)
			wantRun(t, own.want(4), there.from.Epoch, 1)
		})
	}
}

func TestTheStreamIsPurged(t *testing.T) {
	h := newHost(t)
	a, nc := connect(t, h.server.URL())
	here := record(t, a, "t", hour)
	mustPublish(t, a, "t", hour, count(1, 3)...)
	js, _ := jetstream.New(nc)
	stream, err := js.Stream(context.Background(), "realtime")
	if err == nil {
		err = stream.Purge(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, a, "t", hour, "4")
	got := here.until("want 4", func(got []*realtime.Event) bool { return got[len(got)-1].Name == "4" })
	if gap := got[3]; gap.Gap == nil || gap.Epoch == here.from.Epoch || got[4].Offset != gap.Offset+1 {
		t.Errorf("got %s, want a new epoch before 4", describe(got))
	}
}

func TestTheStreamIsDeleted(t *testing.T) {
	h := newHost(t)
	a, nc := connect(t, h.server.URL())
	here := record(t, a, "t", hour)
	mustPublish(t, a, "t", hour, count(1, 3)...)
	js, _ := jetstream.New(nc)
	if err := js.DeleteStream(context.Background(), "realtime"); err != nil {
		t.Fatal(err)
	}
	got := here.until("want a gap", hasGap)
	if gap := got[3]; gap.Epoch == here.from.Epoch {
		t.Errorf("got %s, want a new epoch", describe(got))
	}
	mustPublish(t, a, "t", hour, "1")
}

// TestASlowNode has more events come than the node has room for.
func TestASlowNode(t *testing.T) {
	h := newHost(t)
	slow, fast := h.node(nats.Lane(8)), h.node()
	stored, plain := record(t, slow, "t", hour), record(t, slow, "p", realtime.Retention{})
	held := make(chan struct{})
	for n := range 64 { // some in every lane
		first := sync.OnceFunc(func() { <-held })
		_, stop, err := slow.Subscribe(context.Background(), fmt.Sprint("held", n), realtime.Retention{}, func(*realtime.Event) { first() })
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	for n := range 64 {
		mustPublish(t, fast, fmt.Sprint("held", n), realtime.Retention{}, "1")
	}
	mustPublish(t, fast, "t", hour, count(1, 100)...)
	mustPublish(t, fast, "p", realtime.Retention{}, count(1, 100)...)
	close(held)
	wantRun(t, stored.want(100), stored.from.Epoch, 1)
	plain.until("want a gap", hasGap)
}

// TestComingBackAtOnce leaves a topic and joins it again while events arrive: what was
// meant for the old subscription is not delivered twice.
func TestComingBackAtOnce(t *testing.T) {
	h := newHost(t)
	a, b := h.node(), h.node()
	record(t, b, "p", realtime.Retention{}) // publishing waits for its own copy: it is no flood
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				mustPublish(t, b, "p", realtime.Retention{}, fmt.Sprint(n))
			}
		}
	})
	for range 100 {
		p := record(t, a, "p", realtime.Retention{})
		p.until("want an event", func(got []*realtime.Event) bool { return len(got) > 0 })
		p.stop()
		seen := map[string]bool{}
		for _, e := range p.events() {
			if seen[e.Name] {
				t.Fatalf("%s was delivered twice: %s", e.Name, describe(p.events()))
			}
			seen[e.Name] = true
		}
	}
	close(stop)
	all.Wait()
}

func TestForcedReconnects(t *testing.T) {
	h := newHost(t)
	a, nc := connect(t, h.server.URL())
	b := h.node()
	here, there := record(t, a, "t", hour), record(t, b, "t", hour)
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				nc.ForceReconnect()
			}
		}
	})
	for n := 1; n <= 200; n++ {
		mustPublish(t, b, "t", hour, fmt.Sprint(n))
	}
	close(stop)
	all.Wait()
	wantRun(t, there.want(200), here.from.Epoch, 1)
	wantRun(t, here.want(200), here.from.Epoch, 1)
}

func TestMisuse(t *testing.T) {
	h := newHost(t)
	nc, err := client.Connect(h.server.URL(), client.NoEcho())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nats.New(nc); err == nil {
		t.Error("a connection without echo was accepted")
	}
	for name, opt := range map[string]nats.Option{
		"prefix": nats.Prefix("a.b"), "no prefix": nats.Prefix(""), "time-out": nats.Timeout(0),
		"in flight": nats.InFlight(0), "heartbeat": nats.Heartbeat(0),
	} {
		if _, err := nats.New(nc, opt); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
