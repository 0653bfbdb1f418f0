package nats_test

import (
	"context"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// newServer returns a server of one node.
func newServer(t *testing.T, b realtime.Broker) *realtime.Server {
	t.Helper()
	s := realtimetest.NewServer(t, realtime.Anonymous(), realtime.WithBroker(b))
	s.Topic("chat:{room}", realtime.History(100, time.Hour))
	s.Topic("cursor:{room}")
	return s
}

func TestTwoServersAreOne(t *testing.T) {
	h := newHost(t)
	one, two := newServer(t, h.node()), newServer(t, h.node())
	a, b := realtimetest.Dial(t, one), realtimetest.Dial(t, two)
	for _, topic := range []string{"chat:1", "cursor:1"} {
		a.Join(topic)
		b.Join(topic)
		if err := one.Publish(context.Background(), topic, "said", "hello"); err != nil {
			t.Fatal(err)
		}
		a.WantPush(topic, "said", "hello")
		b.WantPush(topic, "said", "hello")
	}
	events, _, err := two.History(context.Background(), "chat:1", 0, 10)
	if err != nil || len(events) != 1 || events[0].Name != "said" {
		t.Errorf("the other server read %v, %v, want the one event", events, err)
	}
	c := realtimetest.Dial(t, two)
	if j := c.Rejoin("chat:1", realtime.Position{Epoch: events[0].Epoch}); j.Recovery != realtime.RecoveryReplayed {
		t.Errorf("a client that comes from another node got %v, want its events", j.Recovery)
	}
	c.WantPush("chat:1", "said", "hello")
}
