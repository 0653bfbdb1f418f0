package realtime

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// call runs a handler. What it does wrong stays inside this call.
func (ch *channel) call(ctx context.Context, h *handling, m Message) (response any, err error) {
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			err = &panicked{value: r, stack: debug.Stack()}
		}
		h.seconds.Observe(time.Since(start).Seconds())
		if err != nil && !errors.Is(err, ErrStop) {
			code := codeLabel(clientError(err).Code)
			if hasPanicked(err) {
				code = "panic"
			}
			ch.session.node.metrics.handlerErrors.WithLabelValues(ch.pattern.text, h.event, code).Inc()
		}
	}()
	return h.call(ctx, &ch.session.Client, m)
}

// guard runs a callback of the host that has nobody to answer to.
func (ch *channel) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			ch.clientError(&panicked{value: r, stack: debug.Stack()}, what)
		}
	}()
	f()
}

// panicked is a panic in a handler.
type panicked struct {
	value any
	stack []byte
}

func hasPanicked(err error) bool {
	_, ok := errors.AsType[*panicked](err)
	return ok
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// clientError returns what the client may see of err, and logs what it may not.
func (ch *channel) clientError(err error, what string) *Error {
	e := clientError(err)
	if errors.Is(err, ErrCrash) {
		e = ReasonInternal.asError() // whatever else it says: the client is to join again
	}
	if e.Code != string(ReasonInternal) || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return e
	}
	attrs := []any{"conn", ch.session.id, "user", ch.session.User(), "topic", ch.name, "in", what, "error", err}
	if p, ok := errors.AsType[*panicked](err); ok {
		attrs = append(attrs, "stack", string(p.stack))
	}
	ch.session.node.log.Error("realtime: handler failed", attrs...)
	return e
}
