package realtime

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// transport is one WebSocket connection after its handshake: frames in, frames
// out. It knows nothing of topics.
type transport struct {
	outlet

	// Set by open, never changed.
	base   time.Time // what heard counts from
	readFn func(fd uintptr) bool

	heard atomic.Int64 // when the peer was last heard, since base

	in    frameReader // owned by the read loop
	early []byte      // the same: came with the handshake and was not read yet
}

// open starts on a connection that upgrade has taken over. early are the bytes
// that came with the handshake.
func (t *transport) open(up *upgraded, limit int64) {
	t.nc, t.raw, t.deflate = up.nc, rawConn(up.nc), up.deflate
	t.in.init(t, limit, up.deflate)
	if t.raw != nil {
		t.readFn = t.readOnce
	}
	t.early = up.early
	t.touch()
}

// touch notes that the peer was heard.
func (t *transport) touch() { t.heard.Store(int64(time.Since(t.base))) }

// lastHeard returns when the peer was last heard: for the read loop, now.
func (t *transport) lastHeard() time.Time { return t.base.Add(time.Duration(t.heard.Load())) }

// silence returns how long the peer has not been heard at now.
func (t *transport) silence(now time.Time) time.Duration {
	return now.Sub(t.base) - time.Duration(t.heard.Load())
}

// wait blocks until there is something to read. The read loop calls it from a
// shallow frame: the stack of an idle connection is then as small as stacks get.
func (t *transport) wait() error {
	if t.in.buffered() > 0 {
		return nil
	}
	var err error
	switch {
	case len(t.early) > 0:
		b := readBuffers.Get().(*readBuffer)
		t.in.feed(b, t.readEarly(b[:]))
	case t.raw == nil:
		err = t.waitFirst()
	default:
		err = t.raw.Read(t.readFn)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && t.resume() {
		return errQuiet
	}
	t.touch()
	return err
}

// errQuiet is returned by wait when nudge ended it.
var errQuiet = errors.New("realtime: nothing to read")

// nudge has the read loop return from wait with errQuiet, if it is there.
func (t *transport) nudge() { t.nc.SetReadDeadline(time.Unix(1, 0)) }

// resume takes back the deadline that nudge has set. It returns false when the
// connection ends: then the deadline has come to stay. The queue refuses frames
// before that deadline is set, so looking after taking it back misses nothing.
func (t *transport) resume() bool {
	t.nc.SetReadDeadline(time.Time{})
	return !t.out.isEnding()
}

// readEarly moves what came with the handshake into p.
func (t *transport) readEarly(p []byte) int {
	n := copy(p, t.early)
	if t.early = t.early[n:]; len(t.early) == 0 {
		t.early = nil
	}
	return n
}

// waitFirst waits for one byte, so that no buffer is held meanwhile.
func (t *transport) waitFirst() error {
	var first [1]byte
	if _, err := io.ReadFull(t.nc, first[:]); err != nil {
		return err
	}
	b := readBuffers.Get().(*readBuffer)
	b[0] = first[0]
	t.in.feed(b, 1)
	return nil
}

// readOnce reads into a pooled buffer, held only if there was something.
func (t *transport) readOnce(fd uintptr) bool {
	b := readBuffers.Get().(*readBuffer)
	n, wait := readFD(fd, b[:])
	if n > 0 {
		t.in.feed(b, n)
		return true
	}
	readBuffers.Put(b)
	return !wait // the socket has ended: a read will say how
}

// Read gives the frame reader what it lacks of a frame.
func (t *transport) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		return t.readEarly(p), nil
	}
	n, err := t.nc.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && t.resume() {
		n, err = t.nc.Read(p) // a nudge came too late
	}
	t.touch()
	return n, err
}
