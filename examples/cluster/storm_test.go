//go:build unix

package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// storm breaks nodes, Redis and what is between them, at random from a seed, and
// mends each after a while. One node, or Redis, has one fault at a time; different
// ones may have theirs together.
type storm struct {
	t     *testing.T
	fleet *fleet
	store *store

	mu    sync.Mutex // guards the following
	count map[string]int
}

func (s *storm) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[what]++
}

// blow breaks things until ctx ends. When it returns, nothing is broken any more.
func (s *storm) blow(ctx context.Context, seed uint64, clients []*person) {
	var all sync.WaitGroup
	for i, one := range s.fleet.nodes {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() { s.nodeLoop(ctx, one, random) })
	}
	all.Go(func() { s.redisLoop(ctx, rand.New(rand.NewPCG(seed, 100))) })
	all.Go(func() { s.clientLoop(ctx, clients, rand.New(rand.NewPCG(seed, 200))) })
	all.Wait()
}

// rest waits for some time between two bounds. It returns false at the end of the
// storm.
func rest(ctx context.Context, random *rand.Rand, least, most time.Duration) bool {
	select {
	case <-time.After(least + time.Duration(random.Int64N(int64(most-least)))):
		return true
	case <-ctx.Done():
		return false
	}
}

const ms = time.Millisecond

func (s *storm) nodeLoop(ctx context.Context, n *node, random *rand.Rand) {
	for rest(ctx, random, 1500*ms, 7000*ms) {
		switch random.IntN(7) {
		case 0, 1:
			s.note("node killed")
			s.must(n.kill())
			rest(ctx, random, 100*ms, 2500*ms)
			s.revive(n)
		case 2:
			s.note("node drained")
			n.mu.Lock()
			ended := n.ended
			n.mu.Unlock()
			s.must(n.drain())
			<-ended
			s.revive(n)
		case 3:
			s.note("node frozen")
			n.mu.Lock()
			run := n.run
			n.mu.Unlock()
			if run == nil {
				s.t.Errorf("the storm: %s has ended by itself", n.name)
				s.revive(n)
				continue
			}
			s.must(run.Process.Signal(syscall.SIGSTOP))
			rest(ctx, random, 300*ms, 7000*ms)
			s.must(run.Process.Signal(syscall.SIGCONT))
		case 4:
			s.note("node cut off from Redis")
			n.door.Cut()
			rest(ctx, random, 100*ms, 7000*ms)
			n.door.Heal()
		case 5:
			s.note("node and Redis half open")
			n.door.HalfOpen()
			rest(ctx, random, 100*ms, 7000*ms)
			n.door.Heal()
		case 6:
			s.note("node and Redis slow")
			n.door.Delay(time.Duration(5+random.IntN(150)) * ms)
			rest(ctx, random, 500*ms, 3000*ms)
			n.door.Delay(0)
		}
	}
}

func (s *storm) redisLoop(ctx context.Context, random *rand.Rand) {
	for rest(ctx, random, 4000*ms, 12000*ms) {
		if random.IntN(2) == 0 {
			s.note("Redis frozen")
			s.must(s.store.do("pause"))
			rest(ctx, random, 200*ms, 5000*ms)
			s.must(s.store.do("resume"))
		} else {
			s.note("Redis killed")
			s.must(s.store.do("kill"))
			rest(ctx, random, 100*ms, 2500*ms)
			s.must(s.store.do("start"))
		}
	}
}

// revive starts a node, again and again as whatever watches over processes does: one
// that finds no Redis for long gives up.
func (s *storm) revive(n *node) {
	var err error
	for range 5 {
		if err = n.start(); err == nil {
			return
		}
		s.note("node that did not come up")
	}
	s.must(err)
}

// clientLoop breaks the network of single clients.
func (s *storm) clientLoop(ctx context.Context, clients []*person, random *rand.Rand) {
	for rest(ctx, random, 100*ms, 600*ms) {
		select {
		case clients[random.IntN(len(clients))].cut <- struct{}{}:
			s.note("client's line cut")
		default: // it has none at the moment
		}
	}
}

// must says what the storm itself could not do.
func (s *storm) must(err error) {
	if err != nil {
		s.t.Errorf("the storm: %v", err)
	}
}

// String returns the faults by their kind.
func (s *storm) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(s.count)) {
		parts = append(parts, fmt.Sprintf("%s %d", what, s.count[what]))
	}
	return strings.Join(parts, ", ")
}
