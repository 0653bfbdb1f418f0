package realtime

import (
	"context"
	"sync"
	"time"
)

// deadline is a context that ends at a time, or with end. It makes a timer only
// for those who wait for it: most authenticators look at a signature and are done.
type deadline struct {
	context.Context // its parent
	at              time.Time

	mu     sync.Mutex // guards the following
	real   context.Context
	cancel context.CancelFunc // of real
	over   bool
}

// newDeadline returns a context that ends after d. The caller calls end.
func newDeadline(parent context.Context, d time.Duration) *deadline {
	return &deadline{Context: parent, at: time.Now().Add(d)}
}

// end ends the context and gives back what it holds.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.real == nil && !time.Now().Before(d.at) {
		d.realLocked() // time was first
	}
	if d.over = true; d.real != nil {
		d.cancel()
	}
}

// realLocked returns the context that does the work, made on demand.
func (d *deadline) realLocked() context.Context {
	switch {
	case d.real != nil:
	case d.over:
		d.real, d.cancel = context.WithCancel(d.Context)
		d.cancel()
	default:
		d.real, d.cancel = context.WithDeadline(d.Context, d.at)
	}
	return d.real
}

// Deadline implements [context.Context].
func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok {
		return earlier(at, d.at), true
	}
	return d.at, true
}

// Done implements [context.Context].
func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.realLocked().Done()
}

// Err implements [context.Context].
func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.real == nil && !d.over && time.Now().Before(d.at) {
		return d.Context.Err()
	}
	return d.realLocked().Err()
}

// Value implements [context.Context]. The real context knows how to end its
// children without a goroutine.
func (d *deadline) Value(key any) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.real != nil {
		return d.real.Value(key)
	}
	return d.Context.Value(key)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
