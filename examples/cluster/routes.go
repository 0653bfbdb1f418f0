package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/seed-58bc6ac1/realtime/examples/internal/web"
)

// routes is the one address of the cluster: the page and its buttons, which belong to
// the supervisor, and everything else, which goes to the nodes.
func routes(f *fleet, s *store) http.Handler {
	r := chi.NewRouter()
	// A turn of its own for each: who fetches a token and then connects would
	// otherwise come to every second node only.
	for _, path := range []string{"/ws", "/token", "/socket/*"} {
		r.Handle(path, roundRobin(f))
	}
	r.Get("/cluster/state", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, state(f, s)) })
	// A page anywhere could otherwise press the buttons, through the browser of
	// whoever runs this program.
	guard := http.NewCrossOriginProtection()
	r.With(guard.Handler).Post("/cluster/nodes/{name}/{what}", func(w http.ResponseWriter, r *http.Request) {
		one := f.find(chi.URLParam(r, "name"))
		if one == nil {
			http.NotFound(w, r)
			return
		}
		done(w, one.do(chi.URLParam(r, "what")))
	})
	r.With(guard.Handler).Post("/cluster/redis/{what}", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.do(chi.URLParam(r, "what")))
	})
	r.Handle("/*", web.Page(pageFiles))
	return r
}

// roundRobin passes each request, and each WebSocket, to the next node. It keeps no
// connections, since a request on one of those would stay with its node.
func roundRobin(f *fleet) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "node"})
			r.Out.Host = r.In.Host // by which the node knows the page's origin
			r.SetXForwarded()
		},
		Transport: &http.Transport{DialContext: f.turns(), DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "no node takes connections", http.StatusServiceUnavailable)
		},
		ErrorLog: log.New(io.Discard, "", 0), // of nodes that die, which the page shows
	}
}

// done answers a button.
func done(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errImpossible):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// nodeState and clusterState are what the page shows.
type nodeState struct {
	Name        string          `json:"name"`
	State       string          `json:"state"`
	Since       int64           `json:"since_ms"`
	Addr        string          `json:"addr"`
	Connections int             `json:"connections"`
	Broker      json.RawMessage `json:"broker,omitempty"`
	Refuses     bool            `json:"refuses"`
	Door        bool            `json:"door"` // it can be cut off
	Cut         bool            `json:"cut"`
}

type clusterState struct {
	Nodes []nodeState `json:"nodes"`
	Redis struct {
		State string `json:"state"`
		Ours  bool   `json:"ours"`
	} `json:"redis"`
}

func state(f *fleet, s *store) clusterState {
	var c clusterState
	for _, one := range f.nodes {
		c.Nodes = append(c.Nodes, one.now())
	}
	c.Redis.State, c.Redis.Ours = s.now()
	return c
}

func (n *node) now() nodeState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return nodeState{n.name, n.state, time.Since(n.since).Milliseconds(), n.addr, n.seen.Connections, n.seen.Broker, n.seen.refuses, n.door != nil, n.cut}
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// An error here is the client's going away, which needs no answer.
	_ = json.NewEncoder(w).Encode(value)
}
