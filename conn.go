package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is returned for a connection that has ended, ErrNotJoined for a topic
// that the client is not a member of.
var (
	ErrClosed    = errors.New("realtime: connection closed")
	ErrNotJoined = errors.New("realtime: client has not joined the topic")
)

// conn is one connection: its read loop, its heartbeat, and why it ended. What
// its messages mean is its receiver's business.
type conn struct {
	Client
	node    *node
	terms   *terms
	to      receiver // what its messages are for
	entry   wheelEntry
	addr    string
	path    string
	started time.Time
	flight  recorder
	counts  *protocolCounters

	pinged  atomic.Int64 // when the ping that waits for a pong was sent, since base; 0 for none
	stalled atomic.Bool  // the server itself keeps the socket from being read
	deep    atomic.Bool  // the read loop's stack has grown over messages

	// Owned by the read loop.
	meter    *meter
	bad      int   // undecodable messages in a row
	controls int   // control frames in the second below
	second   int64 // since base
	lone     int64 // when serveLone was last tried, since base
	parted   bool  // the peer's close frame has come
	waiting  bool  // it has yet to authenticate, and is counted so

	mu      sync.Mutex    // guards the following
	reason  Reason        // why it ends, "" while it does not
	cause   error         // for the log, nil if there is nothing to add
	bidding bool          // bye has set the read deadline, which is its own from then on
	done    chan struct{} // closed at the end; made on demand
}

// terms are what a mount holds its connections to, besides the settings of the
// server.
type terms struct {
	idle     time.Duration  // of silence after which the connection ends; 0: pings decide
	codes    map[Reason]int // close codes that differ
	bare     bool           // close frames bear no text
	channels int            // that a client may be in, global not counted
}

// receiver takes the messages of one connection. A mount decides which kind its
// connections have. All methods are called from the read loop, but for entered
// and started, which may come from the handshake.
type receiver interface {
	// entered is called once, when the client has been greeted, and started when
	// WithConnected has been called after that.
	entered()
	started()

	// receive takes a data frame: after started, or before entered while the
	// client has yet to authenticate. It blocks to hold the client back.
	receive(payload []byte, binary bool)

	// ended is called once, after the last receive.
	ended(why Reason)
}

// newConn makes the connection that up is, without its receiver. It is not known
// to anybody yet, and the answer to the handshake waits for the first flush.
func newConn(n *node, t *terms, up *upgraded, enc codec, path, addr string) *conn {
	c := &conn{node: n, terms: t, addr: addr, path: path, started: time.Now()}
	c.id, c.link = newID(), c
	c.pool, c.enc, c.base = n.pool, enc, n.base
	c.counts = n.metrics.forProtocol(enc.protocol())
	c.out.bounds = &n.bounds
	if n.water != nil {
		c.out.water = func(high bool) { n.guard("WithWaterMarks", func() { n.water(&c.Client, high) }) }
	}
	c.open(up, n.messageBytes)
	c.out.push(&frame{wire: up.answer})
	return c
}

// serve reads until the socket, the peer or the server ends the connection. When
// it returns, the connection has no goroutine, no timer and no membership, but
// for handlers that have not returned yet; or it goes on in another goroutine.
func (c *conn) serve() {
	switch c.readLoop() {
	case errQuiet:
		go c.serve() // on a stack that is as small as stacks get
	case errLone:
		c.node.crew.run(c.serveLone)
	default:
		c.leave()
	}
}

// serveLone handles what came after a time of quiet on a stack that has grown
// already: a read loop's own would grow for this one message, and be replaced.
func (c *conn) serveLone() {
	if !c.readSome() {
		c.leave()
		return
	}
	c.deep.Store(false)
	go c.serve()
}

// leave ends what serve has begun.
func (c *conn) leave() {
	defer c.node.work.Done()
	c.to.ended(c.why())
	c.bye()
	c.nc.Close()
	c.forget()
}

// errLone is returned by readLoop when there is a message to handle elsewhere.
var errLone = errors.New("realtime: the first message after quiet")

// readLoop keeps nothing on its stack while it waits. It returns errQuiet when it
// is to go on in a fresh goroutine, errLone when serveLone is to, and anything else
// when the connection has ended.
func (c *conn) readLoop() error {
	for {
		if err := c.wait(); err != nil {
			if err != errQuiet {
				c.readFailed(err)
			}
			return err
		}
		if c.isLone() {
			return errLone
		}
		if !c.readSome() {
			return nil
		}
	}
}

// isLone reports whether nothing else had come for a while before what has come
// now.
func (c *conn) isLone() bool {
	if c.raw == nil || c.deep.Load() {
		return false
	}
	last := c.lone
	c.lone = c.heard.Load()
	return last == 0 || c.lone-last >= int64(quiet)
}

// readSome handles what has arrived; false means that the connection ends.
func (c *conn) readSome() bool {
	for {
		op, payload, err := c.in.next()
		if err != nil {
			c.readFailed(err)
			return false
		}
		// Nothing is acted on after a closing, nor anything that a refused peer
		// sent right behind its handshake.
		if c.isEnding() && op != frameClose || !c.handle(op, payload) {
			return false
		}
		if c.in.buffered() == 0 {
			return true
		}
	}
}

func (c *conn) handle(op opcode, payload []byte) bool {
	if op.isControl() && !c.allowControl() {
		c.end(ReasonRateLimited, nil, errors.New("too many control frames"))
		return false
	}
	switch op {
	case framePing:
		if c.send(pong(payload)) == pushSlow {
			c.end(ReasonSlowConsumer, nil, nil)
		}
	case framePong:
		c.ponged()
	case frameClose:
		c.parted = true
		code, text := parseClose(payload)
		c.flight.add(noteClosed, "", code)
		c.endWith(ReasonClientClosed, &peerClose{code, text}, closeFrame(code, ""))
	default:
		if !c.deep.Load() {
			c.deep.Store(true)
		}
		c.node.metrics.bytesIn.Add(float64(len(payload)))
		c.to.receive(payload, op == frameBinary)
	}
	return op != frameClose
}

// peerClose is what the peer's close frame said.
type peerClose struct {
	code int
	text string
}

func (p *peerClose) Error() string { return "peer closed" }

// LogValue keeps the peer's words apart from ours.
func (p *peerClose) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("code", p.code), slog.String("text", p.text))
}

// maxControls is how many pings, pongs and close frames a peer may send in a
// second. Browsers send none of their own accord and libraries one per many
// seconds; each costs an answer.
const maxControls = 50

func (c *conn) allowControl() bool {
	if second := int64(time.Since(c.base) / time.Second); second != c.second {
		c.second, c.controls = second, 0
	}
	c.controls++
	return c.controls <= maxControls
}

// readFailed ends the connection for what the reader met.
func (c *conn) readFailed(err error) {
	if failed := c.failed.Load(); failed != nil {
		c.endWith(*failed, err)
		return
	}
	_, violation := errors.AsType[protocolError](err)
	switch {
	case c.isEnding(), errors.Is(err, os.ErrDeadlineExceeded):
		// end has woken the read loop.
	case errors.Is(err, errMessageTooLarge):
		c.end(ReasonMessageTooLarge, nil, nil)
	case violation:
		c.end(ReasonProtocolError, nil, err)
	case errors.Is(err, io.EOF):
		c.endWith(ReasonConnectionLost, nil)
	default:
		c.endWith(ReasonConnectionLost, err)
	}
}

func (c *conn) isEnding() bool { return c.why() != "" }

// why returns the reason for the end, "" while there is none.
func (c *conn) why() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// end closes the connection with an explained close; the first cause wins. What
// waits is written first, except for a slow consumer, who would not read it. why
// may hold words for the client, cause words for the log.
func (c *conn) end(reason Reason, why *Error, cause error) {
	closing := c.node.closing(reason, why)
	if code, ok := c.terms.codes[reason]; ok {
		closing.code = code
	}
	text := string(reason)
	if c.terms.bare {
		text = ""
	}
	frames := make([]*frame, 0, 2)
	if f := seal(c.enc, &outbound{kind: kindClosing, topic: globalTopic, closing: closing}); f != nil {
		frames = append(frames, f)
	}
	c.endWith(reason, cause, append(frames, closeFrame(closing.code, text))...)
}

// endWith ends the connection with frames as its last.
func (c *conn) endWith(reason Reason, cause error, frames ...*frame) {
	c.mu.Lock()
	if c.reason != "" {
		c.mu.Unlock()
		return
	}
	done := c.doneLocked()
	c.reason, c.cause = reason, cause
	close(done)
	c.mu.Unlock()
	if len(frames) == 0 {
		c.out.abandon()
	} else {
		c.finish(reason == ReasonSlowConsumer, frames...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.bidding {
		c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes the read loop
	}
}

// doneLocked returns the channel that is closed at the end.
func (c *conn) doneLocked() chan struct{} {
	if c.done == nil {
		c.done = make(chan struct{})
		if c.reason != "" {
			close(c.done)
		}
	}
	return c.done
}

// bye lets the last frames out and, after a close of our own, discards what
// still comes until the peer's close frame: unread bytes would mean a TCP reset,
// which swallows ours.
func (c *conn) bye() {
	defer c.in.release()
	if c.reason == ReasonConnectionLost {
		return
	}
	until := c.node.lingerUntil(time.Now())
	c.mu.Lock()
	c.bidding = true
	c.nc.SetReadDeadline(until)
	c.mu.Unlock()
	c.in.discard()
	if !c.parted {
		c.in.next() // a close frame, or an error: either way the end
	}
	c.out.await(time.Until(until))
}

// forget gives back what the server holds of the connection.
func (c *conn) forget() {
	n := c.node
	n.wheel.cancel(&c.entry)
	n.remove(&c.Client)
	n.asks.drop(&c.Client, "", ErrClosed)
	if c.meter != nil {
		c.meter.close()
	}
	c.waitNoMore()
	if c.authenticated() {
		n.seats.release(c.Identity().seat(), &c.Client)
		c.counts.connections.Add(-1)
		if n.ended != nil {
			n.guard("WithDisconnected", func() { n.ended(&c.Client, c.reason) })
		}
	}
	n.metrics.closed[c.reason].Add(1)
	n.metrics.connTime.Observe(time.Since(c.started).Seconds())
	c.logEnd()
}

// waitNoMore ends the time in which the connection had to authenticate.
func (c *conn) waitNoMore() {
	if c.waiting {
		c.waiting = false
		c.node.waiting.Add(-1)
	}
}

func (c *conn) authenticated() bool { return c.identity.Load() != nil }

// logEnd writes one line per connection; what went before it if the end was not
// an ordinary one.
func (c *conn) logEnd() {
	if !c.node.log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	attrs := []any{"conn", c.id, "user", c.User(), "reason", string(c.reason), "remote", c.addr,
		"protocol", c.enc.protocol(), "after", time.Since(c.started).Round(time.Millisecond)}
	if c.cause != nil {
		attrs = append(attrs, "cause", c.cause)
	}
	switch c.reason {
	case ReasonClientClosed, ReasonConnectionLost, ReasonShutdown, ReasonDisconnected, ReasonReplaced:
		c.node.log.Info("realtime: connection ended", attrs...)
	default:
		level := slog.LevelWarn
		if !c.authenticated() && c.cause == nil { // the handshake's refusal was logged
			level = slog.LevelDebug
		}
		c.node.log.Log(context.Background(), level, "realtime: connection ended", append(attrs, "flight", c.flight.list())...)
	}
}

// expire implements [expirer]: it looks at every deadline of the connection.
func (c *conn) expire(now time.Time) time.Time {
	if c.isEnding() {
		return time.Time{}
	}
	if !c.authenticated() {
		if due := c.started.Add(c.node.authTime); now.Before(due) {
			return due
		}
		c.end(ReasonUnauthenticated, nil, errors.New("no token in time"))
		return time.Time{}
	}
	c.shrink(now)
	next := c.beat(now)
	if expires := c.Identity().Expires; !expires.IsZero() {
		due := expires.Add(c.node.grace)
		if !now.Before(due) {
			c.end(ReasonTokenExpired, nil, nil)
			return time.Time{}
		}
		next = earlier(next, due)
	}
	return next
}

// quiet is how long nothing may have come before a read loop is moved to a fresh
// stack. Go halves the stack of a waiting goroutine only down to 4 KiB; a million
// idle connections want the 2 KiB back.
const quiet = 500 * time.Millisecond

// shrink has the read loop of a connection that has become quiet start over.
func (c *conn) shrink(now time.Time) {
	c.mu.Lock() // the deadline of an end comes later then, and stays
	defer c.mu.Unlock()
	if c.reason == "" && c.raw != nil && c.silence(now) >= quiet && c.deep.CompareAndSwap(true, false) {
		c.nudge()
	}
}

// beat pings after silence and ends the connection when nothing at all comes
// back. It returns when to look again.
func (c *conn) beat(now time.Time) time.Time {
	n := c.node
	if c.terms.idle > 0 {
		return c.idle(now)
	}
	since := now.Sub(c.base)
	if pinged := time.Duration(c.pinged.Load()); pinged > 0 && time.Duration(c.heard.Load()) < pinged {
		switch {
		case since < pinged+n.timeout:
			return c.base.Add(pinged + n.timeout)
		case c.stalled.Load():
			return now.Add(n.timeout) // the silence is ours
		}
		c.flight.add(noteSilent, "", 0)
		c.end(ReasonHeartbeatTimeout, nil, nil)
		return now.Add(n.timeout)
	}
	c.pinged.Store(0)
	if due := time.Duration(c.heard.Load()) + spread(n.heartbeat, 0.1); since < due {
		return c.base.Add(due)
	}
	c.flight.add(notePing, "", 0)
	c.pinged.Store(int64(since))
	if c.send(&frame{wire: pingFrame}) == pushSlow {
		c.end(ReasonSlowConsumer, nil, nil)
	}
	return now.Add(n.timeout)
}

// idle ends a connection whose peer has sent nothing for as long as its mount
// allows. It returns when to look again.
func (c *conn) idle(now time.Time) time.Time {
	due := c.lastHeard().Add(c.terms.idle)
	if c.stalled.Load() {
		due = now.Add(c.terms.idle) // the silence is ours
	}
	if now.Before(due) {
		return due
	}
	c.flight.add(noteSilent, "", 0)
	c.end(ReasonHeartbeatTimeout, nil, nil)
	return time.Time{}
}

func (c *conn) ponged() {
	pinged := c.pinged.Swap(0)
	if pinged == 0 {
		return // nobody asked
	}
	trip := time.Since(c.base) - time.Duration(pinged)
	c.trip.Store(int64(trip))
	c.node.metrics.roundTrip.Observe(trip.Seconds())
}

// charge holds one message against the rate limits. Only the read loop calls it;
// the meter is made by the first message.
func (c *conn) charge(event string, now time.Time) verdict {
	if c.meter == nil {
		c.meter = c.node.limits.meter(c.Identity().seat(), c.addr)
	}
	return c.meter.take(event, now)
}

// tell sends one message to this client and ends the connection if it does not
// read what it is told.
func (c *conn) tell(m *outbound) {
	if f := seal(c.enc, m); f != nil && c.send(f) == pushSlow {
		c.end(ReasonSlowConsumer, nil, nil)
	}
}

// reply answers ref.
func (c *conn) reply(topic, ref string, response json.RawMessage) {
	c.tell(&outbound{kind: kindReply, topic: topic, ref: ref, data: response})
}

// fail answers ref, or nobody in particular, with an error.
func (c *conn) fail(topic, ref string, e *Error) {
	c.flight.add(noteError, e.Code, 0)
	c.tell(&outbound{kind: kindError, topic: topic, ref: ref, err: e})
}
