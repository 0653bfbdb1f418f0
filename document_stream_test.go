package realtime

import (
	"encoding/json"
	"strings"
	"testing"
)

// numberedMessages are messages from first on, of size bytes in an array.
func numberedMessages(first, n, size int) (all []SequencedMessage) {
	text := json.RawMessage(strings.Repeat(" ", size-1))
	for i := range n {
		all = append(all, SequencedMessage{SequenceNumber: int64(first + i), JSON: text})
	}
	return all
}

func TestRecentMessagesAreTheNewestWithinTheirBounds(t *testing.T) {
	for name, c := range map[string]struct{ limit, batch, size, want int }{
		"one by one":          {100, 1, 10, 100},
		"several":             {100, 7, 10, 100},
		"more than the limit": {100, 130, 10, 100},
		"large":               {100, 3, recentBytes / 4, 4},
		"none fits":           {100, 1, recentBytes + 1, 0},
	} {
		var r recentMessages
		last := 0
		for range 60 {
			r.add(numberedMessages(last+1, c.batch, c.size), c.limit)
			last += c.batch
			want := min(c.want, last)
			kept, ok := r.read(int64(last-want), int64(last), c.limit+1)
			if !ok || len(kept) != want || want > 0 && kept[0].SequenceNumber != int64(last-want+1) {
				t.Fatalf("%s: after message %d got %d of the newest (%v), want %d", name, last, len(kept), ok, want)
			}
			if _, ok := r.read(int64(last-want-1), int64(last), 1); ok && last > want {
				t.Fatalf("%s: after message %d one more than %d is kept", name, last, want)
			}
			if r.bytes != want*c.size {
				t.Fatalf("%s: got %d bytes, want %d", name, r.bytes, want*c.size)
			}
		}
	}
}

func TestRecentMessagesDoNotAllocateOnceTheyAreFull(t *testing.T) {
	var r recentMessages
	next, one := 1, numberedMessages(1, 1, 10)
	add := func() {
		one[0].SequenceNumber = int64(next)
		r.add(one, 1000)
		next++
	}
	for range 3000 {
		add()
	}
	if n := testing.AllocsPerRun(5000, add); n != 0 {
		t.Errorf("got %v allocations for a message, want 0", n)
	}
	if cap(r.all) > 2000 {
		t.Errorf("got room for %d messages where 1000 are kept", cap(r.all))
	}
}
