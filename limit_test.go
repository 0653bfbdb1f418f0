package realtime

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// noon is when the tests of limits begin; no clock is involved.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func limitsOf(t testing.TB, limits ...RateLimit) *limiter {
	t.Helper()
	l, err := newLimiter(limits)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// passes counts how many of n messages pass at one moment.
func passes(m *meter, n int, event string, now time.Time) (passed int) {
	for range n {
		if m.take(event, now).ok {
			passed++
		}
	}
	return passed
}

func wantPasses(t *testing.T, what string, m *meter, event string, now time.Time, want int) {
	t.Helper()
	if got := passes(m, want+3, event, now); got != want {
		t.Errorf("%s: %d of %d messages passed, want %d", what, got, want+3, want)
	}
}

func TestBurstPassesAndThenOnePerStep(t *testing.T) {
	m := limitsOf(t, PerConnection(10, 3)).meter("", "")
	for i := range 3 {
		if v := m.take("e", noon); v != (verdict{ok: true}) {
			t.Errorf("message %d of the burst: %+v, want it to pass", i, v)
		}
	}
	want := verdict{wait: 100 * time.Millisecond, scope: "connection"}
	if got := m.take("e", noon); got != want {
		t.Errorf("after the burst: %+v, want %+v", got, want)
	}
	want.wait = time.Millisecond
	if got := m.take("e", noon.Add(99*time.Millisecond)); got != want {
		t.Errorf("1ms early: %+v, want %+v", got, want)
	}
	wantPasses(t, "after one step", m, "e", noon.Add(100*time.Millisecond), 1)
	wantPasses(t, "after an hour", m, "e", noon.Add(time.Hour), 3)
	wantPasses(t, "with the clock turned back", m, "e", noon, 0)
}

// TestBucketAgreesWithCountedTokens compares the one time that a bucket keeps
// with tokens counted one by one, in nanoseconds of growth.
func TestBucketAgreesWithCountedTokens(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		step, burst := time.Duration(1+rnd.Int64N(int64(time.Second))), 1+rnd.IntN(20)
		l := limitsOf(t, PerConnection(1, 1))
		l.own[0].step, l.own[0].slack = step, time.Duration(burst-1)*step
		m := l.meter("", "")
		tokens, now := time.Duration(burst)*step, noon
		for i := range 500 {
			pause := time.Duration(rnd.Int64N(int64(2 * step)))
			now, tokens = now.Add(pause), min(tokens+pause, time.Duration(burst)*step)
			v := m.take("e", now)
			if want := tokens >= step; v.ok != want {
				t.Fatalf("seed %d, message %d: passed %v, want %v", seed, i, v.ok, want)
			}
			if v.ok {
				tokens -= step
			} else if want := step - tokens; v.wait != want {
				t.Fatalf("seed %d, message %d: wait %v, want %v", seed, i, v.wait, want)
			}
		}
	}
}

func TestRefusedMessageTakesNothingFromOtherLimits(t *testing.T) {
	others := []struct {
		name  string
		limit RateLimit
	}{
		{"connection", PerConnection(0.001, 5)}, {"user", PerUser(0.001, 5)}, {"ip", PerIP(0.001, 5)},
		{"event", PerEvent("b", 0.001, 5)}, {"warning", WarnOnly(PerUser(0.001, 5))},
	}
	for _, tight := range []RateLimit{PerEvent("a", 0.001, 2), PerIP(0.001, 2), PerUser(0.001, 2), PerConnection(0.001, 2)} {
		for _, other := range others {
			m := limitsOf(t, tight, other.limit).meter("ann", "192.0.2.1")
			wantPasses(t, "the tight limit", m, "a", noon, 2)
			passes(m, 50, "a", noon)
			for _, buckets := range [][]time.Time{m.full, fullOf(m.byUser), fullOf(m.byIP)} {
				for _, at := range buckets {
					if got := at.Sub(noon); got > 2*1000*time.Second {
						t.Errorf("%s beside %s: tokens for %v are gone, want no more than two messages' 2000s", tight.scope, other.name, got)
					}
				}
			}
		}
	}
}

func fullOf(b *bucket) []time.Time {
	if b == nil {
		return nil
	}
	return b.full
}

func TestUsersAndAddressesShareTheirBuckets(t *testing.T) {
	l := limitsOf(t, PerUser(1, 4))
	a, b := l.meter("ann", "192.0.2.1"), l.meter("ann", "192.0.2.2")
	if got := passes(a, 3, "e", noon) + passes(b, 3, "e", noon); got != 4 {
		t.Errorf("two connections of one user sent %d, want 4", got)
	}
	a.close()
	b.close()
	b.close()
	wantPasses(t, "a later connection of the user", l.meter("ann", ""), "e", noon, 0)
	wantPasses(t, "another user", l.meter("bob", ""), "e", noon, 4)
	if m := l.meter("", "192.0.2.1"); m != nil {
		t.Error("an anonymous connection has a meter, want none for limits per user")
	}
	if got := passes(nil, 1000, "e", noon); got != 1000 {
		t.Errorf("%d of 1000 messages passed without a meter", got)
	}

	for _, c := range []struct {
		one, other string
		shared     bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
		{"", "pipe", true},
	} {
		l := limitsOf(t, PerIP(1, 4))
		passes(l.meter("", c.one), 4, "e", noon)
		want := 4
		if c.shared {
			want = 0
		}
		wantPasses(t, c.other+" after "+c.one, l.meter("x", c.other), "e", noon, want)
	}
}

func TestLimitPerEventCountsOnlyThatEvent(t *testing.T) {
	l := limitsOf(t, PerEvent("typing", 1, 2), PerEvent("draw", 1, 5))
	m := l.meter("", "")
	wantPasses(t, "typing", m, "typing", noon, 2)
	wantPasses(t, "draw", m, "draw", noon, 5)
	if got := passes(m, 100, "other", noon); got != 100 {
		t.Errorf("%d of 100 messages without a limit passed", got)
	}
	if got := m.take("typing", noon); got.scope != "event" || got.wait != time.Second {
		t.Errorf("refused with %+v, want scope event and a wait of 1s", got)
	}
}

func TestSeveralLimitsOfOneKindAllHold(t *testing.T) {
	m := limitsOf(t, PerConnection(1, 10), PerConnection(100, 4)).meter("", "")
	wantPasses(t, "the small burst", m, "e", noon, 4)
	wantPasses(t, "the slow rate", m, "e", noon.Add(40*time.Millisecond), 4)
	wantPasses(t, "what is left of the slow rate", m, "e", noon.Add(80*time.Millisecond), 2)
	if got := m.take("e", noon.Add(80*time.Millisecond)); got.wait != 920*time.Millisecond {
		t.Errorf("wait %v, want that of the slower limit, 920ms", got.wait)
	}
}

func TestTenSoftAnswersInTenSecondsAndTheNextCloses(t *testing.T) {
	m := limitsOf(t, PerConnection(0.001, 1)).meter("", "")
	m.take("e", noon)
	at := func(s float64) verdict { return m.take("e", noon.Add(time.Duration(s*float64(time.Second)))) }
	for i := range 10 {
		if v := at(float64(i)); v.ok || v.last {
			t.Fatalf("soft answer %d: %+v, want a refusal that is not the last", i+1, v)
		}
	}
	for _, s := range []float64{9, 9.999} {
		if v := at(s); !v.last {
			t.Errorf("the eleventh after %vs: %+v, want the last", s, v)
		}
	}
	// A last one was not an answer. The window slides: the answer of second 0 is out of it now.
	if v := at(10); v.last {
		t.Errorf("after 10s: %+v, want a soft answer again", v)
	}
	if v := at(10.5); !v.last {
		t.Errorf("after 10.5s, ten since 1s: %+v, want the last", v)
	}
	other := m.limiter.meter("", "")
	other.take("e", noon)
	if v := other.take("e", noon); v.last {
		t.Errorf("another connection: %+v, want its own ten soft answers", v)
	}
}

func TestWarnOnlyRefusesNothingAndSaysSo(t *testing.T) {
	m := limitsOf(t, WarnOnly(PerConnection(10, 2)), PerIP(1, 20)).meter("", "192.0.2.1")
	passes(m, 2, "e", noon)
	want := verdict{ok: true, warned: true, scope: "connection"}
	for range 10 {
		if got := m.take("e", noon); got != want {
			t.Errorf("over the rate: %+v, want %+v", got, want)
		}
	}
	// What was let through is not owed: one step later one token has grown.
	if got := m.take("e", noon.Add(100*time.Millisecond)); got != (verdict{ok: true}) {
		t.Errorf("one step later: %+v, want it to pass without a warning", got)
	}
	passes(m, 7, "e", noon.Add(100*time.Millisecond))
	if got := m.take("e", noon.Add(100*time.Millisecond)); got.ok || got.scope != "ip" || !got.warned {
		t.Errorf("over both: %+v, want a refusal by ip", got)
	}
}

func TestAdmissionByAddressAndByServer(t *testing.T) {
	l := limitsOf(t, ConnectsPerIP(1, 2), AcceptRate(10, 3))
	admit := func(ip string, want verdict) {
		t.Helper()
		if got := l.admit(ip, noon); got != want {
			t.Errorf("%s: %+v, want %+v", ip, got, want)
		}
	}
	byIP := verdict{wait: time.Second, scope: "connects"}
	byServer := verdict{wait: 100 * time.Millisecond, scope: "accept"}
	admit("192.0.2.1", verdict{ok: true})
	admit("192.0.2.1", verdict{ok: true})
	admit("192.0.2.1", byIP)
	admit("192.0.2.1", byIP) // and takes nothing from the server's bucket
	admit("192.0.2.2", verdict{ok: true})
	admit("192.0.2.3", byServer)
	admit("192.0.2.1", byIP) // the longer wait counts
	// What the server refused took nothing from the address.
	for i, want := range []bool{true, true, false} {
		if got := l.admit("192.0.2.3", noon.Add(300*time.Millisecond)); got.ok != want {
			t.Errorf("handshake %d of an address that the server refused before: %+v, want passed %v", i+1, got, want)
		}
	}
	if got := byIP.reason(); got != ReasonRateLimited {
		t.Errorf("refused by address as %v, want rate_limited", got)
	}
	if got := byServer.reason(); got != ReasonOverloaded {
		t.Errorf("refused by server as %v, want overloaded", got)
	}
	if got := limitsOf(t, WarnOnly(AcceptRate(1, 1)), PerIP(1, 1)); !got.admit("x", noon).ok || !got.admit("x", noon).warned {
		t.Error("a limit that only warns refused a handshake or did not warn")
	}
}

func TestBadRateLimitsAreNamed(t *testing.T) {
	for _, c := range []struct {
		limit RateLimit
		want  string
	}{
		{RateLimit{}, "is made by"},
		{PerConnection(0, 1), "per connection: 0 per second"},
		{PerUser(-1, 1), "per user: -1 per second"},
		{PerIP(math.NaN(), 1), "per ip: NaN"},
		{PerIP(math.Inf(1), 1), "per ip: +Inf"},
		{ConnectsPerIP(1, 0), "per connects: a burst of 0"},
		{PerEvent("", 1, 1), "without the event's name"},
		{PerEvent("draw", 1, -1), `per event "draw"`},
		{AcceptRate(1e-9, 1), "more than 744h"},
		{PerConnection(1, math.MaxInt), "more than 744h"},
	} {
		if _, err := newLimiter([]RateLimit{PerConnection(1, 1), c.limit}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want it to contain %q", c.limit, err, c.want)
		}
	}
}

func (b *buckets) count() (all, idle int) {
	for i := range b.shards {
		n, m := b.shards[i].count()
		all, idle = all+n, idle+m
	}
	return all, idle
}

func (s *bucketShard) count() (all, idle int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey), s.idle
}

// oneShard yields addresses that all fall into the first shard of b, which
// stands for the others: a flood of 64 times the size would take the test longer.
func oneShard(t *testing.T, b *buckets, n int) (addresses []string) {
	t.Helper()
	for i := 1 << 16; len(addresses) < n; i++ {
		if i&0xffff == 0 {
			continue // would be written shorter
		}
		site := "2001:db8:" + strconv.FormatInt(int64(i>>16), 16) + ":" + strconv.FormatInt(int64(i&0xffff), 16)
		if b.shard(site+"::/64") != &b.shards[0] {
			continue
		}
		ip := site + "::1"
		if got := addressKey(ip); got != site+"::/64" {
			t.Fatalf("%s counts as %s, want %s::/64", ip, got, site)
		}
		addresses = append(addresses, ip)
	}
	return addresses
}

func TestManyAddressesDoNotExhaustMemory(t *testing.T) {
	l := limitsOf(t, ConnectsPerIP(0.001, 5), PerIP(0.001, 5), PerUser(1000, 1_000_000))
	for _, c := range []struct {
		name  string
		b     *buckets
		touch func(ip string, now time.Time)
	}{
		{"connects", l.connects, func(ip string, now time.Time) { l.admit(ip, now) }},
		{"ip", l.ip, func(ip string, now time.Time) {
			m := l.meter("u", ip)
			m.take("e", now)
			m.close()
		}},
	} {
		addresses := oneShard(t, c.b, 5*idleBuckets)
		held := l.meter("held", addresses[0])
		passes(held, 5, "e", noon)
		before, idleBefore := c.b.count()
		for _, ip := range addresses[1:] {
			c.touch(ip, noon)
			if all, _ := c.b.shards[0].count(); all > before+idleBuckets {
				t.Fatalf("%s: %d buckets in one shard, want at most %d", c.name, all, before+idleBuckets)
			}
		}
		if all, idle := c.b.count(); idle < idleBuckets/2 || all-idle != before-idleBefore {
			t.Errorf("%s: %d buckets, %d idle; want at least %d idle and %d held", c.name, all, idle, idleBuckets/2, before-idleBefore)
		}
		wantPasses(t, "the connection that was there all along", held, "e", noon, 0)
		held.close()

		// A day later all are full and go. Of those that come at one a second
		// 1000 would not be full; here one in 20 seconds, so 50.
		later := noon.Add(24 * time.Hour)
		for _, ip := range addresses[:2*idleBuckets] {
			later = later.Add(20 * time.Second)
			c.touch(ip, later)
		}
		if all, _ := c.b.count(); all > 200 {
			t.Errorf("%s: %d buckets kept of which no more than 50 are not full", c.name, all)
		}
	}
	if all, _ := l.user.count(); all != 2 {
		t.Errorf("%d buckets of users, want 2", all)
	}
}

func TestSharedBucketsUnderConcurrentUse(t *testing.T) {
	l := limitsOf(t, PerUser(1, 500), PerIP(1, 700), ConnectsPerIP(1, 300))
	var passed, admitted atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 40 {
				m := l.meter([]string{"ann", "bob"}[(g+i)%2], "192.0.2.1")
				passed.Add(int64(passes(m, 10, "e", noon)))
				m.close()
				for range 5 {
					if l.admit("192.0.2.1", noon).ok {
						admitted.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != 700 || admitted.Load() != 300 {
		t.Errorf("%d messages and %d handshakes passed, want exactly 700 and 300", passed.Load(), admitted.Load())
	}
	if all, idle := l.user.count(); all != 2 || idle != 2 {
		t.Errorf("%d buckets of users, %d idle; want 2 and 2", all, idle)
	}
}

func TestTakeDoesNotAllocate(t *testing.T) {
	l := limitsOf(t, PerConnection(0.001, 500), PerEvent("e", 0.001, 500), PerUser(0.001, 500), PerIP(0.001, 500))
	m := l.meter("ann", "192.0.2.1")
	passes(m, 501, "e", noon.Add(-time.Hour)) // the first message and the first refusal may
	if got := testing.AllocsPerRun(1000, func() { m.take("e", noon) }); got != 0 {
		t.Errorf("%v allocations per message, want 0", got)
	}
}

func BenchmarkTake(b *testing.B) {
	m := limitsOf(b, PerConnection(1e8, 200), PerUser(1e8, 200), PerIP(1e8, 200)).meter("ann", "192.0.2.1")
	now := noon
	b.ReportAllocs()
	for b.Loop() {
		m.take("e", now)
		now = now.Add(10)
	}
}
