package redis

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// lane is the way to one partition of one server: what all topics in it share. Its
// keys and channels have one hash tag, so that a Cluster has them in one slot.
type lane struct {
	// Set by newLanes, never changed.
	client    rueidis.Client
	prefix    string // of keys and channels, hash tag included
	timeout   time.Duration
	heartbeat time.Duration
	slots     chan struct{} // one for each command in flight
	health    *health
	link      *link
	ids       *ids

	sharding sync.Mutex // guards the following
	sharded  bool
	detected bool

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
			l := &lane{client: client, prefix: c.prefix + "{p" + strconv.Itoa(p) + "}:", timeout: c.timeout,
				heartbeat: c.heartbeat, slots: slots, health: newHealth(), ids: ids,
				topics: map[string]*topic{}, checks: map[*topic]bool{}, debts: map[string]bool{}, due: make(chan struct{}, 1)}
			l.link = newLink(l)
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

// key returns the key or channel of one kind that belongs to name.
func (l *lane) key(kind, name string) string { return l.prefix + kind + ":" + name }

// exec runs a script that writes, within the lane's bounds. doing is for the error,
// which has ErrBrokerDown in its chain if the server cannot be had at the moment: the
// script ran then, or it did not.
func (l *lane) exec(ctx context.Context, doing string, script *rueidis.Lua, keys, args []string) (rueidis.RedisMessage, error) {
	return l.do(ctx, doing, func(ctx context.Context) rueidis.RedisResult {
		return script.Exec(ctx, l.client, keys, args)
	})
}

// do makes one call to the server: at once an error if that is down, and bounded in
// time and number.
func (l *lane) do(ctx context.Context, doing string, call func(context.Context) rueidis.RedisResult) (rueidis.RedisMessage, error) {
	if err := l.health.refuses(); err != nil {
		return rueidis.RedisMessage{}, unavailable(doing, err)
	}
	bound, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	if err := l.enter(bound); err != nil {
		return rueidis.RedisMessage{}, unavailable(doing, err)
	}
	defer func() { <-l.slots }()
	m, err := call(bound).ToMessage()
	if err == nil || rueidis.IsRedisNil(err) {
		return m, nil
	}
	if ctx.Err() != nil { // the caller's patience is no measure of the server
		l.health.doubt()
		return m, unavailable(doing, context.Cause(ctx))
	}
	return m, l.failed(doing, err)
}

var errCrowded = errors.New("too many commands are under way")

// enter waits for a slot while the server is well.
func (l *lane) enter(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-l.health.down():
		return l.health.refuses()
	case <-ctx.Done():
		return errCrowded
	}
}

// failed notes why a call failed, and returns it as the caller is to see it.
func (l *lane) failed(doing string, err error) error {
	err = l.explain(err)
	kind := severity(err)
	l.health.note(kind, err)
	if kind == harmless {
		return fmt.Errorf("redis: %s: %w", doing, err)
	}
	return unavailable(doing, err)
}

// usesShards reports whether what is published stays on the servers of its slot:
// Redis 7 in Cluster mode can do that.
func (l *lane) usesShards(ctx context.Context) (bool, error) {
	if l.client.Mode() != rueidis.ClientModeCluster {
		return false, nil
	}
	l.sharding.Lock()
	defer l.sharding.Unlock()
	if l.detected {
		return l.sharded, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	info, err := l.client.Do(ctx, l.client.B().Info().Section("server").Build()).ToString()
	if err != nil {
		return false, fmt.Errorf("ask for the server's version: %w", err)
	}
	l.sharded, l.detected = majorVersion(info) >= 7, true
	return l.sharded, nil
}

// majorVersion finds it in the answer to INFO; 0 if it is not told.
func majorVersion(info string) int {
	_, rest, _ := strings.Cut(info, "redis_version:")
	major, _, _ := strings.Cut(rest, ".")
	n, _ := strconv.Atoi(major)
	return n
}

// subscribe has onMessage called with what is published to channel, one call at a
// time, from now until stop is called; a call may still be under way then. After the
// connection was lost onReset is called once the subscription stands again, before
// any message that came after the loss. Neither may block. It fails if the
// subscription does not stand within the timeout.
func (l *lane) subscribe(ctx context.Context, channel string, onMessage func(string), onReset func()) (stop func(), err error) {
	return l.link.subscribe(ctx, channel, onMessage, onReset)
}
