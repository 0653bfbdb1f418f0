package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"time"
)

const (
	// drainTime is how long a drain takes when ctx has no deadline.
	drainTime = 10 * time.Second

	// drainShare is the part of the time to the deadline over which the closes
	// are spread; the rest is for the last clients' close frames.
	drainShare = 0.6

	// lastWords is how long before the deadline peers that have not closed are
	// given up, so that the drain itself ends in time.
	lastWords = 200 * time.Millisecond

	// returnRate is how many clients a second should come back after a drain, to
	// the servers that are left: what a handshake with a token costs two cores,
	// with room for their work.
	returnRate = 500
)

// Shutdown drains the server: handshakes are refused with 503, readiness is
// false, and the connections are closed as "shutdown" one after the other over
// more than half of the time that ctx leaves, each after what waits for it has
// been written. Clients are told to come back over a window that grows with
// their number.
//
// It returns nil when every connection and every handler has ended, and ctx's
// error when it had to cut what was left; a handler that ignores its context may
// then still run. Publish returns [ErrServerClosed] afterwards, and the metrics are
// no longer registered. Without a deadline it plans for 10 s, with a distant one
// for a minute, and waits until ctx ends. It is called once. It suits
// [http.Server.RegisterOnShutdown], which does not wait, and calls before
// [http.Server.Shutdown], which does not know WebSockets.
func (s *Server) Shutdown(ctx context.Context) error {
	n := s.node
	cs := n.drain()
	n.log.Info("realtime: draining", "connections", len(cs))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.work.Wait()
	}()
	if deadline, ok := ctx.Deadline(); ok {
		n.drained.Store(int64(deadline.Add(-lastWords).Sub(n.base)))
	}
	n.closeAll(ctx, cs, ended)
	n.giveUp()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("realtime: drain: %w", ctx.Err())
		n.cut(ended)
	}
	n.closed.Store(true)
	for _, f := range n.closers {
		f()
	}
	n.hub.tell.close()
	n.cluster.close()
	n.wheel.stop()
	n.metrics.unregister(s.registerer)
	return err
}

// drain refuses newcomers from here on and returns who is there.
func (n *node) drain() []*Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.window.Store(max(1000, int64(n.clients.len())*1000/returnRate))
	n.draining.Store(true)
	return n.clients.appendTo(nil)
}

// closeAll closes cs, spread over the time there is.
func (n *node) closeAll(ctx context.Context, cs []*Client, ended <-chan struct{}) {
	left := drainTime
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	left = min(left, drainTime*6) // a generous deadline is no reason to dawdle
	start := time.Now()
	for i, c := range cs {
		at := time.Duration(float64(left) * drainShare * float64(i) / float64(len(cs)))
		if wait := at - time.Since(start); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			case <-ended:
				return
			}
		}
		c.link.disconnect(ReasonShutdown, nil, nil)
	}
}

// cut closes the sockets that are left, without ceremony, and waits a moment for
// their goroutines; handlers that ignore their context are left behind.
func (n *node) cut(ended <-chan struct{}) {
	for _, c := range n.list() {
		c.link.disconnect(ReasonShutdown, nil, nil)
		c.nc.Close()
	}
	select {
	case <-ended:
	case <-time.After(time.Second):
		n.log.Error("realtime: handlers still run after the drain")
	}
}

// Ready returns a handler for a load balancer: 200 while the server takes
// connections, 503 from the start of a drain, and while [WithIsolation] keeps
// clients away.
func (s *Server) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n := s.node; {
		case n.draining.Load():
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		case n.isolated.Load():
			http.Error(w, "isolated", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
}

// Health returns a handler that tells, as JSON, whether the server works and how
// much it has to do: status ("ok", "draining" or "isolated"), connections, topics,
// members, goroutines, uptime_ms, nodes (that there are as this one knows it, itself
// included), the state of the broker ("healthy", "degraded" or "down"), and whether
// there is an authenticator. It always answers
// 200, needs no authentication and tells no names. It counts all topics, so it is
// for checks every few seconds.
func (s *Server) Health() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := s.node
		topics, members := 0, 0
		for _, count := range s.Topics() {
			topics, members = topics+1, members+count
		}
		status := "ok"
		switch {
		case n.draining.Load():
			status = "draining"
		case n.isolated.Load():
			status = "isolated"
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(map[string]any{
			"status": status, "connections": n.size(), "topics": topics, "members": members,
			"goroutines": runtime.NumGoroutine(), "uptime_ms": time.Since(n.base).Milliseconds(),
			"authenticator": !s.main.gate.noAuth, "nodes": 1 + len(n.cluster.nodes()), "broker": s.lookout.state().String(),
		})
	})
}
