package realtime

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecorderKeepsTheLastNotesInOrder(t *testing.T) {
	for _, n := range []int{0, 1, maxNotes - 1, maxNotes, maxNotes + 1, 5*maxNotes + 7} {
		synctest.Test(t, func(t *testing.T) {
			var r recorder
			for i := range n {
				r.add(noteMessage, "say", i+1)
				time.Sleep(time.Second)
			}
			want := []string{}
			for i := max(0, n-maxNotes); i < n; i++ {
				want = append(want, fmt.Sprintf("+%v message say %d", time.Duration(i)*time.Second, i+1))
			}
			if got := r.list(); !slices.Equal(got, want) {
				t.Errorf("%d notes: got %q, want %q", n, got, want)
			}
		})
	}
}

func TestRecorderNamesEveryKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		seen := map[string]bool{}
		for k := noteMessage; k <= noteGap; k++ {
			r.add(k, "", 0)
		}
		for _, words := range r.list() {
			if seen[words] || words == "+0s " {
				t.Errorf("kind %q has no name of its own", words)
			}
			seen[words] = true
		}
		if len(seen) != len(noteNames) {
			t.Errorf("%d kinds have names, %d names are there", len(seen), len(noteNames))
		}
	})
}

func TestQuietConnectionHasNoRecorderMemory(t *testing.T) {
	var r recorder
	if r.list() == nil || r.notes != nil {
		t.Errorf("an empty recorder lists %v and holds %v, want an empty list and nothing", r.list(), r.notes)
	}
}
