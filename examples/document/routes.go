package main

import (
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/examples/internal/web"
)

// routes returns the handler of all paths.
func (a *app) routes(cfg config) http.Handler {
	var phoenix []realtime.PhoenixOption
	if cfg.msgpack {
		phoenix = append(phoenix, realtime.MessagePack())
	}
	// No request logger: it would write the query's tokens into the log.
	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Mount("/socket", a.rt.Phoenix(phoenix...))
	r.Handle("/ws", a.rt.Mount(realtime.Protocols("realtime.v1")))
	r.Handle("/metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	r.Mount("/admin", a.adminHandler())
	if len(cfg.tenants) == 0 {
		r.Get("/token", serveToken)
	}
	rest := a.rest(cfg.log)
	for _, path := range []string{"/health", "/deltas/*", "/documents/*", "/repos/*"} {
		r.Handle(path, rest)
	}
	r.Handle("/phoenix/*", web.PhoenixClient())
	r.Handle("/*", web.Page(pageFiles))
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
