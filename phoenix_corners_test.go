package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-58bc6ac1/realtime"
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
