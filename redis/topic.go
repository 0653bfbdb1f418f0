package redis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// topic is one topic that somebody on this node has subscribed to.
type topic struct {
	// Set by acquire, never changed.
	way   *way
	link  *link
	check func(*topic) // has it compared with the server soon
	name  string
	key   string // in lane.topics
	keep  realtime.Retention

	refs int // guarded by the lane

	opened chan struct{} // closed when it stands, or failed
	err    error         // why it failed; set before
	stop   func()        // the same: ends the subscription to the channel

	busy sync.Mutex // held by the one who reads what is missing

	mu      sync.Mutex // held while delivering; guards the following
	subs    []*subscription
	history *history // nil for a plain topic
	plain   *plain
	own     map[publishID]*publication
	moved   chan struct{} // closed, and replaced, when the history goes on
	waiting bool          // a look is about to begin
}

type subscription struct{ deliver func(*realtime.Event) }

// publication is an event of this node whose copy may come.
type publication struct {
	event *realtime.Event
	came  chan struct{} // closed when it is delivered
}

// topicKey tells the two kinds apart: nobody should subscribe to one name in both ways,
// but if somebody does the one must not break the other.
func topicKey(name string, keep realtime.Retention) string {
	if keep.Keeps() {
		return "h" + name
	}
	return "p" + name
}

// open subscribes to the channel, and learns where the stream stands. A topic without
// history opens while the server is out of reach too, for the members of this node.
func (t *topic) open(ctx context.Context) {
	defer close(t.opened)
	subscribe := t.link.subscribe
	if t.history == nil {
		subscribe = t.link.subscribeLater
	}
	t.stop, t.err = subscribe(ctx, t.way.key("c", t.name), t.message, t.reset)
	if t.err != nil || t.history == nil {
		return
	}
	m, err := t.way.exec(ctx, "subscribe to "+t.name, checkScript, t.way.streamKeys(t.name), t.checkArgs())
	if err == nil {
		var r *answer
		if r, err = parseAnswer(m, 0); err == nil {
			t.mu.Lock()
			v := t.history.begin(r.epoch, r.offset, r.id)
			t.mu.Unlock()
			t.act(v)
			return
		}
	}
	t.err = err
}

func (t *topic) checkArgs() []string {
	return []string{newEpoch(), retentionText(t.keep), forgetText, forgetUnusedText}
}

// join adds a subscriber, who is given what comes after the returned position.
func (t *topic) join(one *subscription) *realtime.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subs = append(t.subs[:len(t.subs):len(t.subs)], one)
	if t.history == nil {
		return nil
	}
	return &realtime.Position{Epoch: t.history.epoch, Offset: t.history.last}
}

func (t *topic) leave(one *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subs = slices.DeleteFunc(slices.Clone(t.subs), func(other *subscription) bool { return other == one })
}

// emit gives an event to the subscribers. It is called with the lock held.
func (t *topic) emit(e *realtime.Event) {
	for _, one := range t.subs {
		one.deliver(e)
	}
}

// message takes what came on the channel.
func (t *topic) message(text string) {
	a, err := parseMessage(text)
	if err != nil {
		return // not ours: somebody else publishes under our prefix
	}
	if a.gap {
		t.reset()
		return
	}
	t.arrive(a)
}

// arrive takes what was published, by this node or another.
func (t *topic) arrive(a arrival) {
	t.mu.Lock()
	p := t.own[a.id]
	if p != nil {
		a.own = p.event
	}
	if t.history == nil {
		a.epoch, a.offset = "", 0
		t.plain.arrive(a)
		if p != nil {
			delete(t.own, a.id)
			close(p.came)
		}
		t.mu.Unlock()
		return
	}
	v := inOrder
	if a.epoch != "" { // else its publisher did not know of the history
		v = t.history.arrive(a)
	}
	t.moveLocked()
	t.mu.Unlock()
	t.act(v)
}

// moveLocked wakes those who wait for an event's turn.
func (t *topic) moveLocked() {
	if len(t.own) > 0 {
		close(t.moved)
		t.moved = make(chan struct{})
	}
}

// reset is called when the subscription stands again: anything may have been missed.
func (t *topic) reset() {
	if t.history != nil {
		t.check(t)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plain.reset()
}

// patience is how long a hole may stay before the store is read: what comes through
// the channel and what a script returns come on two connections.
const patience = 5 * time.Millisecond

// act does what a verdict asks for.
func (t *topic) act(v verdict) {
	if v == inOrder {
		return
	}
	t.mu.Lock()
	already := t.waiting
	t.waiting = true
	t.mu.Unlock()
	if already {
		return
	}
	pause := patience
	if v == doubt {
		pause = 0
	}
	time.AfterFunc(pause, func() {
		t.mu.Lock()
		t.waiting = false
		needless := v == hole && t.history.open && len(t.history.ahead) == 0
		t.mu.Unlock()
		if !needless {
			t.check(t)
		}
	})
}

var errGone = errors.New("the subscription has ended")

// look asks the server how the stream stands, and reads what is missing.
func (t *topic) look(ctx context.Context) error {
	t.busy.Lock()
	defer t.busy.Unlock()
	for {
		t.mu.Lock()
		if !t.history.open || len(t.subs) == 0 {
			t.mu.Unlock()
			return errGone
		}
		m := t.history.mark()
		t.mu.Unlock()
		r, err := t.way.read(ctx, t.name, t.keep, max(m.last, 1)-1, page, newEpoch())
		if err != nil {
			return err
		}
		switch t.learn(m, r) {
		case agrees:
			return nil
		case renewed:
			if err := t.way.renew(ctx, t.name, m.epoch); err != nil {
				return err
			}
		}
	}
}

func (t *topic) learn(m mark, r *answer) conclusion {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.moveLocked()
	for i := range r.events {
		if p := t.own[r.events[i].id]; p != nil {
			r.events[i].own = p.event
		}
	}
	return t.history.learn(m, r)
}

// compare takes the answer to a check that was asked at m, and reports whether
// everything is as this node believes.
func (t *topic) compare(m mark, r *answer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return r.epoch == t.history.epoch && m.epoch == r.epoch && !m.contradicts(r) && r.offset <= t.history.last && len(t.history.ahead) == 0 && !t.history.torn
}

// announce notes that e is about to be published.
func (t *topic) announce(id publishID, e *realtime.Event) *publication {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &publication{event: e, came: make(chan struct{})}
	t.own[id] = p
	return p
}

func (t *topic) forget(id publishID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.own, id)
}

// deliverAlone delivers a plain event that does not come back, or not in time.
func (t *topic) deliverAlone(id publishID, p *publication) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own[id] != p {
		return // it came
	}
	delete(t.own, id)
	t.plain.deliverAlone(id, p.event)
}

// await returns when the event at offset was delivered or given up, with its epoch if
// need be, or ctx ends.
func (t *topic) await(ctx context.Context, epoch string, offset uint64) {
	for entered := false; ; {
		t.mu.Lock()
		within := t.history.epoch == epoch
		done := within && t.history.last >= offset || entered && !within || len(t.subs) == 0
		entered = entered || within
		moved := t.moved
		t.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}
