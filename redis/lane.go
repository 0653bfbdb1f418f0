package redis

import (
	"context"
	"hash/fnv"
	"strconv"
	"sync"

	"github.com/redis/rueidis"
	"github.com/seed-58bc6ac1/realtime"
)

// lane is the way to one partition of one server: what all topics in it share. Its
// keys and channels have one hash tag, so that a Cluster has them in one slot.
type lane struct {
	*way
	link *link

	mu     sync.Mutex // guards the following
	topics map[string]*topic
	checks map[*topic]bool // due at once
	rounds []*topic        // due within the heartbeat
	due    chan struct{}   // there are some
	debts  map[string]bool // plain topics with events that were not published
}

// newLanes returns the lanes of every partition of every client.
func newLanes(c *config) []*lane {
	slots := make(chan struct{}, c.inFlight)
	ids := newIDs()
	var lanes []*lane
	for _, client := range c.clients {
		for p := range c.partitionsOf(client) {
			w := &way{client: client, prefix: c.prefix + "{p" + strconv.Itoa(p) + "}:", timeout: c.timeout,
				heartbeat: c.heartbeat, slots: slots, health: newHealth(), ids: ids}
			l := &lane{way: w, link: newLink(w), topics: map[string]*topic{}, checks: map[*topic]bool{}, debts: map[string]bool{}, due: make(chan struct{}, 1)}
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// clusterPartitions is a multiple of what most Clusters have of servers, and cheap: a
// connection and two goroutines each.
const clusterPartitions = 16

func (c *config) partitionsOf(client rueidis.Client) int {
	switch {
	case c.partitions > 0:
		return c.partitions
	case client.Mode() == rueidis.ClientModeCluster:
		return clusterPartitions
	}
	return 1
}

// laneOf returns the lane of a topic or document: the same on all nodes.
func (c *config) laneOf(lanes []*lane, name string) *lane {
	h := fnv.New64a()
	h.Write([]byte(name))
	sum := mix(h.Sum64())
	server := jump(sum, len(c.clients))
	first := 0
	for _, client := range c.clients[:server] {
		first += c.partitionsOf(client)
	}
	return lanes[first+int(mix(sum)%uint64(c.partitionsOf(c.clients[server])))]
}

// mix spreads what differs in a few bits over all of them (the end of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// jump is the consistent hash of Lamping and Veach: of n+1 buckets the last one has
// a fair share, taken evenly from the others.
func jump(h uint64, n int) int {
	b, j := int64(-1), int64(0)
	for j < int64(n) {
		b = j
		h = h*2862933555777941757 + 1
		j = int64(float64(b+1) * (float64(int64(1)<<31) / float64(h>>33+1)))
	}
	return int(b)
}

// subscribe has onMessage called with what is published to channel, one call at a
// time, from now until stop is called; a call may still be under way then. After the
// connection was lost onReset is called once the subscription stands again, before
// any message that came after the loss. Neither may block. It fails if the
// subscription does not stand within the timeout.
func (l *lane) subscribe(ctx context.Context, channel string, onMessage func(string), onReset func()) (stop func(), err error) {
	return l.link.subscribe(ctx, channel, onMessage, onReset)
}

// acquire returns a topic with one more reference; the one who created it opens it.
func (l *lane) acquire(name string, keep realtime.Retention) (t *topic, created bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := topicKey(name, keep)
	if t = l.topics[key]; t == nil {
		t = &topic{way: l.way, link: l.link, check: l.check, name: name, key: key, keep: keep, opened: make(chan struct{}),
			own: map[publishID]*publication{}, moved: make(chan struct{})}
		if keep.Keeps() {
			t.history = &history{topic: name, emit: t.emit}
		} else {
			t.plain = &plain{topic: name, emit: t.emit}
		}
		l.topics[key] = t
		created = true
	}
	t.refs++
	return t, created
}

// lookup returns the topic if somebody here has subscribed to it, nil if not.
func (l *lane) lookup(name string, keep realtime.Retention) *topic {
	l.mu.Lock()
	t := l.topics[topicKey(name, keep)]
	l.mu.Unlock()
	if t == nil {
		return nil
	}
	select {
	case <-t.opened:
		if t.err == nil {
			return t
		}
	default: // what is published now comes through the channel, or before it stands
	}
	return nil
}

// release drops a reference; the last one ends the subscription.
func (l *lane) release(t *topic) {
	l.mu.Lock()
	t.refs--
	last := t.refs == 0
	if last {
		delete(l.topics, t.key)
		delete(l.checks, t)
	}
	l.mu.Unlock()
	if last && t.stop != nil {
		t.stop()
	}
}

// check has a topic compared with the server soon.
func (l *lane) check(t *topic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics[t.key] == t {
		l.checks[t] = true
	}
	select {
	case l.due <- struct{}{}:
	default:
	}
}

// mostDebts bounds what an outage leaves to be done.
const mostDebts = 10_000

// owe notes that members on other nodes missed an event of a plain topic.
func (l *lane) owe(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.debts) < mostDebts {
		l.debts[topic] = true
	}
}
