package realtime

import (
	"strconv"
)

// typeRefer is an "op" that travels as the event noop.
const typeRefer = "refer"

// editor edits with one connection after the other, as a Fluid container does, and
// checks what a Fluid container checks (document.md, section 1).
type editor struct {
	w       *world
	name    string
	links   int
	seen    int64
	msn     int64
	open    map[string]int64 // who has joined and not left, with the last CSN
	pending []int            // contents that were not seen in the stream, oldest first

	link   *simLink // nil: not connected
	active bool     // own join seen
	csn    int64
	echo   []int64 // CSNs of this connection that must come back
}

func (p *editor) connect() {
	p.links++
	l := &simLink{id: p.name + strconv.Itoa(p.links), owner: p}
	p.w.links[l.id], p.w.connecting = l, l.id
	ok := false
	p.w.attend(func() { ok = p.w.doc.connect(l.id, p.seen) })
	p.w.connecting = ""
	if !ok {
		l.gone = true
		return
	}
	p.link, p.csn = l, 0
}

// drop ends the connection. The server notices later, and what is under way is lost.
func (p *editor) drop() {
	p.link.out, p.link.in, p.link.gone = nil, nil, true
	p.w.dying = append(p.w.dying, p.link.id)
	p.link, p.active, p.echo = nil, false, nil
}

// send submits contents. An op without a wish for its RSN refers to what p has seen.
func (p *editor) send(rsn func(int64) int64, whats ...int) {
	var ops []simOp
	for _, what := range whats {
		p.csn++
		p.echo = append(p.echo, p.csn)
		ops = append(ops, simOp{submission{kind: "op", csn: p.csn, rsn: rsn(p.seen)}, what})
	}
	if len(ops) > 0 {
		p.link.out = append(p.link.out, ops)
	}
}

func asSeen(seen int64) int64 { return seen }

// edit makes n contents, and sends them if p is connected.
func (p *editor) edit(n int, rsn func(int64) int64) {
	var whats []int
	for range n {
		p.w.whats++
		whats = append(whats, p.w.whats)
	}
	p.pending = append(p.pending, whats...)
	if p.active {
		p.send(rsn, whats...)
	}
}

// submit sends one op without contents of its own.
func (p *editor) submit(kind string, rsn int64, null bool) {
	p.csn++
	if kind == typeSummarize {
		p.echo = append(p.echo, p.csn)
	}
	p.link.out = append(p.link.out, []simOp{{submission: submission{kind: kind, csn: p.csn, rsn: rsn, null: null}}})
}

// receive takes the oldest event of the connection.
func (p *editor) receive() {
	l := p.link
	e := l.in[0]
	l.in = l.in[1:]
	if e.nack != nil || e.closed {
		p.drop()
		return
	}
	for _, m := range e.messages {
		p.read(m)
		if p.link != l {
			p.w.note("%s: expelled", l.id)
			return
		}
	}
}

func (p *editor) read(m simMessage) {
	w := p.w
	last, open := p.open[m.author]
	switch {
	case m.sn != p.seen+1:
		w.fail("%s gets %d after %d", p.name, m.sn, p.seen)
		return
	case int(m.sn) > len(w.log.messages) || w.log.messages[m.sn-1] != m:
		w.fail("%s gets %s, which is not what the log has", p.name, m)
	case m.msn < p.msn:
		w.fail("%s sees the MSN fall from %d to %d at %d", p.name, p.msn, m.msn, m.sn)
	case m.msn > m.sn, m.author != "" && m.msn == m.sn:
		w.fail("%s sees the MSN %d at %d", p.name, m.msn, m.sn)
	case m.author != "" && !open:
		w.fail("%s sees %s of one who is not there", p.name, m)
	case m.author != "" && m.csn <= last:
		w.fail("%s sees CSN %d of %s after %d", p.name, m.csn, m.author, last)
	}
	p.seen, p.msn = m.sn, m.msn
	switch {
	case m.author != "":
		p.open[m.author] = m.csn
		if w.links[m.author].owner == p {
			p.readOwn(m)
		}
	case m.kind == typeJoin:
		p.open[m.subject] = 0
		if p.link != nil && m.subject == p.link.id {
			p.active = true
			p.send(asSeen, p.pending...)
		}
	case m.kind == typeLeave:
		delete(p.open, m.subject)
		if p.link != nil && m.subject == p.link.id {
			p.drop()
		}
	}
}

// readOwn takes an op of p as its acknowledgement: each content once and in order, and
// of this connection each CSN but those of noops.
func (p *editor) readOwn(m simMessage) {
	if m.what != 0 {
		if len(p.pending) == 0 || p.pending[0] != m.what {
			p.w.fail("%s sees its contents %d at %d, and waits for %v", p.name, m.what, m.sn, p.pending)
			return
		}
		p.pending = p.pending[1:]
	}
	if p.link == nil || m.author != p.link.id || m.kind == typeNoop {
		return
	}
	if len(p.echo) == 0 || p.echo[0] != m.csn {
		p.w.fail("%s sees its CSN %d at %d, and waits for %v", p.name, m.csn, m.sn, p.echo)
		return
	}
	p.echo = p.echo[1:]
}
