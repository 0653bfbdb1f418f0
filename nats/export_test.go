package nats

import "context"

// Lane is how many messages may wait for their delivery.
func Lane(n int) Option {
	return func(c *config) error { c.lane = n; return nil }
}

// Keep writes the position of a topic anew, as the heartbeat does.
func (b *Broker) Keep(ctx context.Context, topic string) error {
	s := b.stream(topic)
	defer b.leave(s)
	return s.keep(ctx)
}
