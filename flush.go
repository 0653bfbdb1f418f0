package realtime

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// coalesce is the most that one system call writes. Beyond it a longer write
	// gains nothing: a socket's send buffer holds little more.
	coalesce = 64 << 10

	// share is how many connections a worker takes from the list at a time: few
	// enough that two workers split a small topic, many enough that the list's
	// lock is not felt.
	share = 32

	// sampling is how many flushes there are between two that are timed.
	sampling = 64
)

// outlet is the write half of one connection: its queue, and what it takes to
// empty it into the socket.
type outlet struct {
	enc codec // first and beside the queue: a delivery needs both, and no more
	out queue

	nc      net.Conn
	raw     syscall.RawConn // nil: no descriptor of its own, writes need a goroutine
	pool    *flushPool
	deflate bool // permessage-deflate was agreed on

	failed atomic.Pointer[Reason] // why the socket takes no more bytes

	rest []byte  // of a half-written frame; owned by who flushes
	next *outlet // guarded by the pool's lock
}

// send queues f and has it written, on the caller's goroutine if nobody else is
// writing: replies and control frames take this way. It does not block.
func (t *outlet) send(f *frame) pushed {
	res := t.out.push(f)
	if res == pushWake {
		t.pool.flush(t)
	}
	return res
}

// finish queues the last frames, past every bound, in place of what waits if
// drop is set. It reports whether it was the first to do so.
func (t *outlet) finish(drop bool, frames ...*frame) bool {
	res, first := t.out.finish(drop, frames...)
	if res == pushWake {
		t.pool.flush(t)
	}
	return first
}

// wire returns the bytes of f for this connection.
func (t *outlet) wire(f *frame) []byte {
	if f.wire == nil && f.gap != nil {
		if g := seal(t.enc, &outbound{kind: kindGap, topic: f.stream.name, gap: f.gap}); g != nil {
			f.wire = g.wire
		}
	}
	if !t.deflate || f.flat == nil {
		return f.wire
	}
	f.flat.once.Do(func() { f.flat.wire = deflateFrame(f.wire) })
	return f.flat.wire
}

// flushPool writes what waits in the queues of all connections of a server. It
// has one list of connections with something to send and, only while there are
// any, a few workers.
//
// Nothing is delayed so as to form batches: while the workers sweep the list,
// publishers go on queueing, so batches form exactly when there is load.
type flushPool struct {
	workers int
	stall   time.Duration // a blocking write without progress for so long has failed
	metrics *metrics

	base time.Time
	last atomic.Int64 // when a publisher last wrote by itself, since base
	busy atomic.Bool  // workers are running

	mu      sync.Mutex // guards the following and outlet.next
	head    *outlet
	tail    *outlet
	waiting int
	running int
}

func newFlushPool(m *metrics, stall time.Duration) *flushPool {
	return &flushPool{workers: runtime.GOMAXPROCS(0), stall: stall, metrics: m, base: time.Now()}
}

// chain is a list of connections on its way into the pool.
type chain struct {
	head, tail *outlet
	n          int
}

// add appends t, whose queue has just said pushWake.
func (c *chain) add(t *outlet) {
	if c.tail == nil {
		c.head = t
	} else {
		c.tail.next = t
	}
	c.tail = t
	c.n++
}

// add has the connections in c flushed by workers and empties c.
//
// An event of a large topic, which comes by the share, is for all cores. Many small
// ones leave one core to those who publish: with a worker on each a publisher waits
// for one of them to pause, queues stay short and fewer frames share a system call.
func (p *flushPool) add(c *chain) {
	most := p.workers
	if c.n < share {
		most = max(1, most-1)
	}
	p.put(c, most)
}

// put is add with at most so many workers.
func (p *flushPool) put(c *chain, most int) {
	if c.n == 0 {
		return
	}
	p.mu.Lock()
	if p.tail == nil {
		p.head = c.head
	} else {
		p.tail.next = c.head
	}
	p.tail = c.tail
	p.waiting += c.n
	start := min(most-p.running, (p.waiting+share-1)/share)
	p.running += max(start, 0)
	p.busy.Store(true)
	p.mu.Unlock()
	for range start {
		go p.workLoop()
	}
	*c = chain{}
}

// take moves up to share connections out of the list. With none left, the
// worker that asked is not counted any more.
func (p *flushPool) take(c *chain) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.head == nil {
		p.running--
		p.busy.Store(p.running > 0)
		return false
	}
	c.head, c.n = p.head, 1
	last := p.head
	for c.n < share && last.next != nil {
		last = last.next
		c.n++
	}
	p.head, last.next = last.next, nil
	if p.head == nil {
		p.tail = nil
	}
	p.waiting -= c.n
	return true
}

func (p *flushPool) workLoop() {
	w := flushers.Get().(*flusher)
	var todo, again chain
	for p.take(&todo) {
		for t := todo.head; t != nil; {
			next := t.next
			t.next = nil
			if w.flush(t) {
				again.add(t)
			}
			t = next
		}
		w.count(p.metrics)
		p.put(&again, 1) // this worker is one
	}
	flushers.Put(w)
}

// flush writes t's queue on the caller's goroutine, without blocking. The queue
// has just said pushWake.
func (p *flushPool) flush(t *outlet) {
	if t.raw == nil {
		go t.writeLoop()
		return
	}
	w := flushers.Get().(*flusher)
	again := w.flush(t)
	w.count(p.metrics)
	flushers.Put(w)
	if again {
		var c chain
		c.add(t)
		p.add(&c)
	}
}

// pause is how soon after its own writes a publisher counts as one that publishes
// as fast as it can. Then workers take over: a publisher that writes by itself
// leaves nothing to coalesce.
const pause = 20 * time.Microsecond

// calm reports whether a publisher, at now, should write by itself.
func (p *flushPool) calm(now time.Time) bool {
	return !p.busy.Load() && now.Sub(p.base)-time.Duration(p.last.Load()) > pause
}

// flushAll writes the queues of ts, which have just said pushWake, on the
// publisher's goroutine.
func (p *flushPool) flushAll(ts []*outlet) {
	if len(ts) == 0 {
		return
	}
	for _, t := range ts {
		p.flush(t)
	}
	p.last.Store(int64(time.Since(p.base)))
}

// flusher is what a goroutine needs to write: one buffer, and a func for
// RawConn.Write that is made once.
type flusher struct {
	buf     [coalesce]byte
	batch   batch
	writeFn func(fd uintptr) bool

	p   []byte // what writeFn is to write
	n   int    // what it has written
	err error

	frames, bytes, writes int // since the last count
	depth                 int
	age                   time.Duration
	tick                  uint
}

var flushers = sync.Pool{New: func() any {
	w := new(flusher)
	w.writeFn = w.writeOnce
	return w
}}

// flush writes what waits for t and reports whether there is more by now. A
// socket that takes no more bytes is left to a goroutine that may block.
func (w *flusher) flush(t *outlet) (again bool) {
	src, ok := t.out.take(&w.batch, false)
	if !ok {
		return false
	}
	if src != nil {
		go t.writeLoop()
		return false
	}
	w.sample()
	frames := w.batch.frames
	left, err := w.write(t, frames)
	switch {
	case err != nil:
		t.fail(err)
	case len(left) > 0 || len(t.rest) > 0:
		t.out.putBack(left)
		go t.writeLoop()
	default:
		again = t.out.more()
	}
	w.batch.release()
	return again
}

func (w *flusher) sample() {
	if w.tick++; w.tick%sampling != 0 {
		return
	}
	w.depth = len(w.batch.frames)
	if born := w.batch.frames[0].born; !born.IsZero() {
		w.age = time.Since(born)
	}
}

// write returns the frames of which the socket took nothing; t.rest is then
// what is left of the one before.
func (w *flusher) write(t *outlet, frames []*frame) (left []*frame, err error) {
	for len(frames) > 0 {
		n := w.fill(t, frames)
		if w.n, w.err = 0, nil; len(w.p) > 0 {
			if err := t.raw.Write(w.writeFn); err != nil {
				return nil, err
			}
		}
		w.frames, w.bytes, w.writes = w.frames+n, w.bytes+w.n, w.writes+1
		if w.err != nil && !errors.Is(w.err, syscall.EAGAIN) {
			return nil, w.err
		}
		if w.n < len(w.p) {
			return t.cut(frames, w.n), nil
		}
		frames = frames[n:]
	}
	return nil, nil
}

// fill points w.p at the first frames, as many as one write may hold: at one
// frame's own bytes, or at copies in the buffer.
func (w *flusher) fill(t *outlet, frames []*frame) int {
	first := t.wire(frames[0])
	if len(frames) == 1 || len(first) >= coalesce {
		w.p = first
		return 1
	}
	size, n := copy(w.buf[:], first), 1
	for _, f := range frames[1:] {
		wire := t.wire(f)
		if size+len(wire) > coalesce {
			break
		}
		size += copy(w.buf[size:], wire)
		n++
	}
	w.p = w.buf[:size]
	return n
}

func (w *flusher) count(m *metrics) {
	m.framesOut.Add(float64(w.frames))
	m.bytesOut.Add(float64(w.bytes))
	m.writes.Add(float64(w.writes))
	w.frames, w.bytes, w.writes = 0, 0, 0
	if w.depth > 0 {
		m.queueDepth.Observe(float64(w.depth))
		m.publishWrite.Observe(w.age.Seconds())
		w.depth, w.age = 0, 0
	}
}

// writeOnce writes w.p without blocking, as far as the socket takes it.
func (w *flusher) writeOnce(fd uintptr) bool {
	w.n, w.err = writeFD(fd, w.p)
	return true
}

// cut finds the first of frames that was not wholly among n written bytes. It
// keeps the rest of that one in t.rest if it was begun, and returns those that
// were not.
func (t *outlet) cut(frames []*frame, n int) []*frame {
	for i, f := range frames {
		wire := t.wire(f)
		if n < len(wire) {
			if n == 0 {
				return frames[i:]
			}
			t.rest = wire[n:]
			return frames[i+1:]
		}
		n -= len(wire)
	}
	return nil
}

// writeLoop writes with calls that block, until the queue is empty: for a slow
// peer, for a connection without a descriptor of its own (TLS, a pipe), and to
// read events from the history, which may block, too.
func (t *outlet) writeLoop() {
	w := flushers.Get().(*flusher)
	defer flushers.Put(w)
	defer w.count(t.pool.metrics)
	for {
		if err := w.writeRest(t); err != nil {
			t.fail(err)
			return
		}
		src, ok := t.out.take(&w.batch, true)
		if !ok {
			return
		}
		frames := w.batch.frames
		more := false
		if src != nil {
			frames, more = src.refill()
		}
		err := w.writeBlocking(t, frames)
		if src != nil {
			t.out.served(src, more)
		}
		w.batch.release()
		if err != nil {
			t.fail(err)
			return
		}
	}
}

func (w *flusher) writeRest(t *outlet) error {
	rest := t.rest
	if len(rest) == 0 {
		return nil
	}
	t.rest = nil
	return w.block(t, rest)
}

func (w *flusher) writeBlocking(t *outlet, frames []*frame) error {
	for len(frames) > 0 {
		n := w.fill(t, frames)
		w.frames += n
		if err := w.block(t, w.p); err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

// block writes p. A peer that reads slowly is waited for as long as it makes
// progress.
func (w *flusher) block(t *outlet, p []byte) error {
	for {
		if err := t.nc.SetWriteDeadline(time.Now().Add(t.pool.stall)); err != nil {
			return err
		}
		n, err := t.nc.Write(p)
		w.bytes, w.writes = w.bytes+n, w.writes+1
		if p = p[n:]; err == nil {
			return t.nc.SetWriteDeadline(time.Time{})
		}
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// fail gives up on a socket that takes no more bytes. The read loop finds the
// reason and ends the connection.
func (t *outlet) fail(err error) {
	reason := ReasonConnectionLost
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		reason = ReasonSlowConsumer
	}
	t.failed.CompareAndSwap(nil, &reason)
	t.out.abandon()
	t.nc.Close()
}
