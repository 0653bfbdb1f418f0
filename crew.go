package realtime

import (
	"runtime"
	"sync"
)

// crew runs the work of mailboxes. A goroutine that has done its work waits for
// more, so that its stack, grown by handlers, serves the next one: a fresh stack
// that has to grow costs more than a small handler does. Only a few wait, and
// none without connections.
type crew struct {
	mu    sync.Mutex // guards the following
	idle  []chan func()
	waits bool // whoever has done its work may wait
}

// spare is how many goroutines may wait for work.
func spare() int { return 4 * runtime.GOMAXPROCS(0) }

// run has f run by a goroutine. It does not block.
func (w *crew) run(f func()) {
	w.mu.Lock()
	n := len(w.idle) - 1
	if n < 0 {
		w.mu.Unlock()
		go w.workLoop(f)
		return
	}
	one := w.idle[n]
	w.idle = w.idle[:n]
	w.mu.Unlock()
	one <- f // it has room for one
}

func (w *crew) workLoop(f func()) {
	var next chan func()
	for f != nil {
		f()
		if next == nil {
			next = make(chan func(), 1)
		}
		if !w.wait(next) {
			return
		}
		f = <-next
	}
}

func (w *crew) wait(next chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.waits || len(w.idle) >= spare() {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

// rest sends the waiting goroutines home; with false they may wait again.
func (w *crew) rest(closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waits = !closed
	if closed {
		for _, one := range w.idle {
			close(one)
		}
		w.idle = nil
	}
}
