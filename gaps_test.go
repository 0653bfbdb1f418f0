package realtime

import (
	"math/rand/v2"
	"testing"
)

type tally struct{ n float64 }

func (t *tally) Add(n float64) { t.n += n }

func TestGapsOfKeepLatestDoNotPileUp(t *testing.T) {
	drops := new(tally)
	s := &stream{name: "s", policy: keepLatest, drops: drops}
	q := queue{bounds: &queueBounds{messages: 16, bytes: 1 << 20}, busy: true}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		q.push(&frame{wire: []byte{0}, stream: s, key: string(rune('a' + r.IntN(8))), offset: uint64(i + 1)})
	}
	told := 0.0
	for _, f := range q.items {
		if f.gap != nil {
			told += float64(f.gap.dropped)
		}
	}
	if len(q.items) > 2*16+1 {
		t.Errorf("%d frames wait, want at most one gap per event", len(q.items))
	}
	if told != drops.n {
		t.Errorf("gaps tell of %v missing events, want %v", told, drops.n)
	}
}

func TestAGapThatCouldNotBeWrittenGrowsOn(t *testing.T) {
	s := &stream{name: "s", policy: dropOldest, drops: new(tally)}
	q := queue{bounds: &queueBounds{messages: 2, bytes: 1 << 20}, busy: true}
	tr := &transport{enc: envelopeCodec{}}
	event := func(offset uint64) *frame { return &frame{wire: []byte{0}, stream: s, offset: offset} }
	for i := range 3 {
		q.push(event(uint64(i + 1)))
	}
	var b batch
	q.take(&b, false)
	first := string(tr.wire(b.frames[0]))
	q.putBack(b.frames)
	q.push(event(4))
	if got := string(tr.wire(q.items[0])); got == first {
		t.Errorf("the gap is written as %q, without the event that was dropped later", got)
	}
}

func TestLargeEventsDoNotTakeThePlacesOfSmallOnesPastTheBound(t *testing.T) {
	drops := new(tally)
	s := &stream{name: "s", policy: dropOldest, drops: drops}
	q := queue{bounds: &queueBounds{messages: 100, bytes: 1000}, busy: true}
	for range 100 {
		q.push(&frame{wire: make([]byte, 10), stream: s})
	}
	for range 50 {
		q.push(&frame{wire: make([]byte, 100), stream: s})
	}
	if q.bytes > 1000 {
		t.Errorf("%d bytes wait, want at most 1000", q.bytes)
	}
	if drops.n != 140 {
		t.Errorf("%v drops counted, want 140", drops.n)
	}
}

func TestAFullQueueOfAPolicyThatDropsStillTakesReplies(t *testing.T) {
	s := &stream{name: "s", policy: dropNewest, drops: new(tally)}
	q := queue{bounds: &queueBounds{messages: 4, bytes: 1000}, busy: true}
	for range 10 {
		q.push(&frame{wire: []byte{0}, stream: s})
	}
	if got := q.push(&frame{wire: pingFrame}); got != pushQueued {
		t.Errorf("a ping gives %d, want it queued", got)
	}
	for range 4 {
		q.push(&frame{wire: pingFrame})
	}
	if got := q.push(&frame{wire: pingFrame}); got != pushSlow {
		t.Errorf("the ping past twice the bound gives %d, want pushSlow", got)
	}
}
