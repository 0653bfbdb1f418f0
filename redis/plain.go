package redis

import "github.com/seed-58bc6ac1/realtime"

// plain delivers the events of one topic without history as they come. It has no
// lock, no clock and no I/O.
type plain struct {
	topic string
	emit  func(*realtime.Event)

	alone map[publishID]bool // delivered without waiting for the copy, which may still come
	order []publishID        // of alone, the oldest first
}

// mostAlone is how many copies that may still come are remembered: as many as may
// wait in a connection that has just been lost. A copy of one before these would be
// delivered twice.
const mostAlone = 1024

func (p *plain) arrive(a arrival) {
	if p.alone[a.id] {
		delete(p.alone, a.id)
		return
	}
	if e, err := a.decode(p.topic); err == nil {
		p.emit(e)
	} else {
		p.reset() // a node of another version published it
	}
}

// deliverAlone delivers what was published here to the members here.
func (p *plain) deliverAlone(id publishID, e *realtime.Event) {
	if p.alone == nil {
		p.alone = map[publishID]bool{}
	}
	p.alone[id] = true
	p.order = append(p.order, id)
	if len(p.order) > mostAlone {
		delete(p.alone, p.order[0])
		p.order = p.order[1:]
	}
	p.emit(e)
}

// reset tells that anything may be missing.
func (p *plain) reset() { p.emit(&realtime.Event{Topic: p.topic, Gap: &realtime.Gap{}}) }
