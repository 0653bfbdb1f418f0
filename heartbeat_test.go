package realtime

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// appointment is an expirer in a test: it records when it was asked and answers
// with what then returns, never if then is nil.
type appointment struct {
	wheelEntry
	fired []time.Time
	then  func(now time.Time) time.Time
}

func (a *appointment) expire(now time.Time) time.Time {
	a.fired = append(a.fired, now)
	if a.then == nil {
		return time.Time{}
	}
	return a.then(now)
}

func TestWheelEntryIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(wheelEntry{}); got > 40 {
		t.Errorf("a wheelEntry has %d bytes, want at most 40", got)
	}
}

func TestWheelFiresNeverEarlyAndAtMostOneTickLate(t *testing.T) {
	for _, after := range []time.Duration{
		-time.Hour, 0, 1, wheelTick - 1, wheelTick, wheelTick + 1, 30 * time.Second,
		wheelSlots * wheelTick, wheelSlots*wheelTick + 1, 3 * time.Hour, 3 * 24 * time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWheel()
			start := time.Now()
			// Something nearer is there first, so that the goroutine has begun to sleep.
			near := new(appointment)
			w.schedule(&near.wheelEntry, near, start.Add(700*time.Millisecond))
			time.Sleep(333 * time.Millisecond)
			at := time.Now().Add(after)
			a := new(appointment)
			w.schedule(&a.wheelEntry, a, at)
			w.cancel(&near.wheelEntry)
			time.Sleep(max(after, 0) + wheelTick)
			synctest.Wait()
			w.stop()
			if len(a.fired) != 1 {
				t.Fatalf("%v ahead: fired %d times, want once", after, len(a.fired))
			}
			if late := a.fired[0].Sub(at); late < 0 || after >= 0 && late > wheelTick {
				t.Errorf("%v ahead: fired %v after its time, want 0 to %v", after, late, wheelTick)
			}
		})
	}
}

func TestWheelFiresOnTheTickWhenTheTimeIsOnTheTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel()
		defer w.stop()
		start := time.Now()
		a := &appointment{then: func(now time.Time) time.Time { return now.Add(25 * time.Second) }}
		w.schedule(&a.wheelEntry, a, start.Add(30*time.Second))
		time.Sleep(81 * time.Second)
		synctest.Wait()
		want := []time.Duration{30 * time.Second, 55 * time.Second, 80 * time.Second}
		if len(a.fired) != len(want) {
			t.Fatalf("fired %d times, want %d", len(a.fired), len(want))
		}
		for i := range want {
			if got := a.fired[i].Sub(start); got != want[i] {
				t.Errorf("firing %d after %v, want exactly %v", i, got, want[i])
			}
		}
	})
}

func TestWheelHasAGoroutineOnlyWhileItHasEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel()
		want := func(goroutines int, when string) {
			t.Helper()
			synctest.Wait()
			got := 0
			if w.mu.Lock(); w.alive {
				got = 1
			}
			w.mu.Unlock()
			if got != goroutines { // the bubble fails by itself if alive lies
				t.Errorf("%s: %d goroutines, want %d", when, got, goroutines)
			}
		}
		want(0, "new")
		a, b := new(appointment), new(appointment)
		for range 3 {
			w.schedule(&a.wheelEntry, a, time.Now().Add(time.Hour))
			w.schedule(&b.wheelEntry, b, time.Now().Add(time.Minute))
			want(1, "two entries")
			w.cancel(&a.wheelEntry)
			want(1, "one entry")
			time.Sleep(2 * time.Minute)
			want(0, "the last has fired")
			w.schedule(&a.wheelEntry, a, time.Now().Add(time.Hour))
			want(1, "used again")
			w.cancel(&a.wheelEntry)
			want(0, "the last was cancelled")
		}
		w.schedule(&a.wheelEntry, a, time.Now().Add(time.Hour))
		w.stop()
		want(0, "stopped")
		w.schedule(&a.wheelEntry, a, time.Now())
		w.cancel(&b.wheelEntry)
		w.stop()
		want(0, "scheduled after stop")
		if len(a.fired) != 0 || len(b.fired) != 3 {
			t.Errorf("fired %d and %d times, want 0 and 3", len(a.fired), len(b.fired))
		}
	})
}

func TestWheelMadeOutsideABubbleWorksInside(t *testing.T) {
	w := newWheel()
	synctest.Test(t, func(t *testing.T) {
		a := new(appointment)
		start := time.Now()
		w.schedule(&a.wheelEntry, a, start.Add(time.Minute))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(a.fired) != 1 || !a.fired[0].Equal(start.Add(time.Minute)) {
			t.Errorf("fired at %v, want once at %v", a.fired, start.Add(time.Minute))
		}
	})
}

func TestExpireMayUseTheWheel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel()
		start := time.Now()
		other := new(appointment)
		w.schedule(&other.wheelEntry, other, start.Add(time.Second))

		var self *appointment
		self = &appointment{then: func(now time.Time) time.Time {
			switch len(self.fired) {
			case 1: // an explicit appointment beats the returned one
				w.schedule(&self.wheelEntry, self, now.Add(2*time.Second))
				w.cancel(&other.wheelEntry)
				return now.Add(time.Hour)
			case 2:
				return time.Time{}
			default:
				t.Errorf("fired after it wanted no more")
				return time.Time{}
			}
		}}
		w.schedule(&self.wheelEntry, self, start.Add(time.Second/2))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got, want := len(self.fired), 2; got != want {
			t.Fatalf("fired %d times, want %d", got, want)
		}
		if got, want := self.fired[1].Sub(start), 2500*time.Millisecond; got != want {
			t.Errorf("second firing after %v, want %v", got, want)
		}
		if len(other.fired) != 0 {
			t.Errorf("an entry cancelled by another's expire fired")
		}
	})
}

func TestCancelAndStopWaitForARunningExpire(t *testing.T) {
	for name, end := range map[string]func(*wheel, *wheelEntry){
		"cancel": (*wheel).cancel,
		"stop":   func(w *wheel, _ *wheelEntry) { w.stop() },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWheel()
			a := new(appointment)
			running := false
			a.then = func(now time.Time) time.Time {
				running = true
				time.Sleep(3 * time.Second)
				running = false
				return now.Add(time.Second)
			}
			start := time.Now()
			w.schedule(&a.wheelEntry, a, start.Add(time.Second))
			time.Sleep(2 * time.Second)
			end(w, &a.wheelEntry)
			if running {
				t.Errorf("%s returned while expire ran", name)
			}
			if got := time.Since(start); got != 4*time.Second {
				t.Errorf("%s returned after %v, want 4s, the end of expire", name, got)
			}
			time.Sleep(time.Minute)
			if len(a.fired) != 1 {
				t.Errorf("%s: fired %d times, want once", name, len(a.fired))
			}
		})
	}
}

func (w *wheel) entries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// TestWheelAgreesWithANaiveMap plays random appointments on the wheel and on a
// map that is searched from end to end.
func TestWheelAgreesWithANaiveMap(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) { playWheel(t, seed) })
	}
}

func playWheel(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	reaches := []time.Duration{wheelTick, time.Second, 30 * time.Second, 10 * time.Minute, 5 * time.Hour}
	reach := func() time.Duration { return time.Duration(rnd.Int64N(int64(reaches[rnd.IntN(len(reaches))]))) }

	w := newWheel()
	var mu sync.Mutex // guards due and rnd: bubbles order expire and this loop, but the race detector does not know
	due := map[*appointment]time.Time{}
	entries := make([]*appointment, 50)
	for i := range entries {
		a := new(appointment)
		a.then = func(now time.Time) time.Time {
			mu.Lock()
			defer mu.Unlock()
			at, ok := due[a]
			if !ok {
				t.Errorf("seed %d: fired without an appointment", seed)
			} else if late := now.Sub(at); late < 0 || late > wheelTick {
				t.Errorf("seed %d: fired %v after its time", seed, late)
			}
			delete(due, a)
			if rnd.IntN(3) == 0 {
				return time.Time{}
			}
			due[a] = now.Add(reach())
			return due[a]
		}
		entries[i] = a
	}
	for range 400 {
		mu.Lock()
		a, pause := entries[rnd.IntN(len(entries))], time.Duration(0)
		switch rnd.IntN(4) {
		case 0:
			w.cancel(&a.wheelEntry)
			delete(due, a)
		case 1:
			pause = reach() / 10
		default:
			due[a] = time.Now().Add(reach())
			w.schedule(&a.wheelEntry, a, due[a])
		}
		mu.Unlock()
		time.Sleep(pause)
		synctest.Wait()
		mu.Lock()
		for _, at := range due {
			if late := time.Since(at); late > wheelTick {
				t.Fatalf("seed %d: an entry is %v overdue and has not fired", seed, late)
			}
		}
		if got := w.entries(); got != len(due) {
			t.Fatalf("seed %d: the wheel has %d entries, want %d", seed, got, len(due))
		}
		mu.Unlock()
	}
	w.stop()
}

// looper reschedules itself until it is told to end; the race detector watches.
type looper struct {
	wheelEntry
	live atomic.Bool
	runs atomic.Int64
}

func (l *looper) expire(now time.Time) time.Time {
	l.runs.Add(1)
	if !l.live.Load() {
		return time.Time{}
	}
	return now.Add(50 * time.Millisecond)
}

func TestWheelUnderConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel()
		var total atomic.Int64
		var wg sync.WaitGroup
		for g := range uint64(8) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(g, 2))
				mine := make([]looper, 50)
				for range 300 {
					l := &mine[rnd.IntN(len(mine))]
					switch rnd.IntN(3) {
					case 0:
						w.cancel(&l.wheelEntry)
						before := l.runs.Load()
						time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
						if got := l.runs.Load(); got != before {
							t.Errorf("expire ran after cancel had returned")
						}
					default:
						l.live.Store(rnd.IntN(2) == 0)
						w.schedule(&l.wheelEntry, l, time.Now().Add(time.Duration(rnd.IntN(300))*time.Millisecond))
					}
				}
				for i := range mine {
					w.cancel(&mine[i].wheelEntry)
					total.Add(mine[i].runs.Load())
				}
			})
		}
		wg.Wait()
		if total.Load() == 0 {
			t.Error("nothing fired")
		}
		if got := w.entries(); got != 0 {
			t.Errorf("%d entries left, want 0", got)
		}
	})
}

func TestScheduleDoesNotAllocate(t *testing.T) {
	w := newWheel()
	defer w.stop()
	keep, a := new(appointment), new(appointment)
	w.schedule(&keep.wheelEntry, keep, time.Now().Add(time.Hour))
	at := time.Now().Add(time.Minute)
	if got := testing.AllocsPerRun(1000, func() {
		w.schedule(&a.wheelEntry, a, at)
		w.schedule(&a.wheelEntry, a, at.Add(time.Second))
		w.cancel(&a.wheelEntry)
	}); got != 0 {
		t.Errorf("%v allocations per appointment, want 0", got)
	}
}

func TestSpreadStaysWithinItsPart(t *testing.T) {
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		got := spread(25*time.Second, 0.1)
		low, high = min(low, got), max(high, got)
	}
	if low < 22500*time.Millisecond || high > 27500*time.Millisecond {
		t.Errorf("between %v and %v, want within 22.5s and 27.5s", low, high)
	}
	if high-low < 4*time.Second {
		t.Errorf("1000 values lie within %v, want them all over the 5s", high-low)
	}
}

type nobody struct{ wheelEntry }

func (*nobody) expire(time.Time) time.Time { return time.Time{} }

func BenchmarkScheduleAmongAMillion(b *testing.B) {
	w := newWheel()
	defer w.stop()
	entries := make([]nobody, 1_000_000)
	now := time.Now()
	for i := range entries {
		w.schedule(&entries[i].wheelEntry, &entries[i], now.Add(time.Hour+spread(25*time.Second, 0.9)))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := &entries[i*7919%len(entries)]
		w.schedule(&e.wheelEntry, e, now.Add(time.Hour+time.Duration(i%25_000)*time.Millisecond))
		i++
	}
}

func BenchmarkFireAMillion(b *testing.B) {
	entries := make([]nobody, 1_000_000)
	for b.Loop() {
		w := newWheel()
		now := time.Now()
		w.mu.Lock() // by hand and all overdue, so that only the firing is timed
		w.base = now.Add(-time.Minute)
		for i := range entries {
			entries[i].owner = &entries[i]
			w.placeLocked(&entries[i].wheelEntry, w.base.Add(spread(25*time.Second, 0.9)))
		}
		w.mu.Unlock()
		w.fireDue()
		if w.count != 0 {
			b.Fatalf("%d entries have not fired", w.count)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(entries)), "ns/entry")
}
