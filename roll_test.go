package realtime

import (
	"math/rand/v2"
	"testing"
)

// TestRollKeepsWhatWasNotRemoved compares a roll with a set while it grows over
// several blocks and shrinks again.
func TestRollKeepsWhatWasNotRemoved(t *testing.T) {
	type entry struct{ at int }
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		var roll roll[*entry]
		var all []*entry
		for step, grow := 0, true; step < 20_000; step++ {
			switch {
			case len(all) > 3*rollBlock+r.IntN(9):
				grow = false
			case len(all) == 0:
				grow = true
			}
			if grow == (r.IntN(4) > 0) || len(all) == 0 {
				e := &entry{}
				e.at = roll.add(e)
				all = append(all, e)
			} else {
				i := r.IntN(len(all))
				roll.remove(all[i].at).at = all[i].at
				all[i] = all[len(all)-1]
				all = all[:len(all)-1]
			}
			if step%500 != 0 && len(all) > 2 {
				continue
			}
			at := 0
			for i := range roll.blocks() {
				for _, e := range roll.block(i) {
					if e.at != at {
						t.Fatalf("seed %d, step %d: the entry at %d believes to be at %d", seed, step, at, e.at)
					}
					at++
				}
			}
			if at != len(all) || roll.len() != at || len(roll.appendTo(nil)) != at {
				t.Fatalf("seed %d, step %d: %d entries in blocks, len %d; want %d", seed, step, at, roll.len(), len(all))
			}
			for _, e := range all {
				if got := roll.block(e.at / rollBlock)[e.at%rollBlock]; got != e {
					t.Fatalf("seed %d, step %d: another entry at %d", seed, step, e.at)
				}
			}
		}
	}
}

func TestRollGivesMemoryBack(t *testing.T) {
	var r roll[int]
	for i := range 5 * rollBlock {
		r.add(i)
	}
	for r.len() > 1 {
		r.remove(r.len() - 1)
	}
	if len(r.full) != 0 || cap(r.tail) > 64 {
		t.Errorf("one entry in %d blocks and one of %d, want none and 64 at most", len(r.full), cap(r.tail))
	}
}
