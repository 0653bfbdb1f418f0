package realtimetest

import (
	"context"
	"sync"

	"github.com/seed-58bc6ac1/realtime"
)

// Outage is a [realtime.Broker] that fails on demand and else hands on to
// another. Events that the other delivers pass at all times. Its methods may be
// called from any goroutine.
type Outage struct {
	realtime.Broker

	mu     sync.Mutex // guards the following
	err    error
	healed chan struct{} // closed by Heal; nil while calls do not hang
}

// NewOutage returns b with no fault yet.
func NewOutage(b realtime.Broker) *Outage { return &Outage{Broker: b} }

// Fail has every call return err from now on.
func (o *Outage) Fail(err error) { o.set(err, false) }

// Hang has every call wait from now on, for Heal, Fail or the end of its context.
func (o *Outage) Hang() { o.set(nil, true) }

// Heal ends the fault: calls that hang go on.
func (o *Outage) Heal() { o.set(nil, false) }

func (o *Outage) set(err error, hang bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.healed != nil {
		close(o.healed)
		o.healed = nil
	}
	o.err = err
	if hang {
		o.healed = make(chan struct{})
	}
}

// pass waits out a hang and returns the error of a failure.
func (o *Outage) pass(ctx context.Context) error {
	for {
		o.mu.Lock()
		err, healed := o.err, o.healed
		o.mu.Unlock()
		if healed == nil {
			return err
		}
		select {
		case <-healed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Publish implements [realtime.Broker].
func (o *Outage) Publish(ctx context.Context, e *realtime.Event, keep realtime.Retention) error {
	if err := o.pass(ctx); err != nil {
		return err
	}
	return o.Broker.Publish(ctx, e, keep)
}

// Subscribe implements [realtime.Broker].
func (o *Outage) Subscribe(ctx context.Context, topic string, keep realtime.Retention, deliver func(*realtime.Event)) (*realtime.Position, func(), error) {
	if err := o.pass(ctx); err != nil {
		return nil, nil, err
	}
	return o.Broker.Subscribe(ctx, topic, keep, deliver)
}

// Read implements [realtime.Broker].
func (o *Outage) Read(ctx context.Context, topic string, keep realtime.Retention, after uint64, limit int) ([]*realtime.Event, realtime.Position, error) {
	if err := o.pass(ctx); err != nil {
		return nil, realtime.Position{}, err
	}
	return o.Broker.Read(ctx, topic, keep, after, limit)
}
