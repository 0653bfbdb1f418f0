package realtime

import (
	"context"
	"crypto/rand"
	"log/slog"
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

	mu         sync.Mutex // guards the following
	leases     *leases
	handlers   map[byte]func(from string, body []byte)
	watchers   []func(node string, here bool)
	rebirths   []func()
	recoveries []func()
	strange    map[byte]bool // kinds that were complained about
	started    bool          // the subscriptions stand
	closed     bool
	stops      []func() // ends the subscriptions
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

// recovered has f called when the broker was down and is not any more: what is sent is
// not lost from then on. What comes from others may have come before.
func (c *cluster) recovered(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recoveries = append(c.recoveries, f)
}

// cutOff reports whether whatever is sent is lost, for the broker is down.
func (c *cluster) cutOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases.down
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
