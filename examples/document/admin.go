package main

import (
	"net/http"
	"runtime"

	"github.com/go-chi/chi/v5"

	"github.com/seed-58bc6ac1/realtime"
)

// adminHandler serves what a test does from outside. It asks nobody who they are,
// so pages of other origins are kept from it: one could otherwise reach it through
// the browser of whoever runs this program.
func (a *app) adminHandler() http.Handler {
	r := chi.NewRouter()
	r.Use(http.NewCrossOriginProtection().Handler)
	r.Post("/crash", a.serveCrash)
	r.Get("/state", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, a.load()) })
	return r
}

// serveCrash makes the session of ?tenant= and ?document= panic.
func (a *app) serveCrash(w http.ResponseWriter, r *http.Request) {
	tenant, document := r.URL.Query().Get("tenant"), r.URL.Query().Get("document")
	if tenant == "" || document == "" {
		http.Error(w, "tenant and document are required", http.StatusBadRequest)
		return
	}
	session := a.running(realtime.DocumentID{Tenant: tenant, Document: document})
	if session == nil {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	_ = session.Do(func() { panic("asked for by /admin/crash") }) // which is its error
	w.WriteHeader(http.StatusNoContent)
}

// running returns the document's session, or nil if it has none now.
func (a *app) running(id realtime.DocumentID) *realtime.Session {
	for found, session := range a.documents.Sessions() {
		if found == id {
			return session
		}
	}
	return nil
}

// load is what the server has to do.
type load struct {
	Connections int64 `json:"connections"`
	Documents   int   `json:"documents"` // with a session
	Goroutines  int   `json:"goroutines"`
}

func (a *app) load() load {
	l := load{Connections: a.open.Load(), Goroutines: runtime.NumGoroutine()}
	for range a.documents.Sessions() {
		l.Documents++
	}
	return l
}
