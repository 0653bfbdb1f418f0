package realtime

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func init() { asserting = true }

func sequenced(t *testing.T, q *sequencer, id string, csn, rsn int64) ticket {
	t.Helper()
	r := q.submit(id, submission{kind: "op", csn: csn, rsn: rsn})
	if r.fate != opSequenced {
		t.Fatalf("op %d of %s: %+v, want it sequenced", csn, id, r)
	}
	return r.ticket
}

// wantRefused wants one nack, and a sequencer whose numbers it did not touch.
func wantRefused(t *testing.T, q *sequencer, id string, op submission, code int, reason, message string) {
	t.Helper()
	before := q.numbers
	r := q.submit(id, op)
	if r.fate != opRefused {
		t.Fatalf("%+v of %s: %+v, want a nack %q", op, id, r, reason)
	}
	if got := r.refusal; got.code != code || got.reason != reason || got.message != message {
		t.Errorf("%+v of %s: nack %+v, want %d %s %q", op, id, *got, code, reason, message)
	}
	if q.numbers != before {
		t.Errorf("a nack %s changed %+v to %+v", reason, before, q.numbers)
	}
}

// table writes the rows as the worked example does.
func table(q *sequencer) string {
	var rows []string
	for id, w := range q.writers {
		rows = append(rows, fmt.Sprintf("%s %d", id, w.rsn))
	}
	slices.Sort(rows)
	return strings.Join(rows, ", ")
}

func TestTheWorkedExampleOfTheProtocol(t *testing.T) { // check 58: document.md section 5.3
	q := newSequencer(0, 0)
	join := func(id string) func() (ticket, string) {
		return func() (ticket, string) { return q.join(id, false), "" }
	}
	leave := func(id string) func() (ticket, string) {
		return func() (ticket, string) {
			n, ok := q.leave(id)
			return n, map[bool]string{false: "no such client"}[ok]
		}
	}
	op := func(id string, csn, rsn int64) func() (ticket, string) {
		return func() (ticket, string) {
			r := q.submit(id, submission{kind: "op", csn: csn, rsn: rsn})
			if r.refusal != nil {
				return r.ticket, r.refusal.message
			}
			return r.ticket, ""
		}
	}
	steps := []struct {
		name  string
		do    func() (ticket, string)
		sn    int64
		rsn   int64
		table string
		msn   int64
		nack  string
	}{
		{"A joins", join("A"), 1, 0, "A 0", 0, ""},
		{"B joins", join("B"), 2, 1, "A 0, B 0", 0, ""},
		{"A op 1", op("A", 1, 2), 3, 2, "A 2, B 0", 0, ""},
		{"B op 1", op("B", 1, 3), 4, 3, "A 2, B 3", 2, ""},
		{"A op 2", op("A", 2, 4), 5, 4, "A 4, B 3", 3, ""},
		{"C joins", join("C"), 6, 5, "A 4, B 3, C 3", 3, ""},
		{"B leaves", leave("B"), 7, 6, "A 4, C 3", 3, ""},
		{"C op 1", op("C", 1, 2), 0, 0, "A 4, C 3", 0, "Refseq 2 < 3"},
		{"C leaves", leave("C"), 8, 7, "A 4", 4, ""},
		{"A leaves", leave("A"), 9, 8, "", 9, ""},
		{"D joins", join("D"), 10, 9, "D 9", 9, ""},
	}
	for _, s := range steps {
		got, nack := s.do()
		if nack != s.nack || got.sn != s.sn || got.msn != s.msn || got.rsn != s.rsn {
			t.Errorf("%s: %+v, nack %q; want number %d, RSN %d, MSN %d, nack %q", s.name, got, nack, s.sn, s.rsn, s.msn, s.nack)
		}
		if got := table(q); got != s.table {
			t.Errorf("%s: table %q, want %q", s.name, got, s.table)
		}
	}
}

// talk returns a document with writers A and B, where A may summarize and B may not;
// A has sent ops 1 to 3 and seen 4, B has sent op 1 and seen 3: SN 6, MSN 3.
func talk(t *testing.T) *sequencer {
	q := newSequencer(0, 0)
	q.join("A", true)
	q.join("B", false)
	sequenced(t, q, "A", 1, 2)
	sequenced(t, q, "B", 1, 3)
	sequenced(t, q, "A", 2, 4)
	sequenced(t, q, "A", 3, 4)
	return q
}

func TestEveryStepOfTheSequencerRefusesWhatItSays(t *testing.T) { // section 5.3, a to g
	const below = "Refseq 2 < 3"
	tests := []struct {
		step    string
		id      string
		op      submission
		code    int
		reason  string
		message string
	}{
		{"a", "C", submission{kind: "op", csn: 1, rsn: 4}, 400, "nonexistent_client", "Nonexistent client"},
		{"a before b", "C", submission{kind: "op", csn: 0, rsn: 4}, 400, "nonexistent_client", "Nonexistent client"},
		{"c, check 62", "B", submission{kind: "op", csn: 3, rsn: 4}, 400, "gap", "Gap detected in incoming op"},
		{"c before d", "B", submission{kind: "join", csn: 3, rsn: 4}, 400, "gap", "Gap detected in incoming op"},
		{"d, check 67", "B", submission{kind: "join", csn: 2, rsn: 4}, 400, "op_not_allowed", "Op not allowed"},
		{"d", "B", submission{kind: "leave", csn: 2, rsn: 4}, 400, "op_not_allowed", "Op not allowed"},
		{"d", "B", submission{kind: "noClient", csn: 2, rsn: 4}, 400, "op_not_allowed", "Op not allowed"},
		{"d", "B", submission{kind: "control", csn: 2, rsn: 4}, 400, "op_not_allowed", "Op not allowed"},
		{"d", "A", submission{kind: "summaryAck", csn: 4, rsn: 4}, 400, "op_not_allowed", "Op not allowed"},
		{"d", "A", submission{kind: "summaryNack", csn: 4, rsn: 4}, 400, "op_not_allowed", "Op not allowed"},
		{"d before e", "B", submission{kind: "join", csn: 2, rsn: 7}, 400, "op_not_allowed", "Op not allowed"},
		{"e, check 64", "B", submission{kind: "op", csn: 2, rsn: 7}, 400, "invalid_rsn", "Invalid RSN: current SN is 6, received 7"},
		{"e", "B", submission{kind: "noop", csn: 2, rsn: 7}, 400, "invalid_rsn", "Invalid RSN: current SN is 6, received 7"},
		{"f, check 65", "B", submission{kind: "op", csn: 2, rsn: 2}, 400, "rsn_below_msn", below},
		{"f", "B", submission{kind: "noop", csn: 2, rsn: 2}, 400, "rsn_below_msn", below},
		{"f before g", "B", submission{kind: "summarize", csn: 2, rsn: 2}, 400, "rsn_below_msn", below},
		{"g, check 77", "B", submission{kind: "summarize", csn: 2, rsn: 4}, 403, "summary_scope", "Client B does not have summary permission"},
		{"g", "B", submission{kind: "summarize", csn: 2, rsn: 4, flaw: "x"}, 403, "summary_scope", "Client B does not have summary permission"},
		{"g, check 108", "A", submission{kind: "summarize", csn: 4, rsn: 4, flaw: "Invalid summarize op: missing fields: head"},
			400, "malformed", "Invalid summarize op: missing fields: head"},
	}
	for _, test := range tests {
		t.Run(test.step+" "+test.op.kind, func(t *testing.T) {
			q := talk(t)
			wantRefused(t, q, test.id, test.op, test.code, test.reason, test.message)
			other := map[string]string{"A": "B", "B": "A", "C": "A"}[test.id]
			sequenced(t, q, other, q.writers[other].csn+1, 4)
			if test.id == "C" {
				return
			}
			right := submission{kind: "op", csn: q.writers[test.id].csn + 1, rsn: 6}
			if test.reason == "rsn_below_msn" {
				wantRefused(t, q, test.id, right, 400, "nonexistent_client", "Nonexistent client")
			} else if r := q.submit(test.id, right); r.fate != opSequenced {
				t.Errorf("the right op after a nack %s: %+v, want it sequenced", test.reason, r)
			}
		})
	}
}

func TestANackHasTheTypeThatItsCodeSays(t *testing.T) { // section 5.5
	q := talk(t)
	q.maxUnsummarized = 1
	tests := []struct {
		op   submission
		want refusal
	}{
		{submission{kind: "op", csn: 9}, refusal{code: 400, kind: "BadRequestError"}},
		{submission{kind: "summarize", csn: 2, rsn: 4}, refusal{code: 403, kind: "InvalidScopeError"}},
		{submission{kind: "op", csn: 2, rsn: 4}, refusal{code: 429, kind: "ThrottlingError", retryAfter: 10}},
	}
	for _, test := range tests {
		got := *q.submit("B", test.op).refusal
		got.message, got.reason = "", ""
		if got != test.want {
			t.Errorf("%+v: nack %+v, want %+v", test.op, got, test.want)
		}
	}
}

func TestADuplicateIsDroppedWithoutANack(t *testing.T) { // check 61
	q := talk(t)
	before := q.numbers
	for csn := range int64(4) {
		for _, kind := range []string{"op", "noop", "join", "summarize"} {
			if r := q.submit("A", submission{kind: kind, csn: csn, rsn: 99}); r.fate != opDuplicate || r.refusal != nil {
				t.Errorf("%s %d again: %+v, want it dropped", kind, csn, r)
			}
		}
	}
	if q.numbers != before || q.writers["A"].csn != 3 {
		t.Errorf("duplicates changed %+v to %+v, csn %d", before, q.numbers, q.writers["A"].csn)
	}
	sequenced(t, q, "A", 4, 6)
}

func TestAMissingOpMayBeSentLater(t *testing.T) { // check 62
	q := talk(t)
	wantRefused(t, q, "B", submission{kind: "op", csn: 3, rsn: 5}, 400, "gap", "Gap detected in incoming op")
	for csn := int64(2); csn <= 3; csn++ {
		if got := sequenced(t, q, "B", csn, 5); got.csn != csn || got.sn != 5+csn {
			t.Errorf("got %+v, want csn %d at %d", got, csn, 5+csn)
		}
	}
}

func TestAnOpWithoutAReferenceRefersToTheNumberBeforeItsOwn(t *testing.T) { // check 66
	q := newSequencer(0, 0)
	q.join("A", false)
	for csn := int64(1); csn < 4; csn++ {
		got := sequenced(t, q, "A", csn, -1)
		if want := (ticket{csn + 1, csn, csn, csn}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestAJoinTouchesNoOtherClient(t *testing.T) { // checks 68 and 69
	q := talk(t)
	a, b, msn := *q.writers["A"], *q.writers["B"], q.msn
	if got := q.join("C", false); got.msn != msn {
		t.Errorf("MSN %d at a join, want %d", got.msn, msn)
	}
	if c := q.writers["C"]; c.csn != 0 || c.rsn != msn {
		t.Errorf("the new client has csn %d and rsn %d, want 0 and %d", c.csn, c.rsn, msn)
	}
	for _, was := range []writer{a, b} {
		now := *q.writers[was.id]
		if now.at = was.at; now != was {
			t.Errorf("a join changed %+v to %+v", was, now)
		}
	}
	if r := q.submit("A", submission{kind: "op", csn: 3, rsn: 6}); r.fate != opDuplicate {
		t.Errorf("the last op again after a join: %+v, want it dropped", r)
	}
	for csn := int64(4); csn < 54; csn++ {
		if got := sequenced(t, q, "A", csn, q.sn); got.msn != msn {
			t.Fatalf("MSN %d with a client that has sent nothing, want %d", got.msn, msn)
		}
	}
}

func TestALeaveFreesTheMSN(t *testing.T) { // checks 70 and 71
	q := talk(t)
	q.leave("B")
	if got := sequenced(t, q, "A", 4, 6); got.msn != 6 {
		t.Errorf("MSN %d after the slow client left, want A's 6", got.msn)
	}
	last, _ := q.leave("A")
	if last.msn != last.sn {
		t.Errorf("MSN %d at the last leave, want its number, %d", last.msn, last.sn)
	}
	if got := q.answer(); got.msn != got.sn || got.rsn != got.sn-1 {
		t.Errorf("a server message in an empty document: %+v, want MSN %d", got, got.sn)
	}
	if got := q.join("C", false); got.msn != got.sn-1 {
		t.Errorf("MSN %d at the next join, want that of the message before, %d", got.msn, got.sn-1)
	}
	if _, ok := q.leave("A"); ok {
		t.Error("A left twice")
	}
}

func TestTheMSNNeverFallsAndNeverReachesAnOp(t *testing.T) { // check 73
	// The proof panics if it does.
	var steps []byte
	for i := range 30_000 {
		steps = append(steps, byte(i*i>>3^i>>5^i*7))
	}
	compareWithModel(t, steps)
}

func TestNoopsTakeNoNumberUnlessThereIsNews(t *testing.T) { // checks 82 and 83: section 7.2
	q := talk(t) // A has seen 4, B 3; the last message said 3
	if r := q.submit("A", submission{kind: "noop", csn: 4, rsn: 6}); r.fate != opAbsorbed {
		t.Errorf("a noop that does not raise the MSN: %+v, want it absorbed", r)
	}
	if _, ok := q.noop(); ok {
		t.Error("a noop of the server without news")
	}
	r := q.submit("B", submission{kind: "noop", csn: 2, rsn: 5})
	if want := (ticket{7, 5, 5, 2}); r.fate != opSequenced || r.ticket != want {
		t.Errorf("a noop that raises the MSN: %+v, want %+v", r, want)
	}
	if r := q.submit("B", submission{kind: "noop", csn: 3, rsn: 6, null: true}); r.fate != opAbsorbed {
		t.Errorf("a noop of contents null: %+v, want it absorbed", r)
	}
	if got, ok := q.noop(); !ok || got != (ticket{8, 6, 7, -1}) {
		t.Errorf("the noop of the server: %+v, %v, want number 8, MSN 6, RSN 7", got, ok)
	}
	if _, ok := q.noop(); ok {
		t.Error("a second noop of the server")
	}
	sequenced(t, q, "A", 5, 6)
	sequenced(t, q, "B", 4, 6) // the CSNs of noops counted
}

func TestTheNoopEventRaisesWhatAClientHasSeen(t *testing.T) { // checks 80 and 81: section 7.1
	q := talk(t)
	tests := []struct {
		id   string
		rsn  int64
		ok   bool
		want int64 // MSN
	}{
		{"B", 1_000_000, false, 3},
		{"B", 7, false, 3},
		{"C", 5, false, 3},
		{"B", -5, true, 3},
		{"B", 2, true, 3},
		{"B", 6, true, 4},
		{"A", 6, true, 6},
		{"A", 1, true, 6},
	}
	for _, test := range tests {
		if ok := q.refer(test.id, test.rsn); ok != test.ok || q.msn != test.want {
			t.Errorf("noop of %s at %d: %v, MSN %d, want %v, %d", test.id, test.rsn, ok, q.msn, test.ok, test.want)
		}
	}
	if got := sequenced(t, q, "B", 2, 6); got.msn != 6 {
		t.Errorf("the next message says %d, want 6", got.msn)
	}
	q.submit("B", submission{kind: "op", csn: 3, rsn: 1})
	if q.refer("B", 7) {
		t.Error("the noop of a client that was barred counts")
	}
}

func TestAClientIsExpelledOnlyIfAnotherWaits(t *testing.T) { // checks 84 and 85: section 7.5
	const timeout = 5 * time.Minute
	// Times are in checks, of which there is one each 30 s; acts come after it.
	type act struct {
		at int
		do string // "A op 2": client, type, rsn
	}
	tests := []struct {
		name string
		acts []act
		want map[int]string // expelled at a check
	}{
		{"silent document", nil, nil},
		{"own ops wait for nobody", []act{{0, "A op 2"}, {0, "B refer 3"}}, nil},
		{"silent behind an op", []act{{0, "A op 2"}}, map[int]string{11: "B"}},
		{"the op came later", []act{{7, "A op 2"}}, map[int]string{18: "B"}},
		{"heard later", []act{{0, "A op 2"}, {4, "B refer 1"}}, map[int]string{15: "B"}},
		{"seen", []act{{0, "A op 2"}, {4, "B refer 3"}}, nil},
		{"seen one of two", []act{{0, "A op 2"}, {1, "A op 3"}, {4, "B refer 3"}}, map[int]string{15: "B"}},
		{"sees at the last moment", []act{{0, "A op 2"}, {9, "B noop 3"}}, nil},
		{"both behind each other", []act{{0, "A op 2"}, {0, "B op 2"}}, map[int]string{11: "A B"}},
		{"a noop waits for nobody", []act{{0, "A refer 2"}, {0, "B noop 2"}}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := newSequencer(0, 0)
			q.join("A", false)
			q.join("B", false)
			start := time.Unix(1_700_000_000, 0)
			for k := range 40 {
				now := start.Add(time.Duration(k) * 30 * time.Second)
				got := q.idle(now, timeout)
				if got := strings.Join(got, " "); got != test.want[k] {
					t.Errorf("expelled at check %d: %q, want %q", k, got, test.want[k])
				}
				for _, id := range got {
					q.leave(id)
				}
				if len(q.checks) > 12 {
					t.Fatalf("%d checks are kept, want those of 5 minutes", len(q.checks))
				}
				for _, a := range test.acts {
					if a.at == k {
						do(q, a.do)
					}
				}
			}
			if got := q.idle(start.Add(time.Hour), 0); got != nil {
				t.Errorf("expelled without a timeout: %v", got)
			}
		})
	}
}

// do has a client act: "A op 2" is its next op, of RSN 2.
func do(q *sequencer, text string) {
	var id, kind string
	var rsn int64
	fmt.Sscan(text, &id, &kind, &rsn)
	if kind == "refer" {
		q.refer(id, rsn)
	} else if w := q.writers[id]; w != nil {
		q.submit(id, submission{kind: kind, csn: w.csn + 1, rsn: rsn})
	}
}

func TestARestartContinuesTheNumbersAndGhostsLeaveFirst(t *testing.T) { // check 103: section 9
	q := newSequencer(40, 30, "A", "B")
	if got, ok := q.leave("A"); !ok || got != (ticket{41, 30, 40, -1}) {
		t.Errorf("the first ghost's leave: %+v, %v, want number 41, MSN 30", got, ok)
	}
	if got, ok := q.leave("B"); !ok || got != (ticket{42, 42, 41, -1}) {
		t.Errorf("the last ghost's leave: %+v, %v, want number 42, MSN 42", got, ok)
	}
	if got := q.join("C", false); got != (ticket{43, 42, 42, -1}) {
		t.Errorf("the first join: %+v, want number 43, MSN 42", got)
	}
	wantRefused(t, q, "A", submission{kind: "op", csn: 1, rsn: 42}, 400, "nonexistent_client", "Nonexistent client")
}

func TestWhatCannotBeStoredDidNotHappen(t *testing.T) { // check 78: section 5.4
	acts := map[string]struct {
		id string
		do func(q *sequencer)
	}{
		"join":  {"C", func(q *sequencer) { q.join("C", true) }},
		"leave": {"B", func(q *sequencer) { q.leave("B") }},
		"ops": {"B", func(q *sequencer) {
			do(q, "B op 4")
			do(q, "B noop 6")
			do(q, "B op 1")
		}},
		"reference": {"A", func(q *sequencer) { q.refer("A", 6) }},
		"answer":    {"", func(q *sequencer) { q.answer() }},
		"last leave": {"B", func(q *sequencer) {
			a := q.snapshot("A")
			q.leave("A")
			q.leave("B")
			q.answer()
			q.restore(a)
		}},
	}
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			q, untouched := talk(t), talk(t)
			s := q.snapshot(act.id)
			act.do(q)
			q.restore(s)
			if got, want := describe(q), describe(untouched); got != want {
				t.Errorf("restored\n%s\nwant\n%s", got, want)
			}
			for i, id := range []string{"B", "A", "B"} {
				csn := q.writers[id].csn + 1
				if got, want := sequenced(t, q, id, csn, int64(4+i)), sequenced(t, untouched, id, csn, int64(4+i)); got != want {
					t.Errorf("the next op: %+v, want %+v", got, want)
				}
			}
		})
	}
}

// describe writes all that counts of a sequencer, and finds heaps that are none.
func describe(q *sequencer) string {
	var rows []string
	for i, w := range q.rows {
		if q.writers[w.id] != w || w.at != i || w.rsn < q.rows[0].rsn {
			return "a broken heap"
		}
		rows = append(rows, fmt.Sprintln(w.id, w.csn, w.rsn, w.nacked, w.summaries))
	}
	slices.Sort(rows)
	return fmt.Sprintln(q.numbers, len(q.writers), rows)
}

func TestOpsWithoutASummaryHaveABound(t *testing.T) { // section 5.5
	q := talk(t) // at 6
	q.maxUnsummarized = 6
	sequenced(t, q, "B", 2, 6)
	const text = "Submit a summary before inserting additional operations"
	wantRefused(t, q, "B", submission{kind: "op", csn: 3, rsn: 7}, 429, "throttled", text)
	if r := q.submit("B", submission{kind: "noop", csn: 3, rsn: 7}); r.fate == opRefused {
		t.Errorf("a noop: %+v, want it taken", r)
	}
	sequenced(t, q, "A", 4, 7)
	if r := q.submit("A", submission{kind: "summarize", csn: 5, rsn: 7}); r.fate != opSequenced {
		t.Errorf("the summary: %+v, want it sequenced", r)
	}
	q.summarized = q.answer().sn
	sequenced(t, q, "B", 4, 7)
}

func TestAnOpDoesNotAllocate(t *testing.T) {
	asserting = false
	defer func() { asserting = true }()
	q := newSequencer(0, 0)
	for i := range 100 {
		q.join(fmt.Sprint(i), false)
	}
	csn := int64(0)
	got := testing.AllocsPerRun(1000, func() {
		csn++
		s := q.snapshot("7")
		q.submit("7", submission{kind: "op", csn: csn, rsn: q.sn})
		q.restore(s)
		q.submit("7", submission{kind: "op", csn: csn, rsn: q.sn})
		q.submit("7", submission{kind: "op", csn: csn, rsn: q.sn})
		q.refer("8", q.sn)
		q.noop()
	})
	if got != 0 {
		t.Errorf("%v allocations per op, want none", got)
	}
	if q.sn != 100+1001 {
		t.Errorf("at number %d, want %d", q.sn, 100+1001)
	}
}

// compareWithModel takes each three bytes for one step, and has the sequencer and the
// naive one take it.
func compareWithModel(t *testing.T, steps []byte) {
	q, m := newSequencer(0, 0), &naive{}
	ids := [...]string{"A", "B", "C", "D", "E"}
	now, joins := time.Unix(1_700_000_000, 0), map[string]int{}
	for i := 0; i+3 <= len(steps); i += 3 {
		kind, n, x := steps[i], int(steps[i+1]), int64(steps[i+2])
		slot := ids[n%len(ids)]
		id := fmt.Sprint(slot, joins[slot])
		undo, before := q.snapshot(id), m.clone()
		var got, want any
		switch kind % 10 {
		case 0:
			if q.writers[id] == nil {
				joins[slot]++
				id = fmt.Sprint(slot, joins[slot])
				undo = q.snapshot(id)
				got, want = q.join(id, n&8 != 0), m.join(id, n&8 != 0)
			}
		case 1:
			a, aok := q.leave(id)
			b, bok := m.leave(id)
			got, want = fmt.Sprint(a, aok), fmt.Sprint(b, bok)
		case 2:
			rsn := q.sn + 1 - x%16
			got, want = q.refer(id, rsn), m.refer(id, rsn)
		case 3:
			a, aok := q.noop()
			bok := m.msn() > m.sent
			var b ticket
			if bok {
				b = m.answer()
			}
			got, want = fmt.Sprint(a, aok), fmt.Sprint(b, bok)
		case 4:
			got, want = q.answer(), m.answer()
		case 5:
			now = now.Add(time.Duration(x%4) * time.Second)
			undo = q.snapshot(id)
			got, want = fmt.Sprint(q.idle(now, 5*time.Second)), fmt.Sprint(m.idle(now, 5*time.Second))
			before = m.clone()
		default:
			op := randomOp(q, id, n, x)
			r := q.submit(id, op)
			a, reason := r.ticket, [...]string{"", "duplicate", "absorbed", ""}[r.fate]
			if r.refusal != nil {
				reason = r.refusal.reason
			}
			b, why := m.submit(id, op)
			got, want = fmt.Sprint(a, reason), fmt.Sprint(b, why)
		}
		if got != want || q.sn != m.sn || q.msn != m.msn() || len(q.writers) != len(m.rows) {
			t.Fatalf("step %d (%d %s %d): %v at %d, MSN %d; the model says %v at %d, MSN %d",
				i/3, kind%10, id, x, got, q.sn, q.msn, want, m.sn, m.msn())
		}
		if kind >= 230 { // it could not be stored
			q.restore(undo)
			m = before
			if describe(q) == "a broken heap" {
				t.Fatalf("step %d: a broken heap", i/3)
			}
		}
	}
}

// randomOp is mostly the right next op of id.
func randomOp(q *sequencer, id string, n int, x int64) submission {
	op := submission{kind: "op", csn: 1, rsn: q.msn + x%4}
	if w := q.writers[id]; w != nil {
		op.csn, op.rsn = w.csn+1, max(w.rsn, q.sn-x%8)
	}
	switch n >> 3 {
	case 0:
		op.csn += x%5 - 2
	case 1:
		op.rsn = max(-1, q.msn+x%8-2) // the gate lets nothing smaller through
	case 2:
		op.rsn = -1
	case 3:
		op.rsn = q.sn + x%3
	case 4, 5, 6:
		op.kind, op.null = typeNoop, x&1 == 0
	case 7:
		op.kind = []string{"join", "leave", "summaryAck", "control", "propose"}[x%5]
	case 8:
		op.kind = typeSummarize
	case 9:
		op.kind, op.flaw = typeSummarize, "no head"
	}
	return op
}

func FuzzSequencer(f *testing.F) {
	f.Add([]byte("\x00A1\x00B1\x06P1\x06Q1\x02A1\x03A1\x01A1\x01B1"))
	f.Add([]byte{0, 0, 1, 0, 1, 1, 6, 90, 0, 16, 91, 0, 250, 90, 0, 5, 0, 3, 5, 0, 3, 5, 0, 3, 1, 0, 0, 241, 1, 0, 4, 0, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 3000 {
			steps = steps[:3000]
		}
		compareWithModel(t, steps)
	})
}

func BenchmarkSequencer(b *testing.B) {
	asserting = false
	defer func() { asserting = true }()
	for _, writers := range []int{1, 10, 1000} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			q := newSequencer(0, 0)
			ids := make([]string, writers)
			for i := range ids {
				ids[i] = fmt.Sprintf("6f1f0a52-5a54-4a0a-8f0e-%012d", i)
				q.join(ids[i], false)
			}
			b.ReportAllocs()
			n, csn := 0, int64(1)
			for b.Loop() {
				s := q.snapshot(ids[n])
				q.submit(ids[n], submission{kind: "op", csn: csn, rsn: max(q.msn, q.sn-int64(n%7))})
				_ = s
				if n++; n == writers {
					n, csn = 0, csn+1
				}
			}
		})
	}
}
