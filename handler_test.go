package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestRepliesAndErrorsOfHandlers(t *testing.T) { // envelope.md sections 3 and 5
	type pair struct {
		A int    `json:"a"`
		B string `json:"b"`
	}
	for name, c := range map[string]struct {
		handler func() (any, error)
		want    string // what follows the channel
	}{
		"a value":     {func() (any, error) { return pair{1, "<x>"}, nil }, `"type":"reply","data":{"status":"ok","response":{"a":1,"b":"\u003cx\u003e"}},"ref":"r"}`},
		"nothing":     {func() (any, error) { return nil, nil }, `"type":"reply","data":{"status":"ok","response":null},"ref":"r"}`},
		"raw JSON":    {func() (any, error) { return raw(`{"b": 1,"a":"<\/>"}`), nil }, `"type":"reply","data":{"status":"ok","response":{"b": 1,"a":"<\/>"}},"ref":"r"}`},
		"not JSON":    {func() (any, error) { return raw(`{`), nil }, `"type":"error","data":{"code":"internal","error":"Internal error","retry":"backoff"},"ref":"r"}`},
		"rejection":   {func() (any, error) { return 1, realtime.Reject("read-only") }, `"type":"error","data":{"code":"forbidden","error":"read-only","retry":"never"},"ref":"r"}`},
		"host's own":  {func() (any, error) { return nil, fmt.Errorf("x: %w", &realtime.Error{Code: "no_money", Text: "Pay"}) }, `"type":"error","data":{"code":"no_money","error":"Pay","retry":"never"},"ref":"r"}`},
		"a secret":    {func() (any, error) { return nil, errors.New("password is hunter2") }, `"type":"error","data":{"code":"internal","error":"Internal error","retry":"backoff"},"ref":"r"}`},
		"panic":       {func() (any, error) { panic("password is hunter2") }, `"type":"error","data":{"code":"internal","error":"Internal error","retry":"backoff"},"ref":"r"}`},
		"nil pointer": {func() (any, error) { var p *pair; return p.A, nil }, `"type":"error","data":{"code":"internal","error":"Internal error","retry":"backoff"},"ref":"r"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.Topic("chat:{room}").Handle("do", func(context.Context, *realtime.Client, realtime.Message) (any, error) { return c.handler() })
				client := dial(t, s)
				client.Join("chat:a")
				client.Send(`{"channel":"chat:a","type":"do","ref":"r"}`)
				if got, want := client.Recv().Text, `{"channel":"chat:a",`+c.want; got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				client.Send(`{"channel":"chat:a","type":"do"}`) // without a ref only an error is sent
				if strings.Contains(c.want, `"error"`) {
					if m := client.Recv(); m.Type != "error" || m.Ref != "" {
						t.Errorf("got %s, want an error without a ref", m)
					}
				}
				client.WantNothing()
			})
		})
	}
}

func TestAPanicIsLoggedWithItsStackAndEndsNothing(t *testing.T) { // S2.8
	synctest.Test(t, func(t *testing.T) {
		var log lines
		s := newServer(t, realtime.WithLogger(textLogger(&log)))
		p := s.Topic("chat:{room}")
		p.Handle("echo", echo)
		p.Handle("panic", func(context.Context, *realtime.Client, realtime.Message) (any, error) { panic("the cause") })
		c := dial(t, s)
		c.Join("chat:a")
		for range 3 {
			c.WantError(c.Push("chat:a", "panic", nil), "internal")
			c.WantReply(c.Push("chat:a", "echo", 1), "ok", 1)
		}
		for _, part := range []string{"the cause", "handler_test.go", "topic=chat:a"} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("the log has no %q", part)
			}
		}
	})
}

func TestAHandlerThatExitsItsGoroutineDoesNotStopTheMailbox(t *testing.T) { // S2.8
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		p := s.Topic("chat:{room}")
		p.Handle("echo", echo)
		p.Handle("exit", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			runtime.Goexit() // what t.FailNow does
			return nil, nil
		})
		c := dial(t, s)
		c.Join("chat:a")
		c.Push("chat:a", "exit", nil)
		c.WantReply(c.Push("chat:a", "echo", 1), "ok", 1)
	})
}

func TestOneChannelIsSerialAndTwoDoNotWaitForEachOther(t *testing.T) { // envelope.md section 3
	synctest.Test(t, func(t *testing.T) {
		inside := map[string]int{}
		s := newServer(t)
		release := make(chan struct{})
		s.Topic("chat:{room}").Handle("work", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			if m.Param("room") == "a" {
				inside["a"]++
				if inside["a"] != 1 {
					t.Error("two handlers of one channel at once")
				}
				<-release
				inside["a"]--
			}
			return m.Data, nil
		})
		c := dial(t, s)
		c.Join("chat:a")
		c.Join("chat:b")
		var refs []string
		for n := range 10 {
			refs = append(refs, c.Push("chat:a", "work", n))
		}
		c.WantReply(c.Push("chat:b", "work", "b"), "ok", "b")
		close(release)
		for n, ref := range refs {
			if m := c.Recv(); m.Ref != ref {
				t.Fatalf("answer %d is %s, want the one to %s", n, m, ref)
			}
		}
	})
}

func TestLaterRepliesOnceAndOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replies := make(chan *realtime.Reply, 10)
		s := newServer(t)
		p := s.Topic("chat:{room}")
		p.Handle("later", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			replies <- m.Later()
			return "dropped", nil
		})
		p.Handle("both", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			r := m.Later()
			if err := r.Send("first", nil); err != nil {
				t.Errorf("the first: %v", err)
			}
			replies <- r
			return nil, errors.New("too late")
		})
		p.Handle("refuse", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			replies <- m.Later()
			return nil, realtime.Reject("no")
		})
		c := dial(t, s)
		c.Join("chat:a")
		ref := c.Push("chat:a", "later", nil)
		c.WantNothing()
		r := <-replies
		if err := r.Send("done", nil); err != nil {
			t.Errorf("the first: %v", err)
		}
		c.WantReply(ref, "ok", "done")
		for name, want := range map[string]string{"both": "ok", "refuse": "error"} {
			ref := c.Push("chat:a", name, nil)
			c.WantReply(ref, want, nil)
			if err := (<-replies).Send("second", nil); !errors.Is(err, realtime.ErrReplied) {
				t.Errorf("%s: the second answer: got %v, want ErrReplied", name, err)
			}
		}
		if err := r.Send(nil, errors.New("again")); !errors.Is(err, realtime.ErrReplied) {
			t.Errorf("got %v, want ErrReplied", err)
		}
		c.WantNothing()

		ref = c.Push("chat:a", "later", nil)
		if err := (<-replies).Send(nil, realtime.Reject("after all not")); err != nil {
			t.Error(err)
		}
		c.WantReply(ref, "error", map[string]string{"code": "forbidden", "error": "after all not"})

		c.Push("chat:a", "later", nil)
		r = <-replies
		c.Cut()
		synctest.Wait()
		if err := r.Send("to nobody", nil); err != nil {
			t.Errorf("an answer to a client that has gone: %v", err)
		}
	})
}

func TestTheContextOfAHandlerEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := newServer(t)
		s.Topic("global").Handle("wait", func(ctx context.Context, _ *realtime.Client, _ realtime.Message) (any, error) {
			if ctx.Err() != nil {
				t.Error("the context has ended before the connection")
			}
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		})
		c := dial(t, s)
		c.Push("global", "wait", nil)
		synctest.Wait()
		c.Cut()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

func TestTheFallbackHandlesWhatHasNoHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		p := s.Topic("chat:{room}")
		p.Handle("known", func(context.Context, *realtime.Client, realtime.Message) (any, error) { return "known", nil })
		p.Handle("*", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) { return m.Event, nil })
		c := dial(t, s)
		c.Join("chat:a")
		c.WantReply(c.Push("chat:a", "known", nil), "ok", "known")
		c.WantReply(c.Push("chat:a", "other", nil), "ok", "other")
		c.WantReply(c.Push("chat:a", "ping", nil), "ok", "ping") // means ping on global alone
		c.WantReply(c.Push("chat:a", "auth", nil), "ok", "auth")
	})
}

// typingData is the data of the event below.
type typingData struct {
	User string `json:"user"`
	On   bool   `json:"on"`
}

var typing = realtime.NewEvent[typingData]("typing_in_test")

func TestTypedEvents(t *testing.T) { // S2.2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		p := s.Topic("chat:{room}")
		typing.Handle(p, func(ctx context.Context, c *realtime.Client, data typingData, m realtime.Message) (any, error) {
			return data.User, typing.Publish(ctx, s, m.Topic, data, realtime.Except(c))
		})
		a, b := dial(t, s), dial(t, s)
		a.Join("chat:a")
		b.Join("chat:a")
		a.WantReply(a.Push("chat:a", typing.Name(), typingData{"ada", true}), "ok", "ada")
		b.WantPush("chat:a", "typing_in_test", realtimetest.Exactly(typingData{"ada", true}))
		a.WantError(a.Push("chat:a", "typing_in_test", map[string]int{"on": 7}), "invalid_data")
		for c := range s.Clients("chat:a") {
			if err := typing.Push(c, "chat:a", typingData{"bob", false}); err != nil {
				t.Error(err)
			}
		}
		a.WantPush("chat:a", "typing_in_test", typingData{"bob", false})
		b.WantPush("chat:a", "typing_in_test", typingData{"bob", false})
		b.WantNothing()
	})
	found := false
	for _, info := range realtime.Events() {
		found = found || info.Name == "typing_in_test" && info.Type.Name() == "typingData"
	}
	if !found {
		t.Error("the event is not registered")
	}
}

func TestAClientIsAsked(t *testing.T) { // envelope.md section 5: ask; S4.1
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		var client *realtime.Client
		for one := range s.Clients("chat:a") {
			client = one
		}
		type outcome struct {
			data json.RawMessage
			err  error
		}
		ask := func(ctx context.Context, topic string) chan outcome {
			result := make(chan outcome, 1)
			go func() {
				data, err := client.Ask(ctx, topic, "question", map[string]int{"n": 1})
				result <- outcome{data, err}
			}()
			return result
		}
		asked := ask(context.Background(), "chat:a")
		m := c.WantPush("chat:a", "question", map[string]int{"n": 1})
		if m.Ask == "" {
			t.Fatalf("got %s, want an ask id", m)
		}
		c.Send(`{"channel":"chat:a","type":"answer","ref":"unknown","data":0}`)
		c.Send(`{"channel":"chat:a","type":"answer","ref":"` + m.Ask + `","data":{"yes": true}}`)
		c.Send(`{"channel":"chat:a","type":"answer","ref":"` + m.Ask + `","data":"late"}`)
		if got := <-asked; string(got.data) != `{"yes": true}` || got.err != nil {
			t.Errorf("got %s, %v, want the answer", got.data, got.err)
		}
		c.WantNothing() // an answer has no answer
		if got := <-ask(context.Background(), "chat:other"); !errors.Is(got.err, realtime.ErrNotJoined) {
			t.Errorf("got %v, want ErrNotJoined", got.err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if got := <-ask(ctx, "chat:a"); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", got.err)
		}
		asked = ask(context.Background(), "chat:a")
		synctest.Wait()
		c.Cut()
		if got := <-asked; !errors.Is(got.err, realtime.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", got.err)
		}
	})
}

func TestATopicIsAsked(t *testing.T) { // envelope.md section 5: ask
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		s.Topic("chat:{room}")
		as := func(user string) *realtimetest.Client { return dial(t, s, realtimetest.WithToken(user)) }
		yes, no, silent, flat := as("yes"), as("no"), as("silent"), dial(t, s, realtimetest.WithToken("flat"), realtimetest.WithProtocols("realtime.flat"))
		flat.Connected()
		asked := make(chan []realtime.Answer, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute/2)
			defer cancel()
			answers, err := s.Ask(ctx, "global", "vote", nil)
			if err != nil {
				t.Error(err)
			}
			asked <- answers
		}()
		for _, c := range []*realtimetest.Client{yes, no} {
			m := c.WantPush("global", "vote", nil)
			data := map[*realtimetest.Client]string{yes: "true", no: "false"}[c]
			c.Send(`{"type":"answer","ref":"` + m.Ask + `","data":` + data + `}`)
		}
		silent.WantPush("global", "vote", nil)
		got := map[string]string{}
		for _, a := range <-asked {
			got[a.Client.User()] = fmt.Sprintf("%s %v", a.Data, a.Err)
		}
		want := map[string]string{"yes": "true <nil>", "no": "false <nil>", "silent": " context deadline exceeded", "flat": " " + realtime.ErrNotSupported.Error()}
		for user, answer := range want {
			if got[user] != answer {
				t.Errorf("%s: got %q, want %q", user, got[user], answer)
			}
		}
		if answers, err := s.Ask(context.Background(), "chat:nobody", "vote", nil); len(answers) != 0 || err != nil {
			t.Errorf("got %v, %v of an empty topic, want nothing", answers, err)
		}
		if _, err := s.Ask(context.Background(), "nope", "vote", nil); !errors.Is(err, realtime.ErrUnknownTopic) {
			t.Errorf("got %v, want ErrUnknownTopic", err)
		}
	})
}

func TestAMemberThatLeavesIsNotWaitedFor(t *testing.T) { // Server.Ask: until all have answered or have gone
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		asked := make(chan []realtime.Answer, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			answers, _ := s.Ask(ctx, "chat:a", "vote", nil)
			asked <- answers
		}()
		c.WantPush("chat:a", "vote", nil)
		start := time.Now()
		c.Push("chat:a", "unsubscribe", nil)
		answers := <-asked
		if len(answers) != 1 || !errors.Is(answers[0].Err, realtime.ErrNotJoined) || time.Since(start) != 0 {
			t.Errorf("got %v after %v, want ErrNotJoined at once", answers, time.Since(start))
		}
		c.Recv()
	})
}
