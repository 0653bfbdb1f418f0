package realtime

import "time"

// notice is one message to many members, encoded once for each protocol.
type notice struct {
	outbound
	stream *stream // nil for what no policy may touch
	frames [maxCodecs]*frame
}

// frame returns the notice as c encodes it, nil if the protocol has no such message.
func (n *notice) frame(c codec) *frame {
	f := n.frames[c.slot()]
	if f == nil {
		if f = sealLarge(c, &n.outbound); f != nil {
			f.stream = n.stream
		}
		n.frames[c.slot()] = f
	}
	return f
}

// sealLarge encodes m for connections that may compress it.
func sealLarge(c codec, m *outbound) *frame {
	f := seal(c, m)
	if f != nil && len(m.data) >= deflateMin {
		f.flat = &squeezed{}
	}
	return f
}

// wakes are queues into which something was put under a lock, to be written when that
// is gone.
type wakes struct {
	few  [inlineMembers]*outlet
	n    int
	many chain // the others; few is full then
}

// add notes what became of a frame for c: its queue may have to be flushed.
func (w *wakes) add(c *Client, res pushed) {
	switch {
	case res != pushWake:
	case c.raw == nil:
		go c.writeLoop()
	case w.n < len(w.few):
		w.few[w.n] = &c.outlet
		w.n++
	default:
		w.many.add(&c.outlet)
	}
}

// flush has the queues written: a few on the caller's goroutine while the pool is calm,
// unless more is expected soon, which can then share their system calls.
func (w *wakes) flush(p *flushPool, more bool) {
	if w.n == 0 {
		return
	}
	if !more && w.many.n == 0 && p.calm(time.Now()) {
		p.flushAll(w.few[:w.n])
		return
	}
	for _, t := range w.few[:w.n] {
		w.many.add(t)
	}
	p.add(&w.many)
}
