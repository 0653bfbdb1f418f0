// Package nats makes several processes one server, by NATS: it is a
// [realtime.SharedBroker] on JetStream. Give it to [realtime.WithBroker] in each of
// them. The package nats/embedded starts a NATS server inside the process.
//
// # Topics with history
//
// All of them are in one stream, each with a subject of its own. An event is stored
// with its offset on condition that the one before is still the newest, so that
// offsets are dense whoever publishes, and it is carried to the other nodes once it
// is stored (RePublish). A node delivers what is next in line; when something is
// missing it reads the stream, and what that has lost becomes a [realtime.Gap].
//
// An event is kept by the rules of its topic when it is read. The stream itself keeps,
// for a day, as many events of every topic as the largest [realtime.Retention] has
// seen: short ages save no room on the server. Positions outlive the last event for
// that day, and for as long as the topic has members.
//
// # Topics without history
//
// They go through NATS alone, not through JetStream. Each publisher's events arrive
// in order, but two nodes may see the events of two publishers in different orders:
// no server of a NATS cluster gives the messages of a subject one order. A topic that
// needs one has to have history.
//
// # What is not there
//
// Documents need a script that the store runs as one step, which NATS does not have:
// the broker has no method Documents, and a server that is given one needs the option
// [realtime.DocumentLog], and its documents each on one node.
//
// # Outages
//
// While the node is cut off, publishing to a topic with history fails with
// [realtime.ErrBrokerDown], and events of other topics reach the members of the node
// that publishes them. Afterwards every topic with history is compared with the
// stream, and all others have a [realtime.Gap] of unknown size. A cut between two
// servers of a NATS cluster is noticed by those nodes that cannot reach the stream's
// leader; on the others, topics without history do not hear of it.
//
// An error of Publish that comes from a time-out or an outage leaves open whether the
// event was stored. If it was, it is delivered like any other.
//
// A server that has forgotten what it had acknowledged, say after a loss of power with
// one replica, is found out by the first node that knows more: the topic then begins
// a new epoch, and its members reload.
package nats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-58bc6ac1/realtime"
)

// Broker is a [realtime.SharedBroker]. Its methods may be called from any goroutine.
type Broker struct {
	// Set by New, never changed.
	nc       *client.Conn
	store    *store
	config   config
	node     uint64        // tells our own messages from others'
	inflight chan struct{} // holds a value for each event on its way
	lanes    [lanes]chan *client.Msg
	broken   chan *stream  // what waits for a mendLoop
	poked    chan struct{} // has the next heartbeat come at once
	end      context.CancelFunc
	ended    context.Context
	work     sync.WaitGroup
	health   health
	tickets  *tickets

	numbers atomic.Uint64 // of the events that wait for their return
	highest atomic.Uint64 // sequence that the server has told of

	hearMu  sync.RWMutex    // guards the following; no other lock is taken under it
	hearers map[string]*ear // by subject

	mu       sync.Mutex // guards the following; no other lock is taken under it
	streams  map[string]*stream
	channels map[string]*channel
}

// hearer is who is told what arrives under a subject. hear is called by one goroutine
// at a time for each subject, and does not block.
type hearer interface {
	hear(m *client.Msg)
}

// ear is a hearer with the number of its subscriptions to one subject: the next may
// begin before the last has ended.
type ear struct {
	hearer
	subs int
}

const (
	// lanes is how many goroutines deliver what arrives: not one for each topic.
	lanes = 4

	// laneLength is how many messages may wait in each. What comes on top is dropped,
	// and noticed.
	laneLength = 16 << 10
)

// Option is an option of [New].
type Option func(*config) error

type config struct {
	prefix   string
	timeout  time.Duration
	inflight int
	beat     time.Duration
	shape    func(*jetstream.StreamConfig)
	lane     int
}

// Prefix has the broker use subjects and streams of that name. The default is
// "realtime". Nodes with the same prefix share their topics.
func Prefix(prefix string) Option {
	return func(c *config) error {
		if prefix == "" || len(prefix) > 64 || strings.IndexFunc(prefix, func(r rune) bool { return r > 127 || !isPlain(byte(r)) || r == ':' }) >= 0 {
			return fmt.Errorf("nats: prefix %q: want 1 to 64 letters, digits, - and _", prefix)
		}
		c.prefix = prefix
		return nil
	}
}

// Timeout bounds how long a call may wait for the server. The default is 5s.
func Timeout(timeout time.Duration) Option {
	return func(c *config) error {
		if timeout < 10*time.Millisecond {
			return fmt.Errorf("nats: time-out of %v is shorter than 10ms", timeout)
		}
		c.timeout = timeout
		return nil
	}
}

// InFlight bounds the events of topics with history that wait for the server at
// the same time. One more fails at once with [realtime.ErrBrokerDown]. The default
// is 4096.
func InFlight(most int) Option {
	return func(c *config) error {
		if most < 1 {
			return fmt.Errorf("nats: %d events in flight are fewer than one", most)
		}
		c.inflight = most
		return nil
	}
}

// Heartbeat is how often the node asks the server whether all is well, and how
// long the answer may take. The default is 2s.
func Heartbeat(every time.Duration) Option {
	return func(c *config) error {
		if every < 10*time.Millisecond {
			return fmt.Errorf("nats: heartbeat of %v is shorter than 10ms", every)
		}
		c.beat = every
		return nil
	}
}

// Stream lets f change the stream of events before it is made or brought up to
// date: replicas, storage, placement, bounds. With less than three replicas an event
// is lost with its server. Subjects, RePublish and AllowMsgTTL must stay.
func Stream(f func(*jetstream.StreamConfig)) Option {
	return func(c *config) error {
		c.shape = f
		return nil
	}
}

// New returns a broker on nc, which must be connected to a server of version 2.11 or
// later with JetStream. The stream is made if it is not there; the time-out bounds
// how long that may take.
//
// nc should reconnect for ever (nats.MaxReconnects(-1)) and keep nothing back for
// that time (nats.ReconnectBufSize(-1)), so that what has failed is not sent later.
// It is the caller's to close, after [Broker.Close]; a server that does not answer
// two heartbeats makes it reconnect.
func New(nc *client.Conn, opts ...Option) (*Broker, error) {
	c := config{prefix: "realtime", timeout: 5 * time.Second, inflight: 4096, beat: 2 * time.Second, lane: laneLength}
	for _, opt := range opts {
		if err := opt(&c); err != nil {
			return nil, err
		}
	}
	if nc.Opts.NoEcho {
		return nil, errors.New("nats: the connection must not have the option NoEcho")
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	b := &Broker{nc: nc, config: c, node: rand.Uint64(), inflight: make(chan struct{}, c.inflight),
		broken: make(chan *stream, 1024), poked: make(chan struct{}, 1),
		hearers: map[string]*ear{}, streams: map[string]*stream{}, channels: map[string]*channel{},
		store: &store{nc: nc, js: js, name: c.prefix, prefix: c.prefix, shape: c.shape}}
	b.tickets = &tickets{js: js, name: c.prefix + "_tickets", prefix: c.prefix + ".t.", shape: c.shape, timeout: c.timeout}
	b.ended, b.end = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(b.ended, c.timeout)
	defer cancel()
	if err := b.open(ctx); err != nil {
		b.end()
		return nil, fmt.Errorf("nats: %w", err)
	}
	b.start()
	return b, nil
}

// open tries for as long as ctx allows: the servers of a young cluster have to find
// each other first.
func (b *Broker) open(ctx context.Context) error {
	for {
		try, cancel := context.WithTimeout(ctx, openTime)
		err := b.store.open(try)
		cancel()
		if err == nil || pause(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// openTime is after how long a request counts as lost: a cluster that has just found
// its leader may not answer one.
const openTime = 2 * time.Second

// start starts every goroutine that outlives a call.
func (b *Broker) start() {
	for i := range b.lanes {
		b.lanes[i] = make(chan *client.Msg, b.config.lane)
		b.work.Go(func() { b.laneLoop(b.lanes[i]) })
	}
	changes := b.nc.StatusChanged()
	b.work.Go(func() { b.statusLoop(changes) })
	b.work.Go(b.heartbeatLoop)
	for range menders {
		b.work.Go(b.mendLoop)
	}
}

// Close ends the broker's work and waits for it. Nothing is delivered afterwards,
// and publishing fails. The connection stays open.
func (b *Broker) Close() {
	b.end()
	b.work.Wait()
	for _, s := range b.allStreams() {
		s.hush()
	}
	for _, c := range b.allChannels() {
		c.hush()
	}
}

// Tickets returns a store of tickets that all nodes share.
func (b *Broker) Tickets() realtime.TicketStore { return b.tickets }

// laneLoop hands what arrives to whom it is for.
func (b *Broker) laneLoop(lane chan *client.Msg) {
	for {
		select {
		case m := <-lane:
			b.hearMu.RLock()
			h := b.hearers[m.Subject]
			b.hearMu.RUnlock()
			if h != nil {
				h.hear(m)
			}
		case <-b.ended.Done():
			return
		}
	}
}

// listen has h told what arrives under subject.
func (b *Broker) listen(subject string, h hearer) (*client.Subscription, error) {
	b.hearMu.Lock()
	if one := b.hearers[subject]; one != nil && one.hearer == h {
		one.subs++
	} else {
		b.hearers[subject] = &ear{h, 1}
	}
	b.hearMu.Unlock()
	sum := uint32(2166136261) // FNV-1a
	for i := range len(subject) {
		sum = (sum ^ uint32(subject[i])) * 16777619
	}
	return b.nc.ChanSubscribe(subject, b.lanes[sum%lanes])
}

// unlisten ends that, for one subscription.
func (b *Broker) unlisten(subject string, h hearer) {
	b.hearMu.Lock()
	defer b.hearMu.Unlock()
	if one := b.hearers[subject]; one != nil && one.hearer == h {
		if one.subs--; one.subs == 0 {
			delete(b.hearers, subject)
		}
	}
}

// connected reports whether it makes sense to send something.
func (b *Broker) connected() error {
	switch {
	case b.ended.Err() != nil:
		return errors.New("the broker is closed")
	case b.nc.Status() != client.CONNECTED:
		return fmt.Errorf("not connected (%v)", b.nc.Status())
	}
	return b.health.down()
}

// Publish implements [realtime.Broker].
func (b *Broker) Publish(ctx context.Context, e *realtime.Event, keep realtime.Retention) error {
	body, err := e.AppendBinary(nil)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	if keep.Keeps() {
		err = b.publishStored(ctx, e, body, keep)
	} else {
		err = b.publishPlain(ctx, e, body)
	}
	if err != nil {
		return fmt.Errorf("nats: publish to %q: %w", e.Topic, err)
	}
	return nil
}

// Subscribe implements [realtime.Broker].
func (b *Broker) Subscribe(ctx context.Context, topic string, keep realtime.Retention, deliver func(*realtime.Event)) (*realtime.Position, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.timeout)
	defer cancel()
	if !keep.Keeps() {
		stop, err := b.subscribePlain(ctx, topic, deliver)
		if err != nil {
			return nil, nil, fmt.Errorf("nats: subscribe to %q: %w", topic, err)
		}
		return nil, stop, nil
	}
	from, stop, err := b.subscribeStored(ctx, topic, keep, deliver)
	if err != nil {
		return nil, nil, fmt.Errorf("nats: subscribe to %q: %w: %w", topic, realtime.ErrBrokerDown, err)
	}
	return from, stop, nil
}

// Read implements [realtime.Broker].
func (b *Broker) Read(ctx context.Context, topic string, keep realtime.Retention, after uint64, limit int) ([]*realtime.Event, realtime.Position, error) {
	if !keep.Keeps() {
		return nil, realtime.Position{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.timeout)
	defer cancel()
	events, newest, err := b.read(ctx, topic, keep, after, limit)
	if err != nil {
		return nil, realtime.Position{}, fmt.Errorf("nats: read %q: %w: %w", topic, realtime.ErrBrokerDown, err)
	}
	return events, newest, nil
}

// subscription is one who has a topic's events delivered.
type subscription struct {
	deliver func(*realtime.Event)
}
