package realtime_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// pingCounter counts the server's pings on their way to the client. A frame
// never comes in two reads here: the pipe has no buffer.
type pingCounter struct {
	net.Conn
	pings atomic.Int32
}

func (p *pingCounter) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if n >= 2 && b[0] == 0x89 {
		p.pings.Add(1)
	}
	return n, err
}

func TestAQuietConnectionIsPingedAndLivesOn(t *testing.T) { // envelope.md section 7, S1.5
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		counter := &pingCounter{}
		c := dial(t, s, realtimetest.WithConn(func(nc net.Conn) net.Conn { counter.Conn = nc; return counter }))
		c.Connected()
		time.Sleep(22 * time.Second)
		if n := counter.pings.Load(); n != 0 {
			t.Errorf("%d pings within 22 s, want none before 22.5 s", n)
		}
		time.Sleep(6 * time.Second)
		if n := counter.pings.Load(); n != 1 {
			t.Errorf("%d pings within 28 s, want 1", n)
		}
		time.Sleep(time.Hour)
		if n := counter.pings.Load(); n < 3600/28 || n > 3600/22 {
			t.Errorf("%d pings within an hour, want one per 22.5 to 27.6 s", n)
		}
		c.WantNothing()
		for client := range s.Clients("global") {
			if client.RoundTrip() < 0 {
				t.Errorf("the round trip is %v", client.RoundTrip())
			}
		}
		c.Push("global", "ping", nil)
		c.Recv()
	})
}

func TestAnyFrameCountsAsLife(t *testing.T) { // envelope.md section 7
	synctest.Test(t, func(t *testing.T) {
		counter := &pingCounter{}
		c, tap := wireTap(t, newServer(t), realtimetest.WithConn(func(nc net.Conn) net.Conn { counter.Conn = nc; return counter }))
		c.Connected()
		for n := range 60 {
			time.Sleep(20 * time.Second)
			switch n % 3 {
			case 0:
				c.Send(`{"type":"ping"}`)
			case 1:
				tapWrite(t, tap, clientFrame(0x8a, "unasked pong"))
			case 2:
				tapWrite(t, tap, clientFrame(0x89, "ping"))
			}
		}
		if n := counter.pings.Load(); n != 0 {
			t.Errorf("%d pings, want none to a client that talks", n)
		}
	})
}

func TestAHalfOpenPeerIsFoundTenSecondsAfterThePing(t *testing.T) { // envelope.md section 7, S4.4
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan realtime.Reason, 1)
			s := newServer(t, realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
			c := dial(t, s)
			c.Connected()
			c.HalfOpen()
			start := time.Now()
			why := <-ended
			// 22.5 to 27.5 s of silence, 10 s after the ping, two ticks, 5 s for the peer's close frame.
			if took := time.Since(start); why != realtime.ReasonHeartbeatTimeout || took < 32*time.Second || took > 43*time.Second {
				t.Errorf("ended as %s after %v, want heartbeat_timeout after 32.5 to 42.7 s", why, took)
			}
		})
	}
}

func TestTheCloseOfASilentPeerIsExplained(t *testing.T) { // envelope.md section 6
	synctest.Test(t, func(t *testing.T) {
		// A peer that reads but cannot write.
		c := dial(t, newServer(t), realtimetest.WithConn(func(nc net.Conn) net.Conn { return mute{nc} }))
		c.Connected()
		told := c.WantClosed(realtime.ReasonHeartbeatTimeout)
		if told.Code != 4009 || told.Retry != realtime.RetryNow || told.Jitter != 1000 {
			t.Errorf("closing is %+v, want 4009, now, 1000 ms of jitter", told)
		}
	})
}

// mute swallows what the client writes.
type mute struct{ net.Conn }

func (mute) Write(p []byte) (int, error) { return len(p), nil }

func TestASlowButLivingPeerIsNotTimedOut(t *testing.T) { // envelope.md section 7: any byte
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c, tap := wireTap(t, s)
		c.Connected()
		frame := clientFrame(0x81, `{"type":"ping","ref":"slow"}`)
		for _, b := range frame { // a byte every 8 s
			time.Sleep(8 * time.Second)
			tapWrite(t, tap, []byte{b})
		}
		if m := c.Recv(); m.Ref != "slow" {
			t.Errorf("got %s, want the pong", m)
		}
	})
}

func TestTheHeartbeatDoesNotBlameThePeerForAFullMailbox(t *testing.T) { // envelope.md section 7, DESIGN section 3
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		handled := 0
		s := newServer(t, noRate)
		s.Topic("chat:{room}").Handle("block", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			<-release
			handled++
			return nil, nil
		})
		c := dial(t, s)
		c.Join("chat:a")
		for range 65 { // one in the handler, 64 in the mailbox
			c.Push("chat:a", "block", nil)
		}
		c.Send(`{"type":"ping","ref":"before"}`)
		if m := c.Recv(); m.Ref != "before" {
			t.Errorf("got %s, want the pong: the mailbox has just become full", m)
		}
		for range 10 { // one too many: the socket is not read
			c.Push("chat:a", "block", nil)
		}
		c.Send(`{"type":"ping","ref":"behind"}`)
		time.Sleep(10 * time.Minute)
		c.WantNothing()
		close(release)
		for range 76 {
			c.Recv()
		}
		synctest.Wait()
		if handled != 75 {
			t.Errorf("%d were handled, want all 75", handled)
		}
		c.HalfOpen() // and from now on silence counts again
		time.Sleep(time.Minute)
		if n := openConnections(t, s); n != 0 {
			t.Errorf("%d connections are left, want none", n)
		}
	})
}

func TestPongsPassABusyHandler(t *testing.T) { // envelope.md section 3, S2.4
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("global").Handle("slow", func(ctx context.Context, _ *realtime.Client, _ realtime.Message) (any, error) {
			time.Sleep(time.Minute)
			return nil, nil
		})
		c := dial(t, s)
		slow := c.Push("global", "slow", nil)
		start := time.Now()
		c.Send(`{"channel":"global","type":"ping","data":{"timestamp":1700000000000},"ref":"p"}`)
		if got, want := c.Recv().Text, `{"channel":"global","type":"pong","data":{"timestamp":1700000000000},"ref":"p"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the pong took %v, want it at once", took)
		}
		time.Sleep(time.Minute)
		c.WantReply(slow, "ok", nil)
	})
}
