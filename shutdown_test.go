package realtime_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestADrainingServerRefusesAndCloses(t *testing.T) { // envelope.md section 6: shutdown
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		var clients []*realtimetest.Client
		for range 10 {
			clients = append(clients, dial(t, s))
			clients[len(clients)-1].Connected()
		}
		ready := func() int {
			w := httptest.NewRecorder()
			s.Ready().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ready", nil))
			return w.Code
		}
		if got := ready(); got != 200 {
			t.Errorf("ready is %d, want 200", got)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		start := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(ctx) }()
		synctest.Wait()
		if got := ready(); got != 503 {
			t.Errorf("ready is %d in a drain, want 503", got)
		}
		answer := realtimetest.Refused(t, s)
		if answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" {
			t.Errorf("a handshake got %d, Retry-After %q, want 503 with some", answer.StatusCode, answer.Header.Get("Retry-After"))
		}
		publish(t, s, "global", "still", 1) // works until the end
		for i, c := range clients {
			told := c.WantClosed(realtime.ReasonShutdown)
			if told.Code != 1012 || told.Retry != realtime.RetryBackoff || told.Jitter < 1000 {
				t.Errorf("client %d: closing is %+v, want 1012, backoff, jitter", i, told)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(start); took < 5*time.Second || took > 13*time.Second {
			t.Errorf("the drain took %v, want the closes spread over most of 12 s", took)
		}
		if err := s.Publish(context.Background(), "global", "x", 1); !errors.Is(err, realtime.ErrServerClosed) {
			t.Errorf("publish: got %v, want ErrServerClosed", err)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("a second shutdown: %v", err)
		}
	})
}

func TestAHandlerThatIgnoresItsContextIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newServer(t)
		s.Topic("global").Handle("stuck", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			<-release
			return nil, nil
		})
		c := dial(t, s)
		c.Push("global", "stuck", nil)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		if took := time.Since(start); took > 12*time.Second {
			t.Errorf("it took %v, want little more than the context's 10 s", took)
		}
		close(release)
	})
}

func TestADrainEndsInTimeAlthoughAPeerIsMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := dial(t, s)
		c.Connected()
		c.HalfOpen()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		start := time.Now()
		err := s.Shutdown(ctx)
		if took := time.Since(start); err != nil || took < time.Second || took > 2*time.Second {
			t.Errorf("got %v after %v, want nil after the peer was waited for, within 2 s", err, took)
		}
	})
}

func TestAnIdleServerShutsDownAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := newServer(t).Shutdown(context.Background()); err != nil || time.Since(start) != 0 {
			t.Errorf("got %v after %v, want nil at once", err, time.Since(start))
		}
	})
}

func TestARegistryServesOneServerAtATime(t *testing.T) {
	r := prometheus.NewRegistry()
	first := newServer(t, realtime.WithMetrics(r))
	if _, err := realtime.New(realtime.Anonymous(), realtime.WithMetrics(r)); err == nil {
		t.Error("a second server on the same registry was made")
	}
	if err := first.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	newServer(t, realtime.WithMetrics(r))
}
