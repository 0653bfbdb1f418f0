package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/boltlog"
	"github.com/seed-58bc6ac1/realtime/redis"
)

// frameMargin is what a frame has beside the largest contents of an op.
const frameMargin = 64 << 10

// The rate of one connection, in messages per second. A client that comes back
// sends at once what it has waiting.
const (
	messageRate  = 1000
	messageBurst = 4000
)

// config is what the flags decide.
type config struct {
	tenants    []tenant // none means the one whose secret everybody knows
	data       string   // directory; empty means memory, or Redis
	redis      string   // URL; empty: this process is alone
	origins    []string // pages that may open a socket; empty: the page's own
	maxMessage int      // bytes of an op's contents
	summaries  bool     // accept them
	msgpack    bool     // serve vsn 3.0.0
	documents  []realtime.DocumentOption
	log        *slog.Logger
}

// tenant is what one -tenant says.
type tenant struct {
	id      string
	secrets [][]byte
}

// app is the server with what it stands on.
type app struct {
	rt        *realtime.Server
	documents *realtime.Documents
	tenants   *realtime.Tenants
	metrics   *prometheus.Registry
	store     store
	ops       realtime.OpLog
	shared    bool         // with other nodes
	open      atomic.Int64 // connections
	closers   []func() error
}

// newApp wires the application. The caller serves its routes, shuts the server down
// and then closes the files.
func newApp(cfg config) (*app, error) {
	a := &app{tenants: realtime.NewTenants(), metrics: prometheus.NewRegistry()}
	if err := a.wire(cfg); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *app) wire(cfg config) error {
	if err := a.register(cfg.tenants); err != nil {
		return err
	}
	options, err := a.openStores(cfg)
	if err != nil {
		return err
	}
	options = append(options,
		realtime.Anonymous(), // a document's client shows its token when it connects to it
		realtime.WithMessageBytes(int64(cfg.maxMessage)+frameMargin),
		realtime.WithRateLimit(realtime.PerConnection(messageRate, messageBurst)),
		realtime.WithConnected(func(*realtime.Client) { a.open.Add(1) }),
		realtime.WithDisconnected(func(*realtime.Client, realtime.Reason) { a.open.Add(-1) }),
		realtime.WithMetrics(a.metrics),
		realtime.WithLogger(cfg.log),
	)
	if len(cfg.origins) > 0 {
		options = append(options, realtime.WithOrigins(cfg.origins...))
	}
	rt, err := realtime.New(options...)
	if err != nil {
		return err
	}
	a.rt = rt
	a.addDocuments(cfg)
	return nil
}

func (a *app) register(tenants []tenant) error {
	if len(tenants) == 0 {
		tenants = []tenant{{devTenant, [][]byte{[]byte(devSecret)}}}
	}
	for _, t := range tenants {
		if err := a.tenants.Register(t.id, t.secrets...); err != nil {
			return fmt.Errorf("-tenant: %w", err)
		}
	}
	return nil
}

// openStores opens the log of messages and the store of snapshots. The options are
// for the server that has them in common with others.
func (a *app) openStores(cfg config) ([]realtime.Option, error) {
	switch {
	case cfg.redis != "":
		return a.openRedis(cfg.redis)
	case cfg.data != "":
		return nil, a.openFiles(cfg.data)
	}
	a.ops, a.store = realtime.NewMemoryLog(), newMemoryStore()
	return nil, nil
}

// nodeTTL is how long the clients of a node stay in their documents that was killed.
const nodeTTL = 5 * time.Second

// openRedis makes this process one of several nodes.
func (a *app) openRedis(url string) ([]realtime.Option, error) {
	options, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("-redis: %w", err)
	}
	options.DisableCache = true
	client, err := rueidis.NewClient(options)
	if err != nil {
		return nil, fmt.Errorf("-redis: %w", err)
	}
	broker, reads := redis.New(client), redis.New(client)
	a.closers = append(a.closers, func() error {
		broker.Close()
		reads.Close()
		client.Close()
		return nil
	})
	a.ops, a.store, a.shared = &sharedOps{order: reads.Documents()}, &redisStore{client}, true
	return []realtime.Option{realtime.WithBroker(broker), realtime.WithNodeTTL(nodeTTL)}, nil
}

func (a *app) openFiles(data string) error {
	ops, err := boltlog.Open(filepath.Join(data, "ops.db"))
	if err != nil {
		return err
	}
	a.ops, a.closers = ops, append(a.closers, ops.Close)
	objects, err := openBoltStore(filepath.Join(data, "objects.db"))
	if err != nil {
		return err
	}
	a.store, a.closers = objects, append(a.closers, objects.close)
	return nil
}

func (a *app) addDocuments(cfg config) {
	options := []realtime.DocumentOption{
		realtime.DocumentTenants(a.tenants),
		realtime.MaxMessageSize(cfg.maxMessage),
		realtime.OnSession(func(e realtime.SessionEvent) {
			cfg.log.Info("session "+string(e.Kind), "tenant", e.Tenant, "document", e.Document, "err", e.Err)
		}),
	}
	if !a.shared { // else the broker's order has them
		options = append(options, realtime.DocumentLog(a.ops))
	}
	if cfg.summaries {
		options = append(options, realtime.OnSummary(summarizer{a.store, a.ops}.accept))
	}
	a.documents = a.rt.Documents("document:{tenant}:{document}", append(options, cfg.documents...)...)
}

// close closes the files.
func (a *app) close() error {
	var errs []error
	for _, c := range a.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
