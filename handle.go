package realtime

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// do handles what comes out of a mailbox, in its turn.
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
			ch.guard("left", func() { ch.pattern.left(&ch.session.Client, ch.name, t.why) })
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
		ch.session.refresh(t.inbound)
	default:
		ch.event(t.inbound)
	}
}

// event has the topic's handler answer one message.
func (ch *channel) event(in inbound) {
	s := ch.session
	if !ch.joined() {
		s.fail(ch.name, in.ref, errNotSubscribed)
		return
	}
	h := ch.pattern.handler(in.event)
	if h == nil {
		s.fail(ch.name, in.ref, &Error{Code: CodeUnknownEvent, Text: "No such event here", Retry: RetryNever})
		return
	}
	s.flight.add(noteMessage, h.event, len(in.data))
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
		ch.session.fail(ch.name, ref, ch.clientError(err, "handler"))
		return
	}
	if ref != "" {
		ch.session.reply(ch.name, ref, data)
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
		err = Reject("The token is for another user")
	}
	if err != nil {
		_, why := refusalOf(err)
		s.fail(globalTopic, in.ref, why)
		return
	}
	s.identity.Store(id)
	s.node.wheel.schedule(&s.entry, s, time.Now()) // there is a new expiry to look at
	s.tell(s.authenticatedAs(id, in.ref))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ch := range s.channels {
		// One that waits already will see the newest identity: a client that
		// refreshes while a handler is stuck must not fill the mailbox.
		if !slices.ContainsFunc(ch.box, func(t task) bool { return t.kind == taskRecheck }) {
			ch.putLocked(task{kind: taskRecheck})
		}
	}
}
