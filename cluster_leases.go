package realtime

import (
	"time"
)

// This file is how a cluster keeps its leases: by the time, by what the broker says of
// itself, and by what comes from other nodes.

// greet tells one node, or all, that this one is here.
func (c *cluster) greet(to string, answer bool) {
	if c == nil {
		return
	}
	h := hello{answer: answer, ttl: uint64(c.leases.ttl.Milliseconds()), sent: uint64(time.Since(c.base).Microseconds())}
	c.send(to, nodeHello, h.append(nil))
}

// expire implements [expirer].
func (c *cluster) expire(now time.Time) time.Time {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.happen(func(l *leases) news { return l.tick(now) })
	c.mu.Lock()
	started := c.started
	c.mu.Unlock()
	if started && !now.Before(c.beats) {
		c.beats = now.Add(c.leases.beat())
		c.greet("", false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases.next(now, c.beats)
}

// stood hears of the broker's states.
func (c *cluster) stood(s BrokerStatus) {
	down := s.State == BrokerDown
	c.turn.Lock()
	defer c.turn.Unlock()
	was := false
	c.happen(func(l *leases) news {
		was = l.down
		l.status(down, time.Now())
		return news{}
	})
	switch {
	case down:
		c.metrics.nodeDropped.Add(float64(c.box.drop()))
	case was:
		c.greet("", false)
		c.mu.Lock()
		recoveries := c.recoveries
		c.mu.Unlock()
		for _, f := range recoveries {
			f()
		}
	}
}

// happen changes the leases, and tells what came of it. The caller holds the turn.
func (c *cluster) happen(change func(*leases) news) news {
	c.mu.Lock()
	n := change(c.leases)
	watchers, rebirths, self := c.watchers, c.rebirths, c.leases.self
	others := len(c.leases.here())
	c.others.Store(int32(others))
	c.metrics.nodes.Set(float64(1 + others))
	c.mu.Unlock()
	for _, m := range n.moves {
		c.log.Info("realtime: another node", "node", m.node, "here", m.here)
		for _, f := range watchers {
			f(m.node, m.here)
		}
	}
	if n.reborn {
		c.log.Warn("realtime: other nodes have given this one up; it goes on under another name", "node", self)
		c.greet("", false)
		for _, f := range rebirths {
			f()
		}
	}
	return n
}
