package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// patience is how long a step may take before it counts as failed. Nothing waits
// for it unless something is wrong.
const patience = 20 * time.Second

// silence is how long "nothing" lasts.
const silence = 300 * time.Millisecond

// stallTime is how long a client of a hosted server may take nothing of what is
// written to it.
const stallTime = 5 * time.Second

// TestMain lets many tests run at a time: they mostly wait. As a child of a test
// it is the program itself.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		return
	}
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// site is one running server of documents, or several nodes that are one.
type site struct {
	base  string   // its URL
	also  []string // those of its other nodes
	dials atomic.Int64
}

// node is where the next client dials: each node has its turn.
func (s *site) node() string {
	all := append([]string{s.base}, s.also...)
	return all[int(s.dials.Add(1)-1)%len(all)]
}

// tenantFlags are the tenants of every program under test.
func tenantFlags() []string {
	return []string{"-tenant", "acme:" + secretOne + ":" + secretTwo, "-tenant", "beta:beta-secret:beta-second"}
}

// check starts the program for a test that runs beside others.
func check(t *testing.T, args ...string) *site {
	t.Helper()
	t.Parallel()
	return start(t, args...)
}

// start runs the program with a free port. At cleanup it is interrupted, and has
// to end without an error.
func start(t *testing.T, args ...string) *site {
	t.Helper()
	if onRedis() && !slices.Contains(args, "-data") {
		return startNodes(t, 2, args...)
	}
	return startOne(t, args...)
}

// startOne is start for one process.
func startOne(t *testing.T, args ...string) *site {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, stdout := io.Pipe()
	log := &lines{}
	ended := make(chan error, 1)
	args = append(append([]string{"-addr", "127.0.0.1:0"}, tenantFlags()...), args...)
	go func() {
		err := run(ctx, args, stdout, log)
		stdout.CloseWithError(errors.Join(io.ErrUnexpectedEOF, err))
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run returned %v, want nil", err)
			}
		case <-time.After(2 * patience):
			t.Error("the program is still running")
		}
		if t.Failed() {
			t.Logf("log of the program:\n%s", log)
		}
	})
	return &site{base: listening(t, out)}
}

// listening reads the program's first line.
func listening(t *testing.T, out io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(out).ReadString('\n')
	base, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("first line is %q (%v), want the address", line, err)
	}
	return base
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// hosted is a server with options that the program does not offer.
type hosted struct {
	*site
	documents *realtime.Documents
	tenants   *realtime.Tenants
}

// host starts one for a test that runs beside others.
func host(t *testing.T, options ...realtime.DocumentOption) *hosted {
	t.Helper()
	t.Parallel()
	return startHost(t, options...)
}

// startHost is host for a test that has started something already.
func startHost(t *testing.T, options ...realtime.DocumentOption) *hosted {
	t.Helper()
	var order []realtime.Option // of several nodes, this is one
	if onRedis() {
		order = redisOptions(t, redistest.Start(t).URL())
	}
	log := &lines{}
	rt, err := realtime.New(append(order,
		realtime.Anonymous(),
		realtime.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
		realtime.WithMessageBytes(4<<20),
		realtime.WithWriteTimeout(stallTime),
		realtime.WithRateLimit(realtime.PerConnection(1e5, 1e5)),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	h := &hosted{tenants: realtime.NewTenants()}
	for id, secrets := range map[string][][]byte{"acme": {[]byte(secretOne), []byte(secretTwo)}, "beta": {[]byte("beta-secret")}} {
		if err := h.tenants.Register(id, secrets...); err != nil {
			t.Fatal(err)
		}
	}
	h.documents = rt.Documents("document:{tenant}:{document}", append(options, realtime.DocumentTenants(h.tenants))...)
	mux := http.NewServeMux()
	mux.Handle("/socket/", http.StripPrefix("/socket", rt.Phoenix()))
	server := httptest.NewServer(mux)
	h.site = &site{base: server.URL}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := rt.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		server.Close()
		if t.Failed() {
			t.Logf("log of the server:\n%s", log)
		}
	})
	return h
}

// call sends an HTTP request, with a token unless it is empty, and returns status
// and body.
func (s *site) call(t *testing.T, token, method, path, body string) (int, string) {
	t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return s.request(t, header, method, path, body)
}

func (s *site) request(t *testing.T, header http.Header, method, path, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(text)
}

// fetch sends a request that has to be answered with that status and with JSON
// that fits the pattern.
func (s *site) fetch(t *testing.T, token, method, path, body string, status int, pattern string) string {
	t.Helper()
	got, text := s.call(t, token, method, path, body)
	if got != status {
		t.Fatalf("%s %s: got %d %.300s, want %d", method, path, got, text, status)
	}
	if difference := differs(text, pattern); difference != "" {
		t.Fatalf("%s %s: got %.600s\nwant %.600s\n%s", method, path, text, pattern, difference)
	}
	return text
}

// tally is what the program tells of itself.
type tally struct{ Connections, Documents, Goroutines int }

func (s *site) state(t *testing.T) (now tally) {
	t.Helper()
	status, text := s.call(t, "", http.MethodGet, "/admin/state", "")
	if err := json.Unmarshal([]byte(text), &now); err != nil || status != http.StatusOK {
		t.Fatalf("GET /admin/state: got %d %s (%v), want JSON", status, text, err)
	}
	return now
}

// deltas returns the messages that REST tells of a document.
func (s *site) deltas(t *testing.T, document, query string) []json.RawMessage {
	t.Helper()
	status, text := s.call(t, tokenFor(document), http.MethodGet, "/deltas/acme/"+document+query, "")
	var answer struct{ Value []json.RawMessage }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK || answer.Value == nil {
		t.Fatalf("GET /deltas%s: got %d %.300s (%v), want a list", query, status, text, err)
	}
	return answer.Value
}
