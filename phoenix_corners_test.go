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
