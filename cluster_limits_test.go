package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// newLimited makes n servers with a broker in common, in a bubble.
func newLimited(t *testing.T, n int, limits ...RateLimit) []*Server {
	shared := lonelyBroker{newMemoryBroker()}
	var all []*Server
	for range n {
		s, err := New(WithBroker(shared), Anonymous(), WithRateLimit(limits...), WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
		all = append(all, s)
	}
	synctest.Wait()
	return all
}

// through has each meter asked every so often, and returns how many messages pass.
func through(meters []*meter, every, long time.Duration) (n int) {
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(every) {
		for _, m := range meters {
			if m.take("hit", time.Now()).ok {
				n++
			}
		}
		synctest.Wait() // messages between nodes take no time here
	}
	return n
}

func TestALimitPerUserHoldsForAllNodesTogether(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit RateLimit
		nodes int
		burst int
		every time.Duration
	}{
		{"user, two nodes", PerUser(10, 50), 2, 50, 10 * time.Millisecond},
		{"user, five nodes", PerUser(10, 50), 5, 50, 10 * time.Millisecond},
		{"address", PerIP(10, 50), 2, 50, 10 * time.Millisecond},
		{"a small burst", PerUser(1, 3), 3, 3, 10 * time.Millisecond},
		{"slowly", PerUser(10, 1000), 2, 1000, 300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				servers := newLimited(t, c.nodes, PerConnection(1e6, 1e6), c.limit)
				var meters []*meter
				for _, s := range servers {
					m := s.node.limits.meter("ann", "192.0.2.1")
					defer m.close()
					meters = append(meters, m)
				}
				const long = 60
				got := through(meters, c.every, long*time.Second)
				most := c.burst + int(c.limit.perSecond*long)
				if asked := c.nodes * int(long*time.Second/c.every); asked < most {
					if got != asked {
						t.Errorf("%d of %d passed", got, asked)
					}
					return
				}
				over := (c.nodes - 1) * max(1, c.burst/10)
				if got < most-c.burst/10-1 || got > most+over {
					t.Errorf("%d passed, want %d and at most %d more", got, most, over)
				}
			})
		})
	}
}

func TestWhoHasSpentEverythingIsRefusedOnAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := newLimited(t, 2, PerConnection(1e6, 1e6), PerUser(1, 100))
		a := servers[0].node.limits.meter("ann", "")
		defer a.close()
		for _, n := range []int{3, 92} { // the first three and the last five are told later
			for range n {
				a.take("hit", time.Now())
			}
			time.Sleep(spentTime + wheelTick)
		}
		b := servers[1].node.limits.meter("ann", "")
		defer b.close()
		n := 0
		for b.take("hit", time.Now()).ok {
			n++
		}
		if n != 5 {
			t.Errorf("%d more passed on the other node, want 5", n)
		}
		other := servers[1].node.limits.meter("bob", "")
		defer other.close()
		if !other.take("hit", time.Now()).ok {
			t.Error("another user pays for it")
		}
	})
}

func TestADebitIsBounded(t *testing.T) {
	now := time.Now()
	rules := func(ls ...RateLimit) (rs []rule) {
		for _, l := range ls {
			r, err := l.rule()
			if err != nil {
				t.Fatal(err)
			}
			rs = append(rs, r)
		}
		return rs
	}
	b := newBuckets(rules(PerUser(10, 50), WarnOnly(PerUser(1, 5))))
	b.debit("ann", 1<<63, now)
	b.debit("ann", 1<<63, now)
	one := b.acquire("ann", now)
	defer b.release(one)
	for i, want := range []time.Duration{10 * time.Second, 5 * time.Second} {
		if got := one.full[i].Sub(now); got != want {
			t.Errorf("rule %d: full in %v, want %v", i, got, want)
		}
	}
}

func TestLimitsOfANodeAloneAreNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLimited(t, 1, PerUser(100, 10))[0]
		m := s.node.limits.meter("ann", "")
		defer m.close()
		before := sum(s.node.metrics.nodeSent.(prometheus.Collector))
		through([]*meter{m}, time.Millisecond, time.Second)
		if after := sum(s.node.metrics.nodeSent.(prometheus.Collector)); after > before+1 { // a beat
			t.Errorf("%v messages to nobody", after-before)
		}
		long := s.node.limits.meter(strings.Repeat("x", 2000), "")
		defer long.close()
		long.take("hit", time.Now())
	})
}

func TestAMessageThatIsToldOfLaterCostsNoAllocation(t *testing.T) {
	s := newLimitedAlone(t)
	s.node.cluster.others.Store(1)
	m := s.node.limits.meter("ann", "192.0.2.1")
	defer m.close()
	now := time.Now()
	m.take("hit", now)
	if n := testing.AllocsPerRun(200, func() { m.take("hit", now) }); n != 0 {
		t.Errorf("%v allocations per message, want none", n)
	}
}

func newLimitedAlone(t *testing.T) *Server {
	s, err := New(WithBroker(lonelyBroker{newMemoryBroker()}), Anonymous(), WithLogger(slog.New(slog.DiscardHandler)),
		WithRateLimit(PerConnection(1e6, 1e6), PerUser(1e4, 1e4), PerIP(1e4, 1e4)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func BenchmarkMeterOfANode(b *testing.B) {
	for _, nodes := range []int32{0, 1} {
		b.Run(fmt.Sprintf("others=%d", nodes), func(b *testing.B) {
			l, err := newLimiter([]RateLimit{PerConnection(1e9, 1e9), PerUser(1e9, 1e9)})
			if err != nil {
				b.Fatal(err)
			}
			if nodes > 0 {
				l.user.tell = func(one *bucket, much bool) { one.spent = 0 }
			}
			m := l.meter("ann", "")
			now := time.Now()
			for b.Loop() {
				m.take("hit", now)
			}
		})
	}
}
