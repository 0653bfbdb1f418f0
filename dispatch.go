package realtime

import (
	"fmt"
)

// newSession makes the receiver for connections that speak a protocol of topics:
// it decodes their messages, holds them against the limits, and brings each to
// the mailbox of its topic.
func newSession(c *conn) receiver {
	s := &session{conn: c, do: (*channel).do}
	c.link = s
	return s
}

// receive implements [receiver].
func (s *session) receive(payload []byte, binary bool) {
	s.counts.messages.Add(1)
	in, fail := s.enc.decode(payload, binary)
	if !s.withinRate(&in) {
		return
	}
	undecodable := fail != nil && fail.Code == string(ReasonInvalidMessage)
	if undecodable && s.authenticated() {
		s.undecodable(fail)
		return
	}
	s.bad = 0
	switch {
	case in.op == opPing:
		s.tell(&outbound{kind: kindPong, topic: in.topic, ref: in.ref, data: in.data})
	case !s.authenticated():
		s.receiveFirst(in) // which an undecodable one ends, too
	case in.op == opAnswer:
		s.node.asks.answer(&s.Client, in.ref, in.data)
	default:
		s.route(in, fail)
	}
}

// receiveFirst handles what comes before authentication: auth, or the end.
func (s *session) receiveFirst(in inbound) {
	if in.op == opAuth {
		s.login(in)
		return
	}
	s.end(ReasonUnauthenticated, nil, fmt.Errorf("a message before auth"))
}

// withinRate holds a message against the rate limits. One over the rate is
// answered, softly at first.
func (s *session) withinRate(in *inbound) bool {
	n := s.node
	v := s.charge(in.event, s.lastHeard())
	switch {
	case v.warned:
		n.metrics.limited.WithLabelValues(v.scope, "warn").Inc()
		n.log.Warn("realtime: over the rate, warn-only", "conn", s.id, "user", s.User(), "limit", v.scope)
	case v.last:
		n.metrics.limited.WithLabelValues(v.scope, "close").Inc()
		s.end(ReasonRateLimited, &Error{RetryAfter: v.wait}, fmt.Errorf("limit per %s", v.scope))
	case !v.ok:
		n.metrics.limited.WithLabelValues(v.scope, "soft").Inc()
		e := ReasonRateLimited.asError()
		e.RetryAfter = v.wait
		topic := in.topic
		if topic == "" {
			topic = globalTopic
		}
		if in.op == opJoin {
			s.tell(&outbound{kind: kindRefused, topic: topic, ref: in.ref, joinRef: in.joinRef, err: e})
			return false
		}
		ref := in.ref
		if in.op == opAnswer {
			ref = "" // it is the server's own
		}
		s.fail(topic, ref, e)
	}
	return v.ok
}

// undecodable answers what is not a message; several in a row are a client that
// speaks something else.
func (s *session) undecodable(e *Error) {
	s.node.metrics.invalid.Inc()
	s.bad++
	s.node.log.Debug("realtime: invalid message", "conn", s.id, "user", s.User(), "error", e.Text)
	s.fail(globalTopic, "", e)
	if s.bad >= s.node.badMessages {
		s.end(ReasonInvalidMessage, nil, fmt.Errorf("%s", e.Text))
	}
}

// route brings a message to the mailbox of its topic. It blocks while that is
// full: the socket is not read then.
func (s *session) route(in inbound, fail *Error) {
	if in.op == opAuth {
		in.topic = globalTopic
	}
	if fail != nil {
		s.refuseEarly(in, fail)
		return
	}
	for {
		ch, e := s.channelFor(in)
		if e != nil {
			s.refuseEarly(in, e)
			return
		}
		if s.put(ch, in) {
			return
		}
	}
}

// refuseEarly answers a message that reaches no mailbox.
func (s *session) refuseEarly(in inbound, e *Error) {
	if in.op == opJoin {
		s.flight.add(noteError, e.Code, 0)
		s.tell(&outbound{kind: kindRefused, topic: in.topic, ref: in.ref, joinRef: in.joinRef, err: e})
		return
	}
	s.fail(in.topic, in.ref, e)
}

// channelFor returns the channel that a message is for; a join makes it.
func (s *session) channelFor(in inbound) (*channel, *Error) {
	s.mu.Lock()
	ch, full := s.findLocked(in.topic), s.fullLocked()
	s.mu.Unlock()
	switch {
	case ch != nil:
		return ch, nil
	case in.op != opJoin:
		return nil, errNotSubscribed
	}
	p, params := s.node.hub.pattern(in.topic)
	switch {
	case p == nil:
		return nil, errUnknownChannel
	case full:
		return nil, &Error{Code: CodeTooManyChannels, Text: fmt.Sprintf("At most %d channels", s.terms.channels), Retry: RetryNever}
	}
	return newChannel(s, in.topic, p, params), nil
}

// fullLocked reports whether no channel may be added. One that the client is
// leaving is not counted, for what it sends behind that comes after it; but not any
// number of them, since a handler may keep each.
func (s *session) fullLocked() bool {
	most, n := s.terms.channels, 0
	for _, ch := range s.channels {
		if !ch.leaving && ch.name != globalTopic {
			n++
		}
	}
	return n >= most || len(s.channels) > 2*most
}

// entered implements [receiver]: the client is in global from now on.
func (s *session) entered() {
	p, _ := s.node.hub.pattern(globalTopic)
	ch := newChannel(s, globalTopic, p, nil)
	m := &member{client: &s.Client}
	s.mu.Lock()
	s.channels = append(s.channels, ch)
	s.mu.Unlock()
	err := ch.attend(m)
	if err == nil {
		err = s.node.hub.join(s.Context(), p, globalTopic, m, nil, func(joined) {})
	}
	if err != nil {
		s.end(brokerReason(err), nil, err)
		return
	}
	if !ch.keep(m) {
		s.node.hub.leave(m)
	}
}

// started implements [receiver].
func (*session) started() {}

// ended implements [receiver]: every membership ends. A handler that runs finds
// its context ended.
func (s *session) ended(why Reason) {
	for _, ch := range s.close() {
		ch.leave(why)
	}
}
