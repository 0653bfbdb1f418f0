package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/seed-58bc6ac1/realtime"
)

// connect decides who may open a Phoenix socket. A user's sockets have one id in
// common, by which the admin handler disconnects them.
func (a *app) connect(_ context.Context, h realtime.Handshake) (*realtime.Identity, error) {
	a.connects.add(connectCall{Params: h.Params, Token: h.Token})
	if h.Param("reject") == "true" {
		return nil, realtime.ReasonForbidden
	}
	if h.Param("ratelimit") == "true" {
		return nil, realtime.ReasonRateLimited
	}
	user := h.Param("user_id")
	if user == "" {
		return &realtime.Identity{}, nil
	}
	return &realtime.Identity{User: user, Session: "user_sockets:" + user}, nil
}

// refused answers a handshake that was not to be: 403 without a body, but for
// those who come too often.
func refused(w http.ResponseWriter, _ *http.Request, err error) {
	if !errors.Is(err, realtime.ReasonRateLimited) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusTooManyRequests)
	_, _ = io.WriteString(w, "Too many requests") // who does not read it needs no answer
}

// maxConnects bounds the calls that are remembered.
const maxConnects = 1000

// connectCall is what one call of connect was given. Tokens are shown to whoever
// asks the admin handler, which only a program for tests may do.
type connectCall struct {
	Params map[string]any `json:"params"`
	Token  string         `json:"token"`
}

// connects remembers the last calls of connect.
type connects struct {
	mu    sync.Mutex
	calls []connectCall // the latest is the last
}

func (c *connects) add(call connectCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) == maxConnects {
		c.calls = slices.Delete(c.calls, 0, 1)
	}
	c.calls = append(c.calls, call)
}

// all returns a copy, never nil.
func (c *connects) all() []connectCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]connectCall{}, c.calls...)
}
