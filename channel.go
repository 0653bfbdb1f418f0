package realtime

import (
	"slices"
	"sync"
)

// session is what one connection has to do with topics: a channel for each.
type session struct {
	*conn
	do      func(*channel, task) // handles what comes out of a mailbox
	fragile bool                 // a panic ends the membership, which the client will join again

	mu       sync.Mutex // guards the following and the channels' fields
	channels []*channel
	over     bool          // the connection has ended: nothing is joined any more
	room     chan struct{} // tells the read loop that a mailbox has room
	waiting  *channel      // the mailbox that it waits for
}

// channel is what one connection has to do with one topic: its membership, and
// the mailbox of messages that are handled one after the other. It exists as
// long as either does.
type channel struct {
	session *session
	name    string
	pattern *Pattern
	params  Params
	loop    func() // workLoop, made once

	// Guarded by the session's lock.
	member  *member   // nil while not joined
	refs    *joinRefs // of the membership, or of what it will be; nil in protocols without
	parting *joinRefs // of what it was, while the host hears of the end
	box     []task    // what waits; at most settings.mailbox from the client
	running bool      // a goroutine is at work
	joining bool      // the join function runs
	coming  *member   // while that can be tracked, and joining
	leaving bool      // the client's last word about the membership was to end it
	held    []*frame
}

// joinRefs tell the messages of one membership from those of an earlier one.
type joinRefs struct {
	push  string // what pushes and replies bear
	fence string // what the client's own messages must bear, and the end bears
}

// errUnknownChannel answers what names no topic.
var errUnknownChannel = &Error{Code: CodeUnknownChannel, Text: "No such channel", Retry: RetryNever}

// errNotSubscribed answers what is meant for members only.
var errNotSubscribed = &Error{Code: CodeNotSubscribed, Text: "Not subscribed", Retry: RetryNever}

// newChannel makes the channel of s for the topic called name. It is not among
// the session's yet.
func newChannel(s *session, name string, p *Pattern, params Params) *channel {
	ch := &channel{session: s, name: name, pattern: p, params: params}
	ch.loop = ch.workLoop
	return ch
}

// task is one entry of a mailbox: a message, or what the server itself wants
// done in its turn.
type task struct {
	inbound
	kind   taskKind
	why    Reason       // taskLeft
	member *member      // taskIntercept: whose turn it is, nil for who is joining
	refs   *joinRefs    // taskLeft
	result chan<- error // taskAdmit; buffered
	event  *Event       // taskIntercept
}

type taskKind uint8

const (
	taskMessage   taskKind = iota
	taskAdmit              // join without asking the join function
	taskRecheck            // ask the join function again, after a token's refresh
	taskLeft               // the membership has ended
	taskIntercept          // a published event that the host wants to see first
)

// put appends a message to a mailbox, waiting for room. False means that the
// channel went meanwhile.
func (s *session) put(ch *channel, in inbound) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(ch.box) >= s.node.mailbox && !s.isEnding() {
		s.waitForRoomLocked(ch)
	}
	if s.isEnding() {
		return true // nobody is left to tell
	}
	if here := s.findLocked(ch.name); here != ch {
		if here != nil || in.op != opJoin {
			return false
		}
		s.channels = append(s.channels, ch)
	}
	if in.op == opJoin || in.op == opLeave {
		ch.leaving = in.op == opLeave
	}
	ch.putLocked(task{inbound: in})
	return true
}

// waitForRoomLocked gives the lock away until a task has been taken or the
// connection ends. The heartbeat does not blame the peer meanwhile.
func (s *session) waitForRoomLocked(ch *channel) {
	if s.room == nil {
		s.room = make(chan struct{}, 1)
	}
	s.waiting = ch
	s.mu.Unlock()
	s.stalled.Store(true)
	select {
	case <-s.room:
	case <-s.Context().Done():
	}
	s.touch()
	s.stalled.Store(false)
	s.mu.Lock()
}

func (s *session) find(name string) *channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findLocked(name)
}

func (s *session) findLocked(name string) *channel {
	for _, ch := range s.channels {
		if ch.name == name {
			return ch
		}
	}
	return nil
}

// dropLocked forgets a channel that has neither work nor membership.
func (s *session) dropLocked(gone *channel) {
	if i := slices.Index(s.channels, gone); i >= 0 {
		end := len(s.channels) - 1
		s.channels[i], s.channels[end] = s.channels[end], nil
		s.channels = s.channels[:end]
	}
}

// close empties the mailboxes, but for memberships whose end the host has yet to
// hear of, and returns the channels. Nothing is joined from then on.
func (s *session) close() []*channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for _, ch := range s.channels {
		ch.box = slices.DeleteFunc(ch.box, func(t task) bool { return t.kind != taskLeft })
	}
	return slices.Clone(s.channels)
}

// putLocked appends a task and has it worked on.
func (ch *channel) putLocked(t task) {
	ch.box = append(ch.box, t)
	ch.workLocked()
}

func (ch *channel) workLocked() {
	if !ch.running {
		ch.running = true
		ch.session.node.work.Add(1)
		ch.session.node.crew.run(ch.loop)
	}
}

// workLoop handles what is in the mailbox and ends when there is no more.
func (ch *channel) workLoop() {
	n, done := ch.session.node, false
	defer func() {
		if !done { // a handler has called runtime.Goexit
			n.work.Add(1)
			n.crew.run(ch.loop)
		}
		n.work.Done()
	}()
	for {
		t, ok := ch.next()
		if !ok {
			done = true
			return
		}
		ch.session.do(ch, t)
	}
}

// next takes the oldest task. With none left the worker is not running any more,
// and a channel without a membership is not the session's any more.
func (ch *channel) next() (task, bool) {
	s := ch.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ch.box) == 0 {
		ch.running = false
		if cap(ch.box) > 1 {
			ch.box = nil // one place stays: most messages find the mailbox empty
		}
		if ch.member == nil {
			s.dropLocked(ch)
		}
		return task{}, false
	}
	t := ch.box[0]
	if ch.box[0] = (task{}); len(ch.box) > 1 {
		ch.box = ch.box[1:]
	} else {
		ch.box = ch.box[:0]
	}
	if s.waiting == ch {
		s.waiting = nil
		s.room <- struct{}{}
	}
	return t, true
}

// membership returns the present one, nil while not joined, and its refs.
func (ch *channel) membership() (m *member, refs joinRefs) {
	ch.session.mu.Lock()
	defer ch.session.mu.Unlock()
	if ch.refs != nil {
		refs = *ch.refs
	}
	return ch.member, refs
}

func (ch *channel) joined() bool {
	m, _ := ch.membership()
	return m != nil
}

// keep notes the membership, unless the connection has ended meanwhile.
func (ch *channel) keep(m *member) bool {
	ch.session.mu.Lock()
	defer ch.session.mu.Unlock()
	if ch.session.over {
		return false
	}
	ch.member = m
	return true
}

// part takes the membership m away and queues told behind the last of it: all in
// one step, since a join may follow at once and its answer must come after told. The
// host hears of the end before that join, too. It reports false if m is not the
// membership any more.
func (ch *channel) part(m *member, why Reason, told []*frame) (ok bool, res pushed) {
	s := ch.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch.member != m {
		return false, pushQueued
	}
	ch.member = nil
	m.topic.leave(m)
	res = s.out.pushAll(told)
	if ch.pattern.left != nil {
		ch.box = slices.Insert(ch.box, 0, task{kind: taskLeft, why: why, refs: ch.refs})
		ch.workLocked()
	}
	if !ch.running {
		s.dropLocked(ch)
	}
	return true, res
}
