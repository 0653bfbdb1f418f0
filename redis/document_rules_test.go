package redis

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

func TestALongMessageArrivesInItsPlace(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := newLossyNode(t, s.URL()), newLossyNode(t, s.URL())
	take(t, a, testStep(realtime.StepJoin, "A"))
	w, own := attend(t, b), attend(t, a)
	published := 0
	b.losing(func(text string) bool { published += len(text); return false })
	step := testOps("A", 1, 1, 3)
	step.Ops[1].Text = testTail("op", strings.Repeat("long", 1<<16)).Text
	take(t, a, step)
	take(t, a, testStep(realtime.StepSignal, "A"))
	take(t, a, testOps("A", 4, 1, 1))
	want := own.untilMessage(5)
	for i, m := range w.untilMessage(5) {
		if string(m.JSON) != string(want[i].JSON) {
			t.Errorf("message %d differs between the nodes", m.SequenceNumber)
		}
	}
	news := w.until("all", func(news []*realtime.DocumentNews) bool { return len(news) >= 3 })
	if len(news) != 3 || len(news[0].Messages) != 3 || news[1].Signal == nil || len(news[2].Messages) != 1 || news[0].Taken {
		t.Errorf("told %d news, the last %s; want a submission, a signal, a submission", len(news), describe(news))
	}
	if b.mu.Lock(); published > 10_000 {
		t.Errorf("%d bytes were published of a message that is too long for it", published)
	}
	b.mu.Unlock()
}

func TestTheDeadAreBuriedInPortions(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := newLossyNode(t, s.URL()), newLossyNode(t, s.URL())
	const dead = 620
	var all sync.WaitGroup
	for part := range 8 {
		all.Go(func() {
			for i := part; i < dead; i += 8 {
				step := testStep(realtime.StepJoin, fmt.Sprint("D", i))
				step.Node = "dead"
				take(t, a, step)
			}
		})
	}
	all.Wait()
	take(t, a, testStep(realtime.StepJoin, "A"))
	asks := testSummarize("A", 1, dead)
	asks.Node = "dead"
	take(t, a, asks)
	w := attend(t, b)
	step := testStep(realtime.StepBury, "")
	step.Nodes = []string{"dead", "nobody"}
	out := take(t, a, step)
	if len(out.Messages) != dead+1 || out.Messages[dead].Type != "summaryNack" {
		t.Fatalf("%d messages, want %d, the last a summaryNack", len(out.Messages), dead+1)
	}
	for i, m := range out.Messages {
		if m.SequenceNumber != int64(dead+3+i) {
			t.Fatalf("message %d, want %d", m.SequenceNumber, dead+3+i)
		}
	}
	w.untilMessage(2*dead + 3)
	var left []string
	for _, n := range w.news {
		if n.Left != "" {
			left = append(left, n.Left)
		}
	}
	if want := w.standing.Open[:dead]; !slices.Equal(left, want) {
		t.Errorf("%d left, want %d in the order of their coming", len(left), len(want))
	}
	if got := attend(t, b).standing; len(got.Clients) != 1 || got.MSN != dead {
		t.Errorf("after it: %d clients, MSN %d", len(got.Clients), got.MSN)
	}
}

func TestOldMessagesAreTrimmedAsTheLogInMemoryDoes(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	n, model := newLossyNode(t, s.URL()), realtime.NewMemoryOrder()()
	at := time.UnixMilli(1_700_000_000_000)
	do := func(step *realtime.DocumentStep) int64 {
		step.Now = at
		copied := *step
		take(t, model, &copied)
		return take(t, n, step).SequenceNumber
	}
	csn := int64(1)
	submit := func(many int) {
		do(testOps("A", csn, -1, many))
		csn += int64(many)
	}
	same := func() (oldest int64) {
		t.Helper()
		got, err1 := n.Read(t.Context(), testDocument, 0, -1, 10_000)
		want, err2 := model.Read(t.Context(), testDocument, 0, -1, 10_000)
		if err1 != nil || err2 != nil || len(got) != len(want) {
			t.Fatalf("read %d messages (%v), want %d (%v)", len(got), err1, len(want), err2)
		}
		for i := range got {
			if string(got[i].JSON) != string(want[i].JSON) {
				t.Fatalf("got %s, want %s", got[i].JSON, want[i].JSON)
			}
		}
		return got[0].SequenceNumber
	}
	do(testStep(realtime.StepJoin, "A"))
	var oldest []int64
	for range 4 {
		for range 6 {
			submit(100)
		}
		sn := do(testSummarize("A", csn, -1))
		csn++
		do(testAck(sn, sn-1))
		oldest = append(oldest, same())
	}
	if oldest[0] != 1 || oldest[3] < 500 {
		t.Errorf("the oldest messages were %v: the test tests nothing", oldest)
	}
}

// Numbers are counted in floats there, which are whole up to 2^53.
func TestNumbersKeepAllTheirDigits(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	n, c := newLossyNode(t, s.URL()), clientOf(t, s)
	const sn = 1<<53 - 10
	take(t, n, testStep(realtime.StepJoin, "A"))
	script := fmt.Sprintf(`local s = cmsgpack.unpack(redis.call('HGET', KEYS[1], 'now'))
		s.sn, s.msn, s.sent, s.n = %[1]d, %[1]d, %[1]d, %[1]d
		redis.call('HSET', KEYS[1], 'now', cmsgpack.pack(s))
		redis.call('ZADD', KEYS[2], '%[1]d', 'A')
		redis.call('HSET', KEYS[3], 'A', cmsgpack.pack({%[1]d, 0, true, false, %[1]d}))`, int64(sn))
	keys := keysOf(t, n)
	if err := c.Do(t.Context(), c.B().Eval().Script(script).Numkeys(3).Key(keys[:3]...).Build()).Error(); err != nil && err.Error() != "redis nil message" {
		t.Fatal(err)
	}
	w := attend(t, n)
	out := take(t, n, testOps("A", sn+1, sn, 2))
	m := out.Messages[1]
	if m.SequenceNumber != sn+2 || m.MinimumSequenceNumber != sn || m.ClientSequenceNumber != sn+2 {
		t.Errorf("got %+v", m)
	}
	want := fmt.Sprintf(`{"clientId":"A","sequenceNumber":%d,"minimumSequenceNumber":%d,"clientSequenceNumber":%d,"referenceSequenceNumber":%d,`,
		int64(sn+2), int64(sn), int64(sn+2), int64(sn))
	if !strings.HasPrefix(string(m.JSON), want) {
		t.Errorf("got %s, want %s…", m.JSON, want)
	}
	if page, err := n.Read(t.Context(), testDocument, sn, -1, 10); err != nil || len(page) != 2 {
		t.Errorf("read %v, %v", page, err)
	}
	w.untilMessage(sn + 2)
	late := testOps("A", sn+3, 1<<62, 1) // a client may say so
	if out := take(t, n, late); out.Refusal == nil || !strings.HasSuffix(out.Refusal.Message, " received "+strconv.Itoa(1<<62)) {
		t.Errorf("got %+v", out.Refusal)
	}
}

func TestIDsAreWrittenAsTheCoreWritesThem(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	n, model := newLossyNode(t, s.URL()), realtime.NewMemoryOrder()()
	for i, id := range []string{"plain", `"\/`, "\x00\x01\x1f\x7f\n\r\t\b\f", "<&>\u2028\u2029", "a\xffb\xc3", "\xed\xa0\x80", "ü𝄞\ufffd", "id with } and { and :"} {
		var got [2]string
		for k, o := range []realtime.DocumentOrder{n, model} {
			join, ops := testStep(realtime.StepJoin, id), testOps(id, 1, int64(2*i+1), 1)
			join.Now, ops.Now = time.UnixMilli(1), time.UnixMilli(2)
			take(t, o, join)
			got[k] = string(take(t, o, ops).Messages[0].JSON)
		}
		if got[0] != got[1] {
			t.Errorf("id %q: got %s, want %s", id, got[0], got[1])
		}
	}
}

func TestDocumentsWithOneTextDoNotMix(t *testing.T) {
	a, b := nameOf(realtime.DocumentID{Tenant: "a", Document: "b:c"}), nameOf(realtime.DocumentID{Tenant: "a:b", Document: "c"})
	if a == b {
		t.Errorf("both are %q", a)
	}
}
