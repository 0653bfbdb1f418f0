package realtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// churned is a server with metrics after every kind of traffic has come and gone.
// The peers that are returned are still there.
func churned(t *testing.T) (*Server, *prometheus.Registry, []*peer) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	s := newQuietServer(t, WithMetrics(r), WithQueue(4, 1<<20))
	chat := s.Topic("chat:{room}", Join(func(_ context.Context, _ *Client, m Message) (any, error) {
		if m.Param("room") == "closed" {
			return nil, Reject("closed")
		}
		return nil, nil
	}))
	chat.Handle("say", func(_ context.Context, _ *Client, m Message) (any, error) {
		if string(m.Data) == `"fail"` {
			return nil, errors.New("broken")
		}
		return nil, s.Publish(t.Context(), m.Topic, "said", m.Data)
	})
	s.Topic("log:{id}", History(10, 0))
	hs := listen(t, s)
	var left []*peer
	for i := range 5 {
		p := shake(t, dialTCP(t, hs), nil)
		p.until(t, "connected")
		room := fmt.Sprintf("chat:user-%d", i) // must be no label
		for _, m := range []string{
			`{"channel":"` + room + `","type":"subscribe","ref":"1"}`,
			`{"channel":"chat:closed","type":"subscribe","ref":"2"}`,
			`{"channel":"log:` + fmt.Sprint(i) + `","type":"subscribe","ref":"3","data":{"recover":{"epoch":"x","offset":1}}}`,
			`{"channel":"` + room + `","type":"say","data":"hi","ref":"4"}`,
			`{"channel":"` + room + `","type":"say","data":"fail","ref":"5"}`,
			`not json`,
		} {
			p.Write(wire(nil).frame(fText, m))
			p.message(t)
		}
		if i%2 == 0 {
			p.Write(wire(nil).frame(fClose, closeText(1000, "")))
			for {
				if _, _, err := p.next(); err != nil {
					break
				}
			}
			continue
		}
		left = append(left, p)
	}
	return s, r, left
}

// labelSets are all metrics with the labels that they may have.
var labelSets = map[string]string{
	"connections": "protocol", "handshakes_total": "outcome", "closes_total": "reason",
	"messages_received_total": "protocol", "received_bytes_total": "", "invalid_messages_total": "",
	"frames_sent_total": "", "sent_bytes_total": "", "writes_total": "",
	"published_total": "pattern", "deliveries_total": "pattern", "drops_total": "policy",
	"queue_depth": "", "handler_seconds": "event pattern", "handler_errors_total": "code event pattern",
	"joins_total": "outcome pattern", "recoveries_total": "outcome", "publish_write_seconds": "",
	"round_trip_seconds": "", "rate_limited_total": "action scope", "topics": "", "members": "",
	"asks_total": "outcome", "tokens_total": "outcome source", "broker_up": "", "broker_state": "state", "broker_errors_total": "",
	"nodes": "", "node_messages_total": "outcome",
	"connection_seconds": "", "presences": "", "presence_notices_total": "pattern",
	"document_ops_total": "", "document_nacks_total": "reason", "document_sessions": "", "document_clients": "",
	"document_crashes_total": "", "document_append_seconds": "",
}

func TestMetricsHaveFixedNamesAndLabels(t *testing.T) {
	_, r, _ := churned(t)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "realtime_")
		want, ok := labelSets[name]
		if !ok {
			t.Errorf("metric %s is not in the list", f.GetName())
		}
		for _, one := range f.GetMetric() {
			var labels []string
			for _, l := range one.GetLabel() {
				labels = append(labels, l.GetName())
				if strings.Contains(l.GetValue(), "user-") {
					t.Errorf("%s has a label %s=%q: a name is a memory leak", name, l.GetName(), l.GetValue())
				}
			}
			slices.Sort(labels)
			if got := strings.Join(labels, " "); got != want {
				t.Errorf("%s has labels %q, want %q", name, got, want)
			}
		}
	}
	described := make(chan *prometheus.Desc, 100)
	for _, c := range newMetrics().all() {
		c.Describe(described)
	}
	if got := len(described); got != len(labelSets) {
		t.Errorf("%d metrics are registered, want %d", got, len(labelSets))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

func TestGaugesEqualCountsAfterChurn(t *testing.T) {
	s, r, left := churned(t)
	gather := func(name string) (sum float64) {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "realtime_"+name {
				for _, one := range f.GetMetric() {
					sum += one.GetGauge().GetValue() + one.GetCounter().GetValue()
				}
			}
		}
		return sum
	}
	// Three peers have closed: chat, log and global are left by two.
	want := map[string]float64{"connections": 2, "members": 6, "topics": 5, "closes_total": 3, "handshakes_total": 5, "broker_up": 1, "invalid_messages_total": 5}
	for name, n := range want {
		for range 1000 { // a peer sees the end before it is counted
			if gather(name) == n {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if got := gather(name); got != n {
			t.Errorf("%s is %v, want %v", name, got, n)
		}
	}
	if got := float64(len(s.node.list())); got != want["connections"] {
		t.Errorf("the server has %v connections, want %v", got, want["connections"])
	}
	for _, name := range []string{"published_total", "deliveries_total", "frames_sent_total", "sent_bytes_total", "received_bytes_total", "writes_total", "tokens_total"} {
		if gather(name) == 0 {
			t.Errorf("%s counted nothing", name)
		}
	}
	for _, p := range left {
		p.Close()
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if families, _ := r.Gather(); len(families) != 0 {
		t.Errorf("%d metrics are still registered after Shutdown", len(families))
	}
	if n := metricOf(t, s.node.metrics, "connections") + metricOf(t, s.node.metrics, "members") + metricOf(t, s.node.metrics, "topics"); n != 0 {
		t.Errorf("gauges sum to %v after Shutdown, want 0", n)
	}
}

func TestSecondServerOnARegistryIsAnError(t *testing.T) {
	r := prometheus.NewRegistry()
	newQuietServer(t, WithMetrics(r))
	if _, err := New(Anonymous(), WithMetrics(r)); err == nil || !strings.Contains(err.Error(), "WithMetrics") {
		t.Errorf("New: %v, want an error that names WithMetrics", err)
	}
}
