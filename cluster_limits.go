package realtime

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// spentTime is how long other nodes are not told of tokens that were spent, as long
	// as they are few.
	spentTime = 250 * time.Millisecond

	// maxLimitKey bounds the names that other nodes tell of.
	maxLimitKey = 1024
)

// Whose tokens were spent, as nodes tell each other.
const (
	spentUser byte = 1
	spentIP   byte = 2
)

// gossip has the limits per user and address hold for all nodes together: each tells
// the others how many messages it let through, and they take as many tokens from
// their own buckets. Nobody asks before a message: what passes meanwhile is too much.
// Until a node is told, a tenth of a burst can be spent behind its back, by each of
// the others, and what their messages take to arrive lets pass.
type gossip struct {
	cluster *cluster
	limits  *limiter
	wheel   *wheel
	entry   wheelEntry

	mu    sync.Mutex // guards the following; taken after a bucket's
	dirty []spender
}

// spender is a bucket of which tokens were spent.
type spender struct {
	whose byte
	one   *bucket
}

// newGossip has l count for all nodes. It is called before the cluster starts.
func newGossip(c *cluster, l *limiter, w *wheel) {
	if c == nil || l.user == nil && l.ip == nil {
		return
	}
	g := &gossip{cluster: c, limits: l, wheel: w}
	for whose, b := range g.shared() {
		if b != nil {
			b.tell = func(one *bucket, much bool) { g.tellLocked(spender{whose, one}, much) }
		}
	}
	c.handle(nodeSpent, g.heard)
}

// shared are the buckets that all nodes have in common.
func (g *gossip) shared() map[byte]*buckets {
	return map[byte]*buckets{spentUser: g.limits.user, spentIP: g.limits.ip}
}

// tellLocked notes that a token was spent; the caller holds the bucket's lock. If
// much was, the others are told at once.
func (g *gossip) tellLocked(s spender, much bool) {
	switch {
	case !g.cluster.crowded() || len(s.one.key) > maxLimitKey:
		s.one.spent = 0
	case much:
		g.cluster.send("", nodeSpent, appendSpent([]byte{s.whose}, s.one.key, s.one.spent))
		s.one.spent = 0
	case !s.one.listed:
		s.one.listed = true
		g.list(s)
	}
}

// list has s told with others, soon.
func (g *gossip) list(s spender) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dirty = append(g.dirty, s); len(g.dirty) == 1 {
		g.wheel.schedule(&g.entry, g, time.Now().Add(spentTime))
	}
}

// expire implements [expirer]: whatever was spent is told.
func (g *gossip) expire(time.Time) time.Time {
	g.mu.Lock()
	dirty := g.dirty
	g.dirty = nil
	g.mu.Unlock()
	bodies := map[byte][]byte{}
	for _, s := range dirty {
		b := bodies[s.whose]
		if b == nil {
			b = []byte{s.whose}
		}
		if bodies[s.whose] = s.appendTo(b); len(bodies[s.whose]) > partBytes {
			g.cluster.send("", nodeSpent, bodies[s.whose])
			delete(bodies, s.whose)
		}
	}
	for _, b := range bodies {
		if len(b) > 1 {
			g.cluster.send("", nodeSpent, b)
		}
	}
	return time.Time{}
}

// appendTo appends what was spent of s since the others were told last.
func (s spender) appendTo(b []byte) []byte {
	s.one.mu.Lock()
	defer s.one.mu.Unlock()
	s.one.listed = false
	if s.one.spent == 0 {
		return b
	}
	b = appendSpent(b, s.one.key, s.one.spent)
	s.one.spent = 0
	return b
}

// appendSpent appends that the bucket of key lost n tokens.
func appendSpent(b []byte, key string, n int) []byte {
	return binary.AppendUvarint(appendText(b, key), uint64(n))
}

// heard takes what another node has let through.
func (g *gossip) heard(_ string, b []byte) {
	ok := len(b) > 0
	var shared *buckets
	if ok {
		shared, b = g.shared()[b[0]], b[1:]
	}
	now := time.Now()
	for ok && len(b) > 0 {
		var key string
		var n uint64
		if key, b, ok = cutText(b); ok && len(key) <= maxLimitKey {
			n, b, ok = cutNumber(b)
		} else {
			ok = false
		}
		if ok && shared != nil {
			shared.debit(key, n, now)
		}
	}
	if !ok {
		g.cluster.refuse(nodeSpent, errNodeMail)
	}
}
