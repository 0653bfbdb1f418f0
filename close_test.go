package realtime_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestDisconnectMeansThoseThatMatchEveryField(t *testing.T) { // envelope.md section 6
	people := map[string]realtime.Identity{
		"a": {User: "u1", Session: "s1", TokenID: "t1", Tenant: "acme"},
		"b": {User: "u1", Session: "s2", TokenID: "t2", Tenant: "acme"},
		"c": {User: "u2", Session: "s3", TokenID: "t3", Tenant: "acme"},
	}
	for name, c := range map[string]struct {
		target realtime.Target
		want   string // who is closed
	}{
		"user":             {realtime.Target{User: "u1"}, "ab"},
		"session":          {realtime.Target{Session: "s2"}, "b"},
		"token":            {realtime.Target{TokenID: "t3"}, "c"},
		"tenant":           {realtime.Target{Tenant: "acme"}, "abc"},
		"user and session": {realtime.Target{User: "u1", Session: "s1"}, "a"},
		"contradiction":    {realtime.Target{User: "u2", Session: "s1"}, ""},
		"nobody":           {realtime.Target{User: "u9"}, ""},
		"nothing set":      {realtime.Target{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := realtimetest.NewServer(t, realtime.WithAuth(func(_ *http.Request, token string) (*realtime.Identity, error) {
					id := people[token]
					return &id, nil
				}))
				clients := map[string]*realtimetest.Client{}
				for token := range people {
					clients[token] = dial(t, s, realtimetest.WithToken(token))
				}
				why := &realtime.Error{Text: "Signed out elsewhere", Retry: realtime.RetryNewToken}
				if n := s.Disconnect(c.target, why); n != len(c.want) {
					t.Errorf("%d connections, want %d", n, len(c.want))
				}
				for token, client := range clients {
					if !strings.Contains(c.want, token) {
						client.WantNothing()
						continue
					}
					told := client.WantClosed(realtime.ReasonDisconnected)
					if told.Code != 4011 || told.Error != why.Text || told.Retry != why.Retry {
						t.Errorf("closing is %+v, want 4011 and the host's words", told)
					}
				}
			})
		})
	}
}

func TestDisconnectByConnectionAndByClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		a, b := dial(t, s), dial(t, s)
		a.Connected()
		b.Connected()
		n := 0
		for client := range s.Clients("global") {
			if n++; n == 1 {
				if got := s.Disconnect(realtime.Target{Connection: client.ID()}, nil); got != 1 {
					t.Errorf("%d connections, want 1", got)
				}
				continue
			}
			client.Disconnect(&realtime.Error{Retry: realtime.RetryBackoff, RetryAfter: 3 * time.Second})
			<-client.Context().Done()
		}
		never, backoff := a.WantClosed(realtime.ReasonDisconnected), b.WantClosed(realtime.ReasonDisconnected)
		if backoff.Retry != realtime.RetryBackoff {
			never, backoff = backoff, never
		}
		if never.Retry != realtime.RetryNever || never.MinMS != 0 || never.Jitter != 0 {
			t.Errorf("closing is %+v, want never without delays", never)
		}
		if backoff.Retry != realtime.RetryBackoff || backoff.MinMS != 3000 || backoff.Jitter == 0 {
			t.Errorf("closing is %+v, want backoff after 3000 ms with jitter", backoff)
		}
	})
}

func TestWhatWaitsIsWrittenBeforeTheClose(t *testing.T) { // envelope.md section 5: closing is last
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := dial(t, s)
		c.Connected()
		c.StopReading()
		for n := range 20 {
			publish(t, s, "global", "n", n)
		}
		for client := range s.Clients("global") {
			client.Disconnect(nil)
		}
		publish(t, s, "global", "n", 20) // too late
		c.Resume()
		for n := range 20 {
			c.WantPush("global", "n", n)
		}
		c.WantClosed(realtime.ReasonDisconnected)
		c.WantNothing()
	})
}

func TestTheNewestConnectionWins(t *testing.T) { // envelope.md section 6: replaced
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t, realtime.WithConnectionLimits(0, 2, false))
		var all []*realtimetest.Client
		for range 3 {
			all = append(all, dial(t, s, realtimetest.WithToken("u1")))
			all[len(all)-1].Connected()
		}
		other := dial(t, s, realtimetest.WithToken("u2"))
		other.Connected()
		if told := all[0].WantClosed(realtime.ReasonReplaced); told.Code != 4010 || told.Retry != realtime.RetryNever {
			t.Errorf("closing is %+v, want 4010 and never", told)
		}
		if n, err := s.Push(realtime.Target{User: "u1"}, "global", "hint", 1); n != 2 || err != nil {
			t.Errorf("the user has %d connections (%v), want 2", n, err)
		}
	})
}

func TestConnectionLimitsRefuse(t *testing.T) { // envelope.md section 6: overloaded
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t, realtime.WithConnectionLimits(3, 2, true))
		for _, user := range []string{"u1", "u1"} {
			dial(t, s, realtimetest.WithToken(user)).Connected()
		}
		told := dial(t, s, realtimetest.WithToken("u1")).WantClosed(realtime.ReasonOverloaded)
		if told.Code != 1013 || told.Retry != realtime.RetryBackoff || told.MinMS != 5000 || told.Jitter != 15000 {
			t.Errorf("closing is %+v, want 1013, backoff, 5000 and 15000 ms", told)
		}
		third := dial(t, s, realtimetest.WithToken("u2"))
		third.Connected()
		dial(t, s, realtimetest.WithToken("u3")).WantClosed(realtime.ReasonOverloaded)
		third.Close()
		synctest.Wait()
		dial(t, s, realtimetest.WithToken("u3")).Connected()
	})
}

func TestHandshakeLimits(t *testing.T) { // envelope.md section 6
	for name, c := range map[string]struct {
		limit realtime.RateLimit
		want  realtime.Reason
	}{
		"per address": {realtime.ConnectsPerIP(1, 2), realtime.ReasonRateLimited},
		"server":      {realtime.AcceptRate(1, 2), realtime.ReasonOverloaded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, realtime.WithRateLimit(c.limit))
				dial(t, s).Connected()
				dial(t, s).Connected()
				dial(t, s).WantClosed(c.want)
				time.Sleep(time.Second)
				dial(t, s).Connected()
			})
		})
	}
}

func TestEveryCloseCodeCanBeSet(t *testing.T) { // S2.13
	synctest.Test(t, func(t *testing.T) {
		s := jwtServer(t, realtime.WithCloseCodes(map[realtime.Reason]int{realtime.ReasonTokenInvalid: 1008, realtime.ReasonDisconnected: 4999}))
		if told := dial(t, s, realtimetest.WithToken("bad")).WantClosed(realtime.ReasonTokenInvalid); told.Code != 1008 {
			t.Errorf("code %d for a bad token, want 1008", told.Code)
		}
		c := dial(t, s, realtimetest.WithToken(token("u1")))
		c.Connected()
		s.Disconnect(realtime.Target{User: "u1"}, nil)
		if told := c.WantClosed(realtime.ReasonDisconnected); told.Code != 4999 {
			t.Errorf("code %d for a disconnect, want 4999", told.Code)
		}
	})
}

func TestTheClientsCloseIsEchoed(t *testing.T) { // envelope.md section 6: client_closed
	for name, payload := range map[string]string{"with a code": "\x0f\xa0bye", "without": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan realtime.Reason, 1)
				s := newServer(t, realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
				c, tap := wireTap(t, s)
				c.Connected()
				tapWrite(t, tap, clientFrame(0x88, payload))
				if told := c.WantClosed(""); payload != "" && told.Code != 4000 {
					t.Errorf("the echo has code %d, want 4000", told.Code)
				}
				if why := <-ended; why != realtime.ReasonClientClosed {
					t.Errorf("ended as %s, want client_closed", why)
				}
			})
		})
	}
}

func TestConnectedAndDisconnectedComeInPairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := 0, 0
		s := userServer(t,
			realtime.WithConnected(func(c *realtime.Client) {
				if in++; c.User() != "u1" {
					t.Errorf("connected as %q, want u1", c.User())
				}
			}),
			realtime.WithDisconnected(func(*realtime.Client, realtime.Reason) { out++ }))
		dial(t, s, realtimetest.WithToken("u1")).Close()
		dial(t, s).Close() // never authenticated
		refused := dial(t, s, realtimetest.WithHeader("Origin", "http://evil.com"))
		refused.WantClosed(realtime.ReasonOriginNotAllowed)
		synctest.Wait()
		if in != 1 || out != 1 {
			t.Errorf("called %d and %d times, want once each", in, out)
		}
	})
}

func TestTheLogSaysWhyAConnectionEnded(t *testing.T) { // S3.5
	synctest.Test(t, func(t *testing.T) {
		var log lines
		s := newServer(t, realtime.WithLogger(textLogger(&log)))
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		for range 5 {
			c.Send("nonsense")
		}
		c.WantClosed(realtime.ReasonInvalidMessage)
		synctest.Wait()
		for _, part := range []string{"reason=invalid_message", "conn=", "protocol=realtime.v1", "flight=", "chat:{room}"} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("the log has no %s:\n%s", part, &log)
			}
		}
	})
}

func TestAValueStaysWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		s := newServer(t)
		s.Topic("global").Handle("count", func(_ context.Context, c *realtime.Client, _ realtime.Message) (any, error) {
			n, _ := c.Value(key{}).(int)
			c.Set(key{}, n+1)
			return n, nil
		})
		a, b := dial(t, s), dial(t, s)
		for n := range 3 {
			a.WantReply(a.Push("global", "count", nil), "ok", n)
		}
		b.WantReply(b.Push("global", "count", nil), "ok", 0)
		for c := range s.Clients("global") {
			c.Set(key{}, nil)
			if got := c.Value(key{}); got != nil {
				t.Errorf("got %v after it was removed", got)
			}
		}
	})
}

func TestAClientPushedOverItsBoundWhenItConnectsIsToldWhy(t *testing.T) { // envelope.md section 6: slow_consumer
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(8, 1<<16), realtime.WithConnected(func(c *realtime.Client) {
			for range 20 { // while the answer to the handshake waits
				c.Push("global", "x", 1)
			}
		}))
		if told := dial(t, s).WantClosed(realtime.ReasonSlowConsumer); told.Code != 4008 {
			t.Errorf("code %d, want 4008", told.Code)
		}
	})
}
