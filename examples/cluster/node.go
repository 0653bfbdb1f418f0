package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-58bc6ac1/realtime"
)

// runNode is one node of the application: what a team would deploy several times. It
// drains when ctx ends, and ends when stdin does, since its supervisor is dead then.
func runNode(ctx context.Context, cfg config, name string, stdin io.Reader, stdout io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	broker, closeBroker, err := openBroker(ctx, cfg.redis)
	if err != nil {
		return err
	}
	defer closeBroker()
	rt, handler, err := newNode(cfg, name, broker)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return errors.Join(err, rt.Shutdown(ctx))
	}
	return serve(ctx, listener, handler, rt.Shutdown, name+" ", stdout)
}

// newNode wires the application. That there are other nodes is one option.
func newNode(cfg config, name string, broker realtime.Option) (*realtime.Server, http.Handler, error) {
	registry := prometheus.NewRegistry()
	rt, err := realtime.New(
		broker,
		realtime.WithNodeTTL(cfg.ttl),
		realtime.WithJWT(realtime.HS256(keyID, []byte(secret))),
		realtime.WithTokenSources(realtime.TokenSubprotocol|realtime.TokenHeader|realtime.TokenQuery),
		realtime.WithTrustedProxies("127.0.0.1", "::1"), // the supervisor's proxy
		realtime.WithMetrics(registry),
		realtime.WithLogger(cfg.log),
	)
	if err != nil {
		return nil, nil, err
	}
	if err := addTopics(rt, name); err != nil {
		return nil, nil, err
	}

	// No request logger: it would write the query's tokens into the log.
	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Handle("/ws", rt)
	r.Mount("/socket", rt.Phoenix())
	r.Get("/token", serveToken)
	r.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	r.Handle("/healthz", rt.Health())
	r.Handle("/readyz", rt.Ready())
	return rt, r, nil
}

// The rooms keep this much, so that who changes nodes misses nothing.
const (
	historySize = 5000
	historyLife = time.Hour
)

// line is what was said in a room.
type line struct {
	User string `json:"user"`
	Text string `json:"text"`
	Node string `json:"node"` // on which it was said
}

// addTopics registers the rooms and the documents of the node called name.
func addTopics(rt *realtime.Server, name string) error {
	onNode := map[string]string{"node": name}
	rooms := rt.Topic("room:{room}",
		realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) { return onNode, nil }),
		realtime.History(historySize, historyLife),
		realtime.Presence(realtime.PresenceOf(func(c *realtime.Client, _ string) (string, any) { return c.User(), onNode })),
	)
	rooms.Handle("say", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		var in struct{ Text string }
		if err := m.Decode(&in); err != nil {
			return nil, err
		}
		return nil, rt.Publish(ctx, m.Topic, "said", line{c.User(), in.Text, name})
	})
	tenants := realtime.NewTenants()
	if err := tenants.Register(tenant, []byte(secret)); err != nil {
		return err
	}
	rt.Documents("document:{tenant}:{document}", realtime.DocumentTenants(tenants))
	return nil
}
