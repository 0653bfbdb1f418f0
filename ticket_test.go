package realtime

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func issueTicket(t *testing.T, tickets *tickets, id *Identity, life time.Duration) string {
	t.Helper()
	ticket, err := tickets.issue(context.Background(), id, life)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func wantTicketError(t *testing.T, tickets *tickets, ticket string, want Reason) {
	t.Helper()
	if id, err := tickets.redeem(context.Background(), ticket); id != nil || !errors.Is(err, want) {
		t.Errorf("got %+v, %v, want %s", id, err, want)
	}
}

func TestTicketLetsInOnce(t *testing.T) {
	tickets := newTickets(0)
	want := &Identity{User: "u1"}
	ticket := issueTicket(t, tickets, want, 0)
	other := issueTicket(t, tickets, want, 0)
	if ticket == other || len(ticket) < 26 {
		t.Errorf("got tickets %q and %q", ticket, other)
	}
	if got, err := tickets.redeem(context.Background(), ticket); got != want || err != nil {
		t.Errorf("got %+v, %v, want the identity it was issued for", got, err)
	}
	wantTicketError(t, tickets, ticket, ReasonTokenInvalid)
	for _, unknown := range []string{"", "unknown", string(make([]byte, 1<<16)), ticketKey(other)} {
		wantTicketError(t, tickets, unknown, ReasonTokenInvalid)
	}
}

func TestTicketIsRedeemedByOneOfManyAtOnce(t *testing.T) {
	tickets := newTickets(0)
	ticket := issueTicket(t, tickets, &Identity{User: "u1"}, 0)
	var winners atomic.Int32
	var start, done sync.WaitGroup
	start.Add(1)
	for range 100 {
		done.Go(func() {
			start.Wait()
			if _, err := tickets.redeem(context.Background(), ticket); err == nil {
				winners.Add(1)
			} else if !errors.Is(err, ReasonTokenInvalid) {
				t.Errorf("a loser got %v, want token_invalid", err)
			}
		})
	}
	start.Done()
	done.Wait()
	if got := winners.Load(); got != 1 {
		t.Errorf("%d goroutines got in with one ticket", got)
	}
}

func TestTicketExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := newTickets(0)
		anonymous := &Identity{}
		byDefault := issueTicket(t, tickets, anonymous, 0)
		justInTime := issueTicket(t, tickets, anonymous, 0)
		long := issueTicket(t, tickets, anonymous, time.Minute)
		bound := issueTicket(t, tickets, &Identity{Expires: time.Now().Add(10 * time.Second)}, 0)

		time.Sleep(10 * time.Second)
		wantTicketError(t, tickets, bound, ReasonTokenExpired)
		time.Sleep(20*time.Second - 1)
		if _, err := tickets.redeem(context.Background(), justInTime); err != nil {
			t.Errorf("just before its end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		wantTicketError(t, tickets, byDefault, ReasonTokenExpired)
		wantTicketError(t, tickets, byDefault, ReasonTokenInvalid)
		if _, err := tickets.redeem(context.Background(), long); err != nil {
			t.Errorf("a ticket with a longer life: %v", err)
		}
	})
}

func TestTicketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := newTickets(2)
		id := &Identity{}
		issueTicket(t, tickets, id, 10*time.Second)
		long := issueTicket(t, tickets, id, time.Minute)
		if _, err := tickets.issue(context.Background(), id, 0); !errors.Is(err, ReasonOverloaded) {
			t.Errorf("got %v, want overloaded", err)
		}
		time.Sleep(10 * time.Second)
		issueTicket(t, tickets, id, 0) // in the place of the expired one
		if _, err := tickets.redeem(context.Background(), long); err != nil {
			t.Errorf("a good ticket had to go: %v", err)
		}
	})
}

func TestExpiredTicketsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := newTickets(0)
		memory := tickets.store.(*ticketMemory)
		for i := range 100 {
			issueTicket(t, tickets, &Identity{}, time.Duration(1+i*7%30)*time.Second)
		}
		time.Sleep(30*time.Second + ticketMemoryOfExpired)
		issueTicket(t, tickets, &Identity{}, 0)
		if len(memory.byKey) != 1 || len(memory.byExpiry) != 1 {
			t.Errorf("%d and %d tickets are kept, want the new one alone", len(memory.byKey), len(memory.byExpiry))
		}
	})
}

func TestTicketStoreSeesHashesOnly(t *testing.T) {
	tickets := newTickets(0)
	ticket := issueTicket(t, tickets, &Identity{}, 0)
	if _, ok := tickets.store.(*ticketMemory).byKey[ticket]; ok {
		t.Error("the ticket itself is stored")
	}
}

func TestTicketIsNotIssuedForNobodyOrTooLong(t *testing.T) {
	tickets := newTickets(0)
	for name, c := range map[string]struct {
		id   *Identity
		life time.Duration
	}{
		"no identity": {nil, 0},
		"negative":    {&Identity{}, -1},
		"too long":    {&Identity{}, time.Hour},
		"expired":     {&Identity{Expires: time.Now().Add(-time.Second)}, 0},
	} {
		if ticket, err := tickets.issue(context.Background(), c.id, c.life); err == nil {
			t.Errorf("%s: got ticket %q", name, ticket)
		}
	}
}
