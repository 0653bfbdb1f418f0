//go:build !unix

package realtime

import (
	"net"
	"syscall"
)

// rawConn returns nil: without Unix descriptors every write has a goroutine. The
// other two are never called then.
func rawConn(net.Conn) syscall.RawConn { return nil }

func writeFD(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }

func readFD(uintptr, []byte) (n int, wait bool) { return 0, false }
