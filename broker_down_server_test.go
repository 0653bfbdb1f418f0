package realtime_test

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

// republish publishes what a client sends.
func republish(s *realtime.Server) realtime.Handler {
	return func(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
		return nil, s.Publish(ctx, m.Topic, "said", m.Data)
	}
}

func TestPublishesFailClearlyWhileTheBrokerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := realtimetest.NewCluster().Node()
		s := newServer(t, realtime.WithBroker(node))
		s.Topic("kept:{id}", realtime.History(10, 0)).Handle("say", republish(s))
		s.Topic("plain:{id}").Handle("say", republish(s))
		c, p := dial(t, s), dialPhoenix(t, s, "vsn=2.0.0")
		c.Join("kept:a")
		c.Join("plain:a")
		p.say(`["1","1","kept:a","phx_join",{}]`, `["1","1","kept:a","phx_reply",{"status":"ok","response":{}}]`)
		node.Cut()
		if err := s.Publish(t.Context(), "kept:a", "said", 1); !errors.Is(err, realtime.ErrBrokerDown) {
			t.Errorf("got %v, want ErrBrokerDown", err)
		}
		var told struct{ Code, Retry string }
		m := c.WantError(c.Push("kept:a", "say", 1), realtime.CodeUnavailable)
		if err := json.Unmarshal(m.Data, &told); err != nil || told.Retry != "backoff" {
			t.Errorf("the client was told %s", m)
		}
		p.say(`["1","2","kept:a","say",{}]`, `["1","2","kept:a","phx_reply",{"status":"error","response":{"reason":"unavailable","message":"This cannot be stored at the moment"}}]`)
		c.WantReply(c.Push("plain:a", "say", 2), "ok", nil)
		c.WantPush("plain:a", "said", 2)
		c.WantError(c.Push("kept:b", "subscribe", nil), realtime.CodeUnavailable)
		c.Join("plain:b")
		node.Heal()
		c.Join("kept:b")
	})
}

func TestPublishEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := realtimetest.NewCluster().Node()
		s := newServer(t, realtime.WithBroker(node))
		s.Topic("kept:{id}", realtime.History(10, 0))
		node.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		err := s.Publish(ctx, "kept:a", "n", 1)
		if waited := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || waited != 2*time.Second {
			t.Errorf("got %v after %v, want the context's error after 2 s", err, waited)
		}
	})
}

func TestAJoinDoesNotWaitForTheBrokerForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := realtimetest.NewCluster().Node()
		s := newServer(t, realtime.WithBroker(node))
		in := 0
		s.Topic("slow:{id}", realtime.JoinTime(3*time.Second), realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			time.Sleep(time.Second)
			in++
			return nil, nil
		}), realtime.Left(func(*realtime.Client, string, realtime.Reason) { in-- }))
		c, second := dial(t, s), dial(t, s)
		node.Hang()
		start := time.Now()
		ref := c.Push("slow:a", "subscribe", nil)
		time.Sleep(time.Second)
		late := second.Push("slow:a", "subscribe", nil)
		c.WantError(ref, realtime.CodeJoinTimeout)
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("refused after %v, want 3 s", waited)
		}
		node.Heal()
		second.WantReply(late, "ok", nil) // who gave up first did not take the subscription along
		if in != 1 {
			t.Errorf("the host has %d members, want 1", in)
		}
		c.Join("slow:a")
	})
}

func TestTheHostHearsOfAJoinThatTheBrokerFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := realtimetest.NewCluster().Node()
		s := newServer(t, realtime.WithBroker(node))
		var calls []string
		s.Topic("kept:{id}", realtime.History(10, 0), realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			calls = append(calls, "join")
			return nil, nil
		}), realtime.Left(func(_ *realtime.Client, topic string, why realtime.Reason) {
			calls = append(calls, "left "+topic+" "+string(why))
		}))
		c := dial(t, s)
		node.Cut()
		c.WantError(c.Push("kept:a", "subscribe", nil), realtime.CodeUnavailable)
		synctest.Wait()
		if len(calls) != 2 || calls[0] != "join" || calls[1] != "left kept:a disconnected" {
			t.Errorf("the host was called %v, want a join and its end", calls)
		}
	})
}

func TestShutdownDoesNotWaitForABrokerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := realtimetest.NewCluster().Node()
		s, err := realtime.New(realtime.Anonymous(), realtime.WithBroker(node), realtime.WithQueue(4, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		s.Topic("kept:{id}", realtime.History(100, 0)).Handle("say", republish(s))
		talking, joining, behind := realtimetest.Dial(t, s), realtimetest.Dial(t, s), realtimetest.Dial(t, s)
		talking.Join("kept:a")
		behind.Join("kept:a")
		behind.StopReading()
		for n := range 30 {
			publish(t, s, "kept:a", "n", n)
			talking.WantPush("kept:a", "n", n)
		}
		node.Hang()
		talking.Push("kept:a", "say", 1)
		joining.Push("kept:b", "subscribe", nil)
		behind.Resume() // it reads on from a history that does not answer
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if n := node.Watchers(); n != 0 {
			t.Errorf("%d watch the broker still", n)
		}
	})
}

func TestAMemberThatIsBehindAHangingHistoryIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := realtimetest.NewCluster().Node()
		s := newServer(t, realtime.WithBroker(node), realtime.WithQueue(4, 1<<20))
		s.Topic("kept:{id}", realtime.History(100, 0))
		c := dial(t, s)
		c.Join("kept:a")
		c.StopReading()
		for n := range 30 {
			publish(t, s, "kept:a", "n", n)
		}
		synctest.Wait()
		node.Hang()
		start := time.Now()
		c.Resume()
		c.WantClosed(realtime.ReasonInternal)
		if waited := time.Since(start); waited != 10*time.Second {
			t.Errorf("closed after %v, want 10 s", waited)
		}
	})
}
