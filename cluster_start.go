package realtime

import (
	"context"
	"slices"
	"time"
)

// This file begins and ends a cluster.

// start begins. The subscriptions are made by a goroutine of their own, however
// long that takes: a server can be made while the broker is down.
func (c *cluster) start() {
	if c == nil {
		return
	}
	c.wheel.schedule(&c.entry, c, time.Now())
	c.work.Add(1)
	go c.startLoop()
}

// startLoop subscribes, and ends when that is done.
func (c *cluster) startLoop() {
	defer c.work.Done()
	c.keep(c.broker.Watch(c.stood))
	for _, topic := range []string{nodeTopic + c.name, nodesTopic} {
		for !c.listen(topic) {
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(spread(time.Second, 0.5)):
			}
		}
	}
	c.mu.Lock()
	c.started = true
	c.mu.Unlock()
	c.greet("", true)
}

func (c *cluster) listen(topic string) bool {
	ctx, cancel := context.WithTimeout(c.ctx, subscribeTime)
	defer cancel()
	_, stop, err := c.broker.Subscribe(ctx, topic, Retention{}, c.receive)
	if err != nil {
		c.metrics.brokerErrors.Inc()
		c.log.Warn("realtime: subscribe to other nodes", "error", err)
		return false
	}
	c.keep(stop)
	return true
}

// keep memos what ends a subscription.
func (c *cluster) keep(stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stops = append(c.stops, stop)
}

// close says goodbye and ends everything. It waits for the broker for a moment. What
// the server's features had to say must have been sent.
func (c *cluster) close() {
	if c == nil {
		return
	}
	c.wheel.cancel(&c.entry)
	c.send("", nodeBye, nil)
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	if sent := c.box.empty(); sent != nil {
		select {
		case <-sent:
		case <-time.After(farewellTime):
		}
	}
	c.cancel()
	c.work.Wait()
	c.mu.Lock()
	stops := slices.Clone(c.stops)
	c.stops = nil
	c.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}
