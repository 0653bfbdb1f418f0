package realtime

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// dispatcher takes the messages of connections that speak a protocol of topics:
// it decodes them, holds them against the limits, and brings each to the mailbox
// of its topic.
type dispatcher struct{}

// errNotSubscribed answers what is meant for members only.
var errNotSubscribed = &Error{Code: CodeNotSubscribed, Text: "Not subscribed", Retry: RetryNever}

// receive implements [receiver].
func (dispatcher) receive(c *conn, payload []byte, binary bool) {
	c.counts.messages.Add(1)
	in, fail := c.enc.decode(payload, binary)
	if !c.withinRate(&in) {
		return
	}
	undecodable := fail != nil && fail.Code == string(ReasonInvalidMessage)
	if undecodable && c.authenticated() {
		c.undecodable(fail)
		return
	}
	c.bad = 0
	switch {
	case in.op == opPing:
		c.tell(&outbound{kind: kindPong, topic: in.topic, ref: in.ref, data: in.data})
	case !c.authenticated():
		c.receiveFirst(in) // which an undecodable one ends, too
	case in.op == opAnswer:
		c.node.asks.answer(c, in.ref, in.data)
	default:
		c.route(in, fail)
	}
}

// receiveFirst handles what comes before authentication: auth, or the end.
func (c *conn) receiveFirst(in inbound) {
	if in.op == opAuth {
		c.login(in)
		return
	}
	c.end(ReasonUnauthenticated, nil, fmt.Errorf("a message before auth"))
}

// withinRate holds a message against the rate limits. One over the rate is
// answered, softly at first.
func (c *conn) withinRate(in *inbound) bool {
	n := c.node
	if c.meter == nil {
		c.meter = n.limits.meter(c.User(), c.addr)
	}
	v := c.meter.take(in.event, time.Now())
	switch {
	case v.warned:
		n.metrics.limited.WithLabelValues(v.scope, "warn").Inc()
		n.log.Warn("realtime: over the rate, warn-only", "conn", c.id, "user", c.User(), "limit", v.scope)
	case v.last:
		n.metrics.limited.WithLabelValues(v.scope, "close").Inc()
		c.end(ReasonRateLimited, &Error{RetryAfter: v.wait}, fmt.Errorf("limit per %s", v.scope))
	case !v.ok:
		n.metrics.limited.WithLabelValues(v.scope, "soft").Inc()
		e := ReasonRateLimited.asError()
		e.RetryAfter = v.wait
		topic := in.topic
		if topic == "" {
			topic = globalTopic
		}
		if in.op == opJoin {
			c.tell(&outbound{kind: kindRefused, topic: topic, ref: in.ref, joinRef: in.joinRef, err: e})
			return false
		}
		ref := in.ref
		if in.op == opAnswer {
			ref = "" // it is the server's own
		}
		c.fail(topic, ref, e)
	}
	return v.ok
}

// undecodable answers what is not a message; several in a row are a client that
// speaks something else.
func (c *conn) undecodable(e *Error) {
	c.node.metrics.invalid.Inc()
	c.bad++
	c.node.log.Debug("realtime: invalid message", "conn", c.id, "user", c.User(), "error", e.Text)
	c.fail(globalTopic, "", e)
	if c.bad >= c.node.badMessages {
		c.end(ReasonInvalidMessage, nil, fmt.Errorf("%s", e.Text))
	}
}

// route brings a message to the mailbox of its topic. It blocks while that is
// full: the socket is not read then.
func (c *conn) route(in inbound, fail *Error) {
	if in.op == opAuth {
		in.topic = globalTopic
	}
	if fail != nil {
		c.refuseEarly(in, fail)
		return
	}
	for {
		ch, e := c.channelFor(in)
		if e != nil {
			c.refuseEarly(in, e)
			return
		}
		if c.post(ch, in) {
			return
		}
	}
}

// refuseEarly answers a message that reaches no mailbox.
func (c *conn) refuseEarly(in inbound, e *Error) {
	if in.op == opJoin {
		c.flight.add(noteError, e.Code, 0)
		c.tell(&outbound{kind: kindRefused, topic: in.topic, ref: in.ref, joinRef: in.joinRef, err: e})
		return
	}
	c.fail(in.topic, in.ref, e)
}

// channelFor returns the channel that a message is for; a join makes it.
func (c *conn) channelFor(in inbound) (*channel, *Error) {
	c.mu.Lock()
	ch, n := c.findLocked(in.topic), len(c.channels)
	c.mu.Unlock()
	switch {
	case ch != nil:
		return ch, nil
	case in.op != opJoin:
		return nil, errNotSubscribed
	case n > c.node.channels: // global is not counted
		return nil, &Error{Code: CodeTooManyChannels, Text: fmt.Sprintf("At most %d channels", c.node.channels), Retry: RetryNever}
	}
	p, params := c.node.hub.pattern(in.topic)
	if p == nil {
		return nil, &Error{Code: CodeUnknownChannel, Text: "No such channel", Retry: RetryNever}
	}
	return newChannel(c, in.topic, p, params), nil
}

// post puts a message into a mailbox, waiting for room. False means that the
// channel went meanwhile.
func (c *conn) post(ch *channel, in inbound) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(ch.box) >= c.node.mailbox && c.reason == "" {
		c.waitForRoomLocked(ch)
	}
	if c.reason != "" {
		return true // nobody is left to tell
	}
	if here := c.findLocked(ch.name); here != ch {
		if here != nil || in.op != opJoin {
			return false
		}
		c.channels = append(c.channels, ch)
	}
	ch.postLocked(task{inbound: in})
	return true
}

// waitForRoomLocked gives the lock away until a task has been taken or the
// connection ends. The heartbeat does not blame the peer meanwhile.
func (c *conn) waitForRoomLocked(ch *channel) {
	if c.room == nil {
		c.room = make(chan struct{}, 1)
	}
	c.waiting = ch
	done := c.doneLocked()
	c.mu.Unlock()
	c.stalled.Store(true)
	select {
	case <-c.room:
	case <-done:
	}
	c.touch()
	c.stalled.Store(false)
	c.mu.Lock()
}

func (c *conn) findLocked(name string) *channel {
	for _, ch := range c.channels {
		if ch.name == name {
			return ch
		}
	}
	return nil
}

// dropLocked forgets a channel that has neither work nor membership.
func (c *conn) dropLocked(gone *channel) {
	for i, ch := range c.channels {
		if ch == gone {
			end := len(c.channels) - 1
			c.channels[i], c.channels[end] = c.channels[end], nil
			c.channels = c.channels[:end]
			return
		}
	}
}

// leaveAll ends every membership. The mailboxes are emptied, but for memberships
// whose end the host has yet to hear of; a handler that runs
// finds its context ended.
func (c *conn) leaveAll() {
	c.mu.Lock()
	channels := append([]*channel(nil), c.channels...)
	for _, ch := range channels {
		ch.box = slices.DeleteFunc(ch.box, func(t task) bool { return t.kind != taskLeft })
	}
	why := c.reason
	c.mu.Unlock()
	for _, ch := range channels {
		ch.leave(why)
	}
}

// pageLimit is the default and the most of a page of history (envelope.md
// section 3).
const pageLimit = 100

// page answers a request for history.
func (ch *channel) page(in inbound) {
	c := ch.conn
	if !ch.joined() {
		c.fail(ch.name, in.ref, errNotSubscribed)
		return
	}
	if !ch.pattern.keep.Keeps() {
		c.fail(ch.name, in.ref, &Error{Code: CodeNoHistory, Text: "This channel keeps no history", Retry: RetryNever})
		return
	}
	from, limit, e := parsePage(in.data)
	if e != nil {
		c.fail(ch.name, in.ref, e)
		return
	}
	events, newest, err := c.node.hub.page(c.Context(), ch.pattern, ch.name, from, limit)
	if err != nil {
		c.fail(ch.name, in.ref, ch.clientError(err, "history"))
		return
	}
	if in.ref != "" {
		c.reply(ch.name, in.ref, appendPage(nil, events, newest))
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

// addrText is how an address stands in logs and limits.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}
