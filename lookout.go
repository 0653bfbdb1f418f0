package realtime

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// lookout follows how the shared broker stands, tells it, and closes the node to
// clients once that was cut off from the others for too long.
type lookout struct {
	node *node

	mu     sync.Mutex // guards the following
	status BrokerStatus
	heard  bool        // of any status: before it there is nothing to warn of
	timer  *time.Timer // runs while the broker is down, with WithIsolation
	over   bool
}

// newLookout returns the lookout of a node without a shared broker.
func newLookout(n *node) *lookout {
	l := &lookout{node: n}
	n.metrics.setBroker(BrokerHealthy)
	return l
}

// setBroker says how the broker stands.
func (m *metrics) setBroker(now BrokerState) {
	m.brokerUp.Set(0)
	if now != BrokerDown {
		m.brokerUp.Set(1)
	}
	for _, s := range []BrokerState{BrokerHealthy, BrokerDegraded, BrokerDown} {
		m.brokerState.WithLabelValues(s.String()).Set(0)
	}
	m.brokerState.WithLabelValues(now.String()).Set(1)
}

// follow has the broker watched until the node is closed.
func (l *lookout) follow(b SharedBroker) {
	stop := b.Watch(l.changed)
	l.node.atClose(func() {
		stop()
		l.end()
	})
}

// state returns the broker's.
func (l *lookout) state() BrokerState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status.State
}

// changed takes the news of the broker. It does not block.
func (l *lookout) changed(s BrokerStatus) {
	n := l.node
	if was, first := l.note(s); was != s.State {
		l.log(s, was, first)
	}
	if n.watch != nil {
		n.guard("WithBrokerWatch", func() { n.watch(s) })
	}
}

// log writes a line. That a node begins by connecting is no reason to warn.
func (l *lookout) log(s BrokerStatus, was BrokerState, first bool) {
	level, fields := slog.LevelInfo, []any{"state", s.State.String()}
	if s.State == BrokerDown || s.State == BrokerDegraded && !first {
		level = slog.LevelWarn
	}
	if !first {
		fields = append(fields, "was", was.String())
	}
	if s.Err != nil {
		fields = append(fields, "error", s.Err)
	}
	l.node.log.Log(context.Background(), level, "realtime: broker", fields...)
}

// note keeps the news and returns the state before, and whether this is the first.
func (l *lookout) note(s BrokerStatus) (was BrokerState, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was, l.status = l.status.State, s
	first, l.heard = !l.heard, true
	l.node.metrics.setBroker(s.State)
	switch {
	case s.State != BrokerDown:
		l.stopLocked()
		l.node.isolated.Store(false)
	case l.timer == nil && l.node.isolation > 0 && !l.over:
		l.timer = time.AfterFunc(l.node.isolation, l.isolate)
	}
	return was, first
}

func (l *lookout) stopLocked() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// end stops what would happen later.
func (l *lookout) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.stopLocked()
}

// errIsolated is what clients are told of a node that is cut off.
var errIsolated = &Error{Text: "This server is cut off from the others", Retry: RetryBackoff}

// isolate closes the node to clients: they may find one that is better off.
func (l *lookout) isolate() {
	n := l.node
	l.mu.Lock()
	late := l.over || l.timer == nil
	if !late {
		n.isolated.Store(true) // from here on nobody comes in
	}
	l.mu.Unlock()
	if late {
		return
	}
	n.spawn(func() {
		cs := n.list()
		n.log.Error("realtime: isolated", "connections", len(cs), "after", n.isolation)
		for _, c := range cs {
			c.link.disconnect(ReasonOverloaded, errIsolated, nil)
		}
	})
}
