package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestPhoenixCrashIsTheEndWhateverTheErrorSays(t *testing.T) { // phoenix.md section 3.7
	synctest.Test(t, func(t *testing.T) {
		s, room := phxServer(t)
		room.Handle("bad", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			return realtime.Nothing, errors.Join(realtime.ErrCrash, realtime.Reject("out of order"))
		})
		c := dialPhoenix(t, s, "vsn=2.0.0")
		c.say(phxJoin, phxJoined)
		c.say(`["1","2","room:1","bad",{}]`, `["1","1","room:1","phx_error",{"reason":"channel_crash"}]`)
		c.quiet()
	})
}

func TestPhoenixStaleLeaveMakesNoRoom(t *testing.T) { // phoenix.md sections 3.4 and 3.8
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t)
		c := dialPhoenix(t, s, "vsn=2.0.0", realtime.MaxChannels(1))
		c.say(phxJoin, phxJoined)
		c.Send(`["0","2","room:1","phx_leave",{}]`)
		c.quiet()
		c.say(`["3","3","room:2","phx_join",{}]`, `["3","3","room:2","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]`)
	})
}

func TestPhoenixUnmatchedTopicComesBeforeTheLimit(t *testing.T) { // phoenix.md section 3.4
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t)
		c := dialPhoenix(t, s, "vsn=2.0.0", realtime.MaxChannels(1))
		c.say(phxJoin, phxJoined)
		for _, topic := range []string{"nope:1", "global"} {
			c.say(fmt.Sprintf(`["3","3",%q,"phx_join",{}]`, topic),
				fmt.Sprintf(`[null,"3",%q,"phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`, topic))
		}
	})
}

func TestPhoenixTopicsOfNoNameMatchNothing(t *testing.T) { // phoenix.md sections 3.4 and 3.6
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t)
		c := dialPhoenix(t, s, "vsn=2.0.0")
		for _, topic := range []string{"", "room:" + strings.Repeat("x", 300), "room:\u0085"} {
			unmatched := fmt.Sprintf(`[null,"3",%q,"phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`, topic)
			unmatched = strings.ReplaceAll(unmatched, `\u0085`, "\u0085")
			for _, event := range []string{"phx_join", "echo", ""} {
				c.say(fmt.Sprintf(`["3","3",%q,%q,{}]`, topic, event), unmatched)
			}
			c.say(fmt.Sprintf(`["3","3",%q,"phx_leave",{}]`, topic),
				strings.ReplaceAll(fmt.Sprintf(`["3","3",%q,"phx_reply",{"status":"ok","response":{}}]`, topic), `\u0085`, "\u0085"))
		}
	})
}

func TestPhoenixJoinMayAnswerWithBytes(t *testing.T) { // phoenix.md section 2.3: kind 1
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t, realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			return realtime.Binary{7, 8}, nil
		}))
		dialPhoenix(t, s, "vsn=2.0.0").say(phxJoin, "\x01\x01\x01\x06\x0211room:1ok\x07\x08")
		dialPhoenix(t, s, "").say(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}`,
			`{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{"data":"Bwg="}},"ref":"1"}`)
	})
}

func TestInterceptSeesBytesAsBytes(t *testing.T) { // phoenix.md section 3.11
	synctest.Test(t, func(t *testing.T) {
		s, room := phxServer(t)
		room.Intercept("bytes", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			if string(m.Data) != "null" {
				t.Errorf("data %s beside the bytes, want null", m.Data)
			}
			return realtime.Binary(append(m.Binary, 9)), nil
		})
		v2, v1 := dialPhoenix(t, s, "vsn=2.0.0"), dialPhoenix(t, s, "")
		v2.say(phxJoin, phxJoined)
		v1.say(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}`,
			`{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}`)
		publish(t, s, "room:1", "bytes", realtime.Binary{7})
		v2.want("\x00\x01\x06\x051room:1bytes\x07\x09")
		v1.quiet() // it has no messages of bytes
	})
}

func TestInterceptMissesNothingBehindTheAnswerToAJoin(t *testing.T) { // phoenix.md section 3.11
	synctest.Test(t, func(t *testing.T) {
		s, room := phxServer(t)
		room.Intercept("icpt", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) { return m.Data, nil })
		c := dialPhoenix(t, s, "vsn=2.0.0")
		s.OnMember(func() { publish(t, s, "room:1", "icpt", nil) }) // the answer may be with the client by now
		c.say(phxJoin, phxJoined, `["1",null,"room:1","icpt",{}]`)
		c.say(`["2","2","room:1","phx_join",{}]`, `["2","2","room:1","phx_reply",{"status":"ok","response":{}}]`, phxClosed, `["2",null,"room:1","icpt",{}]`)
		c.quiet()
	})
}

func TestPhoenixTakesWhatComesWithoutWaiting(t *testing.T) { // phoenix.md section 3.2
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s, _ := phxServer(t, realtime.Presence(realtime.PresenceOf(func(c *realtime.Client, _ string) (string, any) { return "one", nil })),
			realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) {
				<-release
				return nil, nil
			}))
		c := dialPhoenix(t, s, "vsn=2.0.0")
		for _, text := range []string{
			phxJoin, `["1","2","room:1","echo",{}]`, `["1","3","room:1","phx_leave",{}]`, `["1","4","room:1","echo",{}]`,
			`[5,5,"room:1","phx_join",{}]`, `[5,6,"room:1","echo",{}]`, `["5","7","room:1","echo",{}]`, `[null,null,"room:1","echo",{}]`,
			`["8","8","room:1","phx_join",{}]`, `[5,9,"room:1","phx_leave",{}]`, `["8","10","room:1","phx_leave",{}]`,
		} {
			c.Send(text)
		}
		c.say(`[null,"9","phoenix","heartbeat",{}]`, `[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]`)
		close(release)
		const ok = `,"phx_reply",{"status":"ok","response":{}}]`
		for _, want := range []string{
			phxJoined, "presence_state", phxReply("2", `{}`), phxReply("3", `{}`), phxClosed, "unmatched topic",
			`[5,5,"room:1"` + ok, "presence_state", `[5,6,"room:1"` + ok, `[5,null,"room:1"` + ok,
			`["8","8","room:1"` + ok, `[5,5,"room:1","phx_close",{}]`, "presence_state", `["8","10","room:1"` + ok, `["8","8","room:1","phx_close",{}]`,
		} {
			if got := c.Recv().Text; !strings.Contains(got, want) {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		c.quiet()
		if left := whoIs(t, s, "room:1"); len(left) > 0 {
			t.Errorf("present after the end: %s", left)
		}
	})
}

func TestPhoenixConnectionMayEndDuringAJoin(t *testing.T) { // phoenix.md sections 3.10 and 3.12
	synctest.Test(t, func(t *testing.T) {
		release, ended := make(chan struct{}), 0
		s, _ := phxServer(t, realtime.Presence(), realtime.Left(func(*realtime.Client, string, realtime.Reason) { ended++ }),
			realtime.Join(func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
				err := c.Track(m.Topic, "ghost", nil)
				<-release
				return nil, err
			}))
		c := dialPhoenix(t, s, "vsn=2.0.0")
		c.Send(phxJoin)
		c.Send(`["2","2","room:1","phx_join",{}]`)
		c.quiet()
		c.Cut()
		synctest.Wait()
		close(release)
		synctest.Wait()
		if left := whoIs(t, s, "room:1"); len(left) > 0 || ended != 1 {
			t.Errorf("present after the end: %s; the host heard of %d ends, want 1", left, ended)
		}
	})
}

// Everybody does everything at once; what is left is nothing.
func TestProtocolsComeAndGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, noRate)
		room := s.Topic("room:*", realtime.Presence(realtime.PresenceOf(func(c *realtime.Client, _ string) (string, any) { return c.ID(), nil })),
			realtime.Left(func(c *realtime.Client, topic string, _ realtime.Reason) { _ = c.Push(topic, "bye", nil) }))
		tracks(room)
		room.Handle("echo", echo)
		room.Handle("stop", func(context.Context, *realtime.Client, realtime.Message) (any, error) { return nil, realtime.ErrStop })
		room.Handle("boom", func(context.Context, *realtime.Client, realtime.Message) (any, error) { panic("boom") })
		room.Handle("shout", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			_ = s.Publish(ctx, m.Topic, "bytes", realtime.Binary{1}, realtime.Except(c))
			return nil, s.Publish(ctx, m.Topic, "icpt", m.Data)
		})
		room.Intercept("icpt", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			if rand.IntN(20) == 0 {
				return nil, realtime.ErrCrash
			}
			return m.Data, nil
		})
		events := []string{"phx_join", "phx_join", "phx_join", "phx_leave", "echo", "shout", "track", "update", "untrack", "stop", "boom"}
		var clients sync.WaitGroup
		for i := range 12 {
			native, v2 := i%3 == 0, i%3 == 1
			var c *realtimetest.Client
			switch {
			case native:
				c = dial(t, s)
			case v2:
				c = dialPhoenix(t, s, "vsn=2.0.0").Client
			default:
				c = dialPhoenix(t, s, "").Client
			}
			clients.Go(func() {
				for n := range 300 {
					topic, event := fmt.Sprintf("room:%d", rand.IntN(3)), events[rand.IntN(len(events))]
					const data = `{"key":"k","meta":{}}`
					switch {
					case native:
						event = strings.NewReplacer("phx_join", "subscribe", "phx_leave", "unsubscribe").Replace(event)
						c.Send(fmt.Sprintf(`{"channel":%q,"type":%q,"data":%s,"ref":"%d"}`, topic, event, data, n))
					case v2:
						c.Send(fmt.Sprintf(`[null,"%d",%q,%q,%s]`, n, topic, event, data))
					default:
						c.Send(fmt.Sprintf(`{"topic":%q,"event":%q,"payload":%s,"ref":"%d"}`, topic, event, data, n))
					}
					if n%20 == 0 {
						for on := range s.Clients(topic) {
							_ = on.Unsubscribe(topic, nil)
						}
						time.Sleep(time.Second) // the ticks of presence, too
					}
				}
				c.Cut()
			})
		}
		clients.Wait()
		synctest.Wait()
		for n := range 3 {
			if left := whoIs(t, s, fmt.Sprintf("room:%d", n)); len(left) > 0 {
				t.Errorf("present after the end in room:%d: %s", n, left)
			}
		}
	})
}

func TestPhoenixRefusalsSayWhatConnectSays(t *testing.T) { // phoenix.md section 1.5
	for _, test := range []struct {
		err    error
		status int
		text   string
	}{
		{errors.New("not for clients"), 403, ""},
		{realtime.Reject("no"), 403, ""},
		{realtime.ReasonRateLimited, 429, "Too many messages"},
		{realtime.ReasonOverloaded, 503, "The server is at its limit"},
		{realtime.ReasonInternal, 500, "Internal error"},
	} {
		s := newServer(t)
		mount := s.Phoenix(realtime.Connect(func(context.Context, realtime.Handshake) (*realtime.Identity, error) { return nil, test.err }))
		w := httptest.NewRecorder()
		mount.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/socket/websocket?vsn=2.0.0", nil))
		if w.Code != test.status || w.Body.String() != test.text {
			t.Errorf("%v: got %d %q, want %d %q", test.err, w.Code, w.Body, test.status, test.text)
		}
	}
}
