package realtime

import (
	"context"
	"crypto/rand"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"
)

// Broker orders the events of topics, keeps what their retention asks for, and
// carries them to every node that has members. The in-process broker is the
// default.
//
// Per topic, deliver is called for one event at a time, in the order of the
// offsets where there are any. What a broker cannot deliver any more it does not
// pass over: deliver gets an event with a [Gap] in its place.
type Broker interface {
	// Publish orders e, keeps it by the rules of keep and has it delivered. It
	// may block until the broker has it; after an error nothing was delivered.
	Publish(ctx context.Context, e *Event, keep Retention) error

	// Subscribe has the events of topic delivered from the returned position on,
	// until stop is called. deliver does not block. The position is nil when
	// keep keeps nothing.
	Subscribe(ctx context.Context, topic string, keep Retention, deliver func(*Event)) (from *Position, stop func(), err error)

	// Read returns up to limit events after an offset, ascending, beginning with
	// the oldest kept if that is later, and the newest position.
	Read(ctx context.Context, topic string, keep Retention, after uint64, limit int) ([]*Event, Position, error)
}

// SharedBroker is a [Broker] that several nodes have in common. A server that is
// given one is a node among others: it tells them what concerns all of them, and
// hears whether they are there, in topics whose names begin with a zero byte. They
// keep nothing, and no client can name them.
//
// A shared broker may also have the method Tickets() [TicketStore], and
// Documents() [DocumentOrder]: the server then uses what these return unless an
// option says otherwise.
type SharedBroker interface {
	Broker

	// Watch has f called with the state as it is, and whenever it changes, one call
	// at a time, until stop has returned. f does not block.
	Watch(f func(BrokerStatus)) (stop func())
}

// BrokerStatus is how a shared broker stands.
type BrokerStatus struct {
	State BrokerState
	Err   error // why it is not healthy, nil if it is
}

// BrokerState says what can be expected of a shared broker.
type BrokerState uint8

// The states of a broker.
const (
	BrokerHealthy  BrokerState = iota // everything works
	BrokerDegraded                    // slow, or in part out of reach
	BrokerDown                        // this node is cut off from the others
)

// String returns the state as metrics, logs and the health endpoint name it.
func (s BrokerState) String() string {
	switch s {
	case BrokerHealthy:
		return "healthy"
	case BrokerDegraded:
		return "degraded"
	}
	return "down"
}

// subscribeTime is how long a broker may take to subscribe.
const subscribeTime = 10 * time.Second

// ErrBrokerDown is in the chain of what Publish returns while the broker cannot
// give an event its place in the order. It is shown to a client whose handler
// returns it.
var ErrBrokerDown error = &Error{Code: CodeUnavailable, Text: "This cannot be stored at the moment", Retry: RetryBackoff}

// brokerReason is why a connection ends that cannot go on after err of the broker's: in
// an outage the client comes back in a while, and to another node if it likes.
func brokerReason(err error) Reason {
	if errors.Is(err, ErrBrokerDown) {
		return ReasonOverloaded
	}
	return ReasonInternal
}

// brokerLevel is how loud an error is that may come of an outage: that itself is told
// once, and what it makes fail meanwhile would be thousands of lines.
func brokerLevel(err error) slog.Level {
	if errors.Is(err, ErrBrokerDown) {
		return slog.LevelDebug
	}
	return slog.LevelError
}

// memoryBroker is the broker of a single node. Publish calls deliver on the
// publisher's goroutine.
type memoryBroker struct {
	seed   maphash.Seed
	shards [256]brokerShard
}

type brokerShard struct {
	mu     sync.RWMutex // guards the following
	topics map[string]*brokerTopic
	keeps  bool // some of them may have history
	swept  time.Time
}

// brokerTopic is one topic with subscribers or history.
type brokerTopic struct {
	mu   sync.Mutex    // held while delivering: it is what orders the stream
	log  *log          // nil without history
	subs *subscription // usually one: that of the node
	gone bool          // removed from its shard
}

// subscription is one who has a topic's events delivered.
type subscription struct {
	topic   *brokerTopic
	name    string
	deliver func(*Event)
	next    *subscription
}

// forget is how long the position of a topic without members outlives its last
// event. Within that time a client that comes back learns that it missed
// nothing; after it, it is told to reload.
const forget = 24 * time.Hour

// forgetUnused is the same for a topic that never had an event. It is short,
// since clients make such topics by joining them: a day of joins under made-up
// names would be gigabytes.
const forgetUnused = 5 * time.Minute

func newMemoryBroker() *memoryBroker {
	b := &memoryBroker{seed: maphash.MakeSeed()}
	for i := range b.shards {
		b.shards[i].topics = map[string]*brokerTopic{}
	}
	return b
}

func (b *memoryBroker) shard(topic string) *brokerShard {
	return &b.shards[maphash.String(b.seed, topic)%uint64(len(b.shards))]
}

// Publish implements [Broker].
func (b *memoryBroker) Publish(_ context.Context, e *Event, keep Retention) error {
	for {
		t := b.find(e.Topic, keep.Keeps(), keep)
		if t == nil {
			return nil // nobody listens and nothing is kept
		}
		if t.publish(e, keep) {
			return nil
		}
	}
}

func (t *brokerTopic) publish(e *Event, keep Retention) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return false
	}
	if keep.Keeps() {
		t.history(keep).append(e, keep, e.Time)
	}
	for one := t.subs; one != nil; one = one.next {
		one.deliver(e)
	}
	return true
}

// history returns the topic's log, a new one with a new epoch if it has none.
func (t *brokerTopic) history(keep Retention) *log {
	if t.log == nil {
		t.log = &log{position: Position{Epoch: rand.Text()[:12]}, touched: time.Now()}
	}
	t.log.keep = keep
	return t.log
}

// remembered is how long the position outlives the last event.
func (l *log) remembered() time.Duration {
	if l.position.Offset == 0 {
		return forgetUnused
	}
	return forget
}

// find returns the topic; with create it is made if it is not there, to keep what
// keep says.
func (b *memoryBroker) find(topic string, create bool, keep Retention) *brokerTopic {
	s := b.shard(topic)
	s.mu.RLock()
	t := s.topics[topic]
	s.mu.RUnlock()
	if t != nil || !create {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.topics[topic]; t == nil {
		t = &brokerTopic{}
		if s.keeps = s.keeps || keep.Keeps(); s.keeps {
			s.sweepLocked(time.Now())
		}
		s.topics[topic] = t
	}
	return t
}

// sweepLocked forgets topics that nobody listens to and that have nothing to
// recover any more. It looks at a shard at most once a minute, when that grows. A
// topic that is busy is not waited for: a delivery to a million members takes long.
func (s *brokerShard) sweepLocked(now time.Time) {
	if now.Sub(s.swept) < time.Minute {
		return
	}
	s.swept = now
	for name, t := range s.topics {
		if !t.mu.TryLock() {
			continue
		}
		if t.log != nil {
			t.log.trim(t.log.keep, now)
		}
		if t.subs == nil && (t.log == nil || t.log.count == 0 && now.Sub(t.log.touched) > t.log.remembered()) {
			t.gone = true
			delete(s.topics, name)
		}
		t.mu.Unlock()
	}
}

// Subscribe implements [Broker].
func (b *memoryBroker) Subscribe(_ context.Context, topic string, keep Retention, deliver func(*Event)) (*Position, func(), error) {
	for {
		one := &subscription{topic: b.find(topic, true, keep), name: topic, deliver: deliver}
		if from, ok := one.topic.subscribe(keep, one); ok {
			return from, func() { b.unsubscribe(one) }, nil
		}
	}
}

func (t *brokerTopic) subscribe(keep Retention, one *subscription) (from *Position, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return nil, false
	}
	one.next, t.subs = t.subs, one
	if !keep.Keeps() {
		return nil, true
	}
	position := t.history(keep).position
	return &position, true
}

func (b *memoryBroker) unsubscribe(one *subscription) {
	t, s := one.topic, b.shard(one.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := &t.subs; *at != nil; at = &(*at).next {
		if *at == one {
			*at = one.next
			break
		}
	}
	if t.subs == nil && t.log == nil && !t.gone {
		t.gone = true
		delete(s.topics, one.name)
	}
}

// Read implements [Broker].
func (b *memoryBroker) Read(_ context.Context, topic string, keep Retention, after uint64, limit int) ([]*Event, Position, error) {
	t := b.find(topic, false, Retention{})
	if t == nil {
		return nil, Position{}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.log == nil {
		return nil, Position{}, nil
	}
	t.log.trim(keep, time.Now())
	return t.log.read(after, limit), t.log.position, nil
}
