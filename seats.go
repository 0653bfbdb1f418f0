package realtime

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

const seatShards = 64

// seats counts the connections of a server and of each user, holds them to
// their limits, and knows which connections a user has. C is the connection.
type seats[C comparable] struct {
	perServer, perUser int // 0: no limit
	newestWins         bool
	seed               maphash.Seed
	taken              atomic.Int64
	shards             [seatShards]seatShard[C]
}

// seatShard keeps the usual user, with one connection, in one map entry.
type seatShard[C comparable] struct {
	mu      sync.Mutex // guards the following
	oldest  map[string]C
	further map[string][]C // the user's other connections, oldest first
}

// newSeats returns an empty index. A limit of 0 is none. newestWins says what
// happens at a user's limit: the oldest connection goes, or the new one is
// refused.
func newSeats[C comparable](perServer, perUser int, newestWins bool) *seats[C] {
	s := &seats[C]{perServer: perServer, perUser: perUser, newestWins: newestWins, seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].oldest, s.shards[i].further = map[string]C{}, map[string][]C{}
	}
	return s
}

// take gives c a seat, which c keeps until release. If evicted, the user's
// oldest connection evict has lost its seat to c: the caller closes it as
// [ReasonReplaced]. A reason other than "" refuses: it is [ReasonOverloaded] at
// either limit, because a client that lost its network comes back before its
// old connection is known to be dead and has to try again, which
// [ReasonForbidden] would forbid.
//
// The anonymous user "" has no limit of its own and is not indexed. take does
// not block.
func (s *seats[C]) take(user string, c C) (evict C, evicted bool, reason Reason) {
	var none C
	if user == "" {
		if !s.enter() {
			return none, false, ReasonOverloaded
		}
		return none, false, ""
	}
	h := s.shard(user)
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.perUser > 0 && h.countLocked(user) >= s.perUser {
		if !s.newestWins {
			return none, false, ReasonOverloaded
		}
		// The seat changes hands, so the server's count stays.
		evict = h.oldest[user]
		h.removeLocked(user, evict)
		h.addLocked(user, c)
		return evict, true, ""
	}
	if !s.enter() {
		return none, false, ReasonOverloaded
	}
	h.addLocked(user, c)
	return none, false, ""
}

// release gives back the seat that take gave. For a named user it does nothing
// if c has none any more, so the evicted may call it as all others do; an
// anonymous connection must call it once.
func (s *seats[C]) release(user string, c C) {
	if user == "" {
		s.taken.Add(-1)
		return
	}
	h := s.shard(user)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.removeLocked(user, c) {
		s.taken.Add(-1)
	}
}

// of returns the connections of user, oldest first; the slice is the caller's.
func (s *seats[C]) of(user string) []C {
	h := s.shard(user)
	h.mu.Lock()
	defer h.mu.Unlock()
	first, ok := h.oldest[user]
	if !ok {
		return nil
	}
	return append([]C{first}, h.further[user]...)
}

// count returns how many seats are taken.
func (s *seats[C]) count() int { return int(s.taken.Load()) }

// enter counts one more unless the server is full. It compares before it adds:
// a refused one must not be seen in the count, where it would refuse another.
func (s *seats[C]) enter() bool {
	for {
		n := s.taken.Load()
		if s.perServer > 0 && n >= int64(s.perServer) {
			return false
		}
		if s.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *seats[C]) shard(user string) *seatShard[C] {
	return &s.shards[maphash.String(s.seed, user)%seatShards]
}

func (h *seatShard[C]) countLocked(user string) int {
	if _, ok := h.oldest[user]; !ok {
		return 0
	}
	return 1 + len(h.further[user])
}

func (h *seatShard[C]) addLocked(user string, c C) {
	if _, ok := h.oldest[user]; ok {
		h.further[user] = append(h.further[user], c)
		return
	}
	h.oldest[user] = c
}

func (h *seatShard[C]) removeLocked(user string, c C) bool {
	first, ok := h.oldest[user]
	if !ok {
		return false
	}
	further := h.further[user]
	i := 0
	if first != c {
		if i = slices.Index(further, c); i < 0 {
			return false
		}
	} else if len(further) > 0 {
		h.oldest[user] = further[0]
	} else {
		delete(h.oldest, user)
		return true
	}
	if further = slices.Delete(further, i, i+1); len(further) == 0 {
		delete(h.further, user)
	} else {
		h.further[user] = further
	}
	return true
}
