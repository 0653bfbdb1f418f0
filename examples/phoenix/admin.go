package main

import (
	"encoding/json"
	"errors"
	"io"
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
	r.Post("/broadcast", a.serveBroadcast)
	r.Post("/disconnect", a.serveDisconnect)
	r.Post("/drain", a.serveDrain)
	r.Get("/connects", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.connects.all()) })
	r.Get("/state", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.state()) })
	return r
}

// serveBroadcast publishes the body to ?topic= as ?event=: JSON, or bytes if the
// request says that it holds application/octet-stream.
func (a *app) serveBroadcast(w http.ResponseWriter, r *http.Request) {
	topic, event := r.URL.Query().Get("topic"), r.URL.Query().Get("event")
	if topic == "" || event == "" {
		http.Error(w, "topic and event are required", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		http.Error(w, "body too large", http.StatusRequestEntityTooLarge)
		return
	}
	var payload any = realtime.Binary(body)
	if r.Header.Get("Content-Type") != "application/octet-stream" {
		if len(body) == 0 {
			body = []byte(`{}`)
		}
		if !json.Valid(body) {
			http.Error(w, "body is not JSON", http.StatusBadRequest)
			return
		}
		payload = json.RawMessage(body)
	}
	if err := a.rt.Publish(r.Context(), topic, event, payload); err != nil {
		refusePublish(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// refusePublish answers what Publish said.
func refusePublish(w http.ResponseWriter, err error) {
	told, ours := errors.AsType[*realtime.Error](err)
	switch {
	case ours:
		http.Error(w, told.Code+": "+told.Text, http.StatusBadRequest)
	case errors.Is(err, realtime.ErrUnknownTopic):
		http.Error(w, "no such topic", http.StatusNotFound)
	case errors.Is(err, realtime.ErrServerClosed):
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
	default:
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// serveDisconnect closes the sockets with the id ?id=, for example
// user_sockets:7.
func (a *app) serveDisconnect(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	if id == "" {
		http.Error(w, "id is required", http.StatusBadRequest)
		return
	}
	a.rt.Disconnect(realtime.Target{Session: id}, nil)
	w.WriteHeader(http.StatusNoContent)
}

// serveDrain closes all connections and answers when they have ended. The program
// goes on, but refuses new ones.
func (a *app) serveDrain(w http.ResponseWriter, _ *http.Request) {
	if err := a.drain(); err != nil {
		http.Error(w, "some connections had to be cut", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// state is what the server has to do.
type state struct {
	Connections int64          `json:"connections"`
	Channels    int            `json:"channels"` // memberships of all connections
	Goroutines  int            `json:"goroutines"`
	Members     map[string]int `json:"members"` // by topic
}

// state leaves out "global": nobody has joined it, everybody is in it.
func (a *app) state() state {
	s := state{Connections: a.open.Load(), Goroutines: runtime.NumGoroutine(), Members: map[string]int{}}
	for topic, members := range a.rt.Topics() {
		if topic != "global" {
			s.Channels += members
			s.Members[topic] = members
		}
	}
	return s
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// An error here is the client's going away, which needs no answer.
	_ = json.NewEncoder(w).Encode(value)
}
