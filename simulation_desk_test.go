package realtime

import (
	"errors"
	"slices"
	"time"
)

// simMessage is a sequenced message: what the log keeps and every member gets.
type simMessage struct {
	ticket
	author  string // "" for the server
	kind    string
	subject string // of a join or leave: the client
	what    int    // of an op: its contents, the same nowhere else; 0: none
}

type simOp struct {
	submission
	what int
}

// simEvent is one thing that the server sends to a connection.
type simEvent struct {
	messages []simMessage
	nack     *refusal
	closed   bool
}

// simDocument is the server's side of one document, which the simulation drives. Calls
// come one at a time, and what they cause has happened when they return.
type simDocument interface {
	// connect makes the writer id a member: it gets all messages after a number, its
	// own join, and what follows. False: not now, and there is no such member.
	connect(id string, after int64) bool
	submit(id string, ops []simOp)
	refer(id string, rsn int64)
	disconnect(id string)
	answer()            // the server has a message of its own
	tick(now time.Time) // the clock, at least as often as a timer is due
	crash()             // every connection is lost, and whatever is not in the log
}

// simHooks is what a document tells the simulation.
type simHooks struct {
	store   func(messages []simMessage) error
	deliver func(id string, e simEvent)
	idle    func(now time.Time) // before it looks for idle writers
}

var (
	errSimStore = errors.New("the log is full") // nothing is stored
	errSimCut   = errors.New("lost the log")    // stored, but nobody knows
	errSimTaken = errors.New("number taken")
)

// simLog is a log that fails when told so.
type simLog struct {
	messages []simMessage
	open     []string // clients with a join and no leave
	fails    int      // the next appends store nothing
	failed   int      // appends that stored nothing, so far
	cut      bool     // the next append is stored and reported as an error
	stored   func(messages []simMessage)
}

func (l *simLog) append(messages []simMessage) error {
	for i, m := range messages {
		if m.sn != int64(len(l.messages)+i+1) {
			return errSimTaken
		}
	}
	if l.fails > 0 {
		l.fails--
		l.failed++
		return errSimStore
	}
	for _, m := range messages {
		switch m.kind {
		case typeJoin:
			l.open = append(l.open, m.subject)
		case typeLeave:
			l.open = slices.DeleteFunc(l.open, func(id string) bool { return id == m.subject })
		}
	}
	l.messages = append(l.messages, messages...)
	l.stored(messages)
	if l.cut {
		l.cut = false
		return errSimCut
	}
	return nil
}

// orderer is a sequencer, or one with a fault.
type orderer interface {
	join(id string, summaries bool) ticket
	leave(id string) (ticket, bool)
	submit(id string, op submission) ruling
	refer(id string, rsn int64) bool
	noop() (ticket, bool)
	answer() ticket
	idle(now time.Time, timeout time.Duration) []string
	snapshot(id string) snapshot
	restore(s snapshot)
}

type newOrderer func(sn, msn int64, open ...string) orderer

const (
	simConsolidation = 250 * time.Millisecond
	simCheck         = 30 * time.Second
	simTimeout       = 30 * time.Second
)

// desk is the smallest document around a sequencer.
type desk struct {
	simHooks
	log     *simLog // for reading
	make    newOrderer
	q       orderer // nil after a crash
	members []string
	leaving []string // their leave is not stored yet
	now     time.Time
	noopAt  time.Time // zero: the timer is not running
	checkAt time.Time
}

// up starts the document if it is down: the ghosts leave before anything else.
func (d *desk) up() bool {
	if d.q == nil {
		sn, msn := int64(len(d.log.messages)), int64(0)
		if sn > 0 {
			msn = d.log.messages[sn-1].msn
		}
		d.q = d.make(sn, msn, d.log.open...)
		d.leaving = append(d.leaving[:0], d.log.open...)
	}
	for d.q != nil && len(d.leaving) > 0 {
		id := d.leaving[0]
		undo := d.q.snapshot(id)
		if t, ok := d.q.leave(id); ok && !d.send(undo, simMessage{ticket: t, kind: typeLeave, subject: id}) {
			return false
		}
		d.leaving = d.leaving[1:]
	}
	return d.q != nil
}

// send stores and delivers; if it cannot store, nothing has happened.
func (d *desk) send(undo snapshot, messages ...simMessage) bool {
	switch err := d.store(messages); err {
	case nil:
	case errSimStore:
		d.q.restore(undo)
		return false
	default: // the log has another head than this document believes
		d.crash()
		return false
	}
	d.noopAt = time.Time{}
	for _, id := range d.members {
		d.deliver(id, simEvent{messages: messages})
	}
	return true
}

func (d *desk) connect(id string, after int64) bool {
	if !d.up() {
		return false
	}
	undo := d.q.snapshot(id)
	t := d.q.join(id, id[0] == 'A')
	if !d.send(undo, simMessage{ticket: t, kind: typeJoin, subject: id}) {
		return false
	}
	d.members = append(d.members, id)
	d.deliver(id, simEvent{messages: d.log.messages[after:]})
	return true
}

func (d *desk) disconnect(id string) {
	d.members = slices.DeleteFunc(d.members, func(m string) bool { return m == id })
	if d.q != nil {
		d.leaving = append(d.leaving, id)
	}
	d.up()
}

func (d *desk) submit(id string, ops []simOp) {
	undo, timer := d.q.snapshot(id), d.noopAt
	var messages []simMessage
	var nack *refusal
	for _, op := range ops {
		r := d.q.submit(id, op.submission)
		switch r.fate {
		case opSequenced:
			messages = append(messages, simMessage{ticket: r.ticket, author: id, kind: op.kind, what: op.what})
			timer = time.Time{}
		case opAbsorbed:
			if timer.IsZero() {
				timer = d.now.Add(simConsolidation)
			}
		}
		if nack = r.refusal; nack != nil {
			break
		}
	}
	if len(messages) > 0 && !d.send(undo, messages...) {
		if d.q != nil {
			d.deliver(id, simEvent{nack: &refusal{code: 429, kind: throttlingError, reason: "unavailable", retryAfter: 5}})
		}
		return
	}
	d.noopAt = timer
	if nack != nil {
		d.deliver(id, simEvent{nack: nack})
	}
}

func (d *desk) refer(id string, rsn int64) {
	if d.q.refer(id, rsn) && d.noopAt.IsZero() {
		d.noopAt = d.now.Add(simConsolidation)
	}
}

func (d *desk) answer() {
	if d.up() {
		undo := d.q.snapshot("")
		d.send(undo, simMessage{ticket: d.q.answer(), kind: typeSummaryAck})
	}
}

func (d *desk) tick(now time.Time) {
	d.now = now
	if d.up() && !d.noopAt.IsZero() && !now.Before(d.noopAt) {
		d.noopAt = time.Time{}
		undo := d.q.snapshot("")
		if t, ok := d.q.noop(); ok && !d.send(undo, simMessage{ticket: t, kind: typeNoop}) {
			d.noopAt = now.Add(simConsolidation)
		}
	}
	if d.q != nil && !now.Before(d.checkAt) {
		d.checkAt = now.Add(simCheck)
		d.idle(now)
		d.leaving = append(d.leaving, d.q.idle(now, simTimeout)...)
		d.up()
	}
}

func (d *desk) crash() {
	d.q, d.leaving, d.noopAt = nil, nil, time.Time{}
	members := d.members
	d.members = nil
	for _, id := range members {
		d.deliver(id, simEvent{closed: true})
	}
}
