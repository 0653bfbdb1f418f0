package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestSubscribeIsAnsweredOnGlobal(t *testing.T) { // envelope.md section 4, S2.2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}", realtime.Join(func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			if m.Event != "subscribe" {
				t.Errorf("the join function got event %q, want subscribe", m.Event)
			}
			return map[string]any{"room": m.Param("room"), "params": m.Data}, nil
		}))
		c := dial(t, s)
		c.Send(`{"channel":"chat:a","type":"subscribe","ref":"3","data":{"params":{"k": 1}}}`)
		want := `{"channel":"global","type":"subscription_success","data":{"channel":"chat:a","recovery":"fresh","response":{"params":{"k":1},"room":"a"}},"ref":"3"}`
		if got := c.Recv().Text; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestWithoutAJoinFunctionTheResponseIsNull(t *testing.T) { // envelope.md section 4
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		if got := dial(t, s).Join("chat:a"); string(got.Response) != "null" || got.Epoch != "" || got.Recovery != realtime.RecoveryFresh {
			t.Errorf("got %+v, want null, no position and fresh", got)
		}
	})
}

func TestARefusedSubscribeSaysWhatTheHostMeantForTheClient(t *testing.T) { // envelope.md section 4, S2.7
	for name, c := range map[string]struct {
		err  error
		want map[string]any
	}{
		"rejected":  {realtime.Reject("Not your session"), map[string]any{"code": "forbidden", "error": "Not your session", "retry": "never"}},
		"wrapped":   {fmt.Errorf("load: %w", &realtime.Error{Code: "full", Text: "Full", Retry: realtime.RetryBackoff, RetryAfter: 1500 * time.Microsecond}), map[string]any{"code": "full", "error": "Full", "retry": "backoff", "retry_after_ms": 2}},
		"a reason":  {realtime.ReasonRateLimited, map[string]any{"code": "rate_limited", "error": "Too many messages", "retry": "backoff"}},
		"a secret":  {errors.New("password is hunter2"), map[string]any{"code": "internal", "error": "Internal error", "retry": "backoff"}},
		"a panic":   {nil, map[string]any{"code": "internal", "error": "Internal error", "retry": "backoff"}},
		"bad value": {errors.ErrUnsupported, map[string]any{"code": "internal", "error": "Internal error", "retry": "backoff"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.Topic("chat:{room}", realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) {
					switch c.err {
					case nil:
						panic("no")
					case errors.ErrUnsupported:
						return func() {}, nil // no JSON
					}
					return nil, c.err
				}))
				client := dial(t, s)
				c.want["channel"] = "chat:a"
				m := client.WantReply(client.Push("chat:a", "subscribe", nil), "error", realtimetest.Exactly(c.want))
				if m.Type != "subscription_error" || m.Channel != "global" {
					t.Errorf("got %s, want a subscription_error on global", m)
				}
				publish(t, s, "chat:a", "x", 1)
				client.WantNothing()
			})
		})
	}
}

func TestSubscribingTwiceChangesNothing(t *testing.T) { // envelope.md sections 3 and 4
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		for _, channel := range []string{"chat:a", "global"} {
			c.WantError(c.Push(channel, "subscribe", nil), "already_subscribed")
		}
		publish(t, s, "chat:a", "x", 1)
		c.WantPush("chat:a", "x", 1)
		c.WantNothing()
	})
}

func TestBadSubscribeDataIsInvalidData(t *testing.T) { // envelope.md section 3
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}", realtime.History(10, 0))
		c := dial(t, s)
		for _, data := range []string{`7`, `[]`, `"x"`, `{"params":1}`, `{"recover":1}`, `{"recover":{"epoch":1,"offset":1}}`,
			`{"recover":{"epoch":"e"}}`, `{"recover":{"epoch":"e","offset":-1}}`, `{"recover":{"epoch":"e","offset":1.5}}`,
			`{"recover":{"epoch":"e","offset":9007199254740992}}`} {
			if m := c.WantError(c.Push("chat:a", "subscribe", raw(data)), "invalid_data"); m.Type != "subscription_error" {
				t.Errorf("%s: got %s, want a subscription_error", data, m)
			}
		}
		for _, data := range []string{`null`, `{}`, `{"params":null,"recover":null}`} {
			c.WantReply(c.Push("chat:a", "subscribe", raw(data)), "ok", nil)
			c.Push("chat:a", "unsubscribe", nil)
			c.Recv()
		}
	})
}

func TestUnsubscribe(t *testing.T) { // envelope.md section 3
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		ref := c.Push("chat:a", "unsubscribe", nil)
		if got, want := c.Recv().Text, `{"channel":"global","type":"unsubscribed","data":{"channel":"chat:a","code":"client"},"ref":"`+ref+`"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		publish(t, s, "chat:a", "x", 1) // no event of the channel follows
		c.WantNothing()
		c.WantError(c.Push("chat:a", "unsubscribe", nil), "not_subscribed")
		c.WantError(c.Push("global", "unsubscribe", nil), "forbidden")
		c.Join("chat:a")
	})
}

func TestAClientNeedNotWaitForAnswers(t *testing.T) { // envelope.md section 3: handled in order
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}", realtime.Join(func(ctx context.Context, _ *realtime.Client, _ realtime.Message) (any, error) {
			time.Sleep(time.Second)
			return nil, nil
		})).Handle("echo", echo)
		c := dial(t, s)
		var refs []string
		for range 3 {
			refs = append(refs, c.Push("chat:a", "subscribe", nil), c.Push("chat:a", "echo", 1), c.Push("chat:a", "unsubscribe", nil))
		}
		for i, ref := range refs {
			if m := c.Recv(); m.Ref != ref || strings.Contains(m.Type, "error") {
				t.Fatalf("answer %d is %s, want the one to %s", i, m, ref)
			}
		}
	})
}

func TestWhatAJoinFunctionPushesFollowsItsAnswer(t *testing.T) { // envelope.md section 4
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}", realtime.Join(func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			if err := c.Push(m.Topic, "state", 1); err != nil {
				t.Errorf("push while joining: %v", err)
			}
			if m.Param("room") == "closed" {
				return nil, realtime.Reject("closed")
			}
			return "welcome", nil
		}))
		c := dial(t, s)
		c.Push("chat:a", "subscribe", nil)
		if m := c.Recv(); m.Type != "subscription_success" {
			t.Errorf("got %s first, want the answer", m)
		}
		c.WantPush("chat:a", "state", 1)
		c.WantError(c.Push("chat:closed", "subscribe", nil), "forbidden")
		c.WantNothing() // the push of a refused join is dropped
	})
}

func TestEveryConnectionIsInGlobal(t *testing.T) { // envelope.md section 3, S4.2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		a, b, dead := dial(t, s), dial(t, s), dial(t, s)
		dead.HalfOpen()
		for n := range 5 {
			publish(t, s, "global", "ticket_created", n)
		}
		for _, c := range []*realtimetest.Client{a, b} {
			for n := range 5 {
				c.WantPush("global", "ticket_created", n)
			}
		}
	})
}

func TestPublishMayLeaveOutTheSender(t *testing.T) {
	for name, opts := range map[string][]realtime.TopicOption{"live": nil, "with history": {realtime.History(10, 0)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.Topic("chat:{room}", opts...).Handle("message", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
					return nil, s.Publish(ctx, m.Topic, "message", m.Data, realtime.Except(c))
				})
				a, b := dial(t, s), dial(t, s)
				a.Join("chat:a")
				b.Join("chat:a")
				a.WantReply(a.Push("chat:a", "message", 1), "ok", nil)
				b.WantPush("chat:a", "message", 1)
				a.WantNothing()
			})
		})
	}
}

func TestPushReachesTheUsersConnectionsThatJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		s.Topic("chat:{room}")
		tab, other, outside, stranger := dial(t, s, realtimetest.WithToken("u1")), dial(t, s, realtimetest.WithToken("u1")),
			dial(t, s, realtimetest.WithToken("u1")), dial(t, s, realtimetest.WithToken("u2"))
		for _, c := range []*realtimetest.Client{tab, other, stranger} {
			c.Join("chat:a")
		}
		if n, err := s.Push(realtime.Target{User: "u1"}, "chat:a", "hint", 1); n != 2 || err != nil {
			t.Errorf("got %d, %v, want 2 connections", n, err)
		}
		tab.WantPush("chat:a", "hint", 1)
		other.WantPush("chat:a", "hint", 1)
		if n, err := s.Push(realtime.Target{User: "u1"}, "global", "hint", 2); n != 3 || err != nil {
			t.Errorf("got %d, %v, want all 3 in global", n, err)
		}
		outside.WantPush("global", "hint", 2)
		stranger.WantNothing()
		if n, err := s.Push(realtime.Target{User: "nobody"}, "chat:a", "hint", 1); n != 0 || err != nil {
			t.Errorf("got %d, %v for an unknown user, want 0", n, err)
		}
		if _, err := s.Push(realtime.Target{User: "u1"}, "chat:a", "hint", func() {}); err == nil {
			t.Error("a payload that is no JSON was pushed")
		}
		if _, err := s.Push(realtime.Target{User: "u1"}, "chat:a", "", 1); err == nil {
			t.Error("an event without a name was pushed")
		}
	})
}

func TestPublishRefusesWhatCannotBeSent(t *testing.T) {
	s := newServer(t)
	s.Topic("chat:{room}")
	for name, c := range map[string]struct {
		topic, event string
		payload      any
		want         error
	}{
		"unknown topic":   {"nope", "x", 1, realtime.ErrUnknownTopic},
		"no event":        {"chat:a", "", 1, nil},
		"control in name": {"chat:a", "a\n", 1, nil},
		"not JSON":        {"chat:a", "x", json.RawMessage(`{`), nil},
		"not encodable":   {"chat:a", "x", make(chan int), nil},
	} {
		err := s.Publish(context.Background(), c.topic, c.event, c.payload)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want an error", name, err)
		}
	}
}

func TestTheServerMaySubscribeAndUnsubscribeAClient(t *testing.T) { // envelope.md section 5
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithChannels(2))
		s.Topic("chat:{room}", realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			return nil, realtime.Reject("members only")
		}))
		c := dial(t, s)
		c.Connected()
		var client *realtime.Client
		for one := range s.Clients("global") {
			client = one
		}
		ctx := context.Background()
		for _, topic := range []string{"chat:a", "chat:b"} {
			if err := client.Subscribe(ctx, topic); err != nil { // does not ask the join function
				t.Fatalf("subscribe: %v", err)
			}
			c.WantPush("global", "subscription_success", map[string]any{"channel": topic, "recovery": "fresh"})
		}
		for topic, code := range map[string]string{"chat:a": "already_subscribed", "chat:c": "too_many_channels"} {
			if e, ok := errors.AsType[*realtime.Error](client.Subscribe(ctx, topic)); !ok || e.Code != code {
				t.Errorf("subscribe %s: got %v, want %s", topic, e, code)
			}
		}
		publish(t, s, "chat:a", "x", 1)
		c.WantPush("chat:a", "x", 1)
		if err := client.Unsubscribe("chat:a", realtime.Reject("Removed by an admin")); err != nil {
			t.Fatal(err)
		}
		c.WantPush("global", "unsubscribed", realtimetest.Exactly(map[string]any{"channel": "chat:a", "code": "forbidden", "error": "Removed by an admin", "retry": "never"}))
		if err := client.Unsubscribe("chat:b", nil); err != nil {
			t.Fatal(err)
		}
		c.WantPush("global", "unsubscribed", map[string]any{"channel": "chat:b", "code": "disconnected", "retry": "never"})
		for _, topic := range []string{"chat:a", "global"} {
			if err := client.Unsubscribe(topic, nil); !errors.Is(err, realtime.ErrNotJoined) {
				t.Errorf("unsubscribe %s: got %v, want ErrNotJoined", topic, err)
			}
		}
		if err := client.Push("chat:a", "x", 1); !errors.Is(err, realtime.ErrNotJoined) {
			t.Errorf("push to a topic that was left: got %v, want ErrNotJoined", err)
		}
		c.Cut()
		synctest.Wait()
		if err := client.Subscribe(ctx, "chat:a"); !errors.Is(err, realtime.ErrClosed) {
			t.Errorf("subscribe after the end: got %v, want ErrClosed", err)
		}
		if err := client.Push("global", "x", 1); !errors.Is(err, realtime.ErrClosed) {
			t.Errorf("push after the end: got %v, want ErrClosed", err)
		}
	})
}

func TestClientsAndTopicsAreIterated(t *testing.T) { // S1.6: who is subscribed
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		s.Topic("chat:{room}")
		for _, user := range []string{"u1", "u2", "u3"} {
			c := dial(t, s, realtimetest.WithToken(user))
			c.Join("chat:a")
			if user == "u1" {
				c.Join("chat:b")
			}
		}
		users := map[string]bool{}
		for c := range s.Clients("chat:a") {
			users[c.User()] = true
			if c.Protocol() != "realtime.v1" || c.RemoteAddr() != "192.0.2.1" || len(c.Topics()) < 2 {
				t.Errorf("client %s: %s, %s, %v", c.User(), c.Protocol(), c.RemoteAddr(), c.Topics())
			}
		}
		if len(users) != 3 {
			t.Errorf("got %v, want three users", users)
		}
		for range s.Clients("chat:a") {
			break // an iteration may be left
		}
		topics := map[string]int{}
		for name, n := range s.Topics() {
			topics[name] = n
		}
		if len(topics) != 3 || topics["chat:a"] != 3 || topics["chat:b"] != 1 || topics["global"] != 3 {
			t.Errorf("got %v, want chat:a 3, chat:b 1, global 3", topics)
		}
		for range s.Clients("chat:nobody") {
			t.Error("a topic without members has some")
		}
	})
}

func TestLeftIsCalledOncePerMembership(t *testing.T) { // S0.7
	for name, c := range map[string]struct {
		end  func(s *realtime.Server, c *realtimetest.Client)
		want realtime.Reason
	}{
		"unsubscribe": {func(_ *realtime.Server, c *realtimetest.Client) { c.Push("chat:a", "unsubscribe", nil) }, realtime.ReasonClientClosed},
		"close":       {func(_ *realtime.Server, c *realtimetest.Client) { c.Close() }, realtime.ReasonClientClosed},
		"cut":         {func(_ *realtime.Server, c *realtimetest.Client) { c.Cut() }, realtime.ReasonConnectionLost},
		"disconnect":  {func(s *realtime.Server, c *realtimetest.Client) { s.Disconnect(realtime.Target{User: "u1"}, nil) }, realtime.ReasonDisconnected},
		"shutdown":    {func(s *realtime.Server, c *realtimetest.Client) { s.Shutdown(context.Background()) }, realtime.ReasonShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := make(chan realtime.Reason, 10)
				s := userServer(t)
				s.Topic("chat:{room}", realtime.Left(func(c *realtime.Client, topic string, why realtime.Reason) {
					if c.User() != "u1" || topic != "chat:a" {
						t.Errorf("%s left %s, want u1 and chat:a", c.User(), topic)
					}
					left <- why
					panic("contained")
				}))
				client := dial(t, s, realtimetest.WithToken("u1"))
				client.Join("chat:a")
				c.end(s, client)
				synctest.Wait()
				if why := <-left; why != c.want {
					t.Errorf("left for %s, want %s", why, c.want)
				}
				if len(left) != 0 {
					t.Errorf("called %d times more", len(left))
				}
			})
		})
	}
}

func TestABrokerOutageIsInternalAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outage := realtimetest.NewOutage(realtime.NewMemoryBroker())
		s := newServer(t, realtime.WithBroker(outage))
		s.Topic("chat:{room}", realtime.History(10, 0))
		c, standing := dial(t, s), dial(t, s)
		standing.Join("chat:b")
		outage.Fail(errors.New("connection to 10.0.0.7 refused"))
		if m := c.WantError(c.Push("chat:a", "subscribe", nil), "internal"); strings.Contains(m.Text, "10.0.0.7") {
			t.Errorf("the client was told %s", m)
		}
		standing.WantError(standing.Push("chat:b", "history", nil), "internal")
		if err := s.Publish(context.Background(), "chat:b", "x", 1); err == nil {
			t.Error("publish succeeded without a broker")
		}
		outage.Hang()
		ref := c.Push("chat:a", "subscribe", nil)
		c.WantNothing()
		c.Push("global", "ping", nil) // the others do not wait
		c.Recv()
		outage.Heal()
		c.WantReply(ref, "ok", nil)
		publish(t, s, "chat:b", "x", 2)
		standing.WantPush("chat:b", "x", 2)
	})
}

func TestAConnectionThatEndsWhileItJoinsLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outage := realtimetest.NewOutage(realtime.NewMemoryBroker())
		s := newServer(t, realtime.WithBroker(outage))
		s.Topic("chat:{room}")
		witness := dial(t, s)
		c := dial(t, s)
		outage.Hang()
		c.Push("chat:a", "subscribe", nil)
		synctest.Wait()
		c.Cut()
		synctest.Wait()
		outage.Heal()
		check(t, s)
		witness.Join("chat:a")
	})
}

func TestAHandlerMaySubscribeToItsOwnTopicInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}").Handle("again", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			if err := c.Subscribe(ctx, "chat:b"); err != nil { // another one works
				return nil, err
			}
			return nil, c.Subscribe(ctx, m.Topic)
		})
		c := dial(t, s)
		c.Join("chat:a")
		c.WantError(c.Push("chat:a", "again", nil), "already_subscribed")
	})
}
