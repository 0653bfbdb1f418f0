package redis

import (
	"fmt"
	"sync"

	"github.com/seed-58bc6ac1/realtime"
)

// states tells watchers how the broker stands.
type states struct {
	mu       sync.Mutex // held while telling; guards the following
	watchers []*watcher
}

type watcher struct {
	f    func(realtime.BrokerStatus)
	last realtime.BrokerStatus
}

// Watch implements [realtime.SharedBroker]. The broker is down if every server is, and
// degraded if one of them is, if one is slow or takes no data, and while a connection
// is made.
func (b *Broker) Watch(f func(realtime.BrokerStatus)) (stop func()) {
	b.begin()
	s := &b.states
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &watcher{f, b.status()}
	s.watchers = append(s.watchers, w)
	f(w.last)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, other := range s.watchers {
			if other == w {
				s.watchers = append(s.watchers[:i:i], s.watchers[i+1:]...)
				break
			}
		}
	}
}

// changed is called when a lane stands otherwise than before.
func (b *Broker) changed() {
	s := &b.states
	s.mu.Lock()
	defer s.mu.Unlock()
	now := b.status()
	for _, w := range s.watchers {
		if w.last.State != now.State {
			w.last = now
			w.f(now)
		}
	}
}

// status sums up the lanes.
func (b *Broker) status() realtime.BrokerStatus {
	var worst realtime.BrokerStatus
	down := 0
	for _, l := range b.lanes {
		one := l.health.status()
		if one.State == realtime.BrokerDown {
			down++
		}
		if one.State > worst.State {
			worst = one
		}
	}
	if worst.State == realtime.BrokerDown && down < len(b.lanes) {
		return realtime.BrokerStatus{State: realtime.BrokerDegraded, Err: fmt.Errorf("%d of %d partitions are out of reach: %w", down, len(b.lanes), worst.Err)}
	}
	return worst
}
