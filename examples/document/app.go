package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/boltlog"
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
	data       string   // directory; empty means memory
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
	store     store
	ops       realtime.OpLog
	open      atomic.Int64 // connections
	closers   []func() error
}

// newApp wires the whole application. The caller serves the handler, shuts the
// server down and then closes the files.
func newApp(cfg config) (*app, http.Handler, error) {
	a := &app{tenants: realtime.NewTenants()}
	handler, err := a.wire(cfg)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(a.closers))
	}
	return a, handler, nil
}

func (a *app) wire(cfg config) (http.Handler, error) {
	if err := a.register(cfg.tenants); err != nil {
		return nil, err
	}
	if err := a.openStores(cfg.data); err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	options := []realtime.Option{
		realtime.Anonymous(), // a document's client shows its token when it connects to it
		realtime.WithMessageBytes(int64(cfg.maxMessage) + frameMargin),
		realtime.WithRateLimit(realtime.PerConnection(messageRate, messageBurst)),
		realtime.WithConnected(func(*realtime.Client) { a.open.Add(1) }),
		realtime.WithDisconnected(func(*realtime.Client, realtime.Reason) { a.open.Add(-1) }),
		realtime.WithMetrics(registry),
		realtime.WithLogger(cfg.log),
	}
	if len(cfg.origins) > 0 {
		options = append(options, realtime.WithOrigins(cfg.origins...))
	}
	rt, err := realtime.New(options...)
	if err != nil {
		return nil, err
	}
	a.rt = rt
	a.addDocuments(cfg)
	return a.routes(cfg, registry), nil
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

// openStores opens the log of messages and the store of snapshots.
func (a *app) openStores(data string) error {
	if data == "" {
		a.ops, a.store = realtime.NewMemoryLog(), newMemoryStore()
		return nil
	}
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
		realtime.DocumentLog(a.ops),
		realtime.MaxMessageSize(cfg.maxMessage),
		realtime.OnSession(func(e realtime.SessionEvent) {
			cfg.log.Info("session "+string(e.Kind), "tenant", e.Tenant, "document", e.Document, "err", e.Err)
		}),
	}
	if cfg.summaries {
		options = append(options, realtime.OnSummary(summarizer{a.store, a.ops}.accept))
	}
	a.documents = a.rt.Documents("document:{tenant}:{document}", append(options, cfg.documents...)...)
}

// close closes the files.
func (a *app) close() error { return closeAll(a.closers) }

// closeAll closes all of them, whatever the first ones say.
func closeAll(closers []func() error) error {
	errs := make([]error, len(closers))
	for i, c := range closers {
		errs[i] = c()
	}
	return errors.Join(errs...)
}

// routes returns the handler of all paths.
func (a *app) routes(cfg config, registry *prometheus.Registry) http.Handler {
	var phoenix []realtime.PhoenixOption
	if cfg.msgpack {
		phoenix = append(phoenix, realtime.MessagePack())
	}
	// No request logger: it would write the query's tokens into the log.
	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Mount("/socket", a.rt.Phoenix(phoenix...))
	r.Handle("/ws", a.rt.Mount(realtime.Protocols("realtime.v1")))
	r.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	r.Mount("/admin", a.adminHandler())
	if len(cfg.tenants) == 0 {
		r.Get("/token", serveToken)
	}
	rest := a.rest(cfg.log)
	for _, path := range []string{"/health", "/deltas/*", "/documents/*", "/repos/*"} {
		r.Handle(path, rest)
	}
	r.Handle("/*", pageHandler())
	return r
}

// rest returns the handler of document.md section 12. Its router is the standard
// one, which takes an escaped slash for a part of a name.
func (a *app) rest(log *slog.Logger) http.Handler {
	door := doorman{a.tenants, maxBody, log}
	docs, git := documentsAPI{a.store, a.ops}, gitAPI{a.store}
	read, create, upload := []string{scopeRead}, []string{scopeRead, scopeWrite}, []string{scopeRead, scopeSummary}

	mux := http.NewServeMux()
	for _, route := range []struct {
		pattern string
		scopes  []string
		f       func(*call) (int, any, error)
	}{
		{"GET /deltas/{tenant}/{document}", read, deltas{a.ops}.list},
		{"POST /documents/{tenant}", create, docs.create},
		{"GET /documents/{tenant}/{document}", read, docs.get},
		{"GET /documents/{tenant}/session/{document}", read, docs.session},
		{"POST /repos/{tenant}/git/blobs", upload, git.postBlob},
		{"GET /repos/{tenant}/git/blobs/{sha}", read, git.getBlob},
		{"POST /repos/{tenant}/git/trees", upload, git.postTree},
		{"GET /repos/{tenant}/git/trees/{sha}", read, git.getTree},
		{"POST /repos/{tenant}/git/commits", upload, git.postCommit},
		{"GET /repos/{tenant}/git/commits/{sha}", read, git.getCommit},
		{"GET /repos/{tenant}/git/refs", read, git.listRefs},
		{"POST /repos/{tenant}/git/refs", upload, git.postRef},
		{"GET /repos/{tenant}/git/refs/heads/{document...}", read, git.getRef},
		{"PATCH /repos/{tenant}/git/refs/heads/{document...}", upload, git.patchRef},
	} {
		mux.HandleFunc(route.pattern, door.needs(route.f, route.scopes...))
	}
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	return cors(mux)
}
