package realtime_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// Behaviour from outside, one file per theme. Test names are the sentences that
// hold; the comments name the section of the protocol or the requirement.

// raw is JSON as it stands.
func raw(text string) json.RawMessage { return json.RawMessage(text) }

// newServer makes a server that lets everybody in, unless opts has an
// authenticator.
func newServer(t testing.TB, opts ...realtime.Option) *realtime.Server {
	t.Helper()
	return realtimetest.NewServer(t, append([]realtime.Option{realtime.Anonymous()}, opts...)...)
}

// users lets everybody in under the name that is the token.
func users(_ *http.Request, token string) (*realtime.Identity, error) {
	if token == "" {
		return nil, realtime.ReasonUnauthenticated
	}
	return &realtime.Identity{User: token}, nil
}

// userServer makes a server whose tokens are the users' names.
func userServer(t testing.TB, opts ...realtime.Option) *realtime.Server {
	t.Helper()
	return realtimetest.NewServer(t, append([]realtime.Option{realtime.WithAuth(users)}, opts...)...)
}

// dial connects, and checks the server's bookkeeping at the end of the test,
// when the client is still there.
func dial(t testing.TB, s *realtime.Server, opts ...realtimetest.Option) *realtimetest.Client {
	t.Helper()
	return dialMount(t, s, s, opts...)
}

func dialMount(t testing.TB, s *realtime.Server, h http.Handler, opts ...realtimetest.Option) *realtimetest.Client {
	t.Helper()
	c := realtimetest.Dial(t, h, opts...)
	t.Cleanup(func() { check(t, s) })
	return c
}

func check(t testing.TB, s *realtime.Server) {
	t.Helper()
	synctest.Wait()
	if err := s.Check(); err != nil {
		t.Errorf("bookkeeping: %v", err)
	}
}

func publish(t testing.TB, s *realtime.Server, topic, event string, data any, opts ...realtime.PublishOption) {
	t.Helper()
	if err := s.Publish(context.Background(), topic, event, data, opts...); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

// echo replies with what it is given.
func echo(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) { return m.Data, nil }

func TestPublishReachesEveryMember(t *testing.T) { // S4.2, S2.7
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		a, b, outsider := dial(t, s), dial(t, s), dial(t, s)
		a.Join("chat:lobby")
		b.Join("chat:lobby")
		outsider.Join("chat:other")
		for n := range 3 {
			publish(t, s, "chat:lobby", "message", map[string]int{"n": n})
		}
		for _, c := range []*realtimetest.Client{a, b} {
			for n := range 3 {
				c.WantPush("chat:lobby", "message", realtimetest.Exactly(map[string]int{"n": n}))
			}
		}
		outsider.WantNothing()
	})
}

func TestTheInProcessBrokerConforms(t *testing.T) {
	realtimetest.Broker(t, realtime.NewMemoryBroker)
}

// textLogger writes lines to w.
func textLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// openConnections returns how many connections the server says it has.
func openConnections(t testing.TB, s *realtime.Server) int {
	t.Helper()
	w := httptest.NewRecorder()
	s.Health().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	var told struct{ Connections int }
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil {
		t.Fatal(err)
	}
	return told.Connections
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex // guards the following
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
