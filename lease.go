package realtime

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// nodeIDLen is the length of a node's name before it is reborn for the first
	// time; 60 random bits.
	nodeIDLen = 12

	// maxNodeIDBytes bounds the names that come from other nodes.
	maxNodeIDBytes = 24

	// maxNodes bounds the leases and, separately, the names of the dead. A hundred
	// nodes that restart every minute fill the latter in 40 minutes.
	maxNodes = 4096
)

// leases is what a node knows about the others' being there: each has told
// everybody that it is, and counts as there until it has been silent for its TTL. It
// has no lock, no clock and no I/O of its own.
//
// Silence is evidence only while this node hears at all. It tells that by its own
// beats, which the broker brings back to it: a lease ends only if a beat that was
// sent in its last third came back. While the broker is down, nothing ends; once
// the node hears again, every lease is a full one.
//
// Whoever was given up once stays so. Should it be there all the same, it learns
// from those who gave it up that it has to take another name: it is reborn.
type leases struct {
	self  string
	lives int // how often self was reborn
	ttl   time.Duration
	held  map[string]*lease
	dead  map[string]bool
	order []string // the dead, the longest first

	down      bool      // the broker says so
	up        time.Time // when it last stopped to say so
	confirmed time.Time // when the newest beat of its own that came back was sent
	since     time.Time // when it began to hear, the zero time while it does not
	cut       time.Time // when it last ceased to hear
	ticked    time.Time
	doubt     time.Time // until then, who ends may have given this node up before
}

// lease is that of one other node.
type lease struct {
	until time.Time
	ttl   time.Duration
	heard bool // else it was asked about only
}

// news is what came of an input.
type news struct {
	moves  []move
	reborn bool // this node has a new name
	accuse bool // the sender was given up: it has to be told, and its message is void
}

// move is a node that came or has gone.
type move struct {
	node string
	here bool
}

func newLeases(self string, ttl time.Duration, now time.Time) *leases {
	return &leases{self: self, ttl: ttl, held: map[string]*lease{}, dead: map[string]bool{},
		ticked: now, up: now, confirmed: now, cut: now}
}

// beat is how often a node says that it is there.
func (l *leases) beat() time.Duration { return l.ttl / 3 }

// nodeBase returns the part of a name that does not change when its node is reborn.
func nodeBase(id string) string { return id[:nodeIDLen] }

// isNodeID reports whether id can be a node's name: it comes from afar.
func isNodeID(id string) bool {
	if len(id) < nodeIDLen || len(id) > maxNodeIDBytes {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '.' {
			return false
		}
	}
	return true
}

// listen notes that id, which is not self, said something; ttl is 0 if it did not
// say how long its lease is.
func (l *leases) listen(id string, ttl time.Duration, now time.Time) (n news) {
	if l.dead[id] || nodeBase(id) == nodeBase(l.self) {
		return news{accuse: l.dead[id]}
	}
	one := l.held[id]
	if one == nil && len(l.held) >= maxNodes {
		return news{accuse: false}
	}
	if one == nil {
		one = &lease{ttl: l.ttl}
		l.held[id] = one
	}
	if ttl > 0 {
		one.ttl = ttl
	}
	one.until = now.Add(one.ttl)
	if one.heard {
		return n
	}
	one.heard = true
	for old := range l.held { // what it was before it was reborn
		if old != id && nodeBase(old) == nodeBase(id) {
			l.end(old, now, &n)
		}
	}
	n.moves = append(n.moves, move{id, true})
	return n
}

// end gives id up, for good.
func (l *leases) end(id string, now time.Time, n *news) {
	delete(l.held, id)
	if !l.dead[id] {
		if len(l.order) == maxNodes {
			delete(l.dead, l.order[0])
			l.order = slices.Delete(l.order, 0, 1)
		}
		l.dead[id] = true
		l.order = append(l.order, id)
	}
	n.moves = append(n.moves, move{id, false})
	if now.Before(l.doubt) {
		l.rebirth(n)
	}
}

// bye notes that id has left.
func (l *leases) bye(id string, now time.Time) (n news) {
	if l.held[id] != nil || !l.dead[id] {
		doubt := l.doubt
		l.doubt = time.Time{} // it has just been in its right mind
		l.end(id, now, &n)
		l.doubt = doubt
	}
	return n
}

// accused notes that another node has given up id.
func (l *leases) accused(id string) (n news) {
	if id == l.self {
		l.rebirth(&n)
	}
	return n
}

// rebirth gives this node another name.
func (l *leases) rebirth(n *news) {
	l.lives++
	l.self = nodeBase(l.self) + "." + strconv.Itoa(l.lives)
	l.doubt = time.Time{}
	n.reborn = true
}

// status notes what the broker says of itself.
func (l *leases) status(down bool, now time.Time) {
	switch {
	case down && !l.down:
		l.lose(now)
	case !down && l.down:
		l.up = now
	}
	l.down = down
}

// lose notes that this node does not hear any more.
func (l *leases) lose(now time.Time) {
	if !l.since.IsZero() {
		l.since, l.cut = time.Time{}, now
	}
}

// echo notes that the beat that this node sent at that time came back to it. What was
// sent while the broker was down says nothing: it did not leave the node.
func (l *leases) echo(sent, now time.Time) (n news) {
	if l.down || sent.Before(l.up) || !sent.After(l.confirmed) && !l.since.IsZero() {
		return n
	}
	missed := sent.Sub(l.confirmed) > l.beat()*3/2
	l.confirmed = sent
	if l.since.IsZero() || missed {
		l.heal(now)
	}
	return l.expire(now)
}

// heal notes that this node hears again, or for the first time.
func (l *leases) heal(now time.Time) {
	if now.Sub(l.cut) > l.ttl && len(l.held) > 0 {
		l.doubt = now.Add(2 * l.ttl)
	}
	l.since, l.cut = now, now
	for _, one := range l.held {
		one.until = now.Add(one.ttl)
	}
}

// tick is called at the time of next.
func (l *leases) tick(now time.Time) (n news) {
	asleep := now.Sub(l.ticked)
	l.ticked = now
	if asleep > 2*l.beat() || now.Sub(l.confirmed) > l.beat()*5/2 {
		l.lose(now)
	}
	if asleep > l.ttl {
		l.rebirth(&n)
	}
	ended := l.expire(now)
	n.moves, n.reborn = append(n.moves, ended.moves...), n.reborn || ended.reborn
	return n
}

// expire ends the leases that are over.
func (l *leases) expire(now time.Time) (n news) {
	if l.since.IsZero() {
		return n
	}
	for _, id := range l.names() {
		one := l.held[id]
		if !now.Before(one.until) && !l.confirmed.Before(one.until.Add(-one.ttl/3)) {
			l.end(id, now, &n)
		}
	}
	return n
}

// next returns when the next lease may end, at the latest a beat from now and at
// that time.
func (l *leases) next(now, latest time.Time) time.Time {
	at := now.Add(l.beat())
	if latest.After(now) && latest.Before(at) {
		at = latest
	}
	for _, one := range l.held {
		if one.until.After(now) && one.until.Before(at) {
			at = one.until
		}
	}
	return at
}

// ask says whether id is there, and whether that is known. A name that was never
// heard of gets the time of a lease to be: its node may have begun a moment ago.
func (l *leases) ask(id string, now time.Time) (alive, known bool) {
	if id == l.self {
		return true, true
	}
	if one := l.held[id]; one != nil {
		return one.heard, one.heard && l.knows(now)
	}
	if l.dead[id] || !isNodeID(id) || nodeBase(id) == nodeBase(l.self) {
		return false, true
	}
	if len(l.held) < maxNodes {
		l.held[id] = &lease{until: now.Add(l.ttl), ttl: l.ttl}
	}
	return false, false
}

// knows reports whether this node has heard for long enough to tell who is there.
func (l *leases) knows(now time.Time) bool {
	return !l.since.IsZero() && now.Sub(l.since) >= l.beat()
}

// names returns the nodes with a lease, sorted, so that what follows from it is the
// same every time.
func (l *leases) names() []string {
	names := make([]string, 0, len(l.held))
	for id := range l.held {
		names = append(names, id)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// here returns the other nodes that are there, sorted.
func (l *leases) here() []string {
	return slices.DeleteFunc(l.names(), func(id string) bool { return !l.held[id].heard })
}
