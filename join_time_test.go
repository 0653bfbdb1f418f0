package realtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

func TestJoinThatTakesTooLongIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		var ended error
		left := 0
		s.Topic("slow:*", realtime.JoinTime(3*time.Second), realtime.Left(func(_ *realtime.Client, topic string, _ realtime.Reason) {
			if topic == "slow:stuck" {
				left++
			}
		}), realtime.Join(func(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			if m.Param("*") == "stuck" {
				<-ctx.Done()
				ended = ctx.Err()
			}
			time.Sleep(2 * time.Second)
			return realtime.Status{Name: "ok", Response: "let in"}, nil
		})).Handle("echo", echo)
		c, p := dial(t, s), dialPhoenix(t, s, "vsn=2.0.0")
		if j := c.Join("slow:ok"); string(j.Response) != `"let in"` {
			t.Errorf("the join was answered %s", j.Response)
		}
		start := time.Now()
		ref := c.Push("slow:stuck", "subscribe", nil)
		c.WantError(ref, realtime.CodeJoinTimeout)
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("refused after %v, want 3 s", waited)
		}
		c.WantError(c.Push("slow:stuck", "echo", nil), realtime.CodeNotSubscribed)
		p.say(`["1","1","slow:stuck","phx_join",{}]`, `["1","1","slow:stuck","phx_reply",{"status":"error","response":{"reason":"join timeout"}}]`)
		p.say(`["1","2","slow:stuck","phx_leave",{}]`, `["1","2","slow:stuck","phx_reply",{"status":"ok","response":{}}]`)
		p.quiet()
		if left != 2 {
			t.Errorf("the host heard of %d ends, want one for each join that it let in too late", left)
		}
		if ended != context.DeadlineExceeded {
			t.Errorf("the function's context ended with %v", ended)
		}
	})
}
