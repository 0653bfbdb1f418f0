package nats_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

func TestTicketsAreGoodOnceOnEveryNode(t *testing.T) {
	h := newHost(t)
	a, b := h.node().Tickets(), h.node().Tickets()
	ctx := context.Background()
	for n := range 10 {
		key := fmt.Sprintf("key-_%d", n)
		if err := a.Put(ctx, key, &realtime.Identity{User: "ann", Scopes: []string{"x"}}, time.Minute); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var taken atomic.Int32
		for _, store := range []realtime.TicketStore{a, b, a, b} {
			all.Go(func() {
				id, err := store.Take(ctx, key)
				switch {
				case err == nil && id.User == "ann" && id.HasScope("x"):
					taken.Add(1)
				case !errors.Is(err, realtime.ReasonTokenInvalid):
					t.Errorf("took %+v, %v, want ann or ReasonTokenInvalid", id, err)
				}
			})
		}
		all.Wait()
		if n := taken.Load(); n != 1 {
			t.Errorf("a ticket was taken %d times, want once", n)
		}
	}
	if _, err := b.Take(ctx, "unknown"); !errors.Is(err, realtime.ReasonTokenInvalid) {
		t.Errorf("an unknown ticket: %v, want ReasonTokenInvalid", err)
	}
}

func TestTicketsExpire(t *testing.T) {
	tickets := newHost(t).node().Tickets()
	ctx := context.Background()
	if err := tickets.Put(ctx, "key", &realtime.Identity{User: "ann"}, time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	if _, err := tickets.Take(ctx, "key"); !errors.Is(err, realtime.ReasonTokenExpired) {
		t.Errorf("an old ticket: %v, want ReasonTokenExpired", err)
	}
}

func TestTicketsWithoutAServer(t *testing.T) {
	h := newHost(t)
	b := h.node()
	state := watch(t, b)
	h.stop()
	state.await(t, realtime.BrokerDown)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := b.Tickets().Take(ctx, "key"); !errors.Is(err, realtime.ReasonInternal) {
		t.Errorf("taking a ticket: %v, want ReasonInternal", err)
	}
}
