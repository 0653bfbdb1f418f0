package realtimetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestEveryNodeIsABroker(t *testing.T) {
	realtimetest.Broker(t, func() realtime.Broker {
		c := realtimetest.NewCluster()
		c.Node()
		return c.Node()
	})
}

func TestNodesShareTopics(t *testing.T) {
	realtimetest.SharedBrokers(t, func() (a, b realtime.SharedBroker) {
		c := realtimetest.NewCluster()
		return c.Node(), c.Node()
	})
}

var day = realtime.Retention{Size: 3, Age: 24 * time.Hour}

// listen notes what a node gets of a topic: the names of events, and gaps.
func listen(t *testing.T, n *realtimetest.Node, topic string, keep realtime.Retention) (got func() []any, from *realtime.Position) {
	t.Helper()
	var told []any
	from, stop, err := n.Subscribe(context.Background(), topic, keep, func(e *realtime.Event) {
		if e.Gap != nil {
			told = append(told, *e.Gap, e.Offset)
			return
		}
		told = append(told, e.Name)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return func() []any { defer func() { told = nil }(); return told }, from
}

func publish(t *testing.T, n *realtimetest.Node, topic string, keep realtime.Retention, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := n.Publish(context.Background(), &realtime.Event{Topic: topic, Name: name, Data: json.RawMessage("1"), Time: time.Now()}, keep); err != nil {
			t.Fatalf("publish %s: %v", name, err)
		}
	}
}

func want(t *testing.T, got func() []any, want ...any) {
	t.Helper()
	if told := got(); !equalAll(told, want) {
		t.Errorf("got %v, want %v", told, want)
	}
}

func equalAll(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestACutNodeIsRepairedFromTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := realtimetest.NewCluster()
		a, b := c.Node(), c.Node()
		near, _ := listen(t, a, "t", day)
		far, _ := listen(t, b, "t", day)
		plain, _ := listen(t, b, "p", realtime.Retention{})
		publish(t, a, "t", day, "1")
		b.Cut()
		publish(t, a, "t", day, "2", "3")
		publish(t, a, "p", realtime.Retention{}, "lost")
		publish(t, b, "p", realtime.Retention{}, "own")
		if err := b.Publish(context.Background(), &realtime.Event{Topic: "t", Name: "x", Data: json.RawMessage("1")}, day); !errors.Is(err, realtime.ErrBrokerDown) {
			t.Errorf("a publish of a node that is cut off gave %v, want ErrBrokerDown", err)
		}
		want(t, far, "1")
		want(t, plain, "own")
		b.Heal()
		want(t, far, "2", "3")
		want(t, plain, realtime.Gap{}, uint64(0))
		want(t, near, "1", "2", "3")
		publish(t, b, "t", day, "4")
		want(t, near, "4")
		want(t, far, "4")
	})
}

func TestWhatTheLogHasLostIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := realtimetest.NewCluster()
		a, b := c.Node(), c.Node()
		far, from := listen(t, b, "t", day)
		b.Cut()
		publish(t, a, "t", day, "1", "2", "3", "4", "5")
		b.Heal()
		want(t, far, realtime.Gap{From: 1, To: 2}, uint64(2), "3", "4", "5")
		b.Cut()
		publish(t, a, "t", day, "6")
		c.LoseLog("t")
		b.Heal()
		want(t, far, realtime.Gap{From: 6, To: 6}, uint64(6))
		c.LoseAll()
		want(t, far, realtime.Gap{}, uint64(0))
		publish(t, a, "t", day, "1")
		want(t, far, "1")
		_, at, err := b.Read(context.Background(), "t", day, 0, 10)
		if err != nil || at.Epoch == from.Epoch || at.Offset != 1 {
			t.Errorf("after all was lost the position is %v, %v, want offset 1 of another epoch than %s", at, err, from.Epoch)
		}
	})
}

func TestAStuckNodeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := realtimetest.NewCluster()
		a := c.Node()
		near, _ := listen(t, a, "t", day)
		a.Hang()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := a.Publish(ctx, &realtime.Event{Topic: "t", Name: "x", Data: json.RawMessage("1")}, day); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a publish of a stuck node gave %v, want its context's error", err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			publish(t, a, "t", day, "1")
		}()
		synctest.Wait()
		want(t, near)
		a.Heal()
		<-done
		want(t, near, "1")
	})
}

func TestStatesAreToldUntilStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := realtimetest.NewCluster().Node()
		var told []realtime.BrokerState
		stop := n.Watch(func(s realtime.BrokerStatus) { told = append(told, s.State) })
		n.Cut()
		n.Heal()
		n.Report(realtime.BrokerStatus{State: realtime.BrokerDegraded})
		stop()
		n.Cut()
		want := []realtime.BrokerState{realtime.BrokerHealthy, realtime.BrokerDown, realtime.BrokerHealthy, realtime.BrokerDegraded}
		if len(told) != len(want) {
			t.Fatalf("told %v, want %v", told, want)
		}
		for i := range want {
			if told[i] != want[i] {
				t.Fatalf("told %v, want %v", told, want)
			}
		}
	})
}
