package redis

import (
	"fmt"
	"slices"
	"sync"

	"github.com/seed-58bc6ac1/realtime"
)

// states tells watchers how the broker stands.
type states struct {
	lanes []*lane

	mu       sync.Mutex // held while telling; guards the following
	watchers []*watcher
}

type watcher struct {
	f    func(realtime.BrokerStatus)
	last realtime.BrokerStatus
}

// watch has f called as Watch says.
func (s *states) watch(f func(realtime.BrokerStatus)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &watcher{f, s.status()}
	s.watchers = append(s.watchers, w)
	f(w.last)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = slices.DeleteFunc(s.watchers, func(other *watcher) bool { return other == w })
	}
}

// changed is called when a lane stands otherwise than before.
func (s *states) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.status()
	for _, w := range s.watchers {
		if w.last.State != now.State {
			w.last = now
			w.f(now)
		}
	}
}

// status sums up the lanes.
func (s *states) status() realtime.BrokerStatus {
	var worst realtime.BrokerStatus
	down := 0
	for _, l := range s.lanes {
		one := l.health.status()
		if one.State == realtime.BrokerDown {
			down++
		}
		if one.State > worst.State {
			worst = one
		}
	}
	if worst.State == realtime.BrokerDown && down < len(s.lanes) {
		return realtime.BrokerStatus{State: realtime.BrokerDegraded, Err: fmt.Errorf("%d of %d partitions are out of reach: %w", down, len(s.lanes), worst.Err)}
	}
	return worst
}
