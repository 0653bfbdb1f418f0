package realtime

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultNodeTTL forgives four lost heartbeats of a second's hiccup each, and shows
	// nobody's ghosts for longer than a page takes to be doubted.
	defaultNodeTTL = 15 * time.Second

	minNodeTTL = time.Second
	maxNodeTTL = time.Hour

	// nodesTopic is what every node listens to; nodeTopic, with the part of a node's
	// name that stays the same behind it, is that node's own.
	nodesTopic = "\x00nodes"
	nodeTopic  = "\x00node:"

	// mailTime is how long the broker may take to carry an event between nodes.
	mailTime = 5 * time.Second

	// farewellTime is how long Shutdown waits for the broker to take the last words.
	farewellTime = time.Second
)

// cluster is this node among others: it knows who is there, and carries messages
// between them. Whatever features have to say to themselves on other nodes goes
// through here. All methods may be called from any goroutine, and on nil, which is
// a node that has no broker in common with others: it is alone.
//
// Nobody answers for a message that is sent: it is lost when the broker is down or
// the receiver is not there. What f of handle, watch and reborn is called with comes
// one at a time, in the order in which it happened; f must not block and not
// call handle, watch and reborn.
type cluster struct {
	broker  SharedBroker
	metrics *metrics
	log     *slog.Logger
	wheel   *wheel
	base    time.Time
	name    string // see nodeBase
	box     outbox
	ctx     context.Context // of what is under way with the broker
	cancel  context.CancelFunc
	work    sync.WaitGroup
	others  atomic.Int32 // how many nodes are there besides this one

	entry wheelEntry // of the beats; its expire alone uses the following
	beats time.Time  // when the next one is due

	turn sync.Mutex // held while one thing that happened is dealt with; taken before mu

	mu       sync.Mutex // guards the following
	leases   *leases
	handlers map[byte]func(from string, body []byte)
	watchers []func(node string, here bool)
	rebirths []func()
	strange  map[byte]bool // kinds that were complained about
	started  bool          // the subscriptions stand
	closed   bool
	stops    []func() // ends the subscriptions
}

// newCluster returns a node that has not begun.
func newCluster(b SharedBroker, ttl time.Duration, m *metrics, log *slog.Logger, w *wheel) *cluster {
	name, now := rand.Text()[:nodeIDLen], time.Now()
	c := &cluster{broker: b, metrics: m, log: log, wheel: w, base: now, name: name,
		leases: newLeases(name, ttl, now), handlers: map[byte]func(string, []byte){}, strange: map[byte]bool{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// id is the name of this node, "" when it is alone. It changes when the node is
// reborn, so it is asked for whenever it is needed.
func (c *cluster) id() string {
	if c == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases.self
}

// nodes returns the other nodes that are there, sorted.
func (c *cluster) nodes() []string {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases.here()
}

// crowded reports whether there are other nodes. It takes no lock.
func (c *cluster) crowded() bool { return c != nil && c.others.Load() > 0 }

// hears reports whether this node hears the others. One that is alone does.
func (c *cluster) hears() bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.leases.since.IsZero()
}

// alive says whether a node is there, itself included, and whether that can be
// known. Who is not there for sure never comes back under that name. A node that
// this one has not heard of is not known of until a TTL has passed: it may have
// just begun. watch tells then, if it did not come.
func (c *cluster) alive(node string) (alive, known bool) {
	if c == nil {
		return node == "", true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases.ask(node, time.Now())
}

// send has body handled by the other nodes, or by the one called to. It does not
// block, and keeps body. At most maxNodeBody bytes are sent.
func (c *cluster) send(to string, kind byte, body []byte) { c.post(to, kind, body) }

// post is send; it reports whether the note was taken.
func (c *cluster) post(to string, kind byte, body []byte) bool {
	if c == nil || to != "" && !isNodeID(to) {
		return false
	}
	one := letter{topic: nodesTopic, memo: memo{kind, body}}
	if to != "" {
		one.topic = nodeTopic + nodeBase(to)
	}
	ok := len(body) <= maxNodeBody && c.put(one)
	if !ok {
		c.metrics.nodeDropped.Add(1)
	}
	return ok
}

func (c *cluster) put(one letter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leases.down || !c.started || c.closed {
		return false
	}
	ok, start := c.box.put(one)
	if start {
		c.work.Add(1)
		go c.sendLoop()
	}
	return ok
}

// sendLoop sends until nothing is left.
func (c *cluster) sendLoop() {
	defer c.work.Done()
	for {
		topic, memos := c.box.take()
		if memos == nil {
			return
		}
		ctx, cancel := context.WithTimeout(c.ctx, mailTime)
		err := c.broker.Publish(ctx, &Event{Topic: topic, Name: "nodes", Data: appendMail(c.id(), memos), Binary: true, Time: time.Now()}, Retention{})
		cancel()
		if err != nil {
			c.metrics.nodeDropped.Add(float64(len(memos)))
			c.metrics.brokerErrors.Inc()
			c.log.Debug("realtime: message to other nodes", "error", err)
			continue
		}
		c.metrics.nodeSent.Add(float64(len(memos)))
	}
}

// handle has f called with the messages of a kind that others send.
func (c *cluster) handle(kind byte, f func(from string, body []byte)) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handlers[kind] = f
}

// watch has f called when a node comes, and when it is gone: it said so, its lease
// ended, or it was reborn. Who is there already is not told.
func (c *cluster) watch(f func(node string, here bool)) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers = append(c.watchers, f)
}

// reborn has f called after this node was cut off for so long that others have
// given it up, and what they knew of it. It has another id then.
func (c *cluster) reborn(f func()) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rebirths = append(c.rebirths, f)
}

// spawn has f run by a goroutine that close waits for; ctx ends before. It returns
// false when the node is alone or closed.
func (c *cluster) spawn(f func(ctx context.Context)) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Add(1)
	go func() {
		defer c.work.Done()
		f(c.ctx)
	}()
	return true
}

// start begins. The subscriptions are made by a goroutine of their own, however
// long that takes: a server can be made while the broker is down.
func (c *cluster) start() {
	if c == nil {
		return
	}
	c.wheel.schedule(&c.entry, c, time.Now())
	c.work.Add(1)
	go c.startLoop()
}

// startLoop subscribes, and ends when that is done.
func (c *cluster) startLoop() {
	defer c.work.Done()
	c.keep(c.broker.Watch(c.stood))
	for _, topic := range []string{nodeTopic + c.name, nodesTopic} {
		for !c.listen(topic) {
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(spread(time.Second, 0.5)):
			}
		}
	}
	c.mu.Lock()
	c.started = true
	c.mu.Unlock()
	c.greet("", true)
}

func (c *cluster) listen(topic string) bool {
	ctx, cancel := context.WithTimeout(c.ctx, subscribeTime)
	defer cancel()
	_, stop, err := c.broker.Subscribe(ctx, topic, Retention{}, c.receive)
	if err != nil {
		c.metrics.brokerErrors.Inc()
		c.log.Warn("realtime: subscribe to other nodes", "error", err)
		return false
	}
	c.keep(stop)
	return true
}

// keep memos what ends a subscription.
func (c *cluster) keep(stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stops = append(c.stops, stop)
}

// greet tells one node, or all, that this one is here.
func (c *cluster) greet(to string, answer bool) {
	if c == nil {
		return
	}
	h := hello{answer: answer, ttl: uint64(c.leases.ttl.Milliseconds()), sent: uint64(time.Since(c.base).Microseconds())}
	c.send(to, nodeHello, h.append(nil))
}

// expire implements [expirer].
func (c *cluster) expire(now time.Time) time.Time {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.happen(func(l *leases) news { return l.tick(now) })
	c.mu.Lock()
	started := c.started
	c.mu.Unlock()
	if started && !now.Before(c.beats) {
		c.beats = now.Add(c.leases.beat())
		c.greet("", false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases.next(now, c.beats)
}

// stood hears of the broker's states.
func (c *cluster) stood(s BrokerStatus) {
	down := s.State == BrokerDown
	c.turn.Lock()
	defer c.turn.Unlock()
	was := false
	c.happen(func(l *leases) news {
		was = l.down
		l.status(down, time.Now())
		return news{}
	})
	switch {
	case down:
		c.metrics.nodeDropped.Add(float64(c.box.drop()))
	case was:
		c.greet("", false)
	}
}

// happen changes the leases, and tells what came of it. The caller holds the turn.
func (c *cluster) happen(change func(*leases) news) news {
	c.mu.Lock()
	n := change(c.leases)
	watchers, rebirths, self := c.watchers, c.rebirths, c.leases.self
	others := len(c.leases.here())
	c.others.Store(int32(others))
	c.metrics.nodes.Set(float64(1 + others))
	c.mu.Unlock()
	for _, m := range n.moves {
		c.log.Info("realtime: another node", "node", m.node, "here", m.here)
		for _, f := range watchers {
			f(m.node, m.here)
		}
	}
	if n.reborn {
		c.log.Warn("realtime: other nodes have given this one up; it goes on under another name", "node", self)
		c.greet("", false)
		for _, f := range rebirths {
			f()
		}
	}
	return n
}

// receive is called with what comes from nodes, this one included.
func (c *cluster) receive(e *Event) {
	if e.Gap != nil {
		return // who waits for an answer has a bound
	}
	from, memos, err := parseMail(e.Data)
	if err != nil {
		c.refuse(0, err)
		return
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	if nodeBase(from) == c.name {
		c.echo(memos)
		return
	}
	c.metrics.nodeReceived.Add(float64(len(memos)))
	for _, one := range memos {
		if !c.take(from, one) {
			return
		}
	}
}

// echo looks for this node's own beats in what it sent to all.
func (c *cluster) echo(memos []memo) {
	for _, one := range memos {
		if h, ok := parseHello(one.body); ok && one.kind == nodeHello {
			c.happen(func(l *leases) news { return l.echo(c.base.Add(time.Duration(h.sent)*time.Microsecond), time.Now()) })
		}
	}
}

// take deals with one memo of another node. It returns false if that one was given
// up.
func (c *cluster) take(from string, one memo) bool {
	if one.kind == nodeBye {
		c.happen(func(l *leases) news { return l.bye(from, time.Now()) })
		return true
	}
	var h hello
	if one.kind == nodeHello {
		var ok bool
		if h, ok = parseHello(one.body); !ok {
			c.refuse(one.kind, errNodeMail)
			return true
		}
	}
	ttl := time.Duration(min(h.ttl, uint64(maxNodeTTL.Milliseconds()))) * time.Millisecond
	if c.happen(func(l *leases) news { return l.listen(from, ttl, time.Now()) }).accuse {
		if one.kind == nodeHello {
			c.send(from, nodeGone, []byte(from))
		}
		return false
	}
	c.open(from, one, h)
	return true
}

// open has a note handled.
func (c *cluster) open(from string, one memo, h hello) {
	switch one.kind {
	case nodeHello:
		if h.answer {
			c.greet(from, false)
		}
		return
	case nodeGone:
		c.happen(func(l *leases) news { return l.accused(string(one.body)) })
		return
	}
	c.mu.Lock()
	f := c.handlers[one.kind]
	c.mu.Unlock()
	if f == nil {
		c.refuse(one.kind, errors.New("a message between nodes of an unknown kind"))
		return
	}
	f(from, one.body)
}

// refuse counts what this node cannot read, and complains once per kind: a newer
// node may send it for as long as an upgrade takes.
func (c *cluster) refuse(kind byte, err error) {
	c.metrics.nodeRefused.Add(1)
	c.mu.Lock()
	known := c.strange[kind]
	c.strange[kind] = true
	c.mu.Unlock()
	if !known {
		c.log.Warn("realtime: not understood, and not told again", "kind", kind, "error", err)
	}
}

// close says goodbye and ends everything. It waits for the broker for a moment. What
// the server's features had to say must have been sent.
func (c *cluster) close() {
	if c == nil {
		return
	}
	c.wheel.cancel(&c.entry)
	c.send("", nodeBye, nil)
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	if sent := c.box.empty(); sent != nil {
		select {
		case <-sent:
		case <-time.After(farewellTime):
		}
	}
	c.cancel()
	c.work.Wait()
	c.mu.Lock()
	stops := slices.Clone(c.stops)
	c.stops = nil
	c.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}
