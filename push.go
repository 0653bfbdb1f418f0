package realtime

import (
	"cmp"
	"fmt"
)

// push implements [link].
func (s *session) push(topic, event string, payload any) error {
	data, err := eventData(event, payload)
	if err != nil {
		return err
	}
	return s.post(&outbound{kind: kindEvent, topic: topic, event: event, data: data, binary: isBinary(payload)})
}

// post sends m if its topic is joined, and keeps it back while it is being
// joined.
func (s *session) post(m *outbound) error {
	s.mu.Lock()
	ch, f, err := s.addressLocked(*m)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	res := pushQueued
	switch {
	case !ch.joining:
		res = s.out.push(f) // under the lock: nothing follows the end of a membership
	case len(ch.held) < s.node.bounds.messages:
		ch.held = append(ch.held, f)
	default:
		res = pushSlow
	}
	s.mu.Unlock()
	switch res {
	case pushWake:
		s.pool.flush(&s.outlet)
	case pushSlow:
		s.end(ReasonSlowConsumer, nil, nil)
		return ErrClosed
	case pushClosed:
		return ErrClosed
	}
	return nil
}

// addressLocked encodes m for the membership that it goes to.
func (s *session) addressLocked(m outbound) (*channel, *frame, error) {
	ch := s.findLocked(m.topic)
	switch {
	case s.isEnding():
		return nil, nil, ErrClosed
	case ch == nil || ch.member == nil && !ch.joining && ch.parting == nil:
		return nil, nil, fmt.Errorf("%w: %q", ErrNotJoined, m.topic)
	}
	if refs := cmp.Or(ch.parting, ch.refs); refs != nil {
		m.joinRef = refs.push
	}
	f := seal(s.enc, &m)
	if f == nil {
		return nil, nil, ErrNotSupported
	}
	return ch, f, nil
}

// offer implements [link]: e goes into the mailbox, behind a join that has yet to
// return: its answer may be with the client already. A client whose interceptor
// cannot keep up is slow.
func (s *session) offer(e *Event) {
	s.mu.Lock()
	ch := s.findLocked(e.Topic)
	if ch == nil || ch.member == nil && !ch.joining {
		s.mu.Unlock()
		return
	}
	slow := len(ch.box) >= s.node.mailbox+s.node.bounds.messages
	if !slow {
		ch.putLocked(task{kind: taskIntercept, event: e, member: ch.member})
	}
	s.mu.Unlock()
	if slow {
		s.end(ReasonSlowConsumer, nil, nil)
	}
}
