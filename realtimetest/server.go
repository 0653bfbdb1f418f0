package realtimetest

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// drainTime is how long a server may take to end after its test: more than the
// server waits for the close frames of clients that are gone.
const drainTime = 30 * time.Second

// NewServer makes a server that logs to the test's output. When the test ends
// the server is shut down, and the test fails if a connection, a handler, a
// membership or a topic is left.
func NewServer(t testing.TB, opts ...realtime.Option) *realtime.Server {
	t.Helper()
	s, err := realtime.New(append([]realtime.Option{realtime.WithLogger(logger(t))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("realtimetest: shutdown of the server: %v", err)
		}
		for _, what := range []string{"connections", "topics", "members"} {
			if n := health(t, s)[what]; n != 0.0 {
				t.Errorf("realtimetest: %v %s are left after the shutdown, want none", n, what)
			}
		}
	})
	return s
}

// health returns what the server tells of itself.
func health(t testing.TB, s *realtime.Server) map[string]any {
	t.Helper()
	w := httptest.NewRecorder()
	s.Health().ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	told := map[string]any{}
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil {
		t.Errorf("realtimetest: health of the server: %v", err)
	}
	return told
}
