package realtime

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestStreamsStayWholeUnderLoad(t *testing.T) {
	for name, serve := range map[string]func(http.Handler) *httptest.Server{
		"plain": httptest.NewServer, // written with a descriptor
		"TLS":   httptest.NewTLSServer,
	} {
		t.Run(name, func(t *testing.T) { streamsStayWhole(t, serve) })
	}
}

// streamsStayWhole has clients with small queues read, fall behind, and come
// back, and wants every event once and in order.
func streamsStayWhole(t *testing.T, serve func(http.Handler) *httptest.Server) {
	rt, err := New(WithLogger(slog.New(slog.DiscardHandler)), Anonymous(), WithQueue(4, 1<<20), WithRateLimit(PerConnection(1e6, 1e6)))
	if err != nil {
		t.Fatal(err)
	}
	rt.Topic("log:{n}", History(100_000, 0))
	server := serve(rt)
	defer server.Close()
	const clients, publishers, each = 12, 3, 250
	var wg, ready sync.WaitGroup
	ready.Add(clients)
	pad := strings.Repeat("x", 600)
	for i := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			next, epoch, first := uint64(1), "", true
			for next <= publishers*each {
				ws, _, err := websocket.Dial(ctx, server.URL, &websocket.DialOptions{HTTPClient: server.Client()})
				if err != nil {
					t.Error(err)
					return
				}
				ws.SetReadLimit(1 << 20)
				rec := ""
				if epoch != "" {
					b, _ := json.Marshal(map[string]any{"recover": Position{epoch, next - 1}})
					rec = `,"data":` + string(b)
				}
				ws.Write(ctx, websocket.MessageText, []byte(`{"channel":"log:1","type":"subscribe","ref":"1"`+rec+`}`))
				for n := 0; next <= publishers*each; n++ {
					_, b, err := ws.Read(ctx)
					if err != nil {
						t.Errorf("client %d at %d: %v", i, next, err)
						return
					}
					var m struct {
						Type   string
						Offset uint64
						Data   json.RawMessage
					}
					json.Unmarshal(b, &m)
					switch m.Type {
					case "subscription_success":
						var j struct{ Epoch, Recovery string }
						json.Unmarshal(m.Data, &j)
						if epoch = j.Epoch; j.Recovery == "reload" {
							t.Errorf("client %d: reload", i)
						}
						if first {
							first = false
							ready.Done()
						}
					case "e":
						if m.Offset != next {
							t.Errorf("client %d got %d, want %d", i, m.Offset, next)
							return
						}
						next++
					case "gap", "closing":
						t.Errorf("client %d: %s", i, b)
						return
					}
					if i%3 == 0 && n%50 == 0 {
						time.Sleep(3 * time.Millisecond)
					}
					if i%4 == 1 && n == 200 {
						break // reconnect
					}
				}
				ws.CloseNow()
			}
		}()
	}
	ready.Wait()
	for range publishers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := range each {
				rt.Publish(t.Context(), "log:1", "e", pad)
				if k%20 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	if err := rt.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := rt.node.check(); err != nil {
		t.Error(err)
	}
	if n := len(rt.node.list()); n != 0 {
		t.Errorf("%d connections left", n)
	}
	for name, n := range rt.Topics() {
		t.Errorf("topic %s has %d members left", name, n)
	}
}
