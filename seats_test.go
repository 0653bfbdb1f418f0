package realtime

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func TestNewestConnectionWinsOrIsRefused(t *testing.T) {
	s := newSeats[int](0, 2, true)
	for _, c := range []struct {
		c, evict int
		evicted  bool
	}{{1, 0, false}, {2, 0, false}, {3, 1, true}, {4, 2, true}} {
		evict, evicted, reason := s.take("ann", c.c)
		if evict != c.evict || evicted != c.evicted || reason != "" {
			t.Errorf("connection %d: %d, %v, %q; want %d, %v and no reason", c.c, evict, evicted, reason, c.evict, c.evicted)
		}
	}
	if got := s.of("ann"); !slices.Equal(got, []int{3, 4}) {
		t.Errorf("ann has %v, want [3 4]", got)
	}
	s.release("ann", 1) // the evicted comes to its end
	if got := s.count(); got != 2 {
		t.Errorf("%d seats taken after the evicted released, want 2", got)
	}

	s = newSeats[int](0, 1, false)
	s.take("ann", 1)
	if _, evicted, reason := s.take("ann", 2); evicted || reason != ReasonOverloaded {
		t.Errorf("over the user's limit: evicted %v, %q; want overloaded", evicted, reason)
	}
	s.release("ann", 2) // never had a seat
	if got := s.of("ann"); !slices.Equal(got, []int{1}) {
		t.Errorf("ann has %v, want [1]", got)
	}
	s.release("ann", 1)
	if _, _, reason := s.take("ann", 3); reason != "" {
		t.Errorf("after the release: refused as %q", reason)
	}
}

func TestFullServerRefusesButLetsAUserReplaceItsOwn(t *testing.T) {
	s := newSeats[int](3, 1, true)
	s.take("ann", 1)
	s.take("", 2)
	s.take("", 3)
	for _, user := range []string{"", "bob"} {
		if _, _, reason := s.take(user, 4); reason != ReasonOverloaded {
			t.Errorf("user %q on a full server: %q, want overloaded", user, reason)
		}
	}
	if evict, evicted, reason := s.take("ann", 5); evict != 1 || !evicted || reason != "" {
		t.Errorf("ann again: %d, %v, %q; want 1 to be replaced", evict, evicted, reason)
	}
	if got := s.of(""); got != nil {
		t.Errorf("anonymous connections are indexed: %v", got)
	}
	s.release("", 2)
	if _, _, reason := s.take("bob", 6); reason != "" {
		t.Errorf("after a release: %q, want a seat", reason)
	}
}

// TestSeatsAgreeWithPlainLists plays random connections against one list per user.
func TestSeatsAgreeWithPlainLists(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		perServer, perUser, newest := rnd.IntN(20), rnd.IntN(4), rnd.IntN(2) == 0
		s := newSeats[int](perServer, perUser, newest)
		model, total := map[string][]int{}, 0
		for c := range 500 {
			user := fmt.Sprint("user", rnd.IntN(8))
			list := model[user]
			if rnd.IntN(2) == 0 && len(list) > 0 {
				i := rnd.IntN(len(list))
				s.release(user, list[i])
				s.release(user, list[i])
				model[user], total = slices.Delete(list, i, i+1), total-1
			} else {
				wantEvict, wantEvicted, wantReason := 0, false, Reason("")
				switch {
				case perUser > 0 && len(list) == perUser && newest:
					wantEvict, wantEvicted = list[0], true
					model[user] = append(list[1:], c)
				case perUser > 0 && len(list) == perUser, perServer > 0 && total == perServer:
					wantReason = ReasonOverloaded
				default:
					model[user], total = append(list, c), total+1
				}
				evict, evicted, reason := s.take(user, c)
				if evict != wantEvict || evicted != wantEvicted || reason != wantReason {
					t.Fatalf("seed %d: take(%s, %d) = %d, %v, %q; want %d, %v, %q", seed, user, c, evict, evicted, reason, wantEvict, wantEvicted, wantReason)
				}
			}
			if got := s.of(user); !slices.Equal(got, model[user]) || s.count() != total {
				t.Fatalf("seed %d: %s has %v of %d, want %v of %d", seed, user, got, s.count(), model[user], total)
			}
		}
	}
}

func TestSeatsUnderConcurrentUse(t *testing.T) {
	s := newSeats[int](40, 3, true)
	var most, took atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 5))
			for i := range 2000 {
				user, c := []string{"", "ann", "bob", fmt.Sprint(rnd.IntN(30))}[rnd.IntN(4)], g*10_000+i+1
				if _, _, reason := s.take(user, c); reason != "" {
					continue
				}
				took.Add(1)
				if n := int64(s.count()); n > most.Load() {
					most.Store(n)
				}
				if got := s.of(user); user != "" && len(got) > 3 {
					t.Errorf("%s has %d connections, want at most 3", user, len(got))
				}
				s.release(user, c)
			}
		})
	}
	wg.Wait()
	if most.Load() > 40 || took.Load() == 0 {
		t.Errorf("at most %d seats were taken, %d times; want at most 40 and some", most.Load(), took.Load())
	}
	if s.count() != 0 {
		t.Errorf("%d seats taken in the end, want 0", s.count())
	}
	for i := range s.shards {
		if h := &s.shards[i]; len(h.oldest)+len(h.further) != 0 {
			t.Errorf("shard %d still has %d and %d entries", i, len(h.oldest), len(h.further))
		}
	}
}

func TestSeatCostsAtMostAHundredBytes(t *testing.T) {
	const n = 50_000
	users, conns := make([]string, n), make([]int, n)
	for i := range users {
		users[i] = fmt.Sprint("user-", i)
	}
	s := newSeats[*int](0, 5, true)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range users {
		s.take(users[i], &conns[i])
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; got > 100 {
		t.Errorf("%d bytes per seat, want at most 100", got)
	} else {
		t.Logf("%d bytes per seat", got)
	}
	runtime.KeepAlive(s)
	runtime.KeepAlive(users)
	runtime.KeepAlive(conns)
}
