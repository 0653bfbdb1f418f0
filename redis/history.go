package redis

import (
	"github.com/seed-58bc6ac1/realtime"
)

// history puts the events of one topic with history in the order of their offsets, as
// far as this node has seen them. It has no lock, no clock and no I/O. What has its
// turn is given to emit.
type history struct {
	topic string
	emit  func(*realtime.Event)

	open  bool
	epoch string
	last  uint64             // delivered, or given up
	ids   [recent]publishID  // of the last ones, by offset
	ahead map[uint64]arrival // of this epoch, that came before their turn
	other []arrival          // of an epoch not heard of
	torn  bool               // the next event does not follow the last one
}

// recent is how many ids are remembered, to tell a second event with a number that
// was given already from a second copy of the first.
const recent = 16

// mostAhead is how many events may wait for their turn: what is beyond is read later.
const mostAhead = 1024

// verdict is what follows from an arrival.
type verdict uint8

const (
	inOrder verdict = iota // nothing
	hole                   // something before it is missing: perhaps it is on its way
	doubt                  // what the server has may be something else: ask it
)

// begin sets where the stream stood when the topic was opened, and takes what came
// before that was known.
func (h *history) begin(epoch string, offset uint64, id publishID) (v verdict) {
	h.open, h.epoch, h.last, h.ids = true, epoch, offset, [recent]publishID{}
	h.noteID(offset, id)
	early := h.other
	h.other = nil
	for _, a := range early {
		v = max(v, h.arrive(a))
	}
	return v
}

func (h *history) noteID(offset uint64, id publishID) { h.ids[offset%recent] = id }

// known returns the id of the event at an offset, zero if it is not known.
func (h *history) known(offset uint64) publishID {
	if offset == 0 || offset > h.last || offset+recent <= h.last {
		return publishID{}
	}
	return h.ids[offset%recent]
}

// arrive takes what was published, from wherever.
func (h *history) arrive(a arrival) verdict {
	switch {
	case !h.open || a.epoch != h.epoch:
		if len(h.other) < mostAhead {
			h.other = append(h.other, a)
		}
		return doubt
	case a.offset <= h.last:
		if id := h.known(a.offset); id != (publishID{}) && id != a.id {
			return doubt
		}
		return inOrder
	case a.offset > h.last+1:
		h.keep(a)
		return hole
	}
	h.follow(a)
	h.drain()
	switch {
	case h.torn:
		return doubt
	case len(h.ahead) > 0:
		return hole
	}
	return inOrder
}

// follow delivers the next event if it was published after the one that was delivered
// last. If it was published after another of that number, which a failover had made
// the last one again, it is not.
func (h *history) follow(a arrival) {
	if id := h.known(h.last); a.before != (publishID{}) && id != (publishID{}) && a.before != id {
		h.torn = true
		return
	}
	h.deliver(a)
}

func (h *history) keep(a arrival) {
	if h.ahead == nil {
		h.ahead = map[uint64]arrival{}
	}
	if len(h.ahead) < mostAhead {
		h.ahead[a.offset] = a
	}
}

// deliver gives a its turn. What cannot be decoded is a hole: a node of another
// version published it.
func (h *history) deliver(a arrival) {
	e, err := a.decode(h.topic)
	if err != nil {
		h.skip(a.offset)
		return
	}
	h.last = a.offset
	h.noteID(a.offset, a.id)
	h.emit(e)
}

// drain delivers what waits and has its turn now.
func (h *history) drain() {
	for len(h.ahead) > 0 {
		a, ok := h.ahead[h.last+1]
		if !ok {
			return
		}
		delete(h.ahead, a.offset)
		if h.follow(a); h.torn {
			return
		}
	}
}

// skip gives up the events from the next one to offset.
func (h *history) skip(offset uint64) {
	gap := &realtime.Gap{From: h.last + 1, To: offset}
	h.last = offset
	h.noteID(offset, publishID{})
	for at := range h.ahead {
		if at <= offset {
			delete(h.ahead, at)
		}
	}
	h.emit(&realtime.Event{Topic: h.topic, Gap: gap, Epoch: h.epoch, Offset: offset})
}

// answer is how the stream stands on the server, and a page of it.
type answer struct {
	epoch  string
	offset uint64    // of the newest event
	id     publishID // its id
	events []arrival // ascending
	whole  bool      // there are no more events than these
}

// mark is where a question was asked: what is learned of the stream since does not
// contradict the answer.
type mark struct {
	epoch string
	last  uint64    // delivered
	id    publishID // its id
	heard uint64    // the greatest number that had come
}

func (h *history) mark() mark {
	m := mark{h.epoch, h.last, h.known(h.last), h.last}
	for at := range h.ahead {
		m.heard = max(m.heard, at)
	}
	return m
}

// conclusion is what follows from an answer.
type conclusion uint8

const (
	agrees  conclusion = iota // nothing is missing
	unread                    // there is more to read
	renewed                   // the stream lost events that were delivered: it needs a new epoch
)

// learn takes the answer to a question asked at m, whose page begins at the event m
// tells, if that is kept.
func (h *history) learn(m mark, r *answer) conclusion {
	switch {
	case h.epoch != m.epoch:
		return unread // asked too early
	case r.epoch != h.epoch:
		if early := h.adopt(r.epoch, r.offset, r.id); early {
			return unread // what came early may be lost by now
		}
		return agrees
	case m.contradicts(r), h.torn:
		return renewed
	}
	h.other = nil // of epochs that were before
	for _, a := range r.events {
		delete(h.ahead, a.offset) // what waits may have been lost, and its number given again
	}
	for _, a := range r.events {
		h.reach(a.offset)
		if a.offset == h.last+1 && !h.torn {
			h.deliver(a)
			h.drain()
		}
	}
	if r.whole && !h.torn {
		h.reach(r.offset + 1)
	}
	if h.last < r.offset || h.torn {
		return unread
	}
	return agrees
}

// contradicts reports whether the server forgot what was delivered: a failover to a
// replica that had not got it.
func (m mark) contradicts(r *answer) bool {
	if r.offset < m.heard {
		return true
	}
	at := r.id
	if r.offset > m.last {
		if len(r.events) == 0 || r.events[0].offset != m.last {
			return false
		}
		at = r.events[0].id
	}
	return m.id != (publishID{}) && at != m.id
}

// reach delivers what waits, and gives up what does not, before the offset next: the
// server does not have it.
func (h *history) reach(next uint64) {
	for h.drain(); h.last+1 < next && !h.torn; h.drain() {
		to := next - 1
		for at := range h.ahead {
			to = min(to, at-1)
		}
		h.skip(to)
	}
}

// adopt goes on in another epoch: right before the first event of it that is here, or
// else from where it stands. It reports whether there were such events.
func (h *history) adopt(epoch string, offset uint64, id publishID) (some bool) {
	early := h.other
	for _, a := range early {
		if a.epoch == epoch && a.offset <= offset {
			offset, id = a.offset-1, publishID{}
		}
	}
	h.epoch, h.last, h.ids, h.ahead, h.other = epoch, offset, [recent]publishID{}, nil, nil
	h.torn = false
	h.noteID(offset, id)
	h.emit(&realtime.Event{Topic: h.topic, Gap: &realtime.Gap{}, Epoch: epoch, Offset: offset})
	for _, a := range early {
		if a.epoch == epoch {
			h.arrive(a)
			some = true
		}
	}
	return some
}
