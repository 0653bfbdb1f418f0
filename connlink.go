package realtime

import (
	"context"
	"encoding/json"
	"time"
)

// conn is the [link] of clients that have no topics, as those of raw mounts.

func (c *conn) context() context.Context { return connContext{c} }

func (c *conn) remote() string { return c.addr }

func (c *conn) topics() []string { return nil }

func (c *conn) push(string, string, any) error { return ErrNotJoined }

func (c *conn) offer(*Event) {}

func (c *conn) adopt(string) error { return ErrNotSupported }

func (c *conn) post(*outbound) error { return ErrNotSupported }

func (c *conn) ask(context.Context, string, string, any) (json.RawMessage, error) {
	return nil, ErrNotSupported
}

func (c *conn) subscribe(context.Context, string) error { return ErrNotSupported }

func (c *conn) unsubscribe(string, *Error) error { return ErrNotJoined }

func (c *conn) present(tracking, string, string, any) error { return ErrNotJoined }

func (c *conn) disconnect(reason Reason, why *Error, cause error) { c.end(reason, why, cause) }

// connContext is a context that ends with its connection. It costs nothing until
// somebody waits for it.
type connContext struct{ c *conn }

var _ context.Context = connContext{}

func (connContext) Deadline() (time.Time, bool) { return time.Time{}, false }

func (connContext) Value(any) any { return nil }

func (x connContext) Err() error {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	if x.c.reason != "" {
		return context.Canceled
	}
	return nil
}

func (x connContext) Done() <-chan struct{} {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	return x.c.doneLocked()
}
