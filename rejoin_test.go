package realtime_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestTheHostHearsOfAnEndBeforeTheNextJoin(t *testing.T) { // Left; envelope.md section 3: handled in order
	synctest.Test(t, func(t *testing.T) {
		var calls []string // of one mailbox, so never at the same time
		busy := make(chan struct{})
		s := newServer(t)
		s.Topic("chat:{room}",
			realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) {
				calls = append(calls, "join")
				return nil, nil
			}),
			realtime.Left(func(*realtime.Client, string, realtime.Reason) { calls = append(calls, "left") }),
		).Handle("wait", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			<-busy
			return nil, nil
		})
		c := dial(t, s)
		c.Join("chat:a")
		c.Push("chat:a", "wait", nil)
		c.Push("chat:a", "unsubscribe", nil)
		ref := c.Push("chat:a", "subscribe", nil)
		synctest.Wait() // all of them wait in the mailbox
		close(busy)
		c.WantReply(ref, "ok", nil)
		synctest.Wait()
		if got, want := strings.Join(calls, " "), "join left join"; got != want {
			t.Errorf("called: %s, want %s", got, want)
		}
	})
}

func TestAConnectionThatEndsInItsJoinFunctionHasLeft(t *testing.T) { // Left: what a join function counts in is counted out
	synctest.Test(t, func(t *testing.T) {
		left := make(chan realtime.Reason, 2)
		s := newServer(t)
		s.Topic("chat:{room}",
			realtime.Join(func(ctx context.Context, _ *realtime.Client, _ realtime.Message) (any, error) {
				<-ctx.Done()
				return nil, nil
			}),
			realtime.Left(func(_ *realtime.Client, _ string, why realtime.Reason) { left <- why }))
		c := dial(t, s)
		c.Push("chat:a", "subscribe", nil)
		synctest.Wait()
		c.Cut()
		synctest.Wait()
		if len(left) != 1 {
			t.Fatalf("Left was called %d times, want once", len(left))
		}
		if why := <-left; why != realtime.ReasonConnectionLost {
			t.Errorf("left for %s, want connection_lost", why)
		}
	})
}

func TestUnsubscribedComesBeforeTheAnswerToTheNextJoin(t *testing.T) { // envelope.md section 3: no event follows
	s := newServer(t, realtime.WithRateLimit(realtime.PerConnection(1e6, 1e6)))
	s.Topic("chat:{room}")
	c := realtimetest.Dial(t, s)
	c.Connected()
	var client *realtime.Client
	for one := range s.Clients("global") {
		client = one
	}
	for range 300 { // the server's end and the client's join meet at any point
		c.Join("chat:a")
		var expelled sync.WaitGroup
		expelled.Go(func() { client.Unsubscribe("chat:a", nil) })
		c.Push("chat:a", "subscribe", nil)
		expelled.Wait()
		ref := c.Push("chat:a", "subscribe", nil)
		last, m := "", c.Recv()
		for ; m.Ref != ref; m = c.Recv() {
			last = m.Type
		}
		if m.Type == "subscription_error" && last == "unsubscribed" {
			t.Fatalf("the client was told that it is out, and then %s", m)
		}
		for ref = c.Push("chat:a", "unsubscribe", nil); c.Recv().Ref != ref; {
		}
	}
}
