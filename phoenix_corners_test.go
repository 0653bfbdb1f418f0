package realtime_test

import (
	"context"
	"errors"
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
