package realtime

import (
	"context"
)

// phoenix is the receiver and the link of a connection that speaks Phoenix
// Channels (phoenix.md section 3), over the same topics, mailboxes and handlers as
// any other. It knows no global, and what its clients send bears the join that it is
// for: what belongs to an earlier one is told apart in the mailbox, in its turn, and
// not by the reader, because a join may wait there before it.
type phoenix struct{ *session }

func newPhoenix(c *conn) receiver {
	p := &phoenix{&session{conn: c, do: doPhoenix, fragile: true}}
	c.link = p
	return p
}

// entered implements [receiver].
func (*phoenix) entered() {}

// receive implements [receiver].
func (p *phoenix) receive(payload []byte, binary bool) {
	p.counts.messages.Add(1)
	in, fail := p.enc.decode(payload, binary)
	switch {
	case fail != nil && (fail.Code == string(ReasonInvalidMessage) || fail.Code == codeInvalidUTF8):
		p.abort(fail)
	case !p.withinRate(&in):
	case in.op == opPing:
		p.tell(&outbound{kind: kindPong, ref: in.ref})
	default:
		p.route(in, fail)
	}
}

// abort ends the connection over what is no message: Phoenix's own end does not go
// on after that (section 2.5), and its clients do not expect it.
func (p *phoenix) abort(fail *Error) {
	p.node.metrics.invalid.Inc()
	if fail.Code == codeInvalidUTF8 {
		p.endWith(ReasonInvalidMessage, fail, closeFrame(http1007, ""))
		return
	}
	p.end(ReasonInvalidMessage, nil, fail)
}

// http1007 is the code for text that is not UTF-8 (RFC 6455 section 7.4.1).
const http1007 = 1007

// route brings a message to the mailbox of its topic, as session.route does.
func (p *phoenix) route(in inbound, fail *Error) {
	for fail == nil {
		var ch *channel
		if ch, fail = p.channelFor(in); fail == nil && p.put(ch, in) {
			return
		}
	}
	if in.op == opLeave && isUnmatched(fail) {
		p.left(in)
		return
	}
	p.refuseEarly(in, fail)
}

// channelFor does not find the global that no host declared: it is not Phoenix's.
func (p *phoenix) channelFor(in inbound) (*channel, *Error) {
	if in.topic == globalTopic {
		if declared, _ := p.node.hub.pattern(globalTopic); declared == p.node.hub.global {
			return nil, errUnknownChannel
		}
	}
	return p.session.channelFor(in)
}

// left answers a leave where there is nothing to leave.
func (s *session) left(in inbound) {
	s.tell(&outbound{kind: kindReply, topic: in.topic, ref: in.ref, joinRef: in.joinRef})
}

// subscribe implements [link]: clients know only the joins that they asked for.
func (*phoenix) subscribe(context.Context, string) error { return ErrNotSupported }

// doPhoenix handles what comes out of a mailbox.
func doPhoenix(ch *channel, t task) {
	switch {
	case t.kind == taskLeft:
		ch.hearParting(t)
	case t.kind != taskMessage:
		ch.do(t)
	case t.op == opJoin:
		ch.rejoin(t)
	case t.op == opLeave:
		ch.leavePhoenix(t.inbound)
	case !ch.stale(t.inbound):
		ch.event(t.inbound)
	}
}

// stale reports whether a message was meant for an earlier membership (section
// 3.6). Those are dropped in silence.
func (ch *channel) stale(in inbound) bool {
	m, refs := ch.membership()
	return m != nil && in.joinRef != noRef && in.joinRef != refs.fence
}

// rejoin lets the client in. A membership that it has already ends first, and the
// client hears of that behind the answer (section 3.5).
func (ch *channel) rejoin(t task) {
	last := ch.supplant()
	refs := &joinRefs{push: t.joinRef, fence: t.joinRef}
	if t.joinRef == noRef {
		refs.push = t.ref // section 3.4
	}
	err := ch.join(t, refs, last...)
	if err == nil {
		return
	}
	if hasPanicked(err) {
		ch.clientError(err, "join") // for the log
		err = errJoinCrashed
	}
	ch.refuseUnlessLate(t, err)
	for _, f := range last {
		ch.session.send(f)
	}
}

var errJoinCrashed = &Error{Code: codeCrash, Text: "The join crashed", Retry: RetryBackoff}

// supplant ends the membership that a new join replaces. The host hears of it
// before it is asked about the join; what the client is told is returned.
func (ch *channel) supplant() []*frame {
	m, refs := ch.membership()
	if m == nil {
		return nil
	}
	if ok, _ := ch.part(m, ReasonReplaced, nil); !ok {
		return nil
	}
	ch.forget(m)
	if ch.pattern.left != nil {
		t, _ := ch.next() // which part has put there
		doPhoenix(ch, t)
	}
	return ch.sealAll(refs, []*outbound{{kind: kindLeft, topic: ch.name}})
}

// hearParting tells the host of an end. What it pushes meanwhile still goes out
// (section 3.7).
func (ch *channel) hearParting(t task) {
	ch.setParting(t.refs)
	defer ch.setParting(nil)
	ch.hearLeft(t)
}

func (ch *channel) setParting(refs *joinRefs) {
	ch.session.mu.Lock()
	defer ch.session.mu.Unlock()
	ch.parting = refs
}

// stays takes back that the client is leaving, unless it has said so again.
func (ch *channel) stays() {
	ch.session.mu.Lock()
	defer ch.session.mu.Unlock()
	ch.leaving = false
	for _, t := range ch.box {
		if t.op == opJoin || t.op == opLeave {
			ch.leaving = t.op == opLeave
		}
	}
}

// leavePhoenix ends the membership because the client wants it (section 3.8).
func (ch *channel) leavePhoenix(in inbound) {
	if ch.stale(in) {
		ch.stays()
		return
	}
	if !ch.leave(ReasonClientClosed, &outbound{kind: kindReply, topic: ch.name, ref: in.ref}, &outbound{kind: kindLeft, topic: ch.name}) {
		ch.session.left(in)
	}
}
