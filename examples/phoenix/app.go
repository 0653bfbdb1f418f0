package main

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/examples/internal/web"
)

// maxMessage bounds the messages of clients and what is broadcast for them, in
// bytes.
const maxMessage = 64 << 10

// The rate of one connection, in messages per second. It is far above the
// default: a test sends hundreds of messages at once.
const (
	messageRate  = 2000
	messageBurst = 4000
)

// config is what the flags decide.
type config struct {
	origins     []string // beside //example.com
	idleTimeout time.Duration
	compress    bool
	longpoll    bool
	log         *slog.Logger
}

// app is the server with what the admin handler tells of it.
type app struct {
	rt       *realtime.Server
	log      *slog.Logger
	open     atomic.Int64 // connections
	connects connects

	// drain ends every connection and returns when that is done. Later calls
	// wait for the first and return what it did.
	drain func() error
}

// newApp wires the whole application. The caller serves the handler and drains
// the app.
func newApp(cfg config) (*app, http.Handler, error) {
	a := &app{log: cfg.log}
	options := []realtime.Option{
		realtime.Anonymous(),
		realtime.WithOrigins(append([]string{"//example.com"}, cfg.origins...)...),
		realtime.WithMessageBytes(maxMessage),
		realtime.WithRateLimit(realtime.PerConnection(messageRate, messageBurst)),
		realtime.WithConnected(func(*realtime.Client) { a.open.Add(1) }),
		realtime.WithDisconnected(func(*realtime.Client, realtime.Reason) { a.open.Add(-1) }),
		realtime.WithLogger(cfg.log),
	}
	if cfg.compress {
		options = append(options, realtime.WithCompression())
	}
	rt, err := realtime.New(options...)
	if err != nil {
		return nil, nil, err
	}
	a.rt = rt
	a.drain = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		return rt.Shutdown(ctx)
	})
	// In this order: the first pattern that matches is a topic's.
	rt.Topic("food*", realtime.Join(channelNamed("food")))
	rt.Topic("foo*", realtime.Join(channelNamed("foo")))
	a.addRooms()
	a.addPresence()
	// Not one of Phoenix's: for Supabase's clients, which come by the same endpoint.
	rt.Supabase("realtime:*", realtime.Left(a.logLeft))
	a.addGlobal()
	return a, a.routes(cfg), nil
}

// routes returns the handler of all paths.
func (a *app) routes(cfg config) http.Handler {
	phoenix := []realtime.PhoenixOption{
		realtime.Connect(a.connect),
		realtime.Refused(refused),
		realtime.IdleTimeout(cfg.idleTimeout),
	}
	if cfg.longpoll {
		phoenix = append(phoenix, realtime.LongPoll())
	}
	// No request logger: it would write the query's tokens into the log.
	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Mount("/socket", a.rt.Phoenix(phoenix...))
	r.Handle("/ws", a.rt.Mount(realtime.Protocols("realtime.v1")))
	r.Handle("/flat", a.rt.Mount(realtime.Protocols("realtime.flat")))
	r.Mount("/admin", a.adminHandler())
	r.Handle("/phoenix/*", web.PhoenixClient())
	r.Handle("/*", web.Page(pageFiles))
	return r
}
