package realtimetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
)

// OpLog tests what every [realtime.OpLog] must do, each part as a sub-test with a
// log from open and documents that no other run has used. Several logs may be
// open at the same time. A log that is an [io.Closer] is closed when its part is
// over.
func OpLog(t *testing.T, open func() realtime.OpLog) {
	for name, test := range map[string]func(*logTest){
		"messages come back as they were":                  (*logTest).keeps,
		"a document nobody has written to has no messages": (*logTest).startsEmpty,
		"numbers that are taken are refused":               (*logTest).refusesTaken,
		"numbers with a gap are refused":                   (*logTest).refusesGap,
		"an append is stored as a whole or not at all":     (*logTest).isAtomic,
		"a read has bounds and pages":                      (*logTest).pages,
		"large messages come in short pages":               (*logTest).keepsLarge,
		"long appends are one append":                      (*logTest).keepsMany,
		"the head knows who is open":                       (*logTest).knowsOpen,
		"the head knows the last two summaries":            (*logTest).knowsSummaries,
		"nobody but the server changes the head":           (*logTest).distrustsClients,
		"trimming leaves the head":                         (*logTest).trims,
		"the epoch stays":                                  (*logTest).keepsEpoch,
		"names of all kinds are names":                     (*logTest).separates,
		"one of two appenders wins":                        (*logTest).choosesWinner,
		"documents do not wait for each other":             (*logTest).servesMany,
		"readers see no half of an append":                 (*logTest).showsWholes,
		"a context that has ended stops everything":        (*logTest).obeysContext,
	} {
		t.Run(name, func(t *testing.T) {
			test(newLogTest(t, open()))
		})
	}
}

// DurableOpLog is [OpLog] for logs that outlive their process, and tests that they
// do. place prepares a place for a log, such as a directory, and returns what
// opens the log there: with all that was written before. The log is an
// [io.Closer], and is closed before it is opened again.
func DurableOpLog(t *testing.T, place func(t *testing.T) (open func() realtime.OpLog)) {
	OpLog(t, func() realtime.OpLog { return place(t)() })
	t.Run("a log that is opened again has everything", func(t *testing.T) {
		open := place(t)
		l := newLogTest(t, open())
		reopen := func() {
			t.Helper()
			if err := l.log.(io.Closer).Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			l.log = open()
			t.Cleanup(func() { l.log.(io.Closer).Close() })
		}
		l.outlives(reopen)
	})
}

// logTest is one part of the suite.
type logTest struct {
	*testing.T
	log realtime.OpLog
	id  realtime.DocumentID
}

func newLogTest(t *testing.T, log realtime.OpLog) *logTest {
	if c, ok := log.(io.Closer); ok {
		t.Cleanup(func() { c.Close() })
	}
	return &logTest{T: t, log: log, id: realtime.DocumentID{Tenant: "t" + rand.Text(), Document: "d"}}
}

// op returns a client's message with a number.
func op(number int64) realtime.SequencedMessage {
	return realtime.SequencedMessage{
		SequenceNumber: number, MinimumSequenceNumber: number / 2, ClientID: "client", ClientSequenceNumber: number,
		ReferenceSequenceNumber: number - 1, Type: "op", Timestamp: 1700000000000 + number,
		JSON: fmt.Appendf(nil, `{"sequenceNumber": %d, "contents":"op"}`, number),
	}
}

// ops returns the messages from first to last.
func ops(first, last int64) []realtime.SequencedMessage {
	var messages []realtime.SequencedMessage
	for number := first; number <= last; number++ {
		messages = append(messages, op(number))
	}
	return messages
}

// system returns a message of the server; data is what Fluid reads.
func system(number int64, kind string, data any) realtime.SequencedMessage {
	inner, _ := json.Marshal(data)
	outer, _ := json.Marshal(map[string]any{"clientId": nil, "sequenceNumber": number, "type": kind, "contents": data, "data": string(inner)})
	return realtime.SequencedMessage{
		SequenceNumber: number, ClientSequenceNumber: -1, ReferenceSequenceNumber: number - 1, Type: kind, JSON: outer,
	}
}

func join(number int64, client string) realtime.SequencedMessage {
	return system(number, "join", map[string]any{"clientId": client, "detail": map[string]any{"mode": "write"}})
}

func leave(number int64, client string) realtime.SequencedMessage {
	return system(number, "leave", client)
}

func summarize(number, covered int64) realtime.SequencedMessage {
	m := op(number)
	m.Type, m.ReferenceSequenceNumber = "summarize", covered
	return m
}

func ack(number, summary int64, handle string) realtime.SequencedMessage {
	return system(number, "summaryAck", map[string]any{"handle": handle, "summaryProposal": map[string]any{"summarySequenceNumber": summary}})
}

func (t *logTest) append(messages ...realtime.SequencedMessage) {
	t.Helper()
	if err := t.log.Append(t.Context(), t.id, messages); err != nil {
		t.Fatalf("Append from %d: %v", messages[0].SequenceNumber, err)
	}
}

// wantRefused checks that messages are refused and leave no trace.
func (t *logTest) wantRefused(messages ...realtime.SequencedMessage) {
	t.Helper()
	before, head := t.readAll(), t.head()
	if err := t.log.Append(t.Context(), t.id, messages); !errors.Is(err, realtime.ErrSequenceTaken) {
		t.Errorf("Append of %v: error %v, want %v", numbers(messages), err, realtime.ErrSequenceTaken)
	}
	t.wantMessages(t.readAll(), before)
	t.wantHead(head)
}

func numbers(messages []realtime.SequencedMessage) []int64 {
	all := make([]int64, len(messages))
	for i, m := range messages {
		all[i] = m.SequenceNumber
	}
	return all
}

func (t *logTest) read(after, to int64, limit int) []realtime.SequencedMessage {
	t.Helper()
	messages, err := t.log.Read(t.Context(), t.id, after, to, limit)
	if err != nil {
		t.Fatalf("Read(%d, %d, %d): %v", after, to, limit, err)
	}
	return messages
}

// readAll reads page by page up to the empty one.
func (t *logTest) readAll() []realtime.SequencedMessage {
	t.Helper()
	var all []realtime.SequencedMessage
	for after := int64(0); ; after = all[len(all)-1].SequenceNumber {
		page := t.read(after, -1, 1000)
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

func (t *logTest) head() realtime.LogHead {
	t.Helper()
	head, err := t.log.Head(t.Context(), t.id)
	if err != nil {
		t.Fatalf("Head: %v", err)
	}
	return head
}

func (t *logTest) wantMessages(got, want []realtime.SequencedMessage) {
	t.Helper()
	if !slices.Equal(numbers(got), numbers(want)) {
		t.Fatalf("got the messages %v, want %v", numbers(got), numbers(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("got %+v, want %+v", got[i], want[i])
		}
	}
}

func (t *logTest) wantHead(want realtime.LogHead) {
	t.Helper()
	got := t.head()
	if want.Epoch == "" {
		want.Epoch = got.Epoch
	}
	if len(got.Open) == 0 && len(want.Open) == 0 {
		got.Open, want.Open = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("the head is %+v, want %+v", got, want)
	}
}

func (t *logTest) keeps() {
	odd := op(2)
	odd.ClientID, odd.Type = "ä\x00\U0001F600/:'\"", "\x00 'type'"
	odd.JSON = json.RawMessage("{\"contents\" : \"\\u0000\u2028\U0001F600\",\n \"n\": 1.50e+300, \"\\u0061\":[ ]}")
	big := op(3)
	big.MinimumSequenceNumber, big.ClientSequenceNumber, big.ReferenceSequenceNumber, big.Timestamp = 3, 1<<53-1, 2, math.MaxInt64
	null := realtime.SequencedMessage{SequenceNumber: 4, MinimumSequenceNumber: 4, ClientSequenceNumber: -1, ReferenceSequenceNumber: 3,
		Type: "noop", Timestamp: -1, JSON: json.RawMessage(`null`)}
	want := []realtime.SequencedMessage{op(1), odd, big, null}
	t.append(want...)
	t.wantMessages(t.readAll(), want)
	t.wantHead(realtime.LogHead{SequenceNumber: 4, MinimumSequenceNumber: 4})
}

func (t *logTest) startsEmpty() {
	if got := t.readAll(); len(got) != 0 {
		t.Errorf("got the messages %v, want none", numbers(got))
	}
	if got, want := t.head(), (realtime.LogHead{Open: t.head().Open}); !reflect.DeepEqual(got, want) || len(got.Open) != 0 {
		t.Errorf("the head is %+v, want it zero", got)
	}
	if err := t.log.Trim(t.Context(), t.id, 10); err != nil {
		t.Errorf("Trim: %v", err)
	}
	if err := t.log.Append(t.Context(), t.id, nil); err != nil {
		t.Errorf("Append of nothing: %v", err)
	}
	if got := t.head(); got.Epoch != "" || got.SequenceNumber != 0 {
		t.Errorf("the head is %+v, want it zero still", got)
	}
	t.append(op(1))
}

func (t *logTest) refusesTaken() {
	t.append(ops(1, 3)...)
	t.wantRefused(op(3))
	t.wantRefused(op(1))
	t.wantRefused(ops(3, 4)...)
	t.wantRefused(op(0))
	t.wantRefused(op(-1))
	t.append(op(4))
}

func (t *logTest) refusesGap() {
	t.wantRefused(op(2))
	t.append(op(1))
	t.wantRefused(op(3))
	t.wantRefused(op(2), op(4))
	t.wantRefused(op(2), op(2))
	t.wantRefused(op(2), op(1))
	t.append(ops(2, 3)...)
}

func (t *logTest) isAtomic() {
	t.append(join(1, "a"), summarize(2, 1))
	t.wantRefused(join(3, "b"), leave(4, "a"), ack(5, 2, "h"), op(7))
	t.wantHead(realtime.LogHead{SequenceNumber: 2, MinimumSequenceNumber: 1, Open: []string{"a"}})
	bad := realtime.SequencedMessage{SequenceNumber: 5, Type: "join", JSON: json.RawMessage(`{}`)}
	before, head := t.readAll(), t.head()
	if err := t.log.Append(t.Context(), t.id, []realtime.SequencedMessage{join(3, "b"), op(4), bad}); err == nil {
		t.Errorf("a join without a client was stored, want an error")
	}
	t.wantMessages(t.readAll(), before)
	t.wantHead(head)
}

func (t *logTest) pages() {
	t.append(ops(1, 30)...)
	for _, c := range []struct {
		after, to   int64
		limit       int
		first, last int64
	}{
		{0, -1, 100, 1, 30}, {-5, -1, 100, 1, 30}, {0, -1, 3, 1, 3}, {3, -1, 3, 4, 6}, {0, 5, 100, 1, 5}, {4, 5, 100, 5, 5},
		{28, -1, 100, 29, 30}, {29, -1, 1, 30, 30}, {0, 1000, 100, 1, 30}, {0, math.MaxInt64, 100, 1, 30},
		{10, 20, 5, 11, 15}, {10, 20, 10, 11, 20}, {math.MinInt64, -1, 2, 1, 2}, {0, -1, math.MaxInt, 1, 30},
		{30, -1, 10, 1, 0}, {31, -1, 10, 1, 0}, {math.MaxInt64, -1, 10, 1, 0}, {5, 5, 10, 1, 0}, {6, 5, 10, 1, 0}, {0, 0, 10, 1, 0},
		{0, -1, 0, 1, 0}, {0, -1, -1, 1, 0},
	} {
		got := t.read(c.after, c.to, c.limit)
		if want := ops(c.first, c.last); !slices.Equal(numbers(got), numbers(want)) {
			t.Errorf("Read(%d, %d, %d) returned %v, want %v", c.after, c.to, c.limit, numbers(got), numbers(want))
		}
	}
}

func (t *logTest) keepsLarge() {
	var want []realtime.SequencedMessage
	for number, size := range []int{10, 3 << 20, 17 << 20, 1 << 20, 10} {
		m := op(int64(number) + 1)
		m.JSON = json.RawMessage(`{"contents":"` + strings.Repeat("x", size) + `"}`)
		want = append(want, m)
	}
	t.append(want...)
	got := t.readAll()
	if !slices.Equal(numbers(got), numbers(want)) {
		t.Fatalf("got the messages %v, want %v", numbers(got), numbers(want))
	}
	for i := range want {
		if string(got[i].JSON) != string(want[i].JSON) {
			t.Errorf("message %d has %d bytes that differ from the %d that were stored", i+1, len(got[i].JSON), len(want[i].JSON))
		}
	}
}

// keepsMany appends more than a statement of a database has room for.
func (t *logTest) keepsMany() {
	want := ops(1, 2500)
	t.append(want[:2100]...)
	t.append(want[2100:]...)
	t.wantMessages(t.readAll(), want)
	t.wantHead(realtime.LogHead{SequenceNumber: 2500, MinimumSequenceNumber: 1250})
}

func (t *logTest) knowsOpen() {
	t.append(join(1, "c"))
	t.append(join(2, "a"), join(3, "b"), op(4))
	t.wantHead(realtime.LogHead{SequenceNumber: 4, MinimumSequenceNumber: 2, Open: []string{"c", "a", "b"}})
	t.append(leave(5, "a"), leave(6, "stranger"))
	t.wantHead(realtime.LogHead{SequenceNumber: 6, Open: []string{"c", "b"}})
	t.append(join(7, "d"), leave(8, "d"), join(9, "ü\x00:/"))
	t.wantHead(realtime.LogHead{SequenceNumber: 9, Open: []string{"c", "b", "ü\x00:/"}})
	head := t.head()
	head.Open[0] = "changed"
	t.append(leave(10, "ü\x00:/"), leave(11, "b"))
	t.wantHead(realtime.LogHead{SequenceNumber: 11, Open: []string{"c"}})
	t.append(leave(12, "c"))
	t.wantHead(realtime.LogHead{SequenceNumber: 12})
}

func (t *logTest) knowsSummaries() {
	t.append(ops(1, 5)...)
	t.append(summarize(6, 4))
	t.wantHead(realtime.LogHead{SequenceNumber: 6, MinimumSequenceNumber: 3})
	t.append(op(7), ack(8, 6, "one"))
	one := realtime.SummaryMark{Handle: "one", SequenceNumber: 6, Covered: 4}
	t.wantHead(realtime.LogHead{SequenceNumber: 8, Summaries: [2]realtime.SummaryMark{one}})
	t.append(system(9, "summaryNack", map[string]any{"summaryProposal": map[string]any{"summarySequenceNumber": 6}}))
	t.append(summarize(10, 9), ack(11, 10, "two")) // in one append
	two := realtime.SummaryMark{Handle: "two", SequenceNumber: 10, Covered: 9}
	t.wantHead(realtime.LogHead{SequenceNumber: 11, Summaries: [2]realtime.SummaryMark{two, one}})
	t.append(summarize(12, 11), summarize(13, 12), ack(14, 12, "three"), ack(15, 13, "four"))
	t.wantHead(realtime.LogHead{SequenceNumber: 15, Summaries: [2]realtime.SummaryMark{
		{Handle: "four", SequenceNumber: 13, Covered: 12}, {Handle: "three", SequenceNumber: 12, Covered: 11}}})
	t.append(ack(16, 99, "of nothing")) // nothing is known of what it covers
	if got, want := t.head().Summaries[0], (realtime.SummaryMark{Handle: "of nothing", SequenceNumber: 99}); got != want {
		t.Errorf("the summary is %+v, want %+v", got, want)
	}
}

func (t *logTest) distrustsClients() {
	t.append(join(1, "a"), summarize(2, 1))
	forged := []realtime.SequencedMessage{join(3, "b"), leave(4, "a"), ack(5, 2, "h")}
	for i := range forged {
		forged[i].ClientID = "a"
	}
	t.append(forged...)
	t.wantHead(realtime.LogHead{SequenceNumber: 5, Open: []string{"a"}})
}

func (t *logTest) trims() {
	t.append(join(1, "a"), join(2, "b"), summarize(3, 2), ack(4, 3, "h"))
	t.append(ops(5, 20)...)
	head := t.head()
	trim := func(below int64) {
		t.Helper()
		if err := t.log.Trim(t.Context(), t.id, below); err != nil {
			t.Fatalf("Trim below %d: %v", below, err)
		}
		t.wantHead(head)
	}
	for _, below := range []int64{-1, 0, 1} {
		trim(below)
		if got := t.readAll(); len(got) != 20 {
			t.Fatalf("%d messages are left below %d, want all 20", len(got), below)
		}
	}
	trim(11)
	t.wantMessages(t.read(10, -1, 100), ops(11, 20))
	t.wantSuffix(t.readAll(), 11, 20)
	trim(7) // a second time, lower
	t.wantSuffix(t.readAll(), 11, 20)
	trim(21)
	t.wantSuffix(t.readAll(), 21, 20)
	trim(math.MaxInt64)
	t.wantRefused(op(20))
	t.append(ops(21, 30)...) // the numbers go on
	t.wantMessages(t.read(20, -1, 100), ops(21, 30))
	want := head
	want.SequenceNumber, want.MinimumSequenceNumber = 30, 15
	t.wantHead(want)
}

// wantSuffix checks that the messages end with those from first to last: a log
// may keep more than it must.
func (t *logTest) wantSuffix(got []realtime.SequencedMessage, first, last int64) {
	t.Helper()
	want := ops(first, last)
	if len(got) < len(want) {
		t.Fatalf("got the messages %v, want at least %v", numbers(got), numbers(want))
	}
	for i := 1; i < len(got); i++ {
		if got[i].SequenceNumber != got[i-1].SequenceNumber+1 {
			t.Fatalf("got the messages %v, want no gap", numbers(got))
		}
	}
	t.wantMessages(got[len(got)-len(want):], want)
}

func (t *logTest) keepsEpoch() {
	t.append(op(1))
	first := t.head().Epoch
	if first == "" {
		t.Fatalf("a document with messages has no epoch")
	}
	t.append(ops(2, 5)...)
	if err := t.log.Trim(t.Context(), t.id, 6); err != nil {
		t.Fatal(err)
	}
	if got := t.head().Epoch; got != first {
		t.Errorf("the epoch is %q, want %q as before", got, first)
	}
}

func (t *logTest) separates() {
	unique := rand.Text()
	var ids []realtime.DocumentID
	for _, tenant := range []string{"a", "a:b", "a/b", "a\x00", "A", "ä", "a\u0308", "'; --", strings.Repeat("t", 200), "%", "\xff"} {
		for _, document := range []string{"b:c", "c", "b", "b/c", "../b", "\x00", "\x00c", " ", "", "日本語", strings.Repeat("d", 200), "_"} {
			ids = append(ids, realtime.DocumentID{Tenant: tenant + unique, Document: document})
		}
	}
	// The same letters, cut at another place.
	ids = append(ids, realtime.DocumentID{Tenant: unique, Document: "x"}, realtime.DocumentID{Tenant: unique + "x", Document: ""})
	named := func(i int) realtime.SequencedMessage {
		m := op(1)
		m.JSON = fmt.Appendf(nil, "%d", i)
		return m
	}
	for i, id := range ids {
		if err := t.log.Append(t.Context(), id, []realtime.SequencedMessage{named(i), join(2, fmt.Sprint(i))}); err != nil {
			t.Fatalf("Append to %q: %v", id, err)
		}
	}
	for i, id := range ids {
		t.id = id
		t.wantMessages(t.read(0, 1, 10), []realtime.SequencedMessage{named(i)})
		t.wantHead(realtime.LogHead{SequenceNumber: 2, Open: []string{fmt.Sprint(i)}})
	}
	t.id = ids[0]
	if err := t.log.Trim(t.Context(), t.id, 3); err != nil {
		t.Fatalf("Trim: %v", err)
	}
	for i, id := range ids[1:] {
		t.id = id
		t.wantMessages(t.read(0, 1, 10), []realtime.SequencedMessage{named(i + 1)})
	}
}

// choosesWinner has several appenders write one document, each as far as it
// believes to be alone.
func (t *logTest) choosesWinner() {
	const appenders, rounds = 4, 20
	won := make([][]string, appenders)
	var all sync.WaitGroup
	for a := range appenders {
		all.Go(func() {
			for number := int64(1); number <= 2*rounds; number += 2 {
				name := fmt.Sprintf("%d/%d", a, number)
				pair := ops(number, number+1)
				pair[0].ClientID, pair[1].ClientID = name, name
				err := t.log.Append(t.Context(), t.id, pair)
				if err == nil {
					won[a] = append(won[a], name)
				} else if !errors.Is(err, realtime.ErrSequenceTaken) {
					t.Errorf("Append of %d: %v", number, err)
				}
				if head, err := t.log.Head(t.Context(), t.id); err != nil || head.SequenceNumber < number+1 {
					t.Errorf("the head is at %d (error %v) after somebody has stored %d", head.SequenceNumber, err, number+1)
				}
			}
		})
	}
	all.Wait()
	got := t.readAll()
	if len(got) != 2*rounds {
		t.Fatalf("%d messages are stored, want %d", len(got), 2*rounds)
	}
	winners := slices.Concat(won...)
	for i := 0; i < len(got); i += 2 {
		if got[i].ClientID != got[i+1].ClientID || !slices.Contains(winners, got[i].ClientID) {
			t.Errorf("%d and %d are of %q and %q, want both of one who was told so", i+1, i+2, got[i].ClientID, got[i+1].ClientID)
		}
	}
	if len(winners) != rounds {
		t.Errorf("%d appends returned nil, want %d", len(winners), rounds)
	}
}

func (t *logTest) servesMany() {
	const documents, each = 16, 10
	var all sync.WaitGroup
	for n := range documents {
		all.Go(func() {
			id := realtime.DocumentID{Tenant: t.id.Tenant, Document: fmt.Sprint(n)}
			for number := range int64(each) {
				if err := t.log.Append(t.Context(), id, ops(number+1, number+1)); err != nil {
					t.Errorf("Append of %d to %s: %v", number+1, id.Document, err)
				}
			}
		})
	}
	all.Wait()
	for n := range documents {
		t.id.Document = fmt.Sprint(n)
		t.wantMessages(t.readAll(), ops(1, each))
	}
}

func (t *logTest) showsWholes() {
	const rounds, batch = 25, 4
	written := make(chan error, 1)
	go func() {
		for n := range int64(rounds) {
			if err := t.log.Append(t.Context(), t.id, ops(n*batch+1, (n+1)*batch)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for {
		if n := t.head().SequenceNumber; n%batch != 0 {
			t.Errorf("the head is at %d, within an append of %d", n, batch)
		}
		if page := t.read(0, -1, 1000); len(page)%batch != 0 {
			t.Errorf("%d messages are readable, want whole appends of %d", len(page), batch)
		}
		select {
		case err := <-written:
			if err != nil {
				t.Fatalf("Append: %v", err)
			}
			t.wantMessages(t.readAll(), ops(1, rounds*batch))
			return
		default:
		}
	}
}

func (t *logTest) obeysContext() {
	t.append(ops(1, 3)...)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := t.log.Append(ended, t.id, ops(4, 4)); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: error %v, want %v", err, context.Canceled)
	}
	if _, err := t.log.Read(ended, t.id, 0, -1, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: error %v, want %v", err, context.Canceled)
	}
	if _, err := t.log.Head(ended, t.id); !errors.Is(err, context.Canceled) {
		t.Errorf("Head: error %v, want %v", err, context.Canceled)
	}
	if err := t.log.Trim(ended, t.id, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("Trim: error %v, want %v", err, context.Canceled)
	}
	t.wantMessages(t.readAll(), ops(1, 3))
	t.append(op(4))
}

// outlives writes, opens again, and goes on where it was.
func (t *logTest) outlives(reopen func()) {
	t.append(join(1, "a"), join(2, "b"), summarize(3, 1), ack(4, 3, "one"), summarize(5, 4), ack(6, 5, "two"), leave(7, "a"))
	t.append(ops(8, 50)...)
	before, head := t.readAll(), t.head()
	reopen()
	t.wantMessages(t.readAll(), before)
	t.wantHead(head)
	t.wantRefused(op(50))
	if err := t.log.Trim(t.Context(), t.id, 51); err != nil {
		t.Fatalf("Trim: %v", err)
	}
	reopen()
	t.wantHead(head)
	t.wantRefused(op(1))
	t.append(op(51))
	reopen()
	head.SequenceNumber, head.MinimumSequenceNumber = 51, 25
	t.wantHead(head)
	t.wantMessages(t.read(50, -1, 10), []realtime.SequencedMessage{op(51)})
}
