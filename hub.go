package realtime

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnknownTopic is returned for a topic whose name no pattern matches.
var ErrUnknownTopic = errors.New("realtime: no pattern matches the topic")

// hub finds the topics of this node by their names. A topic is here as long as
// it has a member, or somebody on the way to become one.
type hub struct {
	broker  Broker
	pool    *flushPool
	metrics *metrics
	wheel   *wheel // for the ticks of presence
	refs    *refs
	tell    *tellers          // of presence; nil when alone
	query   *gatherer         // nil when alone
	life    context.Context   // ends when nobody waits for the broker any more
	spawn   func(func()) bool // runs what may wait; false if it does not
	seed    maphash.Seed
	shards  [256]hubShard

	global *Pattern // for the topic of that name, if the host declares none

	patterns atomic.Pointer[[]*Pattern] // replaced as a whole
}

type hubShard struct {
	mu     sync.RWMutex // guards the following and topic.refs
	topics map[string]*topic
}

func newHub(b Broker, p *flushPool, m *metrics) *hub {
	h := &hub{broker: b, pool: p, metrics: m, refs: newRefs(), seed: maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].topics = map[string]*topic{}
	}
	h.life, h.spawn = context.Background(), func(func()) bool { return false }
	h.patterns.Store(&[]*Pattern{})
	h.global = &Pattern{template: template{text: globalTopic}, policy: CloseSlow, joinTime: joinTime}
	h.adopt(h.global)
	return h
}

func (h *hub) shard(name string) *hubShard {
	return &h.shards[maphash.String(h.seed, name)%uint64(len(h.shards))]
}

// declare adds a pattern. Names that several patterns match belong to the first;
// two of the same shape are a mistake.
func (h *hub) declare(p *Pattern) error {
	old := *h.patterns.Load()
	for _, other := range old {
		if other.shape() == p.shape() {
			return fmt.Errorf("conflicts with %q: both match the same names", other.text)
		}
	}
	h.adopt(p)
	fresh := append(old[:len(old):len(old)], p)
	h.patterns.Store(&fresh)
	return nil
}

// adopt gives p what its topics share.
func (h *hub) adopt(p *Pattern) {
	p.count = h.counters(p)
	p.rules = &rules{policy: p.policy.name, drops: h.metrics.drops.WithLabelValues(string(p.policy.name))}
	p.kindred = &kindred{pattern: p, broker: h.broker, pool: h.pool, count: p.count}
}

func (h *hub) counters(p *Pattern) *topicCounters {
	c := &topicCounters{
		published:  h.metrics.published.WithLabelValues(p.text),
		deliveries: h.metrics.deliveries.WithLabelValues(p.text),
		joined:     h.metrics.joins.WithLabelValues(p.text, "ok"),
		recoveries: map[Recovery]counter{},
		behind:     h.metrics.recoveries.WithLabelValues("gap"),
		notices:    h.metrics.notices.WithLabelValues(p.text),
	}
	for _, r := range []Recovery{RecoveryFresh, RecoveryComplete, RecoveryReplayed, RecoveryReload} {
		c.recoveries[r] = h.metrics.recoveries.WithLabelValues(string(r))
	}
	return c
}

// pattern returns the pattern that name belongs to, nil if there is none.
func (h *hub) pattern(name string) (*Pattern, Params) {
	for _, p := range *h.patterns.Load() {
		if params, ok := p.match(name); ok {
			return p, params
		}
	}
	if name == globalTopic {
		return h.global, nil
	}
	return nil, nil
}

// lookup returns the topic if it has members here.
func (h *hub) lookup(name string) *topic {
	s := h.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.topics[name]
}

// publish completes e and hands it to the broker.
func (h *hub) publish(ctx context.Context, e *Event) error {
	p := h.patternOf(e.Topic)
	if p == nil {
		return fmt.Errorf("%w: %q", ErrUnknownTopic, e.Topic)
	}
	if p.gapless {
		return fmt.Errorf("realtime: publish to %s: its members get what its document has, and nothing else", e.Topic)
	}
	e.setKey(p.policy)
	e.Time = time.Now()
	p.count.published.Add(1)
	if err := h.broker.Publish(ctx, e, p.keep); err != nil {
		h.metrics.brokerErrors.Inc()
		return fmt.Errorf("realtime: publish to %s: %w", e.Topic, err)
	}
	return nil
}

// patternOf prefers the topic at hand to a search through the patterns.
func (h *hub) patternOf(name string) *Pattern {
	if t := h.lookup(name); t != nil {
		return t.pattern
	}
	if !isName(name, maxTopicBytes) {
		return nil
	}
	p, _ := h.pattern(name)
	return p
}

// join makes m a member of the topic called name. See [topic.join] for admit.
func (h *hub) join(ctx context.Context, p *Pattern, name string, m *member, from *Position, admit func(joined)) error {
	t, created := h.acquire(p, name)
	if created {
		h.begin(t)
	}
	err := t.await(ctx)
	if err == nil {
		err = t.join(ctx, m, from, admit)
	}
	if err != nil {
		h.release(t)
		return err
	}
	h.metrics.members.Inc()
	return nil
}

// acquire returns the topic with one more reference; the one who created it must
// begin it.
func (h *hub) acquire(p *Pattern, name string) (t *topic, created bool) {
	s := h.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.topics[name]; t == nil {
		t = &topic{stream: stream{name, p.rules}, kindred: p.kindred}
		t.opening.Store(&opening{done: make(chan struct{})})
		if p.presence != nil {
			t.presence = h.rollCall(t)
		}
		s.topics[name] = t
		h.metrics.topics.Inc()
		created = true
	}
	t.refs++
	return t, created
}

func (h *hub) rollCall(t *topic) *rollCall {
	r := &rollCall{topic: t, rules: t.pattern.presence, wheel: h.wheel, refs: h.refs, gauge: h.metrics.presences}
	if h.tell != nil {
		r.nodes = &exchange{topic: t, tell: h.tell, mine: r.mineLocked, apply: r.changeLocked}
		r.nodes.say.life = h.refs.last.Add(1)
	}
	return r
}

// exchange returns what t has to do with other nodes, nil if nothing.
func (t *topic) exchange() *exchange {
	if r, ok := t.presence.(*rollCall); ok {
		return r.nodes
	}
	return nil
}

// await waits until the topic is open. The context is looked at only if it is
// not: it may cost something to wait for.
func (t *topic) await(ctx context.Context) error {
	o := t.opening.Load()
	if o == nil {
		return nil
	}
	select {
	case <-o.done:
		return o.err
	default:
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin has t opened: by the caller, or if the broker may take its time by a
// goroutine that holds t meanwhile, so that nobody who gives up fails the others.
func (h *hub) begin(t *topic) {
	o := t.opening.Load()
	if t.pattern.gapless { // nothing comes by the broker
		t.opening.Store(nil)
		close(o.done)
		return
	}
	if _, here := h.broker.(*memoryBroker); here { // it does not wait and needs no timer
		defer close(o.done)
		h.open(h.life, t, o)
		return
	}
	h.retain(t)
	if !h.spawn(func() { h.openInTime(t) }) {
		h.openInTime(t)
	}
}

func (h *hub) openInTime(t *topic) {
	o := t.opening.Load()
	defer close(o.done)
	defer h.release(t) // before those who wait: with the last of them a topic that failed is gone
	ctx, cancel := context.WithTimeout(h.life, subscribeTime)
	defer cancel()
	h.open(ctx, t, o)
}

// open subscribes t to the broker. Those who want to join meanwhile wait for o.
func (h *hub) open(ctx context.Context, t *topic, o *opening) {
	from, stop, err := h.broker.Subscribe(ctx, t.name, t.pattern.keep, t.receive)
	if x := t.exchange(); err == nil && x != nil {
		t.stop = stop
		err = x.open(ctx)
	}
	if err != nil {
		h.metrics.brokerErrors.Inc()
		o.err = fmt.Errorf("subscribe to %s: %w", t.name, err)
		return
	}
	t.stop = stop
	t.mu.Lock()
	// An event, or the news of another epoch, may have been faster.
	if from != nil && (t.last.Epoch == "" || t.last.Epoch == from.Epoch && t.last.Offset < from.Offset) {
		t.last = *from
	}
	t.mu.Unlock()
	t.opening.Store(nil)
}

// retain takes one more reference to a topic that the caller holds.
func (h *hub) retain(t *topic) {
	s := h.shard(t.name)
	s.mu.Lock()
	t.refs++
	s.mu.Unlock()
}

// release drops a reference; the last one ends the topic.
func (h *hub) release(t *topic) {
	s := h.shard(t.name)
	s.mu.Lock()
	t.refs--
	last := t.refs == 0
	if last {
		delete(s.topics, t.name)
		h.metrics.topics.Dec()
	}
	s.mu.Unlock()
	if last && t.presence != nil {
		t.presence.close()
	}
	if last && t.stop != nil {
		t.stop()
	}
}

// leave ends m's membership and reports whether there was one.
func (h *hub) leave(m *member) bool {
	t := m.topic
	if t == nil || !t.leave(m) {
		return false
	}
	h.forget(m)
	return true
}

// forget gives back what the hub holds of a membership that has ended.
func (h *hub) forget(m *member) {
	h.metrics.members.Dec()
	h.release(m.topic)
}

// page reads from the history of a topic.
func (h *hub) page(ctx context.Context, p *Pattern, name string, after uint64, limit int) ([]*Event, Position, error) {
	events, newest, err := h.broker.Read(ctx, name, p.keep, after, limit)
	if err != nil {
		h.metrics.brokerErrors.Inc()
		return nil, Position{}, fmt.Errorf("read history of %s: %w", name, err)
	}
	return events, newest, nil
}

// all iterates over the topics with members here and their counts, a snapshot of
// each shard.
func (h *hub) all() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for i := range h.shards {
			for _, t := range h.shards[i].list() {
				t.mu.Lock()
				n := t.members.len()
				t.mu.Unlock()
				if n > 0 && !yield(t.name, n) {
					return
				}
			}
		}
	}
}

func (s *hubShard) list() []*topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ts := make([]*topic, 0, len(s.topics))
	for _, t := range s.topics {
		ts = append(ts, t)
	}
	return ts
}
