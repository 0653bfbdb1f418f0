package realtime_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// ticketBroker is a broker that keeps tickets.
type ticketBroker struct {
	*realtimetest.Node
	kept map[string]*realtime.Identity
}

func (b *ticketBroker) Tickets() realtime.TicketStore { return b }

func (b *ticketBroker) Put(_ context.Context, key string, id *realtime.Identity, _ time.Duration) error {
	b.kept[key] = id
	return nil
}

func (b *ticketBroker) Take(_ context.Context, key string) (*realtime.Identity, error) {
	id := b.kept[key]
	delete(b.kept, key)
	if id == nil {
		return nil, realtime.ReasonTokenInvalid
	}
	return id, nil
}

func TestTicketsOfOneNodeLetInAtAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kept := realtimetest.NewCluster(), map[string]*realtime.Identity{}
		node := func(opts ...realtime.Option) *realtime.Server {
			b := &ticketBroker{c.Node(), kept}
			return realtimetest.NewServer(t, append([]realtime.Option{realtime.WithBroker(b), byToken()}, opts...)...)
		}
		a, b, own := node(), node(), node(realtime.WithTickets(10, nil))
		ticket, err := a.Ticket(t.Context(), &realtime.Identity{User: "ann"}, 0)
		if err != nil || len(kept) != 1 {
			t.Fatalf("%d are kept by the broker, want 1; %v", len(kept), err)
		}
		realtimetest.Dial(t, b, realtimetest.WithURL("/?ticket="+ticket)).Connected()
		if len(kept) != 0 {
			t.Error("the ticket was not taken")
		}
		if _, err := own.Ticket(t.Context(), &realtime.Identity{User: "ann"}, 0); err != nil || len(kept) != 0 {
			t.Errorf("WithTickets: %d are kept by the broker, want none; %v", len(kept), err)
		}
	})
}

func TestHealthCountsNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		alone := realtimetest.NewServer(t, realtime.Anonymous())
		for s, want := range map[*realtime.Server]float64{c.servers[0]: 3, alone: 1} {
			w := httptest.NewRecorder()
			s.Health().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			var told map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || told["nodes"] != want {
				t.Errorf("got %v nodes, %v; want %v", told["nodes"], err, want)
			}
		}
		if got := len(c.servers[1].Nodes()); got != 3 {
			t.Errorf("got %d nodes, want 3", got)
		}
	})
}
