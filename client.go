package realtime

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"
)

// Client is one connection as handlers see it. It stays valid after the
// connection has ended; what it sends then is dropped. Its methods may be called
// from any goroutine.
type Client struct {
	transport

	id       string
	link     link
	identity atomic.Pointer[Identity] // never nil once authenticated
	trip     atomic.Int64             // last round trip, 0 for none yet
	values   atomic.Pointer[map[any]any]
}

// link is what a client can do through the server that it is connected to.
type link interface {
	context() context.Context
	push(topic, event string, payload any) error
	ask(ctx context.Context, topic, event string, payload any) (json.RawMessage, error)
	subscribe(ctx context.Context, topic string) error
	unsubscribe(topic string, why *Error) error
	disconnect(reason Reason, why *Error)
	topics() []string
	remote() string
}

// Handler answers one message of a client. What it returns is the reply's
// response: any JSON value, a json.RawMessage as it is. An [*Error] or [Reason]
// in the error's chain is shown to the client; any other error is logged and
// answered as "internal". Without a ref the client gets no reply, but errors.
//
// Calls for one connection and topic come one at a time, in the order of the
// messages; different topics and connections do not wait for each other. ctx
// ends with the connection. A panic is logged, counted and answered as
// "internal"; it ends nothing.
type Handler func(ctx context.Context, c *Client, m Message) (any, error)

// ID returns the connection's id, as in `connected` and in the logs.
func (c *Client) ID() string { return c.id }

// User returns the id of the user, "" if anonymous.
func (c *Client) User() string { return c.Identity().User }

// Identity returns who the client is by now: a refreshed token brings a new one.
// The caller must not change it.
func (c *Client) Identity() *Identity {
	if id := c.identity.Load(); id != nil {
		return id
	}
	return &Identity{}
}

// Context returns a context that ends with the connection.
func (c *Client) Context() context.Context { return c.link.context() }

// Protocol returns the name of the wire protocol, for example "realtime.v1".
func (c *Client) Protocol() string { return c.enc.protocol() }

// RemoteAddr returns the client's network address, or what trusted proxies say
// of it.
func (c *Client) RemoteAddr() string { return c.link.remote() }

// RoundTrip returns the time that the last heartbeat took, 0 before the first.
func (c *Client) RoundTrip() time.Duration { return time.Duration(c.trip.Load()) }

// Queue returns how much waits to be written to the client.
func (c *Client) Queue() QueueState { return c.out.state(time.Now()) }

// Topics returns the names of the joined topics, "global" among them.
func (c *Client) Topics() []string { return c.link.topics() }

// Push sends an event of topic to this client alone. The client must have
// joined topic, or be joining it: what a join function pushes follows the
// answer to the join. Push does not block; the error is [ErrNotJoined],
// [ErrClosed], or that of encoding payload.
func (c *Client) Push(topic, event string, payload any) error {
	return c.link.push(topic, event, payload)
}

// Ask sends an event to this client and waits for its answer, until ctx ends. A
// client whose protocol knows no answers gives [ErrNotSupported].
func (c *Client) Ask(ctx context.Context, topic, event string, payload any) (json.RawMessage, error) {
	return c.link.ask(ctx, topic, event, payload)
}

// Subscribe makes the client a member of topic, without asking the topic's join
// function. The client is told as if it had subscribed itself.
func (c *Client) Subscribe(ctx context.Context, topic string) error {
	return c.link.subscribe(ctx, topic)
}

// Unsubscribe ends the membership in topic and tells the client why. It returns
// [ErrNotJoined] if there is none.
func (c *Client) Unsubscribe(topic string, why *Error) error {
	return c.link.unsubscribe(topic, why)
}

// Disconnect closes the connection as "disconnected", after what waits has been
// written. why may be nil; its Text and Retry are what the client is told.
func (c *Client) Disconnect(why *Error) { c.link.disconnect(ReasonDisconnected, why) }

// Set keeps a value with the connection, under a key that is compared as by ==,
// for handlers to come; nil removes it.
func (c *Client) Set(key, value any) {
	for {
		old := c.values.Load()
		fresh := map[any]any{}
		if old != nil {
			for k, v := range *old {
				fresh[k] = v
			}
		}
		if fresh[key] = value; value == nil {
			delete(fresh, key)
		}
		if c.values.CompareAndSwap(old, &fresh) {
			return
		}
	}
}

// Value returns what Set kept, nil if nothing.
func (c *Client) Value(key any) any {
	if m := c.values.Load(); m != nil {
		return (*m)[key]
	}
	return nil
}
