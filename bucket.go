package realtime

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// rule is a RateLimit in the arithmetic of the generic cell rate algorithm
// (ITU-T I.371): the state of a bucket is one time, when it will be full again.
type rule struct {
	step  time.Duration // what one token takes to grow
	slack time.Duration // a bucket that is full within slack has a token left
	scope string
	event string
	warn  bool
}

const (
	bucketShards = 64

	// idleBuckets bounds, per shard, the buckets that no connection holds. They
	// stay so that reconnecting does not fill a bucket. 65,536 of them in all shards, at about
	// 200 bytes, are 13 MB: what an attacker with endless addresses can
	// make a server keep. Beyond that arbitrary ones are forgotten,
	// and whoever they were about starts with a full bucket.
	idleBuckets = 1024
)

// buckets are the buckets of one kind of limit by user or address: those of
// connections that are there, and the idle ones that are not full yet.
type buckets struct {
	rules  []rule
	tell   func(one *bucket, much bool) // called with the bucket's lock held; nil when this node counts alone
	much   int                          // tokens that are much
	seed   maphash.Seed
	shards [bucketShards]bucketShard
}

type bucketShard struct {
	mu      sync.Mutex // guards the following and refs of its buckets; taken before a bucket's mu
	byKey   map[string]*bucket
	idle    int // buckets with no refs
	sweepAt int // the idle count that is worth a sweep
}

type bucket struct {
	key  string
	refs int // guarded by the shard's mu

	mu     sync.Mutex  // guards the following
	full   []time.Time // by rule: when the bucket will be full again
	spent  int         // tokens that other nodes have not been told of
	listed bool        // they will be
}

// newBuckets returns nil if there is nothing to count.
func newBuckets(rules []rule) *buckets {
	if len(rules) == 0 {
		return nil
	}
	b := &buckets{rules: rules, much: 1<<31 - 1, seed: maphash.MakeSeed()}
	for _, r := range rules {
		b.much = min(b.much, max(1, r.burst()/10))
	}
	return b
}

// burst is how many tokens a full bucket has.
func (r *rule) burst() int { return int(r.slack/r.step) + 1 }

// debit takes n tokens that another node let through from the bucket of key, which
// may come to owe some: as many as it holds, at most, and none if its rule only warns.
func (b *buckets) debit(key string, n uint64, now time.Time) {
	one := b.acquire(key, now)
	defer b.release(one)
	one.mu.Lock()
	defer one.mu.Unlock()
	for i := range b.rules {
		r := &b.rules[i]
		most := r.slack + r.step
		if !r.warn {
			most *= 2
		}
		from := one.full[i]
		if from.Before(now) {
			from = now
		}
		tokens := min(n, uint64(2*r.burst()))
		one.full[i] = from.Add(min(time.Duration(tokens)*r.step, max(0, now.Add(most).Sub(from))))
	}
}

func (b *buckets) shard(key string) *bucketShard {
	return &b.shards[maphash.String(b.seed, key)%bucketShards]
}

// acquire returns the bucket of key, which stays at least until release.
func (b *buckets) acquire(key string, now time.Time) *bucket {
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if one, ok := s.byKey[key]; ok {
		if one.refs == 0 {
			s.idle--
		}
		one.refs++
		return one
	}
	if s.idle >= max(s.sweepAt, 16) {
		s.sweepLocked(now)
	}
	if s.byKey == nil {
		s.byKey = map[string]*bucket{}
	}
	one := &bucket{key: key, refs: 1, full: make([]time.Time, len(b.rules))}
	s.byKey[key] = one
	return one
}

func (b *buckets) release(one *bucket) {
	s := b.shard(one.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	one.refs--
	if one.refs == 0 {
		s.idle++
	}
}

// sweepLocked forgets the idle buckets that are full, which a new one would be
// too, and others if too many are left. The next sweep waits until there are
// enough idle ones that each pays for a fixed number of looks.
func (s *bucketShard) sweepLocked(now time.Time) {
	for key, one := range s.byKey {
		if one.refs == 0 && one.isFull(now) {
			delete(s.byKey, key)
			s.idle--
		}
	}
	if s.idle > idleBuckets/2 {
		for key, one := range s.byKey { // the order of a map is arbitrary
			if one.refs == 0 && s.idle > idleBuckets/2 {
				delete(s.byKey, key)
				s.idle--
			}
		}
	}
	s.sweepAt = min(max(2*s.idle, len(s.byKey)/2), idleBuckets)
}

func (one *bucket) isFull(now time.Time) bool {
	one.mu.Lock()
	defer one.mu.Unlock()
	for _, at := range one.full {
		if at.After(now) {
			return false
		}
	}
	return true
}

// addressKey is what an address counts as: a site gets 64 bits of an IPv6
// address and picks the others as it likes. What is no address counts as one.
func addressKey(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return "unknown"
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}
