package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// realtimeSecret signs the token that the driver puts into the dialect and the
// server checks.
const realtimeSecret = "bench-secret-known-to-both-processes"

func init() {
	register(&peer{
		name:  "realtime",
		note:  "this library: realtime.v1, a signed token checked at each handshake, one authorized subscription, metrics and heartbeat on",
		start: startRealtime, compresses: true,
		speak: dialect{
			Path:        "/ws",
			Subprotocol: "realtime.v1",
			Header:      []string{"Authorization: Bearer " + realtimetest.Token([]byte(realtimeSecret), "bench")},
			Hello:       []string{`{"channel":"bench:{topic}","type":"subscribe","ref":"1"}`},
			Ready:       "subscription_success",
			Join:        `{"channel":"bench:{topic}","type":"subscribe","ref":"1"}`,
			Leave:       `{"channel":"bench:{topic}","type":"unsubscribe","ref":"1"}`,
			Echo:        `{"channel":"bench:0","type":"echo","ref":"1","data":{payload}}`,
		},
		document: &dialect{
			Path:    "/socket/websocket?vsn=2.0.0",
			Hello:   []string{joinDocument, connectDocument},
			Ready:   `"connect_document_success"`,
			Authors: true,
		},
	})
}

func init() {
	register(&peer{
		name:  "phoenix",
		note:  "this library, its clients speaking Phoenix's V2: the same as realtime in all else",
		start: startPhoenix, compresses: true, variant: true,
		speak: dialect{
			Path:        "/socket/websocket?vsn=2.0.0",
			Subprotocol: "phoenix, base64url.bearer.phx." + base64.RawStdEncoding.EncodeToString([]byte(realtimetest.Token([]byte(realtimeSecret), "bench"))),
			Hello:       []string{`["1","1","bench:{topic}","phx_join",{}]`},
			Ready:       `"status":"ok"`,
			Echo:        `["1","2","bench:0","echo",{payload}]`,
		},
	})
}

func startPhoenix(compress bool) (server, error) {
	s, err := startRealtime(compress)
	if err != nil {
		return nil, err
	}
	rt := s.(realtimeServer).rt
	return realtimeServer{rt, rt.Phoenix()}, nil
}

type realtimeServer struct {
	rt      *realtime.Server
	handler http.Handler
}

func startRealtime(compress bool) (server, error) {
	opts := []realtime.Option{
		realtime.WithJWT(realtime.HS256("", []byte(realtimeSecret))),
		realtime.WithRateLimit(realtime.PerConnection(1e6, 1e6)), // it counts, and never refuses
		realtime.WithMetrics(prometheus.NewRegistry()),
		realtime.WithLogger(slog.New(slog.DiscardHandler)),
	}
	if compress {
		opts = append(opts, realtime.WithCompression())
	}
	tenants := realtime.NewTenants()
	if err := tenants.Register("bench", []byte(documentSecret)); err != nil {
		return nil, err
	}
	rt, err := realtime.New(opts...)
	if err != nil {
		return nil, err
	}
	allow := func(context.Context, *realtime.Client, realtime.Message) (any, error) { return nil, nil }
	rt.Topic("bench:{topic}", realtime.Join(allow)).Handle("echo",
		func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) { return m.Data, nil })
	rt.Documents("document:{tenant}:{document}", realtime.DocumentTenants(tenants))
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	mux.Handle("/socket/", rt.Phoenix(realtime.Connect(everybody)))
	return realtimeServer{rt, mux}, nil
}

// everybody lets clients of documents connect: who they are is in connect_document.
func everybody(context.Context, realtime.Handshake) (*realtime.Identity, error) {
	return &realtime.Identity{}, nil
}

// Serve implements server.
func (s realtimeServer) Serve(l net.Listener) error {
	return (&http.Server{Handler: s.handler}).Serve(l)
}

// Publish implements server.
func (s realtimeServer) Publish(topic int, payload []byte) {
	// The load never lets a queue fill up, so there is nothing to lose.
	_ = s.rt.Publish(context.Background(), "bench:"+strconv.Itoa(topic), "message", json.RawMessage(payload))
}
