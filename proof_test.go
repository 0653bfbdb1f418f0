package realtime

import (
	"strings"
	"testing"
)

func TestTheProofPanicsWhereAClientWouldClose(t *testing.T) { // document.md section 1
	op := func(id string, csn, rsn int64) func(q *sequencer) {
		return func(q *sequencer) { q.submit(id, submission{kind: "op", csn: csn, rsn: rsn}) }
	}
	answer := func(q *sequencer) { q.answer() }
	tests := []struct {
		name  string
		fault func(q *sequencer)
		then  func(q *sequencer)
	}{
		{"1: a number is skipped", func(q *sequencer) { q.sn++ }, answer},
		{"1: a number is given twice", func(q *sequencer) { q.sn-- }, answer},
		{"2: the MSN falls", func(q *sequencer) { q.msn-- }, answer},
		{"2: the MSN leaps", func(q *sequencer) { q.msn++ }, answer},
		{"3: the MSN of an op is its number", func(q *sequencer) { q.sn, q.msn = q.sn-1, q.sn; q.proof.last.sn-- }, func(q *sequencer) { q.number("A", 4, 4) }},
		{"4: a CSN comes twice", func(q *sequencer) { q.writers["A"].csn-- }, op("A", 3, 5)},
		{"5: a CSN is missing", func(q *sequencer) { q.writers["A"].csn++ }, op("A", 5, 5)},
		{"6: an op after the leave", func(q *sequencer) { w := q.writers["A"]; q.leave("A"); q.enter(w) }, op("A", 4, 5)},
		{"6: an op before the join", func(q *sequencer) { q.enter(&writer{id: "C", rsn: 3}) }, op("C", 1, 5)},
		{"a client joins twice", func(q *sequencer) {}, func(q *sequencer) { q.join("A", false) }},
		{"a row is forgotten", func(q *sequencer) { q.expunge(q.writers["B"]) }, answer},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := talk(t)
			test.fault(q)
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "realtime: ") {
					t.Errorf("panic %q, want one of the proof", text)
				}
			}()
			test.then(q)
		})
	}
}
