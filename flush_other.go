//go:build !unix

package realtime

import (
	"net"
	"syscall"
)

// rawConn returns nil: without Unix descriptors every write has a goroutine.
func rawConn(net.Conn) syscall.RawConn { return nil }

func (*flusher) writeOnce(uintptr) bool { return true }

func (*transport) readOnce(uintptr) bool { return true }
