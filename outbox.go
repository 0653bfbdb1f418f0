package realtime

import (
	"sync"
)

const (
	// outboxNotes and outboxBytes bound what waits to be sent to other nodes: about a
	// second of a busy node, and what a broker that has just hung costs in memory.
	outboxNotes = 4096
	outboxBytes = 4 << 20
)

// outbox is what waits to be sent to other nodes, in order.
type outbox struct {
	mu      sync.Mutex // guards the following
	queue   []letter
	bytes   int
	busy    bool          // somebody empties it
	roomy   chan struct{} // closed when something has left; nil if nobody waits
	emptied chan struct{} // closed when it is empty; nil if nobody waits
}

// letter is a note and where it goes.
type letter struct {
	topic string
	memo
}

// put adds one, and reports whether there was room, and whether the caller has to
// start somebody who empties the box.
func (o *outbox) put(one letter) (ok, start bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) >= outboxNotes || o.bytes+len(one.body) > outboxBytes {
		return false, false
	}
	o.queue = append(o.queue, one)
	o.bytes += len(one.body)
	start = !o.busy
	o.busy = true
	return true, start
}

// take returns the topic and the memos of the next event; nil when nothing is left,
// and then the caller is not the one who empties the box any more.
func (o *outbox) take() (topic string, memos []memo) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		o.busy, o.queue = false, nil
		wakeAll(&o.emptied)
		return "", nil
	}
	topic = o.queue[0].topic
	size := 0
	for _, one := range o.queue {
		if one.topic != topic || len(memos) > 0 && size+len(one.body) > nodeMailBytes {
			break
		}
		size += len(one.body)
		memos = append(memos, one.memo)
	}
	clear(o.queue[:len(memos)])
	o.queue = o.queue[len(memos):]
	o.bytes -= size
	wakeAll(&o.roomy)
	return topic, memos
}

// drop empties the box and returns how many memos were in it.
func (o *outbox) drop() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.queue)
	o.queue, o.bytes = nil, 0
	wakeAll(&o.roomy)
	return n
}

// room returns a channel that is closed when something has left, nil if there is
// plenty.
func (o *outbox) room() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) < outboxNotes/2 && o.bytes < outboxBytes/2 {
		return nil
	}
	return waitFor(&o.roomy)
}

// empty returns a channel that is closed once everything has been sent, nil if it has.
func (o *outbox) empty() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.busy {
		return nil
	}
	return waitFor(&o.emptied)
}

func waitFor(c *chan struct{}) <-chan struct{} {
	if *c == nil {
		*c = make(chan struct{})
	}
	return *c
}

func wakeAll(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}
