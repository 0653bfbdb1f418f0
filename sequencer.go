package realtime

import (
	"container/heap"
	"fmt"
	"slices"
	"time"
)

// sequencer gives the messages of one document their numbers, and says which ops
// must not get one. It is a pure state machine: no lock, no clock, no I/O; what it
// is told in the same order it answers in the same way. The rules are those of
// section 5.3 of document.md, each step of which [sequencer.submit] names.
//
// An op costs O(log n) for n writers and no allocation unless it is refused.
type sequencer struct {
	numbers
	writers map[string]*writer
	rows    rows // the same writers

	// An op of a client that may not summarize is refused once more than
	// maxUnsummarized numbers were given out since summarized, the number of the
	// last acknowledged summary. 0: never.
	maxUnsummarized, summarized int64

	rounds int64   // calls of idle so far
	checks []check // the last of them, as far back as the timeout

	proof *proof // nil but in tests
}

// numbers is what a sequencer knows beside its writers.
type numbers struct {
	sn   int64 // of the last message
	msn  int64 // the smallest rsn of all writers; without any, sn
	sent int64 // msn of the last message: lastSentMSN

	// The last op of all, and the last one of any other client than its author:
	// one of them is the last one that a given client did not send itself.
	latest, other lastOp
}

type lastOp struct {
	author string
	sn     int64
}

// writer is a connection of mode write, from its join to its leave.
type writer struct {
	id        string
	summaries bool  // may summarize
	nacked    bool  // fell below the MSN: nothing more is taken from it
	csn       int64 // of its last op, noops included
	rsn       int64 // the last number that it has seen for certain
	round     int64 // calls of idle before it was last heard
	at        int   // index in rows
}

// newSequencer continues a document after its message sn, whose MSN was msn: both
// are 0 for a new one. open are the clients that have a join and no leave in the
// log, in no order. Nothing is to be taken from them: the caller has each of them
// leave before anything else (section 9).
func newSequencer(sn, msn int64, open ...string) *sequencer {
	q := &sequencer{numbers: numbers{sn: sn, msn: msn, sent: msn}, writers: map[string]*writer{}}
	for _, id := range open {
		if q.writers[id] == nil {
			q.enter(&writer{id: id, rsn: msn})
		}
	}
	q.prove()
	return q
}

// prove begins a proof at what q is now, in tests.
func (q *sequencer) prove() {
	if !asserting {
		return
	}
	q.proof = &proof{last: ticket{sn: q.sn, msn: q.sent}, open: map[string]*stand{}}
	for id, w := range q.writers {
		q.proof.joined(id, w.csn, w.rsn)
	}
}

// join numbers the join message of a new writer, whose id no other has ever had. It
// enters at the MSN, since its first op may refer to any number from there on.
func (q *sequencer) join(id string, summaryScope bool) ticket {
	q.enter(&writer{id: id, summaries: summaryScope, rsn: q.msn, round: q.rounds})
	q.proof.joined(id, 0, q.msn)
	return q.answer()
}

// leave numbers the leave message of a writer, which is forgotten. It is false for a
// client that is none, or is no longer.
func (q *sequencer) leave(id string) (ticket, bool) {
	w := q.writers[id]
	if w == nil {
		return ticket{}, false
	}
	q.expunge(w)
	q.proof.left(id)
	return q.answer(), true
}

// answer numbers a message of the server's own.
func (q *sequencer) answer() ticket { return q.number("", q.sn, -1) }

// noop numbers the noop of the server if there is news in it, that is, if the MSN has
// risen since the last message (7.3).
func (q *sequencer) noop() (ticket, bool) {
	if q.msn <= q.sent {
		return ticket{}, false
	}
	return q.answer(), true
}

// refer takes the event noop of a writer, by which it says how far it has seen (7.1),
// and reports whether it counts. If so, the consolidation timer must run: this may
// have raised the MSN.
func (q *sequencer) refer(id string, rsn int64) bool {
	w := q.writers[id]
	if w == nil || w.nacked || rsn > q.sn {
		return false
	}
	w.round = q.rounds
	q.place(w, max(w.rsn, rsn))
	return true
}

// submit takes one op of the client id through steps a to j of section 5.3. After
// [opRefused] nothing more may be submitted of the same submission: it could only
// be gaps.
func (q *sequencer) submit(id string, op submission) ruling {
	w := q.writers[id]
	switch {
	case w == nil || w.nacked: // a
		return refuse(400, badRequestError, "nonexistent_client", "Nonexistent client")
	case op.csn <= w.csn: // b
		return ruling{fate: opDuplicate}
	case op.csn > w.csn+1: // c
		return refuse(400, badRequestError, "gap", "Gap detected in incoming op")
	case isServiceType(op.kind): // d
		return refuse(400, badRequestError, "op_not_allowed", "Op not allowed")
	case op.rsn > q.sn: // e
		return refuse(400, badRequestError, "invalid_rsn",
			fmt.Sprintf("Invalid RSN: current SN is %d, received %d", q.sn, op.rsn))
	case op.rsn != -1 && op.rsn < q.msn: // f
		w.csn, w.nacked = op.csn, true
		q.place(w, q.msn)
		return refuse(400, badRequestError, "rsn_below_msn", fmt.Sprintf("Refseq %d < %d", op.rsn, q.msn))
	}
	if r := q.summary(w, op); r.fate == opRefused { // g
		return r
	}
	if op.rsn == -1 { // h: the op's own number would break "MSN < SN" for a writer alone
		op.rsn = q.sn
	}
	w.csn, w.round = op.csn, q.rounds
	q.place(w, op.rsn)
	if op.kind == typeNoop && (op.null || q.msn <= q.sent) { // i
		q.proof.absorbed(id, op.csn)
		return ruling{fate: opAbsorbed}
	}
	t := q.number(id, op.rsn, op.csn) // j
	if op.kind != typeNoop {
		q.noteOp(id)
	}
	return ruling{ticket: t}
}

// summary is step g, and the bound on what may come without a summary (5.5).
func (q *sequencer) summary(w *writer, op submission) ruling {
	switch {
	case op.kind == typeSummarize && !w.summaries:
		return refuse(403, invalidScopeError, "summary_scope",
			"Client "+w.id+" does not have summary permission")
	case op.kind == typeSummarize && op.flaw != "":
		return refuse(400, badRequestError, "malformed", op.flaw)
	case q.maxUnsummarized > 0 && !w.summaries && op.kind != typeNoop && q.sn-q.summarized > q.maxUnsummarized:
		r := refuse(429, throttlingError, "throttled", "Submit a summary before inserting additional operations")
		r.refusal.retryAfter = 10
		return r
	}
	return ruling{}
}

// number gives out the next number, to a message of the client id or, for "", of the
// server.
func (q *sequencer) number(id string, rsn, csn int64) ticket {
	q.sn++
	if len(q.rows) == 0 {
		q.msn = q.sn
	}
	q.sent = q.msn
	t := ticket{q.sn, q.msn, rsn, csn}
	q.proof.numbered(id, t)
	return t
}

func (q *sequencer) enter(w *writer) {
	q.writers[w.id] = w
	heap.Push(&q.rows, w)
	q.msn = q.rows[0].rsn
}

func (q *sequencer) expunge(w *writer) {
	delete(q.writers, w.id)
	heap.Remove(&q.rows, w.at)
	if len(q.rows) > 0 {
		q.msn = q.rows[0].rsn
	}
}

// place gives w another rsn, which is not below the MSN.
func (q *sequencer) place(w *writer, rsn int64) {
	w.rsn = rsn
	heap.Fix(&q.rows, w.at)
	q.msn = q.rows[0].rsn
	q.proof.placed(w.id, rsn)
}

// rows is a heap of writers, that with the smallest rsn first.
type rows []*writer

func (r rows) Len() int           { return len(r) }
func (r rows) Less(i, j int) bool { return r[i].rsn < r[j].rsn }

func (r rows) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].at, r[j].at = i, j
}

func (r *rows) Push(w any) {
	w.(*writer).at = len(*r)
	*r = append(*r, w.(*writer))
}

func (r *rows) Pop() any {
	n := len(*r) - 1
	w := (*r)[n]
	(*r)[n] = nil
	*r = (*r)[:n]
	return w
}

// snapshot is a sequencer as it was, for the case that what it did next cannot be
// stored: then nothing of it counts (5.4).
type snapshot struct {
	id      string
	numbers numbers
	was     writer
	present bool
}

// snapshot remembers the sequencer before a join, a leave or any number of ops of the
// client id, or messages of the server. It costs the same however many writers there
// are.
func (q *sequencer) snapshot(id string) snapshot {
	s := snapshot{id: id, numbers: q.numbers}
	if w := q.writers[id]; w != nil {
		s.was, s.present = *w, true
	}
	return s
}

// restore undoes what s.id and the server did since the snapshot. If there were several
// snapshots since, they are restored first, the last one first.
func (q *sequencer) restore(s snapshot) {
	w := q.writers[s.id]
	switch {
	case w != nil && s.present:
		s.was.at = w.at
		*w = s.was
		heap.Fix(&q.rows, w.at)
	case w != nil:
		q.expunge(w)
	case s.present:
		w := s.was
		q.enter(&w)
	}
	q.numbers = s.numbers
	if q.proof != nil {
		q.prove()
	}
}

// check is one call of idle, as the following ones see it.
type check struct {
	at            time.Time
	latest, other lastOp
}

// idle returns the writers to expel (7.5), in the order of their ids: those that have
// been silent for timeout while an op of another client, above their rsn, has been
// waiting as long. 0 is never. It is to be called at regular times, and what
// happened between two calls counts as of the later one; the memory it needs is one
// entry for each call within timeout, however long the document is.
//
// The caller has each of them leave. Noops do not wait for anybody: if they did, two
// quiet clients would keep each other from being quiet.
func (q *sequencer) idle(now time.Time, timeout time.Duration) (silent []string) {
	if timeout <= 0 {
		return nil
	}
	due := now.Add(-timeout)
	for len(q.checks) > 1 && !q.checks[1].at.After(due) {
		q.checks = slices.Delete(q.checks, 0, 1)
	}
	if len(q.checks) > 0 && !q.checks[0].at.After(due) {
		silent = q.silentSince(q.rounds-int64(len(q.checks)), q.checks[0])
	}
	q.checks = append(q.checks, check{now, q.latest, q.other})
	q.rounds++
	return silent
}

// silentSince returns who was last heard before the check of a round, and has not seen
// the last op of another client from before it.
func (q *sequencer) silentSince(round int64, c check) (silent []string) {
	for _, w := range q.rows {
		foreign := c.latest
		if foreign.author == w.id {
			foreign = c.other
		}
		if w.round <= round && foreign.sn > w.rsn {
			silent = append(silent, w.id)
		}
	}
	slices.Sort(silent)
	return silent
}

// noteOp remembers the author of the op that was just numbered.
func (n *numbers) noteOp(author string) {
	if n.latest.author != author {
		n.other = n.latest
	}
	n.latest = lastOp{author, n.sn}
}
