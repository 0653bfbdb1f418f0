package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/examples/internal/web"
)

// config is what the flags decide.
type config struct {
	origins  []string // empty: the page's own origin
	rate     int      // messages per second and connection
	authCode int      // close code for failed authentication
	log      *slog.Logger
}

// newApp wires the whole application. The caller serves the handler and shuts
// the server down.
func newApp(cfg config) (*realtime.Server, http.Handler, error) {
	registry := prometheus.NewRegistry()
	options := []realtime.Option{
		realtime.WithJWT(realtime.HS256(keyID, []byte(secret))),
		// Ways in for scripts as well as for browsers. An application that has
		// only browsers leaves TokenQuery out: proxies log URLs.
		realtime.WithTokenSources(realtime.TokenHeader | realtime.TokenSubprotocol |
			realtime.TokenTicket | realtime.TokenQuery | realtime.TokenMessage),
		realtime.WithRateLimit(realtime.PerConnection(float64(cfg.rate), 2*cfg.rate)),
		realtime.WithCloseCodes(map[realtime.Reason]int{
			realtime.ReasonUnauthenticated: cfg.authCode,
			realtime.ReasonTokenExpired:    cfg.authCode,
			realtime.ReasonTokenInvalid:    cfg.authCode,
		}),
		realtime.WithMetrics(registry),
		realtime.WithLogger(cfg.log),
	}
	if len(cfg.origins) > 0 {
		options = append(options, realtime.WithOrigins(cfg.origins...))
	}
	rt, err := realtime.New(options...)
	if err != nil {
		return nil, nil, err
	}
	addTopics(rt)

	// No request logger: it would write the query's tokens into the log.
	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Handle("/ws", rt)
	r.Handle("/flat", rt.Mount(realtime.Protocols("realtime.flat")))
	r.Get("/token", serveToken)
	r.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	r.Handle("/healthz", rt.Health())
	r.Handle("/readyz", rt.Ready())
	guard, err := sameOrigin(cfg.origins)
	if err != nil {
		return nil, nil, err
	}
	r.With(guard).Post("/publish", publish(rt))
	r.Handle("/*", web.Page(pageFiles))
	return rt, r, nil
}

// sameOrigin refuses what pages of other origins post. /publish asks for no
// token, and a page anywhere could otherwise reach it through the browser of
// whoever runs this program. Scripts send no Origin and pass.
func sameOrigin(origins []string) (func(http.Handler) http.Handler, error) {
	guard := http.NewCrossOriginProtection()
	for _, origin := range origins {
		if err := guard.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("-origins: %w", err)
		}
	}
	return guard.Handler, nil
}

// publishBytes bounds the body of POST /publish, like a message of a client.
const publishBytes = 64 << 10

// publish serves POST /publish?channel=&type= with the event's data as the body:
// how a worker without a socket speaks to the clients.
func publish(rt *realtime.Server) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		channel, event := r.URL.Query().Get("channel"), r.URL.Query().Get("type")
		if channel == "" || event == "" {
			http.Error(w, "channel and type are required", http.StatusBadRequest)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, publishBytes))
		if err != nil {
			http.Error(w, "body too large", http.StatusRequestEntityTooLarge)
			return
		}
		if len(body) == 0 {
			body = []byte("null")
		}
		if !json.Valid(body) {
			http.Error(w, "body is not JSON", http.StatusBadRequest)
			return
		}
		if err := rt.Publish(r.Context(), channel, event, json.RawMessage(body)); err != nil {
			refusePublish(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// refusePublish answers what Publish said. Only the words of an *Error are meant
// for others.
func refusePublish(w http.ResponseWriter, err error) {
	if told, ok := errors.AsType[*realtime.Error](err); ok {
		http.Error(w, told.Code+": "+told.Text, http.StatusBadRequest)
		return
	}
	if errors.Is(err, realtime.ErrUnknownTopic) {
		http.Error(w, "no such channel", http.StatusNotFound)
		return
	}
	if errors.Is(err, realtime.ErrServerClosed) {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	http.Error(w, "internal error", http.StatusInternalServerError)
}
