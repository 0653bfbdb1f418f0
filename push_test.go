package realtime_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-58bc6ac1/realtime"
)

func TestPushToAUserPassesOverItsRawConnections(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ready := make(chan struct{})
	auth := func(*http.Request, string) (*realtime.Identity, error) { return &realtime.Identity{User: "u1"}, nil }
	rt, err := realtime.New(realtime.WithAuth(auth), realtime.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	mux.Handle("/shell", rt.Raw(func(ctx context.Context, _ *realtime.Client, _ io.ReadWriteCloser) error {
		close(ready)
		<-ctx.Done()
		return nil
	}))
	server := httptest.NewServer(mux)
	defer server.Close()
	dial := func(path string) *websocket.Conn {
		conn, _, err := websocket.Dial(ctx, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		return conn
	}
	dial("/shell")
	<-ready
	conn := dial("/ws")
	if _, first, err := conn.Read(ctx); err != nil || !strings.Contains(string(first), "connected") {
		t.Fatalf("got %s, %v, want connected", first, err)
	}
	if n, err := rt.Push(realtime.Target{User: "u1"}, "global", "notice", nil); n != 1 || err != nil {
		t.Fatalf("pushed to %d connections, %v, want 1 and no error", n, err)
	}
	if _, got, err := conn.Read(ctx); err != nil || !strings.Contains(string(got), `"notice"`) {
		t.Errorf("got %s, %v, want the notice", got, err)
	}
}
