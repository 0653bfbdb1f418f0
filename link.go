package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrNotJoined is returned for a topic that the client is not a member of.
var ErrNotJoined = errors.New("realtime: client has not joined the topic")

// clientLink implements [link] for a connection's Client.
type clientLink conn

func (l *clientLink) context() context.Context { return connContext{(*conn)(l)} }

func (l *clientLink) remote() string { return l.addr }

func (l *clientLink) topics() []string {
	c := (*conn)(l)
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, 0, len(c.channels))
	for _, ch := range c.channels {
		if ch.member != nil {
			names = append(names, ch.name)
		}
	}
	return names
}

func (l *clientLink) push(topic, event string, payload any) error {
	data, err := marshal(payload)
	if err != nil {
		return err
	}
	if err := checkName(event, maxEventBytes); err != nil {
		return err
	}
	return (*conn)(l).pushOn(&outbound{kind: kindEvent, topic: topic, event: event, data: data})
}

// pushOn sends m if its topic is joined, and keeps it back while it is being
// joined.
func (c *conn) pushOn(m *outbound) error {
	f := seal(c.enc, m)
	if f == nil {
		return ErrNotSupported
	}
	c.mu.Lock()
	ch := c.findLocked(m.topic)
	switch {
	case c.reason != "":
		c.mu.Unlock()
		return ErrClosed
	case ch == nil || ch.member == nil && !ch.joining:
		c.mu.Unlock()
		return fmt.Errorf("%w: %q", ErrNotJoined, m.topic)
	case ch.joining:
		slow := len(ch.held) >= c.node.bounds.messages
		if !slow {
			ch.held = append(ch.held, f)
		}
		c.mu.Unlock()
		if slow {
			c.end(ReasonSlowConsumer, nil, nil)
			return ErrClosed
		}
		return nil
	}
	res := c.out.push(f) // under the lock: nothing follows the end of a membership
	c.mu.Unlock()
	switch res {
	case pushWake:
		c.pool.flush(&c.outlet)
	case pushSlow:
		c.end(ReasonSlowConsumer, nil, nil)
		return ErrClosed
	case pushClosed:
		return ErrClosed
	}
	return nil
}

func (l *clientLink) subscribe(ctx context.Context, topic string) error {
	c := (*conn)(l)
	in := inbound{op: opJoin, topic: topic}
	ch, e := c.channelFor(in)
	if e != nil {
		return e
	}
	result := make(chan error, 1)
	c.mu.Lock()
	switch here := c.findLocked(topic); {
	case c.reason != "":
		c.mu.Unlock()
		return ErrClosed
	case here != nil && (here.member != nil || here.joining): // a handler of topic's own would wait for itself
		c.mu.Unlock()
		return errAlready
	case here != nil:
		ch = here
	default:
		c.channels = append(c.channels, ch)
	}
	ch.postLocked(task{inbound: in, kind: taskAdmit, result: result})
	done := c.doneLocked()
	c.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return ErrClosed
	}
}

func (l *clientLink) unsubscribe(topic string, why *Error) error {
	c := (*conn)(l)
	c.mu.Lock()
	ch := c.findLocked(topic)
	c.mu.Unlock()
	if why == nil {
		why = &Error{Code: string(ReasonDisconnected), Text: "Unsubscribed by the server", Retry: RetryNever}
	}
	if ch == nil || topic == globalTopic || !ch.expel(why) {
		return fmt.Errorf("%w: %q", ErrNotJoined, topic)
	}
	return nil
}

func (l *clientLink) disconnect(reason Reason, why *Error) { (*conn)(l).end(reason, why, nil) }

func (l *clientLink) ask(ctx context.Context, topic, event string, payload any) (json.RawMessage, error) {
	c := (*conn)(l)
	data, err := marshal(payload)
	if err != nil {
		return nil, err
	}
	if err := checkName(event, maxEventBytes); err != nil {
		return nil, err
	}
	answers := c.node.asks.ask(ctx, []*conn{c}, &outbound{kind: kindEvent, topic: topic, event: event, data: data})
	return answers[0].Data, answers[0].Err
}
