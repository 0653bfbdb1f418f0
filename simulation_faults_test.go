package realtime

import (
	"container/heap"
	"slices"
	"strings"
	"testing"
	"time"
)

// faulty is a sequencer with one fault: each func that is not nil replaces a method.
type faulty struct {
	*sequencer
	onTicket func(q *sequencer, t ticket) ticket // of every message
	onJoin   func(q *sequencer, id string, summaries bool) ticket
	onLeave  func(q *sequencer, id string) (ticket, bool)
	onSubmit func(q *sequencer, id string, op submission) ruling
	onRefer  func(q *sequencer, id string, rsn int64) bool
	onNoop   func(q *sequencer) (ticket, bool)
	onIdle   func(q *sequencer) []string
	onUndo   func(q *sequencer, s snapshot)
}

func (f faulty) ticket(t ticket) ticket {
	if f.onTicket != nil && t.sn > 0 {
		return f.onTicket(f.sequencer, t)
	}
	return t
}

func (f faulty) join(id string, summaries bool) ticket {
	if f.onJoin != nil {
		return f.onJoin(f.sequencer, id, summaries)
	}
	return f.ticket(f.sequencer.join(id, summaries))
}

func (f faulty) leave(id string) (ticket, bool) {
	if f.onLeave != nil {
		return f.onLeave(f.sequencer, id)
	}
	t, ok := f.sequencer.leave(id)
	return f.ticket(t), ok
}

func (f faulty) submit(id string, op submission) ruling {
	if f.onSubmit != nil {
		return f.onSubmit(f.sequencer, id, op)
	}
	r := f.sequencer.submit(id, op)
	r.ticket = f.ticket(r.ticket)
	return r
}

func (f faulty) refer(id string, rsn int64) bool {
	if f.onRefer != nil {
		return f.onRefer(f.sequencer, id, rsn)
	}
	return f.sequencer.refer(id, rsn)
}

func (f faulty) noop() (ticket, bool) {
	if f.onNoop != nil {
		return f.onNoop(f.sequencer)
	}
	t, ok := f.sequencer.noop()
	return f.ticket(t), ok
}

func (f faulty) answer() ticket { return f.ticket(f.sequencer.answer()) }

func (f faulty) idle(now time.Time, timeout time.Duration) []string {
	silent := f.sequencer.idle(now, timeout)
	if f.onIdle != nil {
		return f.onIdle(f.sequencer)
	}
	return silent
}

func (f faulty) restore(s snapshot) {
	if f.onUndo != nil {
		f.onUndo(f.sequencer, s)
		return
	}
	f.sequencer.restore(s)
}

// before makes a fault of what happens to the row of a client before each op of it.
func before(change func(q *sequencer, w *writer, op *submission)) faulty {
	return faulty{onSubmit: func(q *sequencer, id string, op submission) ruling {
		if w := q.writers[id]; w != nil {
			change(q, w, &op)
		}
		return q.submit(id, op)
	}}
}

// TestTheSimulationFindsFaults has sequencers with a fault, and wants each of them found
// within a few histories: by the model, and where a member would suffer by the members'
// own checks alone.
func TestTheSimulationFindsFaults(t *testing.T) {
	asserting = false // it would find most of them first
	defer func() { asserting = true }()
	tests := []struct {
		name  string
		fault faulty
		felt  bool // by members
	}{
		{"the MSN is the largest RSN", faulty{onTicket: func(q *sequencer, t ticket) ticket {
			for _, w := range q.rows {
				t.msn = max(t.msn, w.rsn)
			}
			return t
		}}, true},
		{"the MSN is one behind", faulty{onTicket: func(q *sequencer, t ticket) ticket {
			t.msn = max(0, t.msn-1)
			return t
		}}, false},
		{"the MSN is the number", faulty{onTicket: func(q *sequencer, t ticket) ticket {
			t.msn = t.sn
			return t
		}}, true},
		{"a message refers to its own number", faulty{onTicket: func(q *sequencer, t ticket) ticket {
			t.rsn = t.sn
			return t
		}}, false},
		{"duplicates are accepted", before(func(q *sequencer, w *writer, op *submission) {
			w.csn = min(w.csn, op.csn-1)
		}), true},
		{"gaps are accepted", before(func(q *sequencer, w *writer, op *submission) {
			w.csn = max(w.csn, op.csn-1)
		}), true},
		{"the future is accepted", faulty{onSubmit: func(q *sequencer, id string, op submission) ruling {
			r, sn := ruling{}, q.sn
			q.sn = max(q.sn, op.rsn)
			r = q.submit(id, op)
			if q.sn > op.rsn && op.rsn > sn {
				q.sn, r.ticket.sn = sn+1, sn+1
			} else if op.rsn > sn {
				q.sn = sn
			}
			return r
		}}, true},
		{"the past is accepted", before(func(q *sequencer, w *writer, op *submission) {
			if op.rsn >= 0 {
				op.rsn = max(op.rsn, q.msn)
			}
		}), false},
		{"the barred go on", before(func(q *sequencer, w *writer, op *submission) { w.nacked = false }), false},
		{"forged types are accepted", before(func(q *sequencer, w *writer, op *submission) {
			if isServiceType(op.kind) {
				op.kind = "op"
			}
		}), false},
		{"everybody may summarize", before(func(q *sequencer, w *writer, op *submission) { w.summaries = true }), false},
		{"an op without RSN refers to itself", before(func(q *sequencer, w *writer, op *submission) {
			if op.rsn < 0 {
				w.rsn, op.rsn = q.sn+1, q.sn
				q.msn = max(q.msn, q.rows[0].rsn)
			}
		}), false},
		{"noops do not count", faulty{onSubmit: func(q *sequencer, id string, op submission) ruling {
			if op.kind == typeNoop {
				return ruling{fate: opAbsorbed}
			}
			return q.submit(id, op)
		}}, false},
		{"noops get numbers at once", before(func(q *sequencer, w *writer, op *submission) {
			if op.kind == typeNoop {
				op.null, q.sent = false, -1
			}
		}), false},
		{"a join touches other rows", faulty{onJoin: func(q *sequencer, id string, summaries bool) ticket {
			t := q.join(id, summaries)
			for _, w := range q.rows {
				w.csn, w.rsn = 0, q.sn
			}
			heap.Init(&q.rows)
			q.msn = q.sn
			return t
		}}, true},
		{"a writer enters at the last number", faulty{onJoin: func(q *sequencer, id string, summaries bool) ticket {
			t := q.join(id, summaries)
			q.place(q.writers[id], q.sn)
			return t
		}}, false},
		{"a leave keeps the row", faulty{onLeave: func(q *sequencer, id string) (ticket, bool) {
			return q.answer(), q.writers[id] != nil
		}}, false},
		{"nobody leaves", faulty{onLeave: func(*sequencer, string) (ticket, bool) { return ticket{}, false }}, true},
		{"a reference is believed", faulty{onRefer: func(q *sequencer, id string, rsn int64) bool {
			if w := q.writers[id]; w != nil {
				q.place(w, max(w.rsn, rsn))
			}
			return true
		}}, true},
		{"a reference is lost", faulty{onRefer: func(*sequencer, string, int64) bool { return false }}, false},
		{"no noop of the server", faulty{onNoop: func(*sequencer) (ticket, bool) { return ticket{}, false }}, false},
		{"noops of the server without news", faulty{onNoop: func(q *sequencer) (ticket, bool) { return q.answer(), true }}, false},
		{"nobody is expelled", faulty{onIdle: func(*sequencer) []string { return nil }}, false},
		{"everybody is expelled", faulty{onIdle: func(q *sequencer) (all []string) {
			for id := range q.writers {
				all = append(all, id)
			}
			slices.Sort(all)
			return all
		}}, false},
		{"nothing is undone", faulty{onUndo: func(*sequencer, snapshot) {}}, false},
		{"the numbers are not undone", faulty{onUndo: func(q *sequencer, s snapshot) {
			s.numbers = q.numbers
			q.restore(s)
		}}, false},
		{"the client is not undone", faulty{onUndo: func(q *sequencer, s snapshot) { q.numbers = s.numbers }}, true},
	}
	const few = 300
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			find := func(blind bool) (seed uint64) {
				s := simulation{blind: blind, document: aDesk(func(sn, msn int64, open ...string) orderer {
					f := test.fault
					f.sequencer = newSequencer(sn, msn, open...)
					return f
				})}
				if seed = s.check(0, few); seed < few && !blind {
					report := s.report(seed)
					if steps := strings.Count(report, "\n") - strings.Count(report, "\n\t"); steps > 22 {
						t.Errorf("the shortest history found has %d steps:\n%s", steps, report)
					}
				}
				return seed
			}
			model := find(false)
			t.Logf("found by history %d", model)
			if model == few {
				t.Errorf("not found in %d histories", few)
			}
			if test.felt && find(true) == few {
				t.Errorf("not found by the members in %d histories", few)
			}
		})
	}
}

// TestTheSimulationFindsFaultsOfARestart has documents that start again wrongly.
func TestTheSimulationFindsFaultsOfARestart(t *testing.T) {
	asserting = false
	defer func() { asserting = true }()
	for name, make := range map[string]newOrderer{
		"numbers begin anew":  func(sn, msn int64, open ...string) orderer { return newSequencer(0, 0, open...) },
		"a number is skipped": func(sn, msn int64, open ...string) orderer { return newSequencer(sn+min(sn, 1), msn, open...) },
		"the MSN is forgotten": func(sn, msn int64, open ...string) orderer {
			return newSequencer(sn, 0, open...)
		},
		"the ghosts are forgotten": func(sn, msn int64, open ...string) orderer { return newSequencer(sn, msn) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, blind := range []bool{false, true} {
				if seed := (simulation{document: aDesk(make), blind: blind}).check(0, 1000); seed == 1000 {
					t.Errorf("not found in 1000 histories, by the members alone: %v", blind)
				}
			}
		})
	}
}

// TestTheSimulationFindsFaultsOfADocument has documents that use a right sequencer
// wrongly.
func TestTheSimulationFindsFaultsOfADocument(t *testing.T) {
	for name, document := range map[string]func(w *world, h simHooks) simDocument{
		"it does not store": func(w *world, h simHooks) simDocument {
			store := h.store
			h.store = func(messages []simMessage) error {
				if messages[0].kind == "op" && messages[0].sn%7 == 0 {
					return nil
				}
				return store(messages)
			}
			return aDesk(aSequencer)(w, h)
		},
		"what it could not store it sends": func(w *world, h simHooks) simDocument {
			store := h.store
			h.store = func(messages []simMessage) error {
				if err := store(messages); err != errSimStore {
					return err
				}
				return nil
			}
			return aDesk(aSequencer)(w, h)
		},
		"it undoes what is stored": func(w *world, h simHooks) simDocument {
			store := h.store
			h.store = func(messages []simMessage) error {
				if err := store(messages); err != nil {
					return errSimStore
				}
				return nil
			}
			return aDesk(aSequencer)(w, h)
		},
		"it sends twice": func(w *world, h simHooks) simDocument {
			deliver := h.deliver
			h.deliver = func(id string, e simEvent) {
				if deliver(id, e); len(e.messages) == 3 {
					deliver(id, e)
				}
			}
			return aDesk(aSequencer)(w, h)
		},
		"it forgets a member": func(w *world, h simHooks) simDocument {
			deliver := h.deliver
			h.deliver = func(id string, e simEvent) {
				if id != "A2" || len(e.messages) != 2 {
					deliver(id, e)
				}
			}
			return aDesk(aSequencer)(w, h)
		},
		"the nack comes before the ops": func(w *world, h simHooks) simDocument {
			deliver, held := h.deliver, map[string]simEvent{}
			h.deliver = func(id string, e simEvent) {
				switch was, ok := held[id]; {
				case e.nack == nil && !ok && len(e.messages) == 1 && e.messages[0].author == id:
					held[id] = e
				case ok:
					deliver(id, e)
					deliver(id, was)
					delete(held, id)
				default:
					deliver(id, e)
				}
			}
			return aDesk(aSequencer)(w, h)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if seed := (simulation{document: document}).check(0, 1000); seed == 1000 {
				t.Error("not found in 1000 histories")
			}
		})
	}
}

// TestAHistoryAlwaysHasTheSameEnd: or a seed that failed would tell nothing.
func TestAHistoryAlwaysHasTheSameEnd(t *testing.T) {
	s := simulation{document: aDesk(aSequencer)}
	for seed := range uint64(50) {
		var traces [2][]string
		for i := range traces {
			w := s.world()
			w.tracing = true
			simRun(w, simHistory(seed))
			traces[i] = w.trace
		}
		if !slices.Equal(traces[0], traces[1]) {
			t.Fatalf("seed %d ends in two ways:\n%s\n\n%s", seed, strings.Join(traces[0], "\n"), strings.Join(traces[1], "\n"))
		}
	}
}

// TestHistoriesHaveEverything: a simulation in which something never happens proves
// nothing about it.
func TestHistoriesHaveEverything(t *testing.T) {
	var all strings.Builder
	s := simulation{document: aDesk(aSequencer)}
	for seed := range uint64(300) {
		w := s.world()
		w.tracing = true
		if wrong := simRun(w, simHistory(seed)); wrong != "" {
			t.Fatalf("seed %d: %s", seed, wrong)
		}
		all.WriteString(strings.Join(w.trace, "\n"))
	}
	for _, text := range []string{
		"nack nonexistent_client", "nack gap", "nack op_not_allowed", "nack invalid_rsn", "nack rsn_below_msn",
		"nack summary_scope", "nack unavailable", "stored noop of \"\"", "stored noop of \"B", "stored summarize",
		"stored summaryAck", "stored joinC", "stored leaveC", "dies", "lies", "expelled",
	} {
		if !strings.Contains(all.String(), text) {
			t.Errorf("%q never happens in 300 histories", text)
		}
	}
}
