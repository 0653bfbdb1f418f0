package realtime

import (
	"slices"
	"time"
)

// naive is the sequencer once more, from the text of sections 5.3, 6 and 7 of
// document.md, and without a thought for speed: what the other one is held against.
type naive struct {
	sn, sent int64
	rows     []naiveRow
	ops      []naiveOp   // all that were sequenced, without noops
	checks   []time.Time // all calls of idle
}

type naiveRow struct {
	id                string
	summaries, nacked bool
	csn, rsn          int64
	round             int // checks before it was last heard
}

type naiveOp struct {
	author string
	sn     int64
	round  int
}

// clone is how the model undoes: by keeping the old one.
func (m *naive) clone() *naive {
	c := *m
	c.rows, c.ops, c.checks = slices.Clone(m.rows), slices.Clip(m.ops), slices.Clip(m.checks)
	return &c
}

func (m *naive) row(id string) *naiveRow {
	for i := range m.rows {
		if m.rows[i].id == id {
			return &m.rows[i]
		}
	}
	return nil
}

func (m *naive) msn() int64 {
	if len(m.rows) == 0 {
		return m.sent
	}
	least := m.rows[0].rsn
	for _, w := range m.rows {
		least = min(least, w.rsn)
	}
	return least
}

func (m *naive) number(rsn, csn int64) ticket {
	m.sn++
	if m.sent = m.msn(); len(m.rows) == 0 {
		m.sent = m.sn
	}
	return ticket{m.sn, m.sent, rsn, csn}
}

func (m *naive) answer() ticket { return m.number(m.sn, -1) }

func (m *naive) join(id string, summaries bool) ticket {
	m.rows = append(m.rows, naiveRow{id: id, summaries: summaries, rsn: m.msn(), round: len(m.checks)})
	return m.answer()
}

func (m *naive) leave(id string) (ticket, bool) {
	if m.row(id) == nil {
		return ticket{}, false
	}
	m.rows = slices.DeleteFunc(m.rows, func(w naiveRow) bool { return w.id == id })
	return m.answer(), true
}

func (m *naive) refer(id string, rsn int64) bool {
	w := m.row(id)
	if w == nil || w.nacked || rsn > m.sn {
		return false
	}
	w.rsn, w.round = max(w.rsn, rsn), len(m.checks)
	return true
}

// submit returns the reason of a nack, "" for a message, or what else became of the op.
func (m *naive) submit(id string, op submission) (ticket, string) {
	w := m.row(id)
	service := []string{"join", "leave", "noClient", "control", "summaryAck", "summaryNack"}
	switch {
	case w == nil || w.nacked:
		return ticket{}, "nonexistent_client"
	case op.csn <= w.csn:
		return ticket{}, "duplicate"
	case op.csn > w.csn+1:
		return ticket{}, "gap"
	case slices.Contains(service, op.kind):
		return ticket{}, "op_not_allowed"
	case op.rsn > m.sn:
		return ticket{}, "invalid_rsn"
	case op.rsn >= 0 && op.rsn < m.msn():
		w.csn, w.rsn, w.nacked = op.csn, m.msn(), true
		return ticket{}, "rsn_below_msn"
	case op.kind == "summarize" && !w.summaries:
		return ticket{}, "summary_scope"
	case op.kind == "summarize" && op.flaw != "":
		return ticket{}, "malformed"
	case op.rsn < 0:
		op.rsn = m.sn
	}
	w.csn, w.rsn, w.round = op.csn, op.rsn, len(m.checks)
	if op.kind == "noop" && (op.null || m.msn() <= m.sent) {
		return ticket{}, "absorbed"
	}
	t := m.number(op.rsn, op.csn)
	if op.kind != "noop" {
		m.ops = append(m.ops, naiveOp{id, t.sn, len(m.checks)})
	}
	return t, ""
}

// idle counts from the last check that is long enough ago.
func (m *naive) idle(now time.Time, timeout time.Duration) (silent []string) {
	k := len(m.checks) - 1
	for k >= 0 && now.Sub(m.checks[k]) < timeout {
		k--
	}
	m.checks = append(m.checks, now)
	for _, w := range m.rows {
		waits := func(op naiveOp) bool { return op.author != w.id && op.sn > w.rsn && op.round <= k }
		if w.round <= k && slices.ContainsFunc(m.ops, waits) {
			silent = append(silent, w.id)
		}
	}
	slices.Sort(silent)
	return silent
}
