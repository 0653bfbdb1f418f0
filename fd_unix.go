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

// writeFD writes as much of p as a socket takes without blocking.
func writeFD(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// readFD reads without blocking. With nothing read, wait says whether there may
// be something later; if not, the socket has ended.
func readFD(fd uintptr, p []byte) (n int, wait bool) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err == syscall.EAGAIN
		}
	}
}
