package realtimetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func anonymous(t *testing.T, opts ...realtime.Option) *realtime.Server {
	t.Helper()
	s := realtimetest.NewServer(t, append([]realtime.Option{realtime.Anonymous()}, opts...)...)
	s.Topic("chat:{room}").Handle("echo", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
		return m.Data, nil
	})
	return s
}

func TestClientTalks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := anonymous(t)
		c := realtimetest.Dial(t, s, realtimetest.WithProtocols("realtime.v1"))
		if got := c.Protocol(); got != "realtime.v1" {
			t.Errorf("protocol is %q, want realtime.v1", got)
		}
		if got := c.Connected(); got.Seq != 1 {
			t.Errorf("the greeting was message %d, want 1", got.Seq)
		}
		c.WantError(c.Push("chat:a", "echo", 1), "not_subscribed")
		c.Join("chat:a")
		c.WantReply(c.Push("chat:a", "echo", map[string]int{"a": 1, "b": 2}), "ok", map[string]int{"a": 1})
		if err := s.Publish(context.Background(), "chat:a", "news", []int{1, 2}); err != nil {
			t.Fatal(err)
		}
		c.WantPush("chat:a", "news", []int{1, 2})
		c.WantNothing()
		c.Close()
		c.WantClosed("")
	})
}

func TestStoppedReaderReadsEverythingOnceResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := anonymous(t)
		c := realtimetest.Dial(t, s)
		c.Join("chat:a")
		c.StopReading()
		for n := range 20 {
			if err := s.Publish(context.Background(), "chat:a", "n", n); err != nil {
				t.Fatal(err)
			}
		}
		c.WantNothing()
		c.Resume()
		for n := range 20 {
			c.WantPush("chat:a", "n", n)
		}
	})
}

func TestHalfOpenPeerHearsAndSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan realtime.Reason, 1)
		s := anonymous(t, realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
		c := realtimetest.Dial(t, s)
		c.Join("chat:a")
		c.HalfOpen()
		c.Push("chat:a", "echo", nil)
		if err := s.Publish(context.Background(), "chat:a", "n", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		c.WantNothing()
		if why := <-ended; why != realtime.ReasonHeartbeatTimeout {
			t.Errorf("ended as %s, want heartbeat_timeout", why)
		}
	})
}

func TestCutEndsWithoutACloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan realtime.Reason, 1)
		s := anonymous(t, realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
		c := realtimetest.Dial(t, s)
		c.Connected()
		c.Cut()
		if why := <-ended; why != realtime.ReasonConnectionLost {
			t.Errorf("ended as %s, want connection_lost", why)
		}
		c.WantClosed(realtime.ReasonConnectionLost)
	})
}

func TestRefusedReturnsThePlainAnswer(t *testing.T) {
	answer := realtimetest.Refused(t, http.NotFoundHandler(), realtimetest.WithURL("/ws?x=1"))
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("status is %d, want 404", answer.StatusCode)
	}
}

// quietBroker answers everything with nothing.
type quietBroker struct{ realtime.Broker }

func (quietBroker) Publish(context.Context, *realtime.Event, realtime.Retention) error { return nil }

func TestOutageFailsHangsAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := realtimetest.NewOutage(quietBroker{})
		publish := func(ctx context.Context) error {
			return o.Publish(ctx, &realtime.Event{Topic: "t", Name: "n", Data: json.RawMessage("1")}, realtime.Retention{})
		}
		if err := publish(context.Background()); err != nil {
			t.Errorf("before any fault: %v", err)
		}
		broken := errors.New("broken")
		o.Fail(broken)
		if err := publish(context.Background()); err != broken {
			t.Errorf("got %v, want the error of Fail", err)
		}
		o.Hang()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := publish(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v from a call that hangs, want its context's error", err)
		}
		result := make(chan error, 1)
		go func() { result <- publish(context.Background()) }()
		synctest.Wait()
		select {
		case err := <-result:
			t.Errorf("got %v, want the call to hang", err)
		default:
		}
		o.Heal()
		if err := <-result; err != nil {
			t.Errorf("healed: got %v", err)
		}
	})
}

func TestExactlyAllowsNoFurtherFields(t *testing.T) {
	for _, c := range []struct {
		got  string
		want any
		ok   bool
	}{
		{`{"a":1}`, map[string]any{"a": 1}, true},
		{`{"a":1,"b":2}`, map[string]any{"a": 1}, false},
		{`[{"a":1,"b":2}]`, []any{map[string]any{"a": 1}}, false},
		{`null`, json.RawMessage("null"), true},
		{`9007199254740993`, json.RawMessage("9007199254740992"), false},
		{`{"a":`, map[string]any{}, false},
	} {
		if err := realtimetest.Exactly(c.want)(json.RawMessage(c.got)); (err == nil) != c.ok {
			t.Errorf("%s against %v: %v, want a match: %v", c.got, c.want, err, c.ok)
		}
	}
}
