package realtime

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"
)

// Client is one connection as handlers see it. It stays valid after the
// connection has ended, but sends nothing then. Its methods may be called from any
// goroutine, and block only where they say so.
type Client struct {
	transport

	id       string
	link     link
	at       int                      // index in node.clients, guarded by the node's lock
	identity atomic.Pointer[Identity] // never nil once authenticated
	trip     atomic.Int64             // last round trip, 0 for none yet
	values   atomic.Pointer[map[any]any]
}

// link is what a client can do through the server that it is connected to.
type link interface {
	context() context.Context
	remote() string
	topics() []string
	push(topic, event string, payload any) error
	ask(ctx context.Context, topic, event string, payload any) (json.RawMessage, error)
	subscribe(ctx context.Context, topic string) error
	unsubscribe(topic string, why *Error) error

	// offer has the topic's interceptor see e. It does not block.
	offer(e *Event)

	// present changes what the client has tracked in topic.
	present(what tracking, topic, key string, meta any) error

	// adopt has token decide the identity: the same user's, or any if there was
	// none. It may block on the authenticator.
	adopt(token string) error

	// post pushes m, whose topic the client must be in.
	post(m *outbound) error

	// disconnect ends the connection; cause is for the log, nil for none.
	disconnect(reason Reason, why *Error, cause error)
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

// ID returns the connection's id, as in `connected` and in the logs: 16 letters and
// digits at random.
func (c *Client) ID() string { return c.id }

// User returns the id of the user, "" if anonymous.
func (c *Client) User() string { return c.Identity().User }

// Identity returns who the client is by now: a refreshed token brings a new one.
// Before there was a token it is the zero Identity. The caller must not change it.
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
// Only a connection that was silent for the heartbeat's interval is pinged.
func (c *Client) RoundTrip() time.Duration { return time.Duration(c.trip.Load()) }

// Queue returns how much waits to be written to the client.
func (c *Client) Queue() QueueState { return c.out.state(time.Now()) }

// Topics returns the names of the joined topics, "global" among them.
func (c *Client) Topics() []string { return c.link.topics() }

// Push sends an event of topic to this client alone. The client must have
// joined topic, or be joining it: what a join function pushes follows the
// answer to the join. The event has no offset and is not part of the history.
//
// Push does not block and keeps no part of payload. A client whose queue has no
// room is closed as "slow_consumer", whatever the topic's policy. The error is
// [ErrNotJoined], [ErrClosed], [ErrNotSupported] on a raw mount and for [Binary] to
// version 1 of Phoenix, or that of the event's name or of encoding payload.
func (c *Client) Push(topic, event string, payload any) error {
	return c.link.push(topic, event, payload)
}

// Ask sends an event of topic, as Push does, and waits for the client's answer
// until ctx ends; ctx should have a deadline, since a client may never answer.
// Other topics' messages are handled meanwhile. The error is ctx's, or one of
// Push's; a client whose protocol knows no answers gives [ErrNotSupported].
func (c *Client) Ask(ctx context.Context, topic, event string, payload any) (json.RawMessage, error) {
	return c.link.ask(ctx, topic, event, payload)
}

// Subscribe makes the client a member of topic, without asking the topic's join
// function. The client is told as if it had subscribed itself, without a ref.
//
// It takes its turn behind the messages that the client has sent to topic, and
// blocks until then or until ctx ends. So it must not be called from a handler or
// join function of that same topic for the same client: it would wait for itself.
// The error is ctx's, [ErrClosed], or an [*Error] with [CodeUnknownChannel],
// [CodeAlreadySubscribed] or [CodeTooManyChannels].
func (c *Client) Subscribe(ctx context.Context, topic string) error {
	return c.link.subscribe(ctx, topic)
}

// Unsubscribe ends the membership in topic and tells the client why; why may be
// nil. It does not block, and returns [ErrNotJoined] if there is no membership,
// and for "global", which nobody leaves.
func (c *Client) Unsubscribe(topic string, why *Error) error {
	return c.link.unsubscribe(topic, why)
}

// Disconnect closes the connection as "disconnected", after what waits has been
// written, and does not wait for its end. why may be nil; its Text and Retry are
// what the client is told: by default not to come back.
func (c *Client) Disconnect(why *Error) { c.link.disconnect(ReasonDisconnected, why, nil) }

// Set keeps a value with the connection, under a key that is compared as by ==,
// for handlers to come; nil removes it. It copies all values that are there, so it
// is meant for a few.
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
