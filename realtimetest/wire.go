package realtimetest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// wire is the client's end of the connection, with the faults of a network.
// Writes are buffered, since a client must be able to send while the server does
// not read; a goroutine brings them to the pipe.
type wire struct {
	pipe net.Conn
	done chan struct{} // closed when writeLoop has ended

	mu      sync.Mutex // guards the following
	changed sync.Cond
	unsent  []byte
	stopped bool // nothing is read
	deaf    bool // nothing arrives on either side, and nobody is told
	closing bool // the pipe is closed once unsent has been written
	cut     bool
}

func newWire(pipe net.Conn) *wire {
	w := &wire{pipe: pipe, done: make(chan struct{})}
	w.changed.L = &w.mu
	go w.writeLoop()
	return w
}

// Write implements [io.Writer]. It does not block.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing || w.cut {
		return 0, io.ErrClosedPipe
	}
	if !w.deaf {
		w.unsent = append(w.unsent, p...)
		w.changed.Broadcast()
	}
	return len(p), nil
}

func (w *wire) writeLoop() {
	defer close(w.done)
	for {
		p := w.next()
		if p == nil {
			w.pipe.Close()
			return
		}
		if _, err := w.pipe.Write(p); err != nil {
			return // the server has gone; a read says how
		}
	}
}

// next waits for something to write; nil means that the pipe is to be closed.
func (w *wire) next() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.unsent) == 0 && !w.closing && !w.cut {
		w.changed.Wait()
	}
	p := w.unsent
	w.unsent = nil
	if w.cut {
		return nil
	}
	return p
}

// Read implements [io.Reader].
func (w *wire) Read(p []byte) (int, error) {
	for {
		if err := w.await(func() bool { return !w.stopped }); err != nil {
			return 0, err
		}
		n, err := w.pipe.Read(p)
		w.mu.Lock()
		deaf := w.deaf
		w.mu.Unlock()
		switch {
		case deaf && err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && n == 0: // StopReading woke us
		case deaf:
			return 0, w.await(func() bool { return false })
		default:
			return n, err
		}
	}
}

// await waits until ok or the end, which is an error.
func (w *wire) await(ok func() bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !ok() && !w.cut && !w.closing {
		w.changed.Wait()
	}
	if w.cut || w.closing {
		return io.ErrClosedPipe
	}
	return nil
}

// Close implements [io.Closer]: what was written goes out first.
func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closing = true
	w.changed.Broadcast()
	return nil
}

func (w *wire) stop(stopped bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = stopped
	until := time.Time{}
	if stopped {
		until = time.Unix(1, 0) // wakes a read that waits already
	}
	w.pipe.SetReadDeadline(until)
	w.changed.Broadcast()
}

func (w *wire) vanish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf, w.unsent = true, nil
}

// Cut closes the pipe as it is and waits for writeLoop.
func (w *wire) Cut() {
	w.mu.Lock()
	w.cut = true
	w.changed.Broadcast()
	w.mu.Unlock()
	w.pipe.Close()
	<-w.done
}
