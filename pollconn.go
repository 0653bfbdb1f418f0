package realtime

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// pollBuffer is how many bytes of messages wait for the next poll before Write
// blocks: about what the send buffer of a socket holds. What waits longer waits
// in the queue, under its bounds and policies.
const pollBuffer = 64 << 10

// pollConn is the connection of a client that polls (phoenix.md appendix A). An
// ordinary [conn] runs on it as on a socket: the server's frames that it writes
// are kept as messages for the next poll, and the messages of a POST are the
// client's frames that it reads. It keeps the contract of [net.Conn], deadlines
// included, and has no goroutine. Pings it swallows: whether the client lives is
// for whoever counts the polls.
type pollConn struct {
	// Set by init, never changed.
	addr    pollAddr
	pinged  func()          // a ping was swallowed
	dropped func(bytes int) // a binary message was

	mu    sync.Mutex // guards the following
	moved sync.Cond  // some of it has changed

	in     []byte // what is left to read of the newest client's frame
	placed uint64 // client's frames that there were
	taken  uint64 // and that were read to their end
	cause  error  // what Read ends with, nil while it does not
	echo   []byte // the client's close frame, to be read after in

	out     []byte // messages for the next poll: JSON strings, commas between them
	lent    bool   // a poll is writing what it took of them
	newest  uint64 // the last poll that came
	polling int    // polls that have not ended
	last    time.Time

	readBy, writeBy time.Time // deadlines, zero for none
	parted          bool      // the server's close frame was written
	closed          bool
	told            bool // a poll was told of the end
}

func (p *pollConn) init(addr string, pinged func(), dropped func(bytes int)) {
	p.addr, p.pinged, p.dropped = pollAddr(addr), pinged, dropped
	p.moved.L = &p.mu
	p.last = time.Now()
}

// errBrokenFrame cannot happen: the server's frames are our own, and are written
// whole.
var errBrokenFrame = errors.New("realtime: half a frame for a client that polls")

// Read implements [net.Conn].
func (p *pollConn) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case past(p.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(p.in) > 0:
			return p.readLocked(b), nil
		case p.echo != nil:
			p.placeLocked(p.echo)
			p.echo = nil
		case p.cause != nil:
			return 0, p.cause
		default:
			p.waitLocked(p.readBy)
		}
	}
}

func (p *pollConn) readLocked(b []byte) int {
	n := copy(b, p.in)
	if p.in = p.in[n:]; len(p.in) == 0 {
		p.in = nil
		p.taken++
		p.moved.Broadcast()
	}
	return n
}

func (p *pollConn) placeLocked(frame []byte) {
	p.in = frame
	p.placed++
	p.moved.Broadcast()
}

// deliver has the connection read one message, and returns when it has, or with
// os.ErrDeadlineExceeded at by; the message is read later then, unless it had to
// wait for another. After the end it returns net.ErrClosed.
func (p *pollConn) deliver(op opcode, payload []byte, by time.Time) error {
	frame := maskedFrame(op, payload)
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.taken < p.placed {
		if err := p.holdLocked(by); err != nil {
			return err
		}
	}
	if p.endedLocked() {
		return net.ErrClosed
	}
	p.placeLocked(frame)
	for mine := p.placed; p.taken < mine; {
		if err := p.holdLocked(by); err != nil {
			return err
		}
	}
	return nil
}

// holdLocked waits for a change; the error says that there is no use in it.
func (p *pollConn) holdLocked(by time.Time) error {
	switch {
	case p.endedLocked():
		return net.ErrClosed
	case past(by):
		return os.ErrDeadlineExceeded
	}
	p.waitLocked(by)
	return nil
}

func (p *pollConn) endedLocked() bool { return p.closed || p.parted || p.cause != nil }

// maskedFrame is a message as a frame of the client's. The mask is zero, which
// changes nothing.
func maskedFrame(op opcode, payload []byte) []byte {
	frame := appendHeader(make([]byte, 0, maxHeader+4+len(payload)), op, false, len(payload))
	frame[1] |= bitMask
	return append(append(frame, 0, 0, 0, 0), payload...)
}

// Write implements [net.Conn]. It blocks while the client does not fetch what
// waits for it. b begins with a frame and holds only whole ones, and so does what
// is left of it when the deadline passes.
func (p *pollConn) Write(b []byte) (int, error) {
	n, pings, drops, err := p.write(b)
	if pings > 0 {
		p.pinged()
	}
	if drops > 0 {
		p.dropped(drops)
	}
	return n, err
}

func (p *pollConn) write(b []byte) (n, pings, drops int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(b) && err == nil {
		op, payload, size := serverFrame(b[n:])
		switch {
		case p.closed:
			err = net.ErrClosed
		case size == 0:
			err = errBrokenFrame
		case op == frameText:
			err = p.keepLocked(payload)
		case op == frameBinary:
			drops += len(payload) // JSON has no place for it
		case op == framePing:
			pings++
		case op == frameClose && !p.parted:
			p.parted, p.echo = true, maskedFrame(frameClose, payload)
			p.moved.Broadcast()
		}
		if err == nil {
			n += size
		}
	}
	return n, pings, drops, err
}

// keepLocked keeps a message for the next poll, once there is room. A message of
// any size fits when none waits.
func (p *pollConn) keepLocked(text []byte) error {
	for len(p.out) >= pollBuffer && !p.closed {
		if past(p.writeBy) {
			return os.ErrDeadlineExceeded
		}
		p.waitLocked(p.writeBy)
	}
	if p.closed {
		return net.ErrClosed
	}
	if len(p.out) > 0 {
		p.out = append(p.out, ',')
	}
	p.out = appendQuoted(p.out, string(text))
	p.moved.Broadcast()
	return nil
}

// serverFrame splits the server's frame off that b begins with. A size of 0 means
// that it is not whole.
func serverFrame(b []byte) (op opcode, payload []byte, size int) {
	if len(b) < 2 {
		return frameNone, nil, 0
	}
	head, n := 2, uint64(b[1]&bitsLen)
	switch {
	case n == len16 && len(b) >= 4:
		head, n = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case n == len64 && len(b) >= 10:
		head, n = 10, binary.BigEndian.Uint64(b[2:])
	}
	if n > uint64(len(b)-head) {
		return frameNone, nil, 0
	}
	size = head + int(n)
	return opcode(b[0] & bitsOp), b[head:size], size
}

// take waits until there are messages, for the time of a poll at most, and lends
// them to the caller, who has to call settle in the end, whatever the outcome. A
// newer poll ends the wait of an older one. gone means that the connection has
// ended and that there will be no more messages.
func (p *pollConn) take(ctx context.Context, most time.Duration) (batch []byte, gone bool) {
	defer context.AfterFunc(ctx, p.wake)()
	until := time.Now().Add(most)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polling++
	p.newest++
	p.moved.Broadcast()
	for mine := p.newest; mine == p.newest && ctx.Err() == nil; {
		switch {
		case p.lent: // what the poll before could not write comes first
		case len(p.out) > 0:
			batch, p.out, p.lent = p.out, nil, true
			p.moved.Broadcast()
			return batch, false
		case p.closed, p.parted:
			p.told = true
			return nil, true
		}
		if past(until) {
			break
		}
		p.waitLocked(until)
	}
	return nil, false
}

// settle ends a poll. A batch that was not delivered is the next poll's.
func (p *pollConn) settle(batch []byte, delivered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polling--
	p.last = time.Now()
	if batch == nil {
		return
	}
	if p.lent = false; !delivered {
		if len(p.out) > 0 {
			batch = append(append(batch, ','), p.out...)
		}
		p.out = batch
	}
	p.moved.Broadcast()
}

// unpolled returns for how long there has been no poll.
func (p *pollConn) unpolled(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.polling > 0 {
		return 0
	}
	return now.Sub(p.last)
}

// spent reports whether the connection has ended, and the client knows.
func (p *pollConn) spent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed && p.told
}

// fail has Read return err once it has read what there is.
func (p *pollConn) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == nil {
		p.cause = err
	}
	p.moved.Broadcast()
}

// Close implements [net.Conn]. What waits for the next poll stays.
func (p *pollConn) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.in, p.echo = true, nil, nil
	p.moved.Broadcast()
	return nil
}

// waitLocked waits until something has changed, and no longer than until by.
func (p *pollConn) waitLocked(by time.Time) {
	if !by.IsZero() {
		defer time.AfterFunc(time.Until(by), p.wake).Stop()
	}
	p.moved.Wait()
}

func (p *pollConn) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved.Broadcast()
}

// past reports whether a deadline has passed; zero is none.
func past(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

// SetDeadline implements [net.Conn].
func (p *pollConn) SetDeadline(t time.Time) error { return p.setDeadlines(&t, &t) }

// SetReadDeadline implements [net.Conn].
func (p *pollConn) SetReadDeadline(t time.Time) error { return p.setDeadlines(&t, nil) }

// SetWriteDeadline implements [net.Conn].
func (p *pollConn) SetWriteDeadline(t time.Time) error { return p.setDeadlines(nil, &t) }

func (p *pollConn) setDeadlines(read, write *time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	if read != nil {
		p.readBy = *read
	}
	if write != nil {
		p.writeBy = *write
	}
	p.moved.Broadcast()
	return nil
}

// LocalAddr implements [net.Conn].
func (p *pollConn) LocalAddr() net.Addr { return pollAddr("") }

// RemoteAddr implements [net.Conn].
func (p *pollConn) RemoteAddr() net.Addr { return p.addr }

// pollAddr is the address of a client that polls.
type pollAddr string

// Network implements [net.Addr].
func (pollAddr) Network() string { return "longpoll" }

func (a pollAddr) String() string { return string(a) }
