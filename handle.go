package realtime

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// do handles what comes out of a mailbox, in its turn.
func (ch *channel) do(t task) {
	switch t.kind {
	case taskAdmit:
		t.result <- ch.join(t, nil)
		return
	case taskRecheck:
		ch.recheck()
		return
	case taskLeft:
		ch.hearLeft(t)
		return
	case taskIntercept:
		ch.intercept(t)
		return
	}
	switch t.op {
	case opJoin:
		if err := ch.join(t, nil); err != nil {
			ch.refuseUnlessLate(t, err)
		}
	case opLeave:
		ch.leaveAsked(t.ref)
	case opPage:
		ch.page(t.inbound)
	case opAuth:
		ch.session.refresh(t.inbound)
	default:
		ch.event(t.inbound)
	}
}

// event has the topic's handler answer one message.
func (ch *channel) event(in inbound) {
	if r, response, err := ch.handle(in); r != nil {
		ch.finish(r, response, err)
	}
}

// handle calls the topic's handler. Without a reply the message is answered
// already.
func (ch *channel) handle(in inbound) (r *Reply, response any, err error) {
	s := ch.session
	m, refs := ch.membership()
	if m == nil {
		s.fail(ch.name, in.ref, errNotSubscribed)
		return nil, nil, nil
	}
	r = &Reply{to: ch, ref: in.ref, joinRef: refs.push}
	h := ch.pattern.handler(in.event)
	if h == nil {
		r.settle(nil, &Error{Code: CodeUnknownEvent, Text: "No such event here", Retry: RetryNever})
		return nil, nil, nil
	}
	s.flight.add(noteMessage, h.event, len(in.data)+len(in.binary))
	response, err = ch.call(ch.session.Context(), h, Message{Topic: ch.name, Event: in.event, Data: in.data, Binary: in.binary, params: ch.params, reply: r})
	return r, response, err
}

// finish answers a message, and ends the membership if its handler wants that.
func (ch *channel) finish(r *Reply, response any, err error) {
	end := ch.endOf(err)
	if end != nil {
		if hasPanicked(err) {
			response = Nothing
		}
		err = nil
	}
	r.settle(response, err)
	if end != nil {
		ch.expel(end)
	}
}

// endOf returns what a client is told of its membership's end if err asks for
// one, nil if not.
func (ch *channel) endOf(err error) *Error {
	switch {
	case errors.Is(err, ErrStop):
		return errUnsubscribed
	case errors.Is(err, ErrCrash), ch.session.fragile && hasPanicked(err):
		return ch.clientError(err, "handler")
	}
	return nil
}

// answer implements [answerer]: one reply or error for a message.
func (ch *channel) answer(r *Reply, response any, err error) {
	if response == Nothing && err == nil {
		return
	}
	m := outbound{kind: kindReply, topic: ch.name, ref: r.ref, joinRef: r.joinRef}
	if status, ok := response.(Status); ok {
		m.status, response = status.Name, status.Response
	}
	data, bad := marshal(response)
	switch err = cmp.Or(err, bad); {
	case err != nil:
		m.kind, m.err = kindError, ch.clientError(err, "handler")
		ch.session.flight.add(noteError, m.err.Code, 0)
	case r.ref == "":
		return
	}
	m.data, m.binary = data, isBinary(response)
	ch.session.tell(&m)
}

// hearLeft tells the host of the end of a membership.
func (ch *channel) hearLeft(t task) {
	if ch.pattern.left != nil {
		ch.guard("left", func() { ch.pattern.left(&ch.session.Client, ch.name, t.why) })
	}
}

// intercept has the host see a published event before the client does.
func (ch *channel) intercept(t task) {
	h := ch.pattern.intercepts[t.event.Name]
	if m, _ := ch.membership(); m == nil || t.member != nil && m != t.member {
		return
	}
	m := Message{Topic: ch.name, Event: t.event.Name, Data: t.event.Data, params: ch.params}
	var payload any
	err := m.unpack(t.event.Binary)
	if err == nil {
		payload, err = ch.call(ch.session.Context(), h, m)
	}
	if end := ch.endOf(err); end != nil {
		ch.expel(end)
		return
	}
	if err == nil && payload != Nothing {
		err = ch.session.push(ch.name, t.event.Name, payload)
	}
	if err != nil && !errors.Is(err, ErrNotSupported) { // the protocol has no such message
		ch.clientError(err, "intercept")
	}
}

// pageLimit is the default and the most of a page of history (envelope.md
// section 3).
const pageLimit = 100

// page answers a request for history.
func (ch *channel) page(in inbound) {
	s := ch.session
	if !ch.joined() {
		s.fail(ch.name, in.ref, errNotSubscribed)
		return
	}
	if !ch.pattern.keep.Keeps() {
		s.fail(ch.name, in.ref, &Error{Code: CodeNoHistory, Text: "This channel keeps no history", Retry: RetryNever})
		return
	}
	from, limit, e := parsePage(in.data)
	if e != nil {
		s.fail(ch.name, in.ref, e)
		return
	}
	events, newest, err := s.node.hub.page(s.Context(), ch.pattern, ch.name, from, limit)
	if err != nil {
		s.fail(ch.name, in.ref, ch.clientError(err, "history"))
		return
	}
	if in.ref != "" {
		s.reply(ch.name, in.ref, appendPage(nil, events, newest))
	}
}

func parsePage(data json.RawMessage) (from uint64, limit int, e *Error) {
	var q struct{ From, Limit *uint64 }
	var fields map[string]json.RawMessage // the keys' case counts, which a struct would not mind
	err := json.Unmarshal(data, &fields)
	for name, to := range map[string]**uint64{"from": &q.From, "limit": &q.Limit} {
		if value, ok := fields[name]; ok && err == nil {
			err = json.Unmarshal(value, to)
		}
	}
	if err != nil || q.Limit != nil && *q.Limit < 1 {
		return 0, 0, &Error{Code: CodeInvalidData, Text: `history wants {"from":offset,"limit":1 to 100}`, Retry: RetryNever}
	}
	limit = pageLimit
	if q.Limit != nil {
		limit = int(min(*q.Limit, pageLimit))
	}
	if q.From != nil {
		from = *q.From
	}
	return from, limit, nil
}

// appendPage keeps the events' bytes as they are, which encoding/json would not.
func appendPage(dst []byte, events []*Event, newest Position) json.RawMessage {
	dst = appendQuoted(append(dst, `{"epoch":`...), newest.Epoch)
	dst = append(dst, `,"events":[`...)
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendQuoted(append(dst, `{"type":`...), e.Name)
		dst = append(append(dst, `,"data":`...), e.Data...)
		dst = fmt.Appendf(dst, `,"offset":%d}`, e.Offset)
	}
	return fmt.Appendf(dst, `],"offset":%d}`, newest.Offset)
}

// refresh handles a later auth: the joined topics are asked again under the new
// claims. One that fails changes nothing.
func (s *session) refresh(in inbound) {
	id, err := s.identify(in.data)
	s.flight.add(noteAuth, "", 0)
	if err == nil && (id.User != s.User() || id.Tenant != s.Identity().Tenant) {
		err = errOtherUser
	}
	if err != nil {
		_, why := refusalOf(err)
		s.fail(globalTopic, in.ref, why)
		return
	}
	s.identity.Store(id)
	s.tell(s.authenticatedAs(id, in.ref))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recheckLocked()
}

var errOtherUser = Reject("The token is for another user")

// recheckLocked has everything looked at again that an identity decides.
func (s *session) recheckLocked() {
	s.node.wheel.schedule(&s.entry, s, time.Now()) // there is a new expiry to look at
	for _, ch := range s.channels {
		// One that waits already will see the newest identity: a client that
		// refreshes while a handler is stuck must not fill the mailbox.
		if !slices.ContainsFunc(ch.box, func(t task) bool { return t.kind == taskRecheck }) {
			ch.putLocked(task{kind: taskRecheck})
		}
	}
}
