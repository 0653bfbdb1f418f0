package realtime

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// channel is what one connection has to do with one topic: its membership, and
// the mailbox of messages that are handled one after the other. It exists as
// long as either does.
type channel struct {
	conn    *conn
	name    string
	pattern *Pattern
	params  Params
	loop    func() // workLoop, made once

	// Guarded by the connection's lock.
	member  *member // nil while not joined
	box     []task  // what waits; at most settings.mailbox from the client
	running bool    // a goroutine is at work
	joining bool    // the join function runs
	held    []*frame
}

// newChannel makes the channel of c for the topic called name.
func newChannel(c *conn, name string, p *Pattern, params Params) *channel {
	ch := &channel{conn: c, name: name, pattern: p, params: params}
	ch.loop = ch.workLoop
	return ch
}

// task is one entry of a mailbox: a message, or what the server itself wants
// done in its turn.
type task struct {
	inbound
	kind   taskKind
	why    Reason       // taskLeft
	result chan<- error // taskAdmit; buffered
}

type taskKind uint8

const (
	taskMessage taskKind = iota
	taskAdmit            // join without asking the join function
	taskRecheck          // ask the join function again, after a token's refresh
	taskLeft             // the membership has ended
)

// post appends a task and has it worked on. The caller holds the connection's
// lock.
func (ch *channel) postLocked(t task) {
	ch.box = append(ch.box, t)
	if !ch.running {
		ch.running = true
		ch.conn.node.work.Add(1)
		ch.conn.node.crew.run(ch.loop)
	}
}

// workLoop handles what is in the mailbox and ends when there is no more.
func (ch *channel) workLoop() {
	done := false
	defer func() {
		if !done { // a handler has called runtime.Goexit
			ch.conn.node.work.Add(1)
			ch.conn.node.crew.run(ch.loop)
		}
		ch.conn.node.work.Done()
	}()
	for {
		t, ok := ch.next()
		if !ok {
			done = true
			return
		}
		ch.do(t)
	}
}

// next takes the oldest task. With none left the worker is not running any more,
// and a channel without a membership is not the connection's any more.
func (ch *channel) next() (task, bool) {
	c := ch.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(ch.box) == 0 {
		ch.running = false
		ch.box = nil
		if ch.member == nil {
			c.dropLocked(ch)
		}
		return task{}, false
	}
	t := ch.box[0]
	ch.box[0] = task{}
	ch.box = ch.box[1:]
	if c.waiting == ch {
		c.waiting = nil
		c.room <- struct{}{}
	}
	return t, true
}

func (ch *channel) do(t task) {
	switch t.kind {
	case taskAdmit:
		t.result <- ch.join(t)
		return
	case taskRecheck:
		ch.recheck()
		return
	case taskLeft:
		if ch.pattern.left != nil {
			ch.guard("left", func() { ch.pattern.left(&ch.conn.Client, ch.name, t.why) })
		}
		return
	}
	switch t.op {
	case opJoin:
		if err := ch.join(t); err != nil {
			ch.refuse(t.ref, t.joinRef, err)
		}
	case opLeave:
		ch.leaveAsked(t.ref)
	case opPage:
		ch.page(t.inbound)
	case opAuth:
		ch.conn.refresh(t.inbound)
	default:
		ch.event(t.inbound)
	}
}

// errAlready answers a second join.
var errAlready = &Error{Code: CodeAlreadySubscribed, Text: "Already subscribed", Retry: RetryNever}

// join asks the join function, unless the server itself admits, and makes the
// connection a member.
func (ch *channel) join(t task) error {
	c := ch.conn
	if ch.joined() {
		return errAlready
	}
	ch.startJoin()
	defer ch.endJoin()
	var response any
	if t.kind != taskAdmit && ch.pattern.join != nil {
		var err error
		if response, err = ch.call(ch.pattern.join, Message{Topic: ch.name, Event: "subscribe", Data: t.data, params: ch.params}); err != nil {
			return err
		}
	}
	data, err := marshal(response)
	if err != nil {
		return err
	}
	m := &member{client: &c.Client}
	res := pushQueued
	err = c.node.hub.join(c.Context(), ch.pattern, ch.name, m, t.recover, func(j joined) {
		res = ch.admit(&outbound{kind: kindJoined, topic: ch.name, ref: t.ref, joinRef: t.joinRef, data: data, joined: &j})
	})
	if err != nil {
		return err
	}
	kept := ch.keep(m)
	switch res {
	case pushWake:
		c.pool.flush(&c.outlet)
	case pushSlow: // without its answer the client would wait for ever
		c.end(ReasonSlowConsumer, nil, nil)
	}
	if !kept {
		c.node.hub.leave(m)
		return ErrClosed
	}
	ch.countJoin("ok")
	c.flight.add(noteJoined, ch.pattern.text, 0)
	return nil
}

// admit queues the answer to a join. It is called under the topic's lock.
func (ch *channel) admit(m *outbound) pushed {
	if f := seal(ch.conn.enc, m); f != nil {
		return ch.conn.out.push(f)
	}
	return pushQueued
}

func (ch *channel) startJoin() {
	ch.conn.mu.Lock()
	defer ch.conn.mu.Unlock()
	ch.joining = true
}

// keep notes the membership, unless the connection has ended meanwhile.
func (ch *channel) keep(m *member) bool {
	ch.conn.mu.Lock()
	defer ch.conn.mu.Unlock()
	if ch.conn.reason != "" {
		return false
	}
	ch.member = m
	return true
}

// endJoin sends what was pushed during the join: after its answer, or not at all
// if it was refused.
func (ch *channel) endJoin() {
	c := ch.conn
	c.mu.Lock()
	wake, slow := false, false
	for _, f := range ch.held {
		if ch.member != nil {
			res := c.out.push(f)
			wake, slow = wake || res == pushWake, slow || res == pushSlow
		}
	}
	ch.joining, ch.held = false, nil
	c.mu.Unlock()
	if wake {
		c.pool.flush(&c.outlet)
	}
	if slow {
		c.end(ReasonSlowConsumer, nil, nil)
	}
}

func (ch *channel) joined() bool {
	ch.conn.mu.Lock()
	defer ch.conn.mu.Unlock()
	return ch.member != nil
}

// refuse answers a join that was not to be.
func (ch *channel) refuse(ref, joinRef string, err error) {
	e := ch.clientError(err, "join")
	ch.countJoin(e.Code)
	ch.conn.flight.add(noteError, e.Code, 0)
	ch.conn.tell(&outbound{kind: kindRefused, topic: ch.name, ref: ref, joinRef: joinRef, err: e})
}

func (ch *channel) countJoin(outcome string) {
	if outcome == "ok" {
		ch.pattern.count.joined.Add(1)
		return
	}
	ch.conn.node.metrics.joins.WithLabelValues(ch.pattern.text, codeLabel(outcome)).Inc()
}

// leaveAsked ends the membership because the client wants it.
func (ch *channel) leaveAsked(ref string) {
	switch {
	case ch.name == globalTopic:
		ch.conn.fail(ch.name, ref, &Error{Code: string(ReasonForbidden), Text: "Every connection stays in global", Retry: RetryNever})
	case !ch.leave(ReasonClientClosed):
		ch.conn.fail(ch.name, ref, errNotSubscribed)
	default:
		ch.conn.tell(&outbound{kind: kindLeft, topic: ch.name, ref: ref})
	}
}

// leave ends the membership, whoever wants it, and reports whether there was
// one. No event of the topic is queued afterwards.
func (ch *channel) leave(why Reason) bool {
	c := ch.conn
	c.mu.Lock()
	m := ch.member
	ch.member = nil
	if m != nil && ch.pattern.left != nil {
		ch.postLocked(task{kind: taskLeft, why: why})
	}
	idle := !ch.running
	if m != nil && idle {
		c.dropLocked(ch)
	}
	gone := ErrNotJoined
	if c.reason != "" {
		gone = ErrClosed
	}
	c.mu.Unlock()
	if m == nil {
		return false
	}
	c.flight.add(noteLeft, ch.pattern.text, 0)
	left := c.node.hub.leave(m)
	c.node.asks.drop(c, ch.name, gone)
	return left
}

// expel ends the membership for the server's reasons and tells the client.
func (ch *channel) expel(why *Error) bool {
	if !ch.leave(ReasonDisconnected) {
		return false
	}
	ch.conn.tell(&outbound{kind: kindLeft, topic: ch.name, err: why})
	return true
}

// recheck asks the join function again, under the identity of a fresh token.
func (ch *channel) recheck() {
	if ch.pattern.join == nil || ch.name == globalTopic || !ch.joined() {
		return
	}
	m := Message{Topic: ch.name, Event: "auth", Data: []byte("null"), params: ch.params}
	if _, err := ch.call(ch.pattern.join, m); err != nil {
		ch.expel(ch.clientError(err, "auth"))
	}
}

// event has the topic's handler answer one message.
func (ch *channel) event(in inbound) {
	c := ch.conn
	if !ch.joined() {
		c.fail(ch.name, in.ref, errNotSubscribed)
		return
	}
	h := ch.pattern.handler(in.event)
	if h == nil {
		c.fail(ch.name, in.ref, &Error{Code: CodeUnknownEvent, Text: "No such event here", Retry: RetryNever})
		return
	}
	c.flight.add(noteMessage, h.event, len(in.data))
	r := &Reply{to: ch, ref: in.ref}
	r.settle(ch.call(h, Message{Topic: ch.name, Event: in.event, Data: in.data, params: ch.params, reply: r}))
}

// answer implements [answerer]: one reply or error for a message.
func (ch *channel) answer(ref string, response any, err error) {
	data, bad := marshal(response)
	if err == nil {
		err = bad
	}
	if err != nil {
		ch.conn.fail(ch.name, ref, ch.clientError(err, "handler"))
		return
	}
	if ref != "" {
		ch.conn.reply(ch.name, ref, data)
	}
}

// call runs a handler. What it does wrong stays inside this call.
func (ch *channel) call(h *handling, m Message) (response any, err error) {
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			err = &panicked{value: r, stack: debug.Stack()}
		}
		h.seconds.Observe(time.Since(start).Seconds())
		if err != nil {
			code := codeLabel(clientError(err).Code)
			if _, ok := errors.AsType[*panicked](err); ok {
				code = "panic"
			}
			ch.conn.node.metrics.handlerErrors.WithLabelValues(ch.pattern.text, h.event, code).Inc()
		}
	}()
	return h.call(ch.conn.Context(), &ch.conn.Client, m)
}

// guard runs a callback of the host that has nobody to answer to.
func (ch *channel) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			ch.clientError(&panicked{value: r, stack: debug.Stack()}, what)
		}
	}()
	f()
}

// panicked is a panic in a handler.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// clientError returns what the client may see of err, and logs what it may not.
func (ch *channel) clientError(err error, what string) *Error {
	e := clientError(err)
	if e.Code != string(ReasonInternal) || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return e
	}
	attrs := []any{"conn", ch.conn.id, "user", ch.conn.User(), "topic", ch.name, "in", what, "error", err}
	if p, ok := errors.AsType[*panicked](err); ok {
		attrs = append(attrs, "stack", string(p.stack))
	}
	ch.conn.node.log.Error("realtime: handler failed", attrs...)
	return e
}
