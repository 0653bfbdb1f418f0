package main

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// counter is one page of memory that the load process and the server process
// share: the load counts arrivals in it, the publisher sleeps on it. That is the
// back-pressure, the same for every candidate, and it costs each side nothing
// while neither waits. The fields stand on lines of their own.
type counter struct {
	arrived atomic.Uint64
	_       [56]byte
	wanted  atomic.Uint64 // arrivals the publisher waits for, 0 for none
	_       [56]byte
	turn    atomic.Uint32 // futex
}

// newCounterFile returns an anonymous file for the page; both processes inherit it.
func newCounterFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("counter", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	if err := unix.Ftruncate(fd, 4096); err != nil {
		return nil, errors.Join(fmt.Errorf("memfd size: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "counter"), nil
}

func mapCounter(fd int) (*counter, error) {
	page, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map counter: %w", err)
	}
	return (*counter)(unsafe.Pointer(&page[0])), nil
}

// add is called by the load process. It wakes the publisher once what it waits
// for has arrived.
func (c *counter) add(n uint64) {
	arrived := c.arrived.Add(n)
	if wanted := c.wanted.Load(); wanted != 0 && arrived >= wanted && c.wanted.CompareAndSwap(wanted, 0) {
		c.turn.Add(1)
		futex(&c.turn, futexWake, 1, nil)
	}
}

// wait is called by the publisher. It blocks until n arrivals have been counted
// and reports false when nothing at all arrives for the patience given.
func (c *counter) wait(n uint64, patience time.Duration) bool {
	for last := c.arrived.Load(); last < n; {
		turn := c.turn.Load()
		// Swap, not Store: under the race detector a store is no full barrier, and the
		// load below it would overtake it. Then neither side sees the other.
		c.wanted.Swap(n)
		if c.arrived.Load() >= n {
			break
		}
		limit := unix.NsecToTimespec(int64(patience))
		errno := futex(&c.turn, futexWait, turn, &limit)
		now := c.arrived.Load()
		if errno == unix.ETIMEDOUT && now == last {
			c.wanted.Store(0)
			return false
		}
		last = now
	}
	c.wanted.Store(0)
	return true
}

func futex(word *atomic.Uint32, op int, value uint32, limit *unix.Timespec) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), uintptr(op), uintptr(value),
		uintptr(unsafe.Pointer(limit)), 0, 0)
	return errno
}

// Operations of futex(2); not the private ones, the page is shared.
const (
	futexWait = 0
	futexWake = 1
)
