package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// phx is a Phoenix client: its messages are texts.
type phx struct {
	*realtimetest.Client
	t *testing.T
}

func dialPhoenix(t *testing.T, s *realtime.Server, query string, opts ...realtime.PhoenixOption) phx {
	t.Helper()
	return phx{dialMount(t, s, s.Phoenix(opts...), realtimetest.WithURL("/socket/websocket?"+query)), t}
}

// want reads one message for each text.
func (p phx) want(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		if got := p.Recv().Text; got != text {
			p.t.Errorf("got %s, want %s", got, text)
		}
	}
}

// say sends one message and reads the answers.
func (p phx) say(text string, want ...string) {
	p.t.Helper()
	p.Send(text)
	p.want(want...)
}

func (p phx) quiet() {
	p.t.Helper()
	p.WantNothing()
}

const (
	phxJoin   = `["1","1","room:1","phx_join",{}]`
	phxJoined = `["1","1","room:1","phx_reply",{"status":"ok","response":{}}]`
	phxClosed = `["1","1","room:1","phx_close",{}]`
)

// phxReply is the ok reply of a handler.
func phxReply(ref, response string) string {
	return fmt.Sprintf(`["1",%q,"room:1","phx_reply",{"status":"ok","response":%s}]`, ref, response)
}

func phxServer(t *testing.T, opts ...realtime.TopicOption) (*realtime.Server, *realtime.Pattern) {
	t.Helper()
	s := newServer(t)
	room := s.Topic("room:*", opts...)
	room.Handle("echo", echo)
	return s, room
}

func TestPhoenixLifeOfAChannel(t *testing.T) { // phoenix.md sections 3.4, 3.6, 3.8
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t)
		c := dialPhoenix(t, s, "vsn=2.0.0")
		c.quiet()
		c.say(`[null,"9","phoenix","heartbeat",{}]`, `[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]`)
		c.say(`["1","7","room:1","echo",{}]`, `[null,"7","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)
		c.say(`["4","8","room:1","phx_leave",{}]`, `["4","8","room:1","phx_reply",{"status":"ok","response":{}}]`)
		c.say(`["5","9","nope:1","phx_join",{}]`, `[null,"9","nope:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)
		c.say(`["5","9","global","phx_join",{}]`, `[null,"9","global","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)
		c.say(phxJoin, phxJoined)
		c.say(`["1","2","room:1","echo",{"a":[1]}]`, phxReply("2", `{"a":[1]}`))
		c.say(`[null,"3","room:1","echo",{}]`, phxReply("3", `{}`))
		c.Send(`["0","4","room:1","echo",{}]`)
		c.Send(`["0","4","room:1","phx_leave",{}]`)
		c.quiet()
		c.say(`["1","5","room:1","nobody handles this",{}]`,
			`["1","5","room:1","phx_reply",{"status":"error","response":{"reason":"unhandled event"}}]`)
		publish(t, s, "room:1", "news", map[string]int{"n": 1})
		c.want(`[null,null,"room:1","news",{"n":1}]`)
		c.say(`["1","6","room:1","phx_leave",{}]`, phxReply("6", `{}`), phxClosed)
		publish(t, s, "room:1", "news", nil)
		c.quiet()
	})
}

func TestPhoenixJoinReplacesAJoin(t *testing.T) { // phoenix.md section 3.5
	synctest.Test(t, func(t *testing.T) {
		var ends []realtime.Reason
		s, _ := phxServer(t, realtime.Join(func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			if strings.Contains(string(m.Data), "deny") {
				return nil, &realtime.Error{Code: "denied", Data: map[string]string{"reason": "denied"}}
			}
			return nil, c.Push(m.Topic, "joined", nil)
		}), realtime.Left(func(_ *realtime.Client, _ string, why realtime.Reason) { ends = append(ends, why) }))
		c := dialPhoenix(t, s, "vsn=2.0.0")
		c.say(phxJoin, phxJoined, `["1",null,"room:1","joined",{}]`)
		c.say(`["2","2","room:1","phx_join",{}]`,
			`["2","2","room:1","phx_reply",{"status":"ok","response":{}}]`, phxClosed, `["2",null,"room:1","joined",{}]`)
		publish(t, s, "room:1", "news", nil)
		c.want(`[null,null,"room:1","news",{}]`)
		c.Send(`["1","5","room:1","echo",{}]`)
		c.quiet()
		c.say(`["3","3","room:1","phx_join",{"deny":true}]`,
			`["3","3","room:1","phx_reply",{"status":"error","response":{"reason":"denied"}}]`, `["2","2","room:1","phx_close",{}]`)
		if len(ends) != 2 || ends[0] != realtime.ReasonReplaced {
			t.Errorf("memberships ended for %v, want replaced twice", ends)
		}
	})
}

func TestPhoenixHandlerResults(t *testing.T) { // phoenix.md sections 3.7 and 3.9
	synctest.Test(t, func(t *testing.T) {
		results := map[string]func() (any, error){
			"silent":   func() (any, error) { return realtime.Nothing, nil },
			"custom":   func() (any, error) { return realtime.Status{Name: "ignored", Response: map[string]int{"n": 1}}, nil },
			"fail":     func() (any, error) { return nil, &realtime.Error{Code: "x", Data: struct{}{}} },
			"refused":  func() (any, error) { return nil, realtime.Reject("no") },
			"internal": func() (any, error) { return nil, errors.New("not for clients") },
			"stop":     func() (any, error) { return realtime.Nothing, realtime.ErrStop },
			"bye":      func() (any, error) { return map[string]bool{"bye": true}, realtime.ErrStop },
			"bad":      func() (any, error) { return realtime.Status{Name: "error"}, realtime.ErrCrash },
			"boom":     func() (any, error) { panic("boom") },
		}
		const crashed = `["1","1","room:1","phx_error",{"reason":"channel_crash"}]`
		ended := 0
		s, room := phxServer(t, realtime.Left(func(*realtime.Client, string, realtime.Reason) { ended++ }))
		for name, f := range results {
			room.Handle(name, func(context.Context, *realtime.Client, realtime.Message) (any, error) { return f() })
		}
		c := dialPhoenix(t, s, "vsn=2.0.0")
		for event, want := range map[string]string{
			"silent":   ``,
			"custom":   `["1","2","room:1","phx_reply",{"status":"ignored","response":{"n":1}}]`,
			"fail":     `["1","2","room:1","phx_reply",{"status":"error","response":{}}]`,
			"refused":  `["1","2","room:1","phx_reply",{"status":"error","response":{"reason":"forbidden","message":"no"}}]`,
			"internal": `["1","2","room:1","phx_reply",{"status":"error","response":{"reason":"internal"}}]`,
			"stop":     phxClosed,
			"bye":      phxReply("2", `{"bye":true}`) + "\n" + phxClosed,
			"bad":      `["1","2","room:1","phx_reply",{"status":"error","response":{}}]` + "\n" + crashed,
			"boom":     crashed,
		} {
			c.say(phxJoin, phxJoined)
			c.Send(fmt.Sprintf(`["1","2","room:1",%q,{}]`, event))
			if want != "" {
				c.want(strings.Split(want, "\n")...)
			}
			c.quiet()
			over := want != "" && (strings.Contains(want, "phx_close") || strings.Contains(want, "phx_error"))
			if over {
				c.say(`["1","3","room:1","echo",{}]`, `[null,"3","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)
			} else {
				c.say(`["1","3","room:1","phx_leave",{}]`, phxReply("3", `{}`), phxClosed)
			}
		}
		synctest.Wait()
		if ended != len(results) {
			t.Errorf("the host heard of %d ends, want %d", ended, len(results))
		}
	})
}

func TestPhoenixInterceptsForEachMember(t *testing.T) { // phoenix.md section 3.11
	synctest.Test(t, func(t *testing.T) {
		s, room := phxServer(t)
		room.Intercept("icpt", func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			return map[string]any{"was": m.Data, "for": c.Protocol()}, nil
		})
		room.Intercept("mute", func(context.Context, *realtime.Client, realtime.Message) (any, error) { return realtime.Nothing, nil })
		room.Intercept("out", func(context.Context, *realtime.Client, realtime.Message) (any, error) { return nil, realtime.ErrStop })
		room.Handle("shout", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			return nil, s.Publish(ctx, m.Topic, "icpt", m.Data)
		})
		a, b, native := dialPhoenix(t, s, "vsn=2.0.0"), dialPhoenix(t, s, ""), dial(t, s)
		a.say(phxJoin, phxJoined)
		b.say(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"4"}`,
			`{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"4"}`)
		native.Join("room:1")
		a.say(`["1","2","room:1","shout",{"x":1}]`, phxReply("2", `{}`), `["1",null,"room:1","icpt",{"for":"phoenix.v2","was":{"x":1}}]`)
		b.want(`{"topic":"room:1","event":"icpt","payload":{"for":"phoenix.v1","was":{"x":1}},"ref":null}`)
		native.WantPush("room:1", "icpt", map[string]any{"for": "realtime.v1", "was": map[string]int{"x": 1}})
		publish(t, s, "room:1", "mute", nil)
		publish(t, s, "room:1", "out", nil)
		a.want(phxClosed)
		b.want(`{"topic":"room:1","event":"phx_close","payload":{},"ref":null}`)
		native.WantPush("global", "unsubscribed", map[string]string{"channel": "room:1"})
	})
}

func TestPhoenixLastWordsOfAChannel(t *testing.T) { // phoenix.md section 3.7
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t, realtime.Left(func(c *realtime.Client, topic string, _ realtime.Reason) {
			c.Push(topic, "you_left", map[string]string{"message": "bye!"})
		}))
		c, native := dialPhoenix(t, s, "vsn=2.0.0"), dial(t, s)
		c.say(phxJoin, phxJoined)
		c.say(`["1","2","room:1","phx_leave",{}]`, phxReply("2", `{}`), phxClosed, `["1",null,"room:1","you_left",{"message":"bye!"}]`)
		native.Join("room:1")
		native.Push("room:1", "unsubscribe", nil)
		if m := native.Recv(); m.Type != "unsubscribed" {
			t.Errorf("got %s", m)
		}
		native.WantNothing() // no event follows (envelope.md section 3)
	})
}

func TestPhoenixEndsOverWhatIsNoMessage(t *testing.T) { // phoenix.md section 2.5
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t)
		for text, code := range map[string]int{"not json": 1011, `["1","2","t"]`: 1011, "[null,null,\"t\",\"e\xff\",{}]": 1007} {
			c := dialPhoenix(t, s, "vsn=2.0.0")
			c.Send(text)
			if told := c.WantClosed(""); told.Code != code {
				t.Errorf("%q closed with %d, want %d", text, told.Code, code)
			}
		}
	})
}

func TestPhoenixSilenceIsTheClientsAlone(t *testing.T) { // phoenix.md section 5.1
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t)
		idle := dialPhoenix(t, s, "vsn=2.0.0", realtime.IdleTimeout(20*time.Second))
		alive := dialPhoenix(t, s, "vsn=2.0.0", realtime.IdleTimeout(20*time.Second))
		idle.say(phxJoin, phxJoined)
		start := time.Now()
		for range 5 {
			time.Sleep(5 * time.Second)
			publish(t, s, "room:1", "news", nil)
			alive.say(`[null,"9","phoenix","heartbeat",{}]`, `[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]`)
		}
		if told := idle.WantClosed(""); told.Code != 1001 {
			t.Errorf("closed with %d, want 1001", told.Code)
		}
		if lasted := time.Since(start); lasted != 25*time.Second {
			t.Errorf("the test lasted %v", lasted)
		}
		alive.say(phxJoin, phxJoined)
	})
}

func TestPhoenixBoundsChannels(t *testing.T) { // phoenix.md section 3.4
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t)
		c := dialPhoenix(t, s, "vsn=2.0.0", realtime.MaxChannels(2))
		c.say(phxJoin, phxJoined)
		c.say(`["2","2","room:2","phx_join",{}]`, `["2","2","room:2","phx_reply",{"status":"ok","response":{}}]`)
		c.say(`["3","4","room:3","phx_join",{}]`, `["3","4","room:3","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]`)
		c.Send(`["2","5","room:2","phx_leave",{}]`)
		c.Send(`["3","6","room:3","phx_join",{}]`) // without waiting
		var last []string
		for range 3 {
			last = append(last, c.Recv().Text)
		}
		if got := strings.Join(last, "\n"); !strings.Contains(got, `["3","6","room:3","phx_reply",{"status":"ok","response":{}}]`) {
			t.Errorf("got %s", got)
		}
	})
}
