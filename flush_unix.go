//go:build unix

package realtime

import (
	"net"
	"syscall"
)

// rawConn returns nc's descriptor for calls that do not block, nil if it has
// none of its own, as a TLS connection.
func rawConn(nc net.Conn) syscall.RawConn {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func (w *flusher) writeOnce(fd uintptr) bool {
	for {
		w.n, w.err = syscall.Write(int(fd), w.p)
		if w.err != syscall.EINTR {
			w.n = max(w.n, 0)
			return true
		}
	}
}

// readOnce reads into a pooled buffer, held only if there was something.
func (t *transport) readOnce(fd uintptr) bool {
	b := readBuffers.Get().(*readBuffer)
	n, err := syscall.Read(int(fd), b[:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), b[:])
	}
	if n > 0 {
		t.in.feed(b, n)
		return true
	}
	readBuffers.Put(b)
	if err == syscall.EAGAIN {
		return false
	}
	t.ended = true
	return true
}
