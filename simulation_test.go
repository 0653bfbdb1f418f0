package realtime

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// simRun runs a history to its end.
func simRun(w *world, steps []simStep) (wrong string) {
	defer func() {
		if r := recover(); r != nil {
			w.fail("%v", r)
			wrong = w.wrong
		}
	}()
	for _, s := range steps {
		if w.step(s); w.wrong != "" {
			return w.wrong
		}
	}
	if w.note("rest"); w.wrong == "" {
		w.rest()
	}
	if w.wrong == "" {
		w.audit()
	}
	return w.wrong
}

// simShrink leaves out of a history what it can without making it right: halves
// first, single steps last, until nothing more can go.
func simShrink(steps []simStep, wrong func([]simStep) bool) []simStep {
	for size := len(steps) / 2; size > 0; {
		shorter := false
		for at := 0; at+size <= len(steps); {
			if rest := slices.Concat(steps[:at], steps[at+size:]); wrong(rest) {
				steps, shorter = rest, true
			} else {
				at += size
			}
		}
		if !shorter || size > 1 {
			size /= 2
		}
	}
	return steps
}

// simulation is a document to be simulated, with what its worlds have in common.
type simulation struct {
	document func(w *world, h simHooks) simDocument
	blind    bool
}

func (s simulation) world() *world {
	w := newWorld(s.document)
	w.blind = s.blind
	return w
}

// check runs the seeds from first to before end, and returns the first that goes
// wrong, or end.
func (s simulation) check(first, end uint64) (failed uint64) {
	var next, worst atomic.Uint64
	next.Store(first)
	worst.Store(end)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1) - 1; seed < worst.Load(); seed = next.Add(1) - 1 {
				if simRun(s.world(), simHistory(seed)) == "" {
					continue
				}
				for was := worst.Load(); seed < was && !worst.CompareAndSwap(was, seed); was = worst.Load() {
				}
			}
		})
	}
	wg.Wait()
	return worst.Load()
}

// report writes the shortest history found that goes wrong as that of a seed does.
func (s simulation) report(seed uint64) string {
	steps := simShrink(simHistory(seed), func(steps []simStep) bool { return simRun(s.world(), steps) != "" })
	w := s.world()
	w.tracing = true
	wrong := simRun(w, steps)
	return fmt.Sprintf("seed %d: %s\nafter %d steps:\n%s", seed, wrong, len(steps), strings.Join(w.trace, "\n"))
}

// simSeeds returns the first seed of a run and the one after its last: REALTIME_SEEDS
// is an end, or FIRST-END; without it, what a change can wait for.
func simSeeds(t *testing.T) (first, end uint64) {
	text := os.Getenv("REALTIME_SEEDS")
	switch {
	case text != "":
	case testing.Short():
		return 0, 500
	default:
		return 0, 10_000
	}
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		from, to = "0", text
	}
	first, err := strconv.ParseUint(from, 10, 64)
	if err == nil {
		end, err = strconv.ParseUint(to, 10, 64)
	}
	if err != nil {
		t.Fatalf("REALTIME_SEEDS: %v", err)
	}
	return first, end
}

func aDesk(make newOrderer) func(w *world, h simHooks) simDocument {
	return func(w *world, h simHooks) simDocument { return &desk{simHooks: h, log: &w.log, make: make, now: w.now} }
}

func aSequencer(sn, msn int64, open ...string) orderer { return newSequencer(sn, msn, open...) }

// TestEveryHistoryKeepsTheOrder simulates: numbers without gap, an MSN that never
// falls, every op once and in order at every member, nacks only when due, nothing
// lost that was acknowledged (checks 61 to 74, 78, 80 to 85, 100 and 103, as far as
// they are the sequencer's).
func TestEveryHistoryKeepsTheOrder(t *testing.T) {
	s := simulation{document: aDesk(aSequencer)}
	start := time.Now()
	first, end := simSeeds(t)
	if failed := s.check(first, end); failed < end {
		t.Fatal(s.report(failed))
	}
	t.Logf("%d seeds in %v", end-first, time.Since(start).Round(time.Millisecond))
}
