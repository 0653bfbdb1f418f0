package realtimetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// Cluster is what the servers of one test have in common: brokers that share
// their topics, in memory, with faults on demand.
//
//	c := realtimetest.NewCluster()
//	a := realtimetest.NewServer(t, realtime.WithBroker(c.Node()))
//	b := realtimetest.NewServer(t, realtime.WithBroker(c.Node()))
//
// An event is with the members of all nodes when Publish returns. Everything may
// be called from any goroutine but from within a delivery.
type Cluster struct {
	mu     sync.Mutex // guards the following and all below; held while delivering
	topics map[string]*sharedTopic
	nodes  []*Node

	order func() realtime.DocumentOrder
}

// sharedTopic is one topic of a cluster.
type sharedTopic struct {
	name     string
	position realtime.Position // zero until somebody wants history
	kept     []keptEvent
	subs     []*sharedSubscription
}

// keptEvent is an event as a broker in another process has it.
type keptEvent struct {
	offset uint64
	at     time.Time
	code   []byte
}

// sharedSubscription is the interest of one node in a topic.
type sharedSubscription struct {
	node    *Node
	topic   *sharedTopic
	last    realtime.Position // of what was delivered; zero without history
	deliver func(*realtime.Event)
}

// NewCluster returns a cluster without nodes.
func NewCluster() *Cluster {
	return &Cluster{topics: map[string]*sharedTopic{}, order: realtime.NewMemoryOrder()}
}

// Node returns the broker of one more node.
func (c *Cluster) Node() *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &Node{cluster: c, watchers: map[*func(realtime.BrokerStatus)]bool{}}
	n.documents.DocumentOrder, n.documents.node = c.order(), n
	c.nodes = append(c.nodes, n)
	return n
}

// LoseLog has the cluster lose what it keeps of a topic, but not its position: who
// was cut off meanwhile gets a gap.
func (c *Cluster) LoseLog(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topicLocked(topic).kept = nil
}

// LoseAll has the cluster lose everything, positions included: every topic with
// history begins a new epoch, and its members get a gap that says so.
func (c *Cluster) LoseAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.topics {
		t.kept, t.position = nil, realtime.Position{}
	}
	for _, t := range c.topics {
		for _, s := range t.subs {
			if s.last.Epoch != "" && s.node.fault == nil {
				s.repairLocked()
			}
		}
	}
}

func (c *Cluster) topicLocked(name string) *sharedTopic {
	t := c.topics[name]
	if t == nil {
		t = &sharedTopic{name: name}
		c.topics[name] = t
	}
	return t
}

// numberLocked gives the topic an epoch if it has none.
func (t *sharedTopic) numberLocked() {
	if t.position.Epoch == "" {
		t.position.Epoch = rand.Text()[:12]
	}
}

// appendLocked gives e the next position and keeps it.
func (t *sharedTopic) appendLocked(e *realtime.Event, keep realtime.Retention, code []byte) {
	t.numberLocked()
	t.position.Offset++
	e.Epoch, e.Offset = t.position.Epoch, t.position.Offset
	t.kept = append(t.kept, keptEvent{e.Offset, time.Now(), code})
	t.trimLocked(keep)
}

func (t *sharedTopic) trimLocked(keep realtime.Retention) {
	t.kept = t.kept[max(0, len(t.kept)-keep.Size):]
	if keep.Age > 0 {
		t.kept = slices.DeleteFunc(t.kept, func(k keptEvent) bool { return time.Since(k.at) > keep.Age })
	}
}

// readLocked returns the kept events after an offset, each a copy of its own.
func (t *sharedTopic) readLocked(after uint64, limit int) []*realtime.Event {
	var events []*realtime.Event
	for _, k := range t.kept {
		if k.offset > after && len(events) < limit {
			events = append(events, t.decoded(k.code, realtime.Position{Epoch: t.position.Epoch, Offset: k.offset}))
		}
	}
	return events
}

// decoded returns an event as it comes out of another process: nothing in it is
// shared with those of other nodes.
func (t *sharedTopic) decoded(code []byte, at realtime.Position) *realtime.Event {
	e := &realtime.Event{Topic: t.name, Epoch: at.Epoch, Offset: at.Offset}
	if err := e.UnmarshalBinary(slices.Clone(code)); err != nil {
		panic(fmt.Sprintf("realtimetest: event of %q: %v", t.name, err))
	}
	return e
}

// repairLocked delivers what the node has missed, or says that it is gone.
func (s *sharedSubscription) repairLocked() {
	t := s.topic
	if s.last.Epoch == "" {
		s.deliver(&realtime.Event{Topic: t.name, Gap: &realtime.Gap{}})
		return
	}
	t.numberLocked()
	before := t.position.Offset // of the oldest event that is kept
	if len(t.kept) > 0 {
		before = t.kept[0].offset - 1
	}
	if s.last.Epoch != t.position.Epoch {
		s.gapLocked(realtime.Gap{}, before)
	} else if before > s.last.Offset {
		s.gapLocked(realtime.Gap{From: s.last.Offset + 1, To: before}, before)
	}
	for _, e := range t.readLocked(s.last.Offset, len(t.kept)) {
		s.deliver(e)
	}
	s.last = t.position
}

func (s *sharedSubscription) gapLocked(g realtime.Gap, upTo uint64) {
	s.last = realtime.Position{Epoch: s.topic.position.Epoch, Offset: upTo}
	s.deliver(&realtime.Event{Topic: s.topic.name, Gap: &g, Epoch: s.last.Epoch, Offset: s.last.Offset})
}

// Node is the [realtime.SharedBroker] of one node of a [Cluster].
type Node struct {
	cluster   *Cluster
	documents nodeDocuments

	// Guarded by the cluster's mu.
	fault  error         // errCut, errStuck or nil
	healed chan struct{} // closed when a stuck node is not that any more

	watch    sync.Mutex // guards the following; held while telling
	status   realtime.BrokerStatus
	watchers map[*func(realtime.BrokerStatus)]bool
}

var (
	errCut   = fmt.Errorf("realtimetest: the node is cut off: %w", realtime.ErrBrokerDown)
	errStuck = fmt.Errorf("realtimetest: the node is stuck")
)

// Cut takes the node off the others and reports [realtime.BrokerDown]: it gets
// nothing of them, topics with history cannot be published to, joined as the first
// or read, and events of the others stay on the node.
func (n *Node) Cut() {
	n.setFault(errCut)
	n.Report(realtime.BrokerStatus{State: realtime.BrokerDown, Err: errCut})
}

// Hang is Cut of which the node knows nothing: its calls wait for Heal, for Cut,
// or until their contexts end. The state stays what it was.
func (n *Node) Hang() { n.setFault(errStuck) }

// Heal ends Cut and Hang. What the node has missed is delivered before Heal
// returns, with gaps for what is gone, and the node reports
// [realtime.BrokerHealthy].
func (n *Node) Heal() {
	n.setFault(nil)
	n.documents.catchUp()
	n.Report(realtime.BrokerStatus{})
}

func (n *Node) setFault(err error) {
	c := n.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.healed != nil {
		close(n.healed)
		n.healed = nil
	}
	if err == errStuck {
		n.healed = make(chan struct{})
	}
	was := n.fault
	n.fault = err
	n.documents.off.Store(err != nil)
	if was == nil || err != nil {
		return
	}
	for _, t := range c.topics {
		for _, s := range slices.Clone(t.subs) {
			if s.node == n {
				s.repairLocked()
			}
		}
	}
}

// Report has everybody who watches the node's broker told a state.
func (n *Node) Report(s realtime.BrokerStatus) {
	n.watch.Lock()
	defer n.watch.Unlock()
	n.status = s
	for f := range n.watchers {
		(*f)(s)
	}
}

// Watchers returns how many watch the node's broker.
func (n *Node) Watchers() int {
	n.watch.Lock()
	defer n.watch.Unlock()
	return len(n.watchers)
}

// Watch implements [realtime.SharedBroker].
func (n *Node) Watch(f func(realtime.BrokerStatus)) (stop func()) {
	n.watch.Lock()
	defer n.watch.Unlock()
	n.watchers[&f] = true
	f(n.status)
	return func() {
		n.watch.Lock()
		defer n.watch.Unlock()
		delete(n.watchers, &f)
	}
}

// pass waits until the node is not stuck, and returns with the cluster's lock
// held, unless ctx ended.
func (n *Node) pass(ctx context.Context) error {
	for {
		n.cluster.mu.Lock()
		healed := n.healed
		if healed == nil {
			return nil
		}
		n.cluster.mu.Unlock()
		select {
		case <-healed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Publish implements [realtime.Broker].
func (n *Node) Publish(ctx context.Context, e *realtime.Event, keep realtime.Retention) error {
	if err := n.pass(ctx); err != nil {
		return err
	}
	defer n.cluster.mu.Unlock()
	if n.fault != nil && keep.Keeps() {
		return n.fault
	}
	code, err := e.AppendBinary(nil)
	if err != nil {
		return err
	}
	t := n.cluster.topicLocked(e.Topic)
	if keep.Keeps() {
		t.appendLocked(e, keep, code)
	}
	n.sendLocked(t, e, code)
	return nil
}

// sendLocked delivers e to the members of this node, and copies to the others.
func (n *Node) sendLocked(t *sharedTopic, e *realtime.Event, code []byte) {
	at := realtime.Position{Epoch: e.Epoch, Offset: e.Offset}
	for _, s := range slices.Clone(t.subs) {
		switch {
		case s.node == n:
			s.deliver(e)
		case n.fault != nil || s.node.fault != nil:
			continue
		default:
			s.deliver(t.decoded(code, at))
		}
		if s.last.Epoch != "" {
			s.last = at
		}
	}
}

// Subscribe implements [realtime.Broker].
func (n *Node) Subscribe(ctx context.Context, topic string, keep realtime.Retention, deliver func(*realtime.Event)) (*realtime.Position, func(), error) {
	if err := n.pass(ctx); err != nil {
		return nil, nil, err
	}
	defer n.cluster.mu.Unlock()
	if n.fault != nil && keep.Keeps() {
		return nil, nil, n.fault
	}
	s := &sharedSubscription{node: n, topic: n.cluster.topicLocked(topic), deliver: deliver}
	s.topic.subs = append(s.topic.subs, s)
	if !keep.Keeps() {
		return nil, s.stop, nil
	}
	s.topic.numberLocked()
	s.last = s.topic.position
	from := s.last
	return &from, s.stop, nil
}

func (s *sharedSubscription) stop() {
	c := s.node.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	s.topic.subs = slices.DeleteFunc(s.topic.subs, func(other *sharedSubscription) bool { return other == s })
}

// Read implements [realtime.Broker].
func (n *Node) Read(ctx context.Context, topic string, keep realtime.Retention, after uint64, limit int) ([]*realtime.Event, realtime.Position, error) {
	if err := n.pass(ctx); err != nil {
		return nil, realtime.Position{}, err
	}
	defer n.cluster.mu.Unlock()
	if n.fault != nil && keep.Keeps() {
		return nil, realtime.Position{}, n.fault
	}
	t := n.cluster.topics[topic]
	if t == nil || !keep.Keeps() {
		return nil, realtime.Position{}, nil
	}
	t.trimLocked(keep)
	return t.readLocked(after, limit), t.position, nil
}
