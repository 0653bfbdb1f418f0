package realtime

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// errUnsubscribed tells of an end that has no reason of its own.
var errUnsubscribed = &Error{Code: string(ReasonDisconnected), Text: "Unsubscribed by the server", Retry: RetryNever}

// errAlready answers a second join.
var errAlready = &Error{Code: CodeAlreadySubscribed, Text: "Already subscribed", Retry: RetryNever}

// join asks the join function, unless the server itself admits, and makes the
// connection a member, under refs. last is what the client has yet to hear of an earlier
// membership: it follows the answer.
func (ch *channel) join(t task, refs *joinRefs, last ...*frame) error {
	s := ch.session
	if ch.joined() {
		return errAlready
	}
	m := &member{client: &s.Client}
	if refs != nil && ch.pattern.presence != nil {
		m.present = &attendee{joinRef: refs.push}
	}
	ch.startJoin(m, refs)
	defer ch.endJoin()
	ctx := newDeadline(s.Context(), ch.pattern.joinTime)
	defer ctx.end()
	var response any
	asked := t.kind != taskAdmit && ch.pattern.join != nil
	if asked {
		var err error
		if response, err = ch.admission(ctx, t, refs); err != nil {
			return err
		}
	}
	err := ch.enroll(ctx, m, t, response, last)
	if err != nil && (asked || m.topic != nil) {
		s.do(ch, task{kind: taskLeft, why: ch.whyNot(), refs: refs}) // the join function may have counted the client in
	}
	return err
}

// whyNot is what the host is told of a membership that was not to be.
func (ch *channel) whyNot() Reason {
	if ch.session.isEnding() {
		return ch.session.why()
	}
	return ReasonDisconnected
}

// enroll makes m a member and answers the join.
func (ch *channel) enroll(ctx context.Context, m *member, t task, response any, last []*frame) error {
	s := ch.session
	data, err := marshal(response)
	if err != nil {
		return err
	}
	if err := ch.attend(m); err != nil {
		return err
	}
	res := pushQueued
	err = s.node.hub.join(ctx, ch.pattern, ch.name, m, t.recover, func(j joined) {
		res = ch.admit(&outbound{kind: kindJoined, topic: ch.name, ref: t.ref, joinRef: t.joinRef, data: data, binary: isBinary(response), joined: &j}, last)
	})
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrBrokerDown) {
		err = fmt.Errorf("%w: %w", errJoinLate, err)
	}
	if err != nil {
		return err
	}
	kept := ch.keep(m)
	switch res {
	case pushWake:
		s.pool.flush(&s.outlet)
	case pushSlow: // without its answer the client would wait for ever
		s.end(ReasonSlowConsumer, nil, nil)
	}
	if !kept {
		s.node.hub.leave(m)
		return ErrClosed
	}
	ch.countJoin("ok")
	s.flight.add(noteJoined, ch.pattern.text, 0)
	return nil
}

// admission asks the join function. If that takes too long the client is refused
// meanwhile, and what the function says in the end counts no more.
func (ch *channel) admission(ctx context.Context, t task, refs *joinRefs) (any, error) {
	var settled atomic.Bool
	late := time.AfterFunc(ch.pattern.joinTime, func() {
		if settled.CompareAndSwap(false, true) {
			ch.refuse(t.ref, t.joinRef, errJoinLate)
		}
	})
	defer late.Stop()
	response, err := ch.call(ctx, ch.pattern.join, Message{Topic: ch.name, Event: "subscribe", Data: t.data, params: ch.params})
	if !settled.CompareAndSwap(false, true) {
		if err == nil { // it may have counted the client in
			ch.session.do(ch, task{kind: taskLeft, why: ReasonDisconnected, refs: refs})
		}
		return nil, errJoinLate
	}
	if status, ok := response.(Status); ok {
		response = status.Response // a join that is let in has no other
	}
	return response, err
}

// errJoinLate answers a join whose function has taken too long.
var errJoinLate = &Error{Code: CodeJoinTimeout, Text: "The join took too long", Retry: RetryBackoff}

// admit queues the answer to a join and what follows it. It is called under the
// topic's lock.
func (ch *channel) admit(m *outbound, last []*frame) pushed {
	if f := seal(ch.session.enc, m); f != nil {
		last = append([]*frame{f}, last...)
	}
	return ch.session.out.pushAll(last)
}

func (ch *channel) startJoin(m *member, refs *joinRefs) {
	ch.session.mu.Lock()
	defer ch.session.mu.Unlock()
	ch.joining, ch.refs, ch.coming = true, refs, m
}

// endJoin sends what was pushed during the join: after its answer, or not at all
// if it was refused.
func (ch *channel) endJoin() {
	s := ch.session
	s.mu.Lock()
	wake, slow := false, false
	for _, f := range ch.held {
		if ch.member != nil {
			res := s.out.push(f)
			wake, slow = wake || res == pushWake, slow || res == pushSlow
		}
	}
	ch.joining, ch.coming, ch.held = false, nil, nil
	s.mu.Unlock()
	if wake {
		s.pool.flush(&s.outlet)
	}
	if slow {
		s.end(ReasonSlowConsumer, nil, nil)
	}
}

// refuseUnlessLate answers a join that was not to be, unless it is answered already.
func (ch *channel) refuseUnlessLate(t task, err error) {
	if err != errJoinLate {
		ch.refuse(t.ref, t.joinRef, err)
	}
}

func (ch *channel) refuse(ref, joinRef string, err error) {
	e := ch.clientError(err, "join")
	ch.countJoin(e.Code)
	ch.session.flight.add(noteError, e.Code, 0)
	ch.session.tell(&outbound{kind: kindRefused, topic: ch.name, ref: ref, joinRef: joinRef, err: e})
}

func (ch *channel) countJoin(outcome string) {
	if outcome == "ok" {
		ch.pattern.count.joined.Add(1)
		return
	}
	ch.session.node.metrics.joins.WithLabelValues(ch.pattern.text, codeLabel(outcome)).Inc()
}

// leaveAsked ends the membership because the client wants it.
func (ch *channel) leaveAsked(ref string) {
	switch {
	case ch.name == globalTopic:
		ch.session.fail(ch.name, ref, &Error{Code: string(ReasonForbidden), Text: "Every connection stays in global", Retry: RetryNever})
	case !ch.leave(ReasonClientClosed, &outbound{kind: kindLeft, topic: ch.name, ref: ref}):
		ch.session.fail(ch.name, ref, errNotSubscribed)
	}
}

// leave ends the membership, whoever wants it, and reports whether there was
// one. The client is told last, and gets no event of the topic afterwards.
func (ch *channel) leave(why Reason, last ...*outbound) bool {
	m, _ := ch.membership()
	return ch.leaveFrom(m, why, last...)
}

// leaveFrom is leave for m alone: it does nothing if that is not the membership any
// more.
func (ch *channel) leaveFrom(m *member, why Reason, last ...*outbound) bool {
	s := ch.session
	now, refs := ch.membership()
	if m == nil || m != now {
		return false
	}
	ok, res := ch.part(m, why, ch.sealAll(refs, last))
	if !ok {
		return false
	}
	switch res {
	case pushWake:
		s.pool.flush(&s.outlet)
	case pushSlow:
		s.end(ReasonSlowConsumer, nil, nil)
	}
	ch.forget(m)
	return true
}

// sealAll encodes what the client is told of a membership.
func (ch *channel) sealAll(refs joinRefs, last []*outbound) []*frame {
	var frames []*frame
	for _, o := range last {
		if o.joinRef = refs.push; o.kind == kindLeft {
			o.joinRef = refs.fence
		}
		if f := seal(ch.session.enc, o); f != nil {
			frames = append(frames, f)
		}
	}
	return frames
}

// forget gives back what the server holds of a membership that has ended.
func (ch *channel) forget(m *member) {
	s, err := ch.session, ErrNotJoined
	if s.isEnding() {
		err = ErrClosed
	}
	s.flight.add(noteLeft, ch.pattern.text, 0)
	s.node.hub.forget(m)
	s.node.asks.drop(&s.Client, ch.name, err)
}

// expel ends the membership for the server's reasons and tells the client.
func (ch *channel) expel(why *Error) bool {
	return ch.leave(ReasonDisconnected, &outbound{kind: kindLeft, topic: ch.name, err: why})
}

// recheck asks the join function again, under the identity of a fresh token.
func (ch *channel) recheck() {
	if ch.pattern.join == nil || ch.name == globalTopic || !ch.joined() {
		return
	}
	m := Message{Topic: ch.name, Event: "auth", Data: []byte("null"), params: ch.params}
	if _, err := ch.call(ch.session.Context(), ch.pattern.join, m); err != nil {
		ch.expel(ch.clientError(err, "auth"))
	}
}
