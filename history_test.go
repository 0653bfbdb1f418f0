package realtime

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// offsetsOf are the offsets of a page.
func offsetsOf(events []*Event) []uint64 {
	out := []uint64{}
	for _, e := range events {
		out = append(out, e.Offset)
	}
	return out
}

func TestLogGivesPagesAfterAnOffset(t *testing.T) {
	l := &log{position: Position{Epoch: "e"}}
	if got := l.read(0, 10); len(got) != 0 {
		t.Errorf("an empty log gives %d events", len(got))
	}
	now := time.Now()
	for range 12 {
		l.append(&Event{Time: now}, Retention{Size: 5}, now)
	}
	for _, tt := range []struct {
		after uint64
		limit int
		want  []uint64
	}{
		{0, 10, []uint64{8, 9, 10, 11, 12}}, // from the oldest kept
		{7, 10, []uint64{8, 9, 10, 11, 12}},
		{8, 10, []uint64{9, 10, 11, 12}},
		{11, 10, []uint64{12}},
		{12, 10, nil},
		{13, 10, nil},
		{1<<64 - 1, 10, nil},
		{0, 2, []uint64{8, 9}},
		{9, 2, []uint64{10, 11}},
		{9, 0, nil},
	} {
		if got := offsetsOf(l.read(tt.after, tt.limit)); !slices.Equal(got, tt.want) {
			t.Errorf("read(%d, %d) gives %v, want %v", tt.after, tt.limit, got, tt.want)
		}
	}
}

func TestLogForgetsWhatIsTooOldButNotItsPosition(t *testing.T) {
	l := &log{position: Position{Epoch: "e"}}
	keep := Retention{Size: 100, Age: time.Minute}
	start := time.Now()
	for i := range 10 {
		at := start.Add(time.Duration(i) * 10 * time.Second)
		l.append(&Event{Time: at}, keep, at)
	}
	for _, tt := range []struct {
		at   time.Duration
		want int
	}{{90 * time.Second, 7}, {100 * time.Second, 6}, {150 * time.Second, 1}, {151 * time.Second, 0}} {
		l.trim(keep, start.Add(tt.at))
		if l.count != tt.want {
			t.Errorf("after %v %d events are kept, want %d", tt.at, l.count, tt.want)
		}
	}
	if l.position.Offset != 10 || l.ring != nil {
		t.Errorf("an emptied log stands at %d with a ring of %d, want 10 and none", l.position.Offset, len(l.ring))
	}
	l.append(&Event{Time: start}, Retention{Size: 100}, start)
	if got := offsetsOf(l.read(0, 9)); !slices.Equal(got, []uint64{11}) {
		t.Errorf("the next event has %v, want offset 11", got)
	}
}

// TestLogAgainstModel changes the retention as it goes, which a host may do from
// one start to the next with a broker that outlives it.
func TestLogAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		l := &log{position: Position{Epoch: "e"}}
		keep := Retention{Size: 1 + r.IntN(20), Age: time.Duration(r.IntN(3)) * 10 * time.Second}
		var model []*Event
		now, offset := time.Now(), uint64(0)
		for step := range 300 {
			now = now.Add(time.Duration(r.IntN(1000)) * time.Millisecond)
			switch r.IntN(20) {
			case 0:
				keep.Size = 1 + r.IntN(20)
			case 1:
				now = now.Add(15 * time.Second)
			}
			offset++
			e := &Event{Time: now}
			l.append(e, keep, now)
			model = append(model, e)
			for len(model) > keep.Size || keep.Age > 0 && now.Sub(model[0].Time) > keep.Age {
				model = model[1:]
			}
			if e.Offset != offset || e.Epoch != "e" || l.position.Offset != offset {
				t.Fatalf("event %d got %d of %q", offset, e.Offset, e.Epoch)
			}
			after, limit := offset-min(offset, uint64(r.IntN(25))), r.IntN(8)
			var want []*Event
			for _, e := range model {
				if e.Offset > after && len(want) < limit {
					want = append(want, e)
				}
			}
			if got := l.read(after, limit); !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d, %v: read(%d, %d) gives %v, want %v", seed, step, keep, after, limit, offsetsOf(got), offsetsOf(want))
			}
			if len(l.ring) > max(4, 2*20) {
				t.Fatalf("a ring of %d for %d events", len(l.ring), keep.Size)
			}
			kept := 0
			for _, e := range l.ring {
				if e != nil {
					kept++
				}
			}
			if kept != len(model) {
				t.Fatalf("the ring holds on to %d events, want %d", kept, len(model))
			}
		}
	}
}

func TestQuietLogIsSmall(t *testing.T) {
	l := &log{}
	now := time.Now()
	for range 3 {
		l.append(&Event{Time: now}, Retention{Size: 1000}, now)
	}
	if len(l.ring) > 4 {
		t.Errorf("three events in a ring of %d, want 4", len(l.ring))
	}
}

func BenchmarkLog(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("append/size=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			l, now, e := &log{}, time.Now(), &Event{}
			for b.Loop() {
				l.append(e, Retention{Size: size}, now)
			}
		})
	}
}
