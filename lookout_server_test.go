package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// stands returns what a server tells of its broker: health, readiness and metrics.
func stands(t *testing.T, s *realtime.Server, r *prometheus.Registry) (broker, status string, ready int, up float64) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Health().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	var told struct{ Broker, Status string }
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil {
		t.Fatal(err)
	}
	w = httptest.NewRecorder()
	s.Ready().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case f.GetName() == "realtime_broker_up":
				up = m.GetGauge().GetValue()
			case f.GetName() == "realtime_broker_state" && (m.GetGauge().GetValue() == 1) != (m.GetLabel()[0].GetValue() == told.Broker):
				t.Errorf("realtime_broker_state of %q is %v while health says %q", m.GetLabel()[0].GetValue(), m.GetGauge().GetValue(), told.Broker)
			}
		}
	}
	return told.Broker, told.Status, w.Code, up
}

// stateLog keeps the lines of a log with their states.
type stateLog struct{ got []string }

func (l *stateLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *stateLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *stateLog) WithGroup(string) slog.Handler            { return l }
func (l *stateLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "state" || a.Key == "was" {
			line += " " + a.Value.String()
		}
		return true
	})
	if strings.Contains(r.Message, "broker") {
		l.got = append(l.got, line)
	}
	return nil
}

func TestTheBrokersStateIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, registry, log := realtimetest.NewCluster().Node(), prometheus.NewRegistry(), &stateLog{}
		var told []string
		s, err := realtime.New(realtime.Anonymous(), realtime.WithBroker(node), realtime.WithMetrics(registry), realtime.WithLogger(slog.New(log)),
			realtime.WithBrokerWatch(func(b realtime.BrokerStatus) {
				told = append(told, b.State.String())
				if b.State == realtime.BrokerDegraded {
					panic("the host's")
				}
			}))
		if err != nil {
			t.Fatal(err)
		}
		want := func(broker string, up float64) {
			t.Helper()
			if b, status, ready, u := stands(t, s, registry); b != broker || status != "ok" || ready != 200 || u != up {
				t.Errorf("health %s and %s, ready %d, up %v, want %s, ok, 200, %v", b, status, ready, u, broker, up)
			}
		}
		want("healthy", 1)
		node.Report(realtime.BrokerStatus{State: realtime.BrokerDegraded, Err: errors.New("slow")})
		want("degraded", 1)
		node.Cut()
		node.Cut() // the same again is no news
		want("down", 0)
		node.Heal()
		want("healthy", 1)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if n := node.Watchers(); n != 0 {
			t.Errorf("%d still watch the broker after the shutdown", n)
		}
		if want := []string{"healthy", "degraded", "down", "down", "healthy"}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		logged := slices.DeleteFunc(log.got, func(l string) bool { return strings.Contains(l, "panicked") })
		if want := []string{"WARN realtime: broker degraded healthy", "WARN realtime: broker down degraded", "INFO realtime: broker healthy down"}; !slices.Equal(logged, want) {
			t.Errorf("logged %q, want %q", logged, want)
		}
	})
}

func TestThatANodeConnectsAtFirstIsNoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, log := realtimetest.NewCluster().Node(), &stateLog{}
		node.Report(realtime.BrokerStatus{State: realtime.BrokerDegraded, Err: errors.New("connecting")})
		s, err := realtime.New(realtime.Anonymous(), realtime.WithBroker(node), realtime.WithLogger(slog.New(log)))
		if err != nil {
			t.Fatal(err)
		}
		node.Heal()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if want := []string{"INFO realtime: broker degraded", "INFO realtime: broker healthy degraded"}; !slices.Equal(log.got, want) {
			t.Errorf("logged %q, want %q", log.got, want)
		}
	})
}

func TestANodeThatIsCutOffForLongClosesItsClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, registry := realtimetest.NewCluster().Node(), prometheus.NewRegistry()
		s := newServer(t, realtime.WithBroker(node), realtime.WithMetrics(registry), realtime.WithIsolation(30*time.Second))
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		node.Cut()
		time.Sleep(29 * time.Second)
		node.Heal()
		node.Cut()
		time.Sleep(29 * time.Second)
		dial(t, s).Join("chat:a") // it was never down for 30 s
		if _, _, ready, _ := stands(t, s, registry); ready != 200 {
			t.Errorf("ready answers %d before the time", ready)
		}
		time.Sleep(2 * time.Second)
		if end := c.WantClosed(realtime.ReasonOverloaded); end.Retry != realtime.RetryBackoff || !strings.Contains(end.Error, "cut off") {
			t.Errorf("closed with %+v, want to come back later", end)
		}
		phoenix := s.Phoenix(realtime.LongPoll())
		for name, answer := range map[string]*http.Response{
			"the server's own":  realtimetest.Refused(t, s),
			"Phoenix's":         realtimetest.Refused(t, phoenix, realtimetest.WithURL("/socket/websocket?vsn=2.0.0")),
			"Phoenix's polling": realtimetest.Refused(t, phoenix, realtimetest.WithURL("/socket/longpoll?vsn=2.0.0")),
		} {
			if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") != "5" {
				t.Errorf("%s handshake: HTTP %d, Retry-After %q, want 503 and 5", name, answer.StatusCode, answer.Header.Get("Retry-After"))
			}
		}
		if broker, status, ready, _ := stands(t, s, registry); broker != "down" || status != "isolated" || ready != 503 {
			t.Errorf("health %s and %s, ready %d, want down, isolated, 503", broker, status, ready)
		}
		node.Report(realtime.BrokerStatus{State: realtime.BrokerDegraded})
		dial(t, s).Join("chat:a")
		if _, status, ready, _ := stands(t, s, registry); status != "ok" || ready != 200 {
			t.Errorf("health %s, ready %d after it, want ok, 200", status, ready)
		}
	})
}

func TestOptionsOfSharedBrokersNeedOne(t *testing.T) {
	for name, option := range map[string]realtime.Option{
		"WithBrokerWatch": realtime.WithBrokerWatch(func(realtime.BrokerStatus) {}),
		"WithIsolation":   realtime.WithIsolation(time.Minute),
	} {
		if _, err := realtime.New(realtime.Anonymous(), option); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s without a shared broker: %v, want an error", name, err)
		}
	}
	if _, err := realtime.New(realtime.WithIsolation(time.Millisecond)); err == nil {
		t.Error("WithIsolation of a millisecond was accepted")
	}
}
