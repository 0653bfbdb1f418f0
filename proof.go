package realtime

import "fmt"

// asserting makes every new sequencer keep a [proof]. The tests of this package set it
// before they run; it is false for everybody else.
var asserting bool

// proof follows what a sequencer gives out, in books of its own, and panics where a
// client would close its container (document.md, section 1). The methods of nil do
// nothing.
type proof struct {
	last ticket
	open map[string]*stand // clients between join and leave
}

// stand is how far a client has come.
type stand struct{ csn, rsn int64 }

func (p *proof) joined(id string, csn, rsn int64) {
	if p == nil {
		return
	}
	if p.open[id] != nil {
		panic(fmt.Sprintf("realtime: %s joins twice", id))
	}
	p.open[id] = &stand{csn, rsn}
}

func (p *proof) left(id string) {
	if p != nil {
		delete(p.open, id)
	}
}

func (p *proof) placed(id string, rsn int64) {
	if p == nil {
		return
	}
	if p.open[id] == nil {
		panic(fmt.Sprintf("realtime: %s, which has no join, refers to %d", id, rsn))
	}
	p.open[id].rsn = rsn
}

// absorbed takes a noop: only its csn may be missing from a client's own echo.
func (p *proof) absorbed(id string, csn int64) {
	if p == nil {
		return
	}
	c := p.open[id]
	if c == nil || csn != c.csn+1 {
		panic(fmt.Sprintf("realtime: csn %d of %s, which has %+v", csn, id, c))
	}
	c.csn = csn
}

// numbered takes a message of the client id or, for "", of the server.
func (p *proof) numbered(id string, t ticket) {
	if p == nil {
		return
	}
	least := t.sn
	for _, c := range p.open {
		least = min(least, c.rsn)
	}
	switch {
	case t.sn != p.last.sn+1:
		panic(fmt.Sprintf("realtime: number %d after %d", t.sn, p.last.sn))
	case t.msn < p.last.msn, t.msn != least, id != "" && t.msn == t.sn:
		panic(fmt.Sprintf("realtime: MSN %d at number %d, after %d; it is %d", t.msn, t.sn, p.last.msn, least))
	case t.rsn >= t.sn:
		panic(fmt.Sprintf("realtime: number %d refers to %d", t.sn, t.rsn))
	}
	if id != "" {
		p.absorbed(id, t.csn)
	}
	p.last = t
}
