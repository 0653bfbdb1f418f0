package realtime

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// world is one document and the people who edit it, over a network that loses and
// repeats, with a log that fails and a server that dies. A history is a list of
// [simStep]; the same list always has the same end.
type world struct {
	doc    simDocument
	log    simLog
	now    time.Time
	people []*editor
	links  map[string]*simLink
	dying  []string // connections that are gone, which the server has not noticed
	whats  int      // contents made so far

	shared bool // the numbers outlive the server: who ordered them is elsewhere

	// What must happen, by the naive sequencer.
	blind      bool // leave it to the people to notice what is wrong
	model      *naive
	after      *naive       // if expected is stored
	expected   []simMessage // of the submission under way
	connecting string
	ghosts     []string // of a document that has crashed: they leave first
	due        []string // idle
	newsAt     time.Time

	submitting string
	nacks      []string // reasons, of the submission under way
	wrong      string   // the first thing that is wrong
	trace      []string
	tracing    bool
}

// simLink is one connection of a person. Each direction is first in, first out.
type simLink struct {
	id    string
	owner *editor
	out   [][]simOp
	last  []simOp // the submission that arrived last
	in    []simEvent
	gone  bool
}

func newWorld(document func(w *world, h simHooks) simDocument) *world {
	w := &world{model: &naive{}, links: map[string]*simLink{}, now: time.Unix(1_700_000_000, 0)}
	for i := range 4 {
		w.people = append(w.people, w.editor(string(rune('A'+i))))
	}
	w.log.stored = w.stored
	w.doc = document(w, simHooks{store: w.log.append, deliver: w.deliver, idle: w.idle})
	return w
}

func (w *world) editor(name string) *editor {
	return &editor{w: w, name: name, open: map[string]int64{}}
}

func (w *world) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
		w.note("WRONG: %s", w.wrong)
	}
}

func (w *world) note(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, "\t"+fmt.Sprintf(format, args...))
	}
}

// deliver takes what the server sends to a connection.
func (w *world) deliver(id string, e simEvent) {
	l := w.links[id]
	switch {
	case e.nack != nil:
		w.note("%s: nack %s", id, e.nack.reason)
		if id != w.submitting {
			w.fail("%s gets a nack %s, and it was %q who submitted", id, e.nack.reason, w.submitting)
		}
		w.nacks = append(w.nacks, e.nack.reason)
	case e.closed:
		l.gone = true
	}
	l.in = append(l.in, e)
}

// stored takes what was appended to the log, and holds it against the model.
func (w *world) stored(messages []simMessage) {
	for i, m := range messages {
		w.note("stored %s", m)
		if w.blind {
			continue
		}
		var want ticket
		switch {
		case m.author != "":
			if i == 0 && slices.Equal(messages, w.expected) {
				w.model, w.expected = w.after, nil
			} else if i == 0 {
				w.fail("stored %v, want %v", messages, w.expected)
			}
			continue
		case m.kind == typeJoin:
			if want = w.model.join(m.subject, m.subject[0] == 'A'); m.subject != w.connecting {
				w.fail("a join of %s, who does not connect", m.subject)
			}
		case m.kind == typeLeave:
			if !w.links[m.subject].gone && !slices.Contains(w.due, m.subject) {
				w.fail("a leave of %s, who is there", m.subject)
			}
			want, _ = w.model.leave(m.subject)
		case m.kind == typeNoop && w.model.msn() <= w.model.sent:
			w.fail("a noop of the server without news")
		default:
			want = w.model.answer()
		}
		if m.ticket != want {
			w.fail("stored %s, want the numbers %+v", m, want)
		}
		if m.kind != typeLeave && len(w.ghosts) > 0 {
			w.fail("stored %s before the ghosts %v left", m, w.ghosts)
		}
		w.ghosts = slices.DeleteFunc(w.ghosts, func(id string) bool { return m.kind == typeLeave && id == m.subject })
	}
}

func (m simMessage) String() string {
	return fmt.Sprintf("%s%s of %q: %+v, contents %d", m.kind, m.subject, m.author, m.ticket, m.what)
}

// idle is the model's part of a check for idle writers.
func (w *world) idle(now time.Time) { w.due = append(w.due, w.model.idle(now, simTimeout)...) }

// crashed begins the model anew, from the log.
func (w *world) crashed() {
	if !w.shared {
		w.model = &naive{}
		if n := len(w.log.messages); n > 0 {
			last := w.log.messages[n-1]
			w.model.sn, w.model.sent = last.sn, last.msn
		}
		for _, id := range w.log.open {
			w.model.rows = append(w.model.rows, naiveRow{id: id, rsn: w.model.sent})
		}
	}
	w.ghosts, w.due, w.expected = slices.Clone(w.log.open), nil, nil
	for _, l := range w.links {
		l.gone = true
	}
}

// attend runs one call of the document, and notices if it crashes by it.
func (w *world) attend(call func()) {
	cut := w.log.cut
	call()
	if cut && !w.log.cut {
		w.crashed()
	}
	if news := w.model.msn() > w.model.sent; !news {
		w.newsAt = time.Time{}
	} else if w.newsAt.IsZero() {
		w.newsAt = w.now
	}
}

func (w *world) tick(by time.Duration) {
	w.now = w.now.Add(by)
	failed := w.log.failed
	w.attend(func() { w.doc.tick(w.now) })
	if w.log.failed > failed {
		w.newsAt = time.Time{} // the next chance is as good as the first
		return
	}
	if !w.blind && !w.newsAt.IsZero() && w.now.Sub(w.newsAt) >= simConsolidation {
		w.fail("the MSN %d is news for %v, and the last message said %d", w.model.msn(), w.now.Sub(w.newsAt), w.model.sent)
	}
	for _, id := range w.due {
		if !w.blind && w.model.row(id) != nil {
			w.fail("%s is idle, and was not expelled", id)
		}
	}
	w.due = nil
}

// arrive brings the oldest submission of a connection to the server.
func (w *world) arrive(l *simLink) {
	ops := l.out[0]
	l.out, l.last = l.out[1:], ops
	switch {
	case l.gone:
		l.out = nil
	case ops[0].kind == typeRefer:
		w.model.refer(l.id, ops[0].rsn)
		w.attend(func() { w.doc.refer(l.id, ops[0].rsn) })
	default:
		w.submit(l.id, ops)
	}
}

// submit has the server take ops, and wants of it what the model does.
func (w *world) submit(id string, ops []simOp) {
	after, reason := w.model.clone(), ""
	var expected []simMessage
	for _, op := range ops {
		t, why := after.submit(id, op.submission)
		if why == "" {
			expected = append(expected, simMessage{ticket: t, author: id, kind: op.kind, what: op.what})
		} else if reason = why; why != "duplicate" && why != "absorbed" {
			break
		}
		reason = ""
	}
	w.submitting, w.nacks, w.expected, w.after = id, nil, expected, after
	w.attend(func() { w.doc.submit(id, ops) })
	w.submitting = ""
	if w.blind {
		return
	}
	switch {
	case w.links[id].gone:
		reason = "" // it died
	case len(expected) == 0:
		w.model = after
	case w.expected != nil:
		reason = "unavailable"
	}
	if got := strings.Join(w.nacks, " "); got != reason {
		w.fail("nacks %q for %s, want %q", got, id, reason)
	}
	w.expected = nil
}

// bury has the server notice the oldest connection that is gone.
func (w *world) bury() {
	if len(w.dying) > 0 {
		id := w.dying[0]
		w.dying = w.dying[1:]
		w.attend(func() { w.doc.disconnect(id) })
	}
}

// rest lets everything under way arrive, over a network and a log that are well again.
func (w *world) rest() {
	w.log.fails, w.log.cut = 0, false
	for _, p := range w.people {
		p.edit(1, asSeen) // it shows what was lost before
	}
	w.tick(simConsolidation) // what failed is tried again
	for range 30 {
		quiet := len(w.dying) == 0
		for len(w.dying) > 0 {
			w.bury()
		}
		for _, p := range w.people {
			if p.link == nil {
				p.connect()
				quiet = false
			}
			for p.link != nil && len(p.link.out) > 0 && w.wrong == "" {
				w.arrive(p.link)
				quiet = false
			}
			for p.link != nil && len(p.link.in) > 0 && w.wrong == "" {
				p.receive()
				quiet = false
			}
		}
		if quiet || w.wrong != "" {
			return
		}
	}
	w.fail("no rest")
}

// audit looks at the end: everybody has seen everything, and nothing is lost.
func (w *world) audit() {
	reader := w.editor("a late reader")
	times := make([]int, w.whats+1)
	for _, m := range w.log.messages {
		reader.read(m)
		times[m.what]++
	}
	for what, n := range times[1:] {
		if n != 1 {
			w.fail("contents %d are %d times in the log", what+1, n)
		}
	}
	var connected []string
	for _, p := range w.people {
		connected = append(connected, p.link.id)
		if int(p.seen) != len(w.log.messages) || len(p.pending) > 0 || len(p.echo) > 0 {
			w.fail("%s has seen %d of %d messages, and waits for contents %v and CSNs %v",
				p.name, p.seen, len(w.log.messages), p.pending, p.echo)
		}
	}
	slices.Sort(w.log.open)
	if !slices.Equal(w.log.open, connected) {
		w.fail("in the log %v are open, connected are %v", w.log.open, connected)
	}
}
