package realtime

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tally is a counter that can be read.
type tally struct {
	mu sync.Mutex
	n  float64
}

func (t *tally) Add(n float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += n
}

func (t *tally) sum() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int(t.n)
}

// queueBench holds what a queue test pushes to: streams by name, each with one policy.
type queueBench struct {
	q       queue
	policy  policyName
	streams map[string]*stream
}

func newQueueBench(policy policyName, bounds queueBounds) *queueBench {
	if bounds.bytes == 0 {
		bounds.bytes = 1 << 20
	}
	return &queueBench{q: queue{bounds: &bounds}, policy: policy, streams: map[string]*stream{}}
}

func (b *queueBench) stream(name string) *stream {
	if b.streams[name] == nil {
		b.streams[name] = &stream{name, &rules{b.policy, &tally{}}}
	}
	return b.streams[name]
}

func (b *queueBench) drops(name string) int { return b.stream(name).drops.(*tally).sum() }

// frame reads "a3", an event of stream a at offset 3, "a3/k" with a key,
// "a3*50" of 50 bytes (else 10), and "-3" for a frame of no stream.
func (b *queueBench) frame(text string) *frame {
	name, rest := text[:1], text[1:]
	f := &frame{}
	size := 10
	if text, n, ok := strings.Cut(rest, "*"); ok {
		fmt.Sscan(n, &size)
		rest = text
	}
	rest, f.key, _ = strings.Cut(rest, "/")
	fmt.Sscan(rest, &f.offset)
	f.wire = make([]byte, size)
	if name != "-" {
		f.stream = b.stream(name)
	}
	return f
}

// words is the inverse of frame, with gaps as "a[2-5]3": three events missing.
func words(frames []*frame) string {
	var out []string
	for _, f := range frames {
		name := "-"
		if f.stream != nil {
			name = f.stream.name
		}
		if f.gap != nil {
			out = append(out, fmt.Sprintf("%s[%d-%d]%d", name, f.gap.from, f.gap.to, f.gap.dropped))
			continue
		}
		out = append(out, fmt.Sprintf("%s%d", name, f.offset))
	}
	return strings.Join(out, " ")
}

func (b *queueBench) pushAll(text string) (results []pushed) {
	for _, one := range strings.Fields(text) {
		results = append(results, b.q.push(b.frame(one)))
	}
	return results
}

// checkBytes compares the queue's account with what it holds.
func (b *queueBench) checkBytes(t *testing.T) {
	t.Helper()
	sum := 0
	for _, f := range b.q.items {
		sum += len(f.wire)
	}
	if b.q.bytes != sum {
		t.Errorf("queue accounts for %d bytes, holds %d", b.q.bytes, sum)
	}
}

func TestQueueAtItsBoundFollowsThePolicy(t *testing.T) {
	four := queueBounds{messages: 4}
	tests := []struct {
		name   string
		policy policyName
		bounds queueBounds
		push   string
		want   string
		last   pushed
		drops  int // of stream a
	}{
		{"room for all", closeSlow, four, "a1 a2 b1 -1", "a1 a2 b1 -1", pushQueued, 0},
		{"CloseSlow refuses", closeSlow, four, "a1 a2 a3 a4 a5", "a1 a2 a3 a4", pushSlow, 0},
		{"CloseSlow in bytes", closeSlow, queueBounds{messages: 9, bytes: 25}, "a1 a2 a3", "a1 a2", pushSlow, 0},
		{"bytes at the bound fit", closeSlow, queueBounds{messages: 9, bytes: 30}, "a1 a2 a3", "a1 a2 a3", pushQueued, 0},
		{"one giant goes alone", closeSlow, queueBounds{messages: 9, bytes: 25}, "a1*99", "a1", pushWake, 0},
		{"no second giant", closeSlow, queueBounds{messages: 9, bytes: 25}, "a1*99 a2*99", "a1", pushSlow, 0},
		{"a reply has as much room again", dropOldest, four, "a1 a2 a3 a4 -1", "a1 a2 a3 a4 -1", pushQueued, 0},
		{"a reply has no policy", dropOldest, four, "a1 a2 a3 a4 -1 -2 -3 -4 -5", "a1 a2 a3 a4 -1 -2 -3 -4", pushSlow, 0},
		{"CatchUp lags", catchUp, four, "a1 a2 a3 a4 a5", "a1 a2 a3 a4", pushLag, 0},
		{"CatchUp in bytes", catchUp, queueBounds{messages: 9, bytes: 25}, "a1 a2 a3", "a1 a2", pushLag, 0},

		{"DropOldest", dropOldest, four, "a1 a2 a3 a4 a5", "a[1-1]1 a2 a3 a4 a5", pushDropped, 1},
		{"DropOldest merges", dropOldest, four, "a1 a2 a3 a4 a5 a6 a7", "a[1-3]3 a4 a5 a6 a7", pushDropped, 3},
		{"DropOldest keeps to its topic", dropOldest, four, "b1 a1 b2 a2 a3", "b1 a[1-1]1 b2 a2 a3", pushDropped, 1},
		{"DropOldest merges across topics", dropOldest, four, "b1 a1 b2 a2 a3 a4", "b1 a[1-2]2 b2 a3 a4", pushDropped, 2},
		{"DropOldest with nothing of its own", dropOldest, four, "b1 b2 b3 b4 a1 a2", "b1 b2 b3 b4 a[1-2]2", pushDropped, 2},
		{"DropOldest in bytes takes as many as it needs", dropOldest, queueBounds{messages: 9, bytes: 40}, "a1 a2 a3 a4*35", "a[1-3]3 a4", pushDropped, 3},
		{"DropOldest in bytes among others", dropOldest, queueBounds{messages: 9, bytes: 40}, "a1 b1 b2 a2*35", "a[1-2]2 b1 b2", pushDropped, 2},
		{"DropOldest for a giant", dropOldest, queueBounds{messages: 9, bytes: 40}, "a1 a2 a3*99", "a[1-2]2 a3", pushDropped, 2},

		{"DropNewest", dropNewest, four, "a1 a2 a3 a4 a5", "a1 a2 a3 a4 a[5-5]1", pushDropped, 1},
		{"DropNewest merges", dropNewest, four, "a1 a2 a3 a4 a5 a6 a7", "a1 a2 a3 a4 a[5-7]3", pushDropped, 3},
		{"DropNewest has one gap per topic", dropNewest, four, "a1 a2 b1 b2 a3 b3 a4 b4", "a1 a2 b1 b2 a[3-4]2 b[3-4]2", pushDropped, 2},
		{"DropNewest in bytes", dropNewest, queueBounds{messages: 9, bytes: 25}, "a1 a2 a3 a4*5 a5", "a1 a2 a[3-3]1 a4 a[5-5]1", pushDropped, 2},

		{"KeepLatest replaces its key", keepLatest, four, "a1/x a2/y a3/z a4/w a5/y", "a1 a[2-2]1 a3 a4 a5", pushDropped, 1},
		{"KeepLatest takes the oldest for a new key", keepLatest, four, "a1/x a2/y a3/z a4/w a5/v", "a[1-1]1 a2 a3 a4 a5", pushDropped, 1},
		{"KeepLatest merges with the gap before", keepLatest, four, "a1/x a2/y a3/z a4/w a5/x a6/y", "a[1-2]2 a3 a4 a5 a6", pushDropped, 2},
		{"KeepLatest merges with the gap after", keepLatest, four, "a1/x a2/y a3/z a4/w a5/y a6/x", "a[1-2]2 a3 a4 a5 a6", pushDropped, 2},
		{"KeepLatest merges on both sides", keepLatest, four, "a1/x a2/y a3/z a4/w a5/x a6/z a7/y", "a[1-3]3 a4 a5 a6 a7", pushDropped, 3},
		{"KeepLatest keeps gaps with an event between apart", keepLatest, four, "a1/x a2/y a3/z a4/w a5/x a6/z", "a[1-1]1 a2 a[3-3]1 a4 a5 a6", pushDropped, 2},
		{"KeepLatest keeps to its topic", keepLatest, four, "b1/x a1/x a2/y b2/z a3/x", "b1 a[1-1]1 a2 b2 a3", pushDropped, 1},
		{"KeepLatest with nothing of its own", keepLatest, four, "b1/x b2/y b3/z b4/w a1/x", "b1 b2 b3 b4 a[1-1]1", pushDropped, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newQueueBench(tt.policy, tt.bounds)
			results := b.pushAll(tt.push)
			if got := words(b.q.items); got != tt.want {
				t.Errorf("after %s the queue holds\n %s, want\n %s", tt.push, got, tt.want)
			}
			if got := results[len(results)-1]; got != tt.last {
				t.Errorf("last push: %v, want %v", got, tt.last)
			}
			if results[0] != pushWake {
				t.Errorf("first push: %v, want pushWake", results[0])
			}
			if got := b.drops("a"); got != tt.drops {
				t.Errorf("counted %d drops, want %d", got, tt.drops)
			}
			b.checkBytes(t)
		})
	}
}

// Keys that come in the reverse order of the round before put every gap before
// an older one.
func TestQueueOfAPeerThatNeverReadsStaysBounded(t *testing.T) {
	for _, policy := range []policyName{closeSlow, dropOldest, dropNewest, keepLatest, catchUp} {
		for _, size := range []int{40, 90} {
			const bound = 16
			b := newQueueBench(policy, queueBounds{messages: bound, bytes: 50 * bound})
			for i := range 2000 {
				phase := i % (2 * bound)
				f := b.frame(fmt.Sprintf("a%d/%d*%d", i+1, min(phase, 2*bound-1-phase), size))
				b.q.push(f)
				if n := len(b.q.items); n > 2*bound+1 {
					t.Fatalf("%s: after %d pushes %d items wait, want at most %d", policy, i+1, n, 2*bound+1)
				}
				if b.q.bytes > 50*bound {
					t.Fatalf("%s: after %d pushes %d bytes wait, want at most %d", policy, i+1, b.q.bytes, 50*bound)
				}
				b.checkBytes(t)
			}
		}
	}
}

func TestQueueTakesInOrderAndGoesIdle(t *testing.T) {
	for _, some := range []bool{false, true} {
		for _, n := range []int{1, 2, 3, 16, 17, 40} {
			b := newQueueBench(closeSlow, queueBounds{messages: 100})
			var want, got []*frame
			for i := range n {
				f := b.frame(fmt.Sprintf("a%d", i+1))
				want = append(want, f)
				b.q.push(f)
			}
			var out batch
			takes := 0
			for {
				src, ok := b.q.take(&out, some)
				if !ok {
					break
				}
				if src != nil || len(out.frames) == 0 {
					t.Fatalf("take gave source %v and %d frames", src, len(out.frames))
				}
				if most := len(out.few); some && len(out.frames) > most {
					t.Errorf("took %d frames at once, want at most %d", len(out.frames), most)
				}
				got = append(got, out.frames...)
				out.release()
				takes++
				b.checkBytes(t)
			}
			if !slices.Equal(got, want) {
				t.Errorf("some %v: took %s, want %s", some, words(got), words(want))
			}
			if !some && takes != 1 {
				t.Errorf("%d frames in %d takes, want one", n, takes)
			}
			if b.q.busy || b.q.box != nil || b.q.first != [2]*frame{} {
				t.Errorf("an empty queue is busy %v, holds slice %v and frames %v", b.q.busy, b.q.box != nil, b.q.first)
			}
			if got := b.q.push(b.frame("a99")); got != pushWake {
				t.Errorf("push on an idle queue: %v, want pushWake", got)
			}
		}
	}
}

func TestQueueHasOneFlusherAtATime(t *testing.T) {
	b := newQueueBench(closeSlow, queueBounds{messages: 9})
	if got := b.pushAll("a1 a2"); got[0] != pushWake || got[1] != pushQueued {
		t.Errorf("pushes on an idle queue: %v, want wake and queued", got)
	}
	var out batch
	b.q.take(&out, false)
	if got := b.pushAll("a3"); got[0] != pushQueued {
		t.Errorf("push while a batch is out: %v, want queued", got[0])
	}
	if !b.q.more() {
		t.Error("more says the queue is empty; a frame waits")
	}
	b.q.take(&out, false)
	if b.q.more() {
		t.Error("more says there are frames; want none")
	}
	if got := b.pushAll("a4"); got[0] != pushWake {
		t.Errorf("push after more said no: %v, want wake", got[0])
	}
}

func TestQueuePutsBackBeforeWhatWaits(t *testing.T) {
	b := newQueueBench(dropOldest, queueBounds{messages: 4})
	b.pushAll("a1 a2 a3")
	var out batch
	b.q.take(&out, false)
	b.pushAll("a4 b1")
	b.q.putBack(out.frames[1:])
	out.release()
	if got, want := words(b.q.items), "a2 a3 a4 b1"; got != want {
		t.Errorf("after putBack: %s, want %s", got, want)
	}
	b.checkBytes(t)
	b.pushAll("a5")
	if got, want := words(b.q.items), "a[2-2]1 a3 a4 b1 a5"; got != want {
		t.Errorf("after one more: %s, want %s", got, want)
	}
}

// A gap that was encoded for a write that the socket did not take may grow once
// it is back in the queue: what is sent then is the grown one.
func TestQueueEncodesAGapAgainAfterPutBack(t *testing.T) {
	b := newQueueBench(dropNewest, queueBounds{messages: 1})
	tr := &outlet{enc: envelopeCodec{}}
	b.pushAll("a1 a2")
	var out batch
	b.q.take(&out, false)
	for _, f := range out.frames {
		tr.wire(f)
	}
	b.q.putBack(out.frames)
	out.release()
	b.pushAll("a3")
	b.checkBytes(t)
	b.q.take(&out, false)
	if got, want := gapOn(t, tr.wire(out.frames[1])), (gap{dropped: 2, policy: "drop_newest", from: 2, to: 3}); got != want {
		t.Errorf("gap on the wire %+v, want %+v", got, want)
	}
}

// gapOn decodes a gap as a client of realtime.v1 reads it.
func gapOn(t *testing.T, wire []byte) gap {
	t.Helper()
	var m struct {
		Type string
		Data struct {
			Dropped, From, To uint64
			Policy            string
		}
	}
	if err := json.Unmarshal(payloadOf(wire), &m); err != nil || m.Type != "gap" {
		t.Fatalf("want a gap, got %q (%v)", wire, err)
	}
	return gap{dropped: m.Data.Dropped, policy: m.Data.Policy, from: m.Data.From, to: m.Data.To}
}

func TestFinishedQueueEndsWithTheLastFrames(t *testing.T) {
	for _, drop := range []bool{false, true} {
		b := newQueueBench(dropOldest, queueBounds{messages: 2})
		b.pushAll("a1 a2")
		res, ok := b.q.finish(drop, b.frame("-8"), b.frame("-9"))
		if !ok || res != pushQueued {
			t.Errorf("finish: %v, %v; want queued and true", res, ok)
		}
		for name, got := range map[string]pushed{
			"push":  b.q.push(b.frame("a3")),
			"reply": b.q.push(b.frame("-1")),
			"lag":   b.q.lag(&script{}),
		} {
			if got != pushClosed {
				t.Errorf("%s after finish: %v, want pushClosed", name, got)
			}
		}
		if _, ok := b.q.finish(true, b.frame("-10")); ok {
			t.Error("a second finish was taken")
		}
		want := "a1 a2 -8 -9"
		if drop {
			want = "-8 -9"
		}
		if got := words(b.q.items); got != want {
			t.Errorf("finish(%v): queue holds %s, want %s", drop, got, want)
		}
		b.checkBytes(t)
	}
	b := newQueueBench(dropOldest, queueBounds{messages: 2})
	if res, ok := b.q.finish(false, b.frame("-9")); !ok || res != pushWake {
		t.Errorf("finish on an idle queue: %v, %v; want wake and true", res, ok)
	}
}

func TestFinishForgetsSources(t *testing.T) {
	b := newQueueBench(catchUp, queueBounds{messages: 2})
	b.q.lag(&script{})
	b.q.finish(false)
	if src, ok := b.q.take(&batch{}, true); src != nil || ok {
		t.Errorf("take after finish: %v, %v; want nothing", src, ok)
	}
}

func TestAbandonedQueueIsEmptyIdleAndClosed(t *testing.T) {
	b := newQueueBench(catchUp, queueBounds{messages: 9})
	b.pushAll("a1 a2 a3")
	b.q.lag(&script{})
	idle := b.q.whenIdle()
	b.q.abandon()
	select {
	case <-idle:
	default:
		t.Error("whenIdle is not closed")
	}
	if got := b.q.state(time.Now()); got != (QueueState{}) {
		t.Errorf("state %+v, want nothing", got)
	}
	if got := b.q.push(b.frame("a4")); got != pushClosed {
		t.Errorf("push: %v, want pushClosed", got)
	}
	if src, ok := b.q.take(&batch{}, false); src != nil || ok {
		t.Errorf("take: %v, %v; want nothing", src, ok)
	}
	b.q.abandon() // again does no harm
}

func TestWhenIdleClosesOnceTheFlusherIsDone(t *testing.T) {
	b := newQueueBench(closeSlow, queueBounds{messages: 9})
	if b.q.whenIdle() != nil {
		t.Error("an idle queue has something to wait for")
	}
	b.pushAll("a1")
	idle := b.q.whenIdle()
	if idle == nil || idle != b.q.whenIdle() {
		t.Fatal("want one channel for all who wait")
	}
	var out batch
	b.q.take(&out, false)
	select {
	case <-idle:
		t.Error("idle while a batch is out")
	default:
	}
	b.q.more()
	select {
	case <-idle:
	default:
		t.Error("not idle after the last batch")
	}
}

func TestAwaitGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(closeSlow, queueBounds{messages: 9})
		b.pushAll("a1")
		start := time.Now()
		b.q.await(3 * time.Second)
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("gave up after %v, want 3s", got)
		}
		time.AfterFunc(time.Second, b.q.abandon)
		b.q.await(time.Minute)
		if got := time.Since(start); got != 4*time.Second {
			t.Errorf("woke after %v, want 4s", got)
		}
		b.q.await(time.Minute)
		if got := time.Since(start); got != 4*time.Second {
			t.Errorf("waited for an idle queue until %v", got)
		}
	})
}

// script is a source that gives its pages one by one.
type script struct {
	name  string
	pages [][]*frame
}

func (s *script) refill() ([]*frame, bool) {
	if len(s.pages) == 0 {
		return nil, false
	}
	page := s.pages[0]
	s.pages = s.pages[1:]
	return page, true
}

func TestQueueServesSourcesInTurnBehindWhatWaits(t *testing.T) {
	b := newQueueBench(catchUp, queueBounds{messages: 9})
	page := func(text string) []*frame { return []*frame{b.frame(text)} }
	b.pushAll("-1")
	one := &script{"one", [][]*frame{page("a1"), page("a2"), page("a3")}}
	two := &script{"two", [][]*frame{page("b1")}}
	if res := b.q.lag(one); res != pushQueued {
		t.Errorf("lag on a busy queue: %v, want queued", res)
	}
	b.q.lag(two)
	if got := b.q.state(time.Now()).Behind; got != 2 {
		t.Errorf("%d topics behind, want 2", got)
	}
	var got []string
	for range 20 {
		var out batch
		src, ok := b.q.take(&out, true)
		if !ok {
			break
		}
		frames, more := out.frames, false
		if src != nil {
			frames, more = src.refill()
			if words(frames) == "a1" {
				b.pushAll("-2") // what comes meanwhile goes before the next page
			}
			b.q.served(src, more)
		}
		if len(frames) > 0 {
			got = append(got, words(frames))
		}
		out.release()
	}
	if got, want := strings.Join(got, " "), "-1 a1 -2 b1 a2 a3"; got != want {
		t.Errorf("served %s, want %s", got, want)
	}
	if b.q.busy || b.q.sources != nil {
		t.Errorf("at the end busy %v, sources %v", b.q.busy, b.q.sources)
	}
	if res := b.q.lag(one); res != pushWake {
		t.Errorf("lag on an idle queue: %v, want wake", res)
	}
}

// A source that comes back while it is being served is not lost.
func TestServedDropsOnlyTheTurnThatWasServed(t *testing.T) {
	b := newQueueBench(catchUp, queueBounds{messages: 9})
	s := &script{}
	b.q.lag(s)
	b.q.lag(s)
	b.q.served(s, false)
	if got := len(b.q.sources); got != 1 {
		t.Errorf("%d turns left, want 1", got)
	}
	b.q.served(&script{name: "other"}, false)
	if got := len(b.q.sources); got != 1 {
		t.Errorf("%d turns left after a stranger's, want 1", got)
	}
}

func TestQueueStateTellsCountBytesAndAge(t *testing.T) {
	b := newQueueBench(closeSlow, queueBounds{messages: 9})
	now := time.Now()
	old := b.frame("a1*7")
	old.born = now.Add(-3 * time.Second)
	b.q.push(old)
	b.pushAll("a2*5")
	if got, want := b.q.state(now), (QueueState{Messages: 2, Bytes: 12, Age: 3 * time.Second}); got != want {
		t.Errorf("state %+v, want %+v", got, want)
	}
}

// watermarks records what the callback is told, and that it may look at the
// queue: it is not called under the lock.
func watermarks(b *queueBench) func() string {
	var mu sync.Mutex
	var told []string
	b.q.water = func(high bool) {
		b.q.state(time.Now())
		mu.Lock()
		defer mu.Unlock()
		told = append(told, map[bool]string{true: "high", false: "low"}[high])
	}
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(told, " ")
	}
}

func TestWaterMarksAreToldOncePerCrossing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(closeSlow, queueBounds{messages: 100, high: 5, low: 2})
		told := watermarks(b)
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got := told(); got != want {
				t.Errorf("%s: told %q, want %q", when, got, want)
			}
		}
		b.pushAll("a1 a2 a3 a4")
		expect("below the mark", "")
		b.pushAll("a5")
		expect("at the mark", "high")
		b.pushAll("a6 a7 a8")
		expect("above it", "high")
		var out batch
		b.q.take(&out, false)
		expect("while a batch is being written", "high")
		b.pushAll("a9")
		if !b.q.more() {
			t.Fatal("a frame waits, more says none")
		}
		expect("after it was written", "high low")
		out.release()
		b.pushAll("a10 a11 a12")
		expect("between the marks", "high low")
		b.pushAll("a13")
		expect("at the mark again", "high low high")
		b.q.take(&out, false)
		b.q.putBack(out.frames)
		out.release()
		expect("after a write that took nothing", "high low high")
		b.q.take(&out, false)
		b.q.more()
		expect("when all is written and the queue idle", "high low high low")
	})
}

func TestPushDoesNotWaitForTheWaterCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(closeSlow, queueBounds{messages: 100, high: 2, low: 1})
		release := make(chan struct{})
		b.q.water = func(bool) { <-release }
		b.pushAll("a1 a2 a3") // a deadlock, if it waited
		close(release)
	})
}

func TestWaterMarksComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(closeSlow, queueBounds{messages: 100, high: 4, low: 1})
		told := watermarks(b)
		const rounds, heard = 500, 10 // changes that cancel out are not told: in every tenth round they cannot
		for i := range rounds {
			b.pushAll("a1 a2 a3 a4")
			if i%heard == 0 {
				synctest.Wait()
			}
			var out batch
			b.q.take(&out, false)
			b.q.more()
			out.release()
			if i%heard == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		got := told()
		for i, word := range strings.Fields(got) {
			if want := []string{"high", "low"}[i%2]; word != want {
				t.Fatalf("call %d was %q, want %q", i, word, want)
			}
		}
		if !strings.HasSuffix(got, "low") {
			t.Errorf("the last call was not low: %q", got)
		}
		if n := strings.Count(got, "high"); n < rounds/heard {
			t.Errorf("%d calls with high, want at least %d", n, rounds/heard)
		}
	})
}

// streamModel is what the reader of one stream must see: every offset once, as an
// event or covered by a gap.
type streamModel struct {
	next   uint64          // what must come next
	told   map[uint64]bool // refused with pushSlow
	gaps   int
	events int
}

// read takes one frame of the stream as it is on the wire.
func (m *streamModel) read(t *testing.T, tr *outlet, f *frame) {
	t.Helper()
	for m.told[m.next] {
		m.next++
	}
	if f.gap == nil {
		if f.offset != m.next {
			t.Fatalf("stream %s: event %d, want %d", f.stream.name, f.offset, m.next)
		}
		m.next++
		m.events++
		return
	}
	g := gapOn(t, tr.wire(f))
	if g.from != m.next || g.to < g.from || g.dropped != g.to-g.from+1 || g.policy != string(f.stream.policy) {
		t.Fatalf("stream %s (%s): gap %+v, want one from %d", f.stream.name, f.stream.policy, g, m.next)
	}
	m.next = g.to + 1
	m.gaps++
}

// fromHistory is a CatchUp member: it reads on at the cursor.
type fromHistory struct {
	b      *queueBench
	s      *stream
	cursor uint64
	newest *uint64
	behind bool
}

func (h *fromHistory) refill() (frames []*frame, more bool) {
	if h.cursor == *h.newest {
		h.behind = false
		return nil, false
	}
	for len(frames) < 3 && h.cursor < *h.newest {
		h.cursor++
		frames = append(frames, &frame{stream: h.s, offset: h.cursor, wire: make([]byte, 10)})
	}
	return frames, true
}

// TestQueueAgainstModel pushes events of streams of all policies, takes and puts
// back at random, and compares what each stream's reader sees with the model.
func TestQueueAgainstModel(t *testing.T) {
	policies := []policyName{closeSlow, dropOldest, dropNewest, keepLatest, catchUp, dropOldest}
	keys := []string{"0", "1", "2", "3", "4"}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := newQueueBench("", queueBounds{messages: 1 + r.IntN(24), bytes: 20 + r.IntN(400)})
		tr := &outlet{enc: envelopeCodec{}}
		streams := make([]*stream, len(policies))
		models := map[*stream]*streamModel{}
		newest := make([]uint64, len(policies))
		members := make([]*fromHistory, len(policies))
		for i, p := range policies {
			streams[i] = &stream{string(rune('a' + i)), &rules{p, &tally{}}}
			models[streams[i]] = &streamModel{next: 1, told: map[uint64]bool{}}
			members[i] = &fromHistory{b: b, s: streams[i], newest: &newest[i]}
		}
		push := func() {
			i := r.IntN(len(streams))
			newest[i]++
			f := &frame{stream: streams[i], offset: newest[i], wire: make([]byte, 1+r.IntN(60)), key: keys[r.IntN(len(keys))]}
			if members[i].behind {
				return
			}
			switch res := b.q.push(f); {
			case res == pushSlow && f.stream.policy == closeSlow:
				models[f.stream].told[f.offset] = true
			case res == pushLag && f.stream.policy == catchUp:
				members[i].behind, members[i].cursor = true, f.offset-1
				b.q.lag(members[i])
			case res == pushSlow || res == pushLag || res == pushClosed:
				t.Fatalf("seed %d: %s push: %v", seed, f.stream.policy, res)
			}
		}
		take := func(some bool, fails float64) bool {
			var out batch
			src, ok := b.q.take(&out, some)
			if !ok {
				return false
			}
			if src != nil {
				frames, more := src.refill()
				for _, f := range frames {
					models[f.stream].read(t, tr, f)
				}
				b.q.served(src, more)
				return true
			}
			for _, f := range out.frames {
				tr.wire(f) // as the flusher does before it writes
			}
			for range r.IntN(3) {
				push()
			}
			for i, f := range out.frames {
				if r.Float64() < fails {
					b.q.putBack(out.frames[i:])
					break
				}
				models[f.stream].read(t, tr, f)
			}
			out.release()
			return true
		}
		for range 400 {
			if r.IntN(10) < 8 {
				push()
			} else {
				take(r.IntN(2) == 0, 0.1)
			}
			b.checkBytes(t)
		}
		for range 10_000 {
			if !take(true, 0) {
				break
			}
		}
		for i, s := range streams {
			m := models[s]
			for m.told[m.next] {
				m.next++
			}
			if m.next != newest[i]+1 {
				t.Fatalf("seed %d: stream %s (%s): the reader knows of %d events, %d were pushed", seed, s.name, s.policy, m.next-1, newest[i])
			}
			if got, want := s.drops.(*tally).sum(), int(newest[i])-m.events-len(m.told); got != want {
				t.Errorf("seed %d: stream %s (%s): counted %d drops, want %d", seed, s.name, s.policy, got, want)
			}
		}
	}
}

func TestPushAndTakeDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops values from pools")
	}
	b := newQueueBench(closeSlow, queueBounds{messages: 256})
	f := b.frame("a1")
	var out batch
	for _, n := range []int{1, 2, 20} {
		got := testing.AllocsPerRun(200, func() {
			for range n {
				b.q.push(f)
			}
			for {
				if _, ok := b.q.take(&out, false); !ok {
					break
				}
				out.release()
			}
		})
		if got != 0 {
			t.Errorf("push and take of %d frames: %v allocations, want none", n, got)
		}
	}
}

func BenchmarkQueuePushTake(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("frames=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			qb := newQueueBench(closeSlow, queueBounds{messages: 1024})
			f := qb.frame("a1")
			var out batch
			for b.Loop() {
				for range n {
					qb.q.push(f)
				}
				for {
					if _, ok := qb.q.take(&out, false); !ok {
						break
					}
					out.release()
				}
			}
		})
	}
}

// BenchmarkQueueOverflow is what an event costs a member that does not read.
func BenchmarkQueueOverflow(b *testing.B) {
	for _, policy := range []policyName{dropOldest, dropNewest, keepLatest, catchUp, closeSlow} {
		b.Run(string(policy), func(b *testing.B) {
			b.ReportAllocs()
			qb := newQueueBench(policy, queueBounds{messages: 256})
			f := qb.frame("a1/k")
			for range 300 {
				qb.q.push(f)
			}
			for b.Loop() {
				qb.q.push(f)
			}
		})
	}
}

// A member that reads from the history gets its turn although another topic of
// the same connection never leaves the queue empty, and not before what stood
// there when it fell behind.
func TestQueueServesASourceBetweenLivelyFrames(t *testing.T) {
	b := newQueueBench(closeSlow, queueBounds{messages: 99})
	b.pushAll("a1 a2 a3")
	s := &script{}
	b.q.lag(s)
	for round, wantSource := range []bool{false, true, false, true} {
		b.pushAll("b1")
		var out batch
		src, ok := b.q.take(&out, false)
		if !ok || (src != nil) != wantSource {
			t.Fatalf("round %d: source %v, want %v", round, src != nil, wantSource)
		}
		if src != nil {
			b.q.served(src, true)
		}
		if round == 0 { // what the socket did not take comes first again
			b.q.putBack(out.frames)
			b.q.take(&out, false)
		}
		out.release()
	}
}
