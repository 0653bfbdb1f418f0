package boltlog

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Bounds of one commit: what they leave waits for the next one. A transaction
// holds its pages in memory.
const (
	maxAdditions     = 1000
	maxAdditionBytes = 32 << 20
)

// committer makes commits of additions: whoever comes first commits, and what
// arrives meanwhile is committed together by the first of those who wait.
type committer struct {
	commit func([]*addition) // sets the err of those it could not store

	mu    sync.Mutex // guards the following
	queue []*addition
	busy  bool // somebody commits, or has been told to
}

// errPanic is told to those whose commit ended in a panic of the one who did it.
var errPanic = errors.New("boltlog: the commit panicked")

// do has a committed, with others that come at the same time.
func (c *committer) do(ctx context.Context, a *addition) error {
	c.mu.Lock()
	c.queue = append(c.queue, a)
	if !c.busy {
		c.busy, a.leads = true, true
		a.turn <- struct{}{}
	}
	c.mu.Unlock()
	select {
	case <-a.turn:
	case <-ctx.Done():
		if c.withdraw(a) {
			return ctx.Err()
		}
		<-a.turn
	}
	if a.leads {
		c.lead()
	}
	return a.err
}

// withdraw takes a out of the queue, if nobody has begun with it.
func (c *committer) withdraw(a *addition) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.Index(c.queue, a)
	if at < 0 || a.leads {
		return false
	}
	c.queue = slices.Delete(c.queue, at, at+1)
	return true
}

// lead commits what waits, the caller's own addition first, and hands over. If
// the commit panics the caller does, and the others get an error.
func (c *committer) lead() {
	batch, done := c.take(), false
	defer func() {
		if !done {
			for _, a := range batch {
				a.err = errPanic
			}
		}
		c.finish(batch)
	}()
	c.commit(batch)
	done = true
}

func (c *committer) take() []*addition {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, 0
	for n < min(len(c.queue), maxAdditions) && (n == 0 || size+c.queue[n].size <= maxAdditionBytes) {
		size += c.queue[n].size
		n++
	}
	batch := slices.Clone(c.queue[:n])
	c.queue = slices.Delete(c.queue, 0, n)
	return batch
}

// finish lets the others of a batch go, and has the next one lead.
func (c *committer) finish(batch []*addition) {
	for _, a := range batch[1:] {
		a.turn <- struct{}{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy = len(c.queue) > 0; c.busy {
		next := c.queue[0]
		next.leads = true
		next.turn <- struct{}{}
	}
}
