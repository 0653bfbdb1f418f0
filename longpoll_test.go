package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// poller is a client that polls.
type poller struct {
	t      *testing.T
	h      http.Handler
	url    string // the app's own params
	header http.Header
	token  string
}

// told is an answer.
type told struct {
	Status   int
	Token    *string
	Messages []string
}

func newPoller(t *testing.T, h http.Handler) *poller {
	return &poller{t: t, h: h, url: "/socket/longpoll?vsn=2.0.0", header: http.Header{}}
}

func (p *poller) request(method, kind, body string) *http.Request {
	r := httptest.NewRequest(method, p.url+"&token="+p.token, strings.NewReader(body))
	for name, values := range p.header {
		r.Header[name] = values
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	return r
}

// do sends r, and checks what holds for every answer.
func (p *poller) do(w http.ResponseWriter, seen *httptest.ResponseRecorder, r *http.Request) (a told) {
	p.t.Helper()
	p.h.ServeHTTP(w, r)
	for name, want := range map[string]string{
		"Content-Type":                     "application/json; charset=utf-8",
		"Access-Control-Allow-Origin":      "*",
		"Access-Control-Allow-Credentials": "",
		"Cache-Control":                    "no-store",
		"Content-Length":                   fmt.Sprint(seen.Body.Len()),
	} {
		if got := seen.Header().Get(name); got != want {
			p.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if err := json.Unmarshal(seen.Body.Bytes(), &a); seen.Code != 200 || err != nil {
		p.t.Errorf("%s: HTTP %d, %q, want 200 with JSON", r.Method, seen.Code, seen.Body)
	}
	return a
}

// poll polls once; the session of the answer is the poller's from then on.
func (p *poller) poll() told {
	p.t.Helper()
	w := httptest.NewRecorder()
	a := p.do(w, w, p.request(http.MethodGet, "", ""))
	if a.Token != nil {
		p.token = *a.Token
	}
	return a
}

func (p *poller) begin() {
	p.t.Helper()
	if a := p.poll(); a.Status != 410 || p.token == "" || a.Messages == nil || len(a.Messages) != 0 {
		p.t.Fatalf("the first poll got %+v, want 410, a token and no messages", a)
	}
	if a := p.poll(); a.Status != 200 || len(a.Messages) != 1 || !strings.Contains(a.Messages[0], `"type":"connected"`) {
		p.t.Fatalf("the second poll got %+v, want connected", a)
	}
}

func (p *poller) post(kind, body string) int {
	p.t.Helper()
	w := httptest.NewRecorder()
	return p.do(w, w, p.request(http.MethodPost, kind, body)).Status
}

// send posts one message.
func (p *poller) send(text string) {
	p.t.Helper()
	if got := p.post("", text); got != 200 {
		p.t.Errorf("a POST got %d, want 200", got)
	}
}

// wantMessage polls, and wants one message that holds part.
func (p *poller) wantMessage(part string) {
	p.t.Helper()
	if a := p.poll(); a.Status != 200 || len(a.Messages) != 1 || !strings.Contains(a.Messages[0], part) {
		p.t.Errorf("a poll got %+v, want one message with %s", a, part)
	}
}

func (p *poller) join(topic string) {
	p.t.Helper()
	p.send(`{"channel":"` + topic + `","type":"subscribe","ref":"join"}`)
	p.wantMessage("subscription_success")
}

const joinLines = `{"channel":"chat:a","type":"subscribe","ref":"1"}` + "\n" + `{"channel":"chat:a","type":"echo","data":"hé\"","ref":"2"}` + "\n"

// pollServer makes a server with an echo, and a client with a session.
func pollServer(t *testing.T, opts ...realtime.Option) (*realtime.Server, *poller) {
	t.Helper()
	s := newServer(t, opts...)
	s.Topic("chat:{room}").Handle("echo", echo)
	p := newPoller(t, s.Polls())
	p.begin()
	return s, p
}

func TestAClientThatPollsTalks(t *testing.T) { // phoenix.md appendix A
	synctest.Test(t, func(t *testing.T) {
		s, p := pollServer(t)
		for range 2 { // the second time with the token in the header
			if got := p.post("application/x-ndjson", joinLines); got != 200 {
				t.Errorf("a POST got %d, want 200", got)
			}
			synctest.Wait()
			a := p.poll()
			if a.Status != 200 || *a.Token != p.token || len(a.Messages) != 2 || !strings.Contains(a.Messages[1], `hé\"`) {
				t.Errorf("got %+v, want 200 with an answer to the join and one to the echo", a)
			}
			p = newPoller(t, p.h)
			p.begin()
			p.header.Set("X-Phoenix-Longpoll-Token", p.token)
			p.token = "jwt"
			p.url = "/socket/longpoll?token=other&vsn=2.0.0"
		}
		publish(t, s, "chat:a", "message", 1)
		check(t, s)
	})
}

func TestAPollWaitsTenSecondsForMessages(t *testing.T) { // phoenix.md appendix A
	synctest.Test(t, func(t *testing.T) {
		s, p := pollServer(t)
		p.join("chat:a")
		start := time.Now()
		if a := p.poll(); a.Status != 204 || *a.Token != p.token || a.Messages == nil {
			t.Errorf("a poll got %+v, want 204 with the token and no messages", a)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %v, want 10 s", took)
		}
		start = time.Now()
		time.AfterFunc(3*time.Second, func() { publish(t, s, "chat:a", "message", "now") })
		p.wantMessage(`"now"`)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("it took %v, want 3 s", took)
		}
	})
}

func TestEveryRowOfLongPolling(t *testing.T) { // phoenix.md appendix A
	foreign := func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }
	same := func(r *http.Request) { r.Header.Set("Origin", "http://example.com") }
	for _, c := range []struct {
		name, method, token string // token T is that of a session
		change              func(*http.Request)
		want                int // 0: HTTP status 400
	}{
		{"no token", "GET", "", nil, 410},
		{"a wrong token", "GET", "wrong", nil, 410},
		{"own origin", "GET", "", same, 410},
		{"foreign origin", "GET", "", foreign, 403},
		{"foreign origin, known session", "GET", "T", foreign, 403},
		{"known session", "GET", "T", nil, 204},
		{"a message", "POST", "T", nil, 200},
		{"a message without a session", "POST", "", nil, 410},
		{"a message for a wrong session", "POST", "wrong", nil, 410},
		{"a message from a foreign origin", "POST", "T", foreign, 403},
		{"another method", "PUT", "T", nil, 0},
		{"a HEAD", "HEAD", "T", nil, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, p := pollServer(t)
			if c.token != "T" {
				p.token = c.token
			}
			r := p.request(c.method, "", `{"type":"ping"}`)
			if c.change != nil {
				c.change(r)
			}
			w := httptest.NewRecorder()
			if c.want == 0 {
				if p.h.ServeHTTP(w, r); w.Code != 400 || w.Body.Len() != 0 {
					t.Errorf("%s: HTTP %d, %q, want 400 and no body", c.name, w.Code, w.Body)
				}
				return
			}
			if a := p.do(w, w, r); a.Status != c.want {
				t.Errorf("%s: got %+v, want %d", c.name, a, c.want)
			}
		})
	}
}

func TestAPreflightIsAnswered(t *testing.T) { // phoenix.md appendix A
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodOptions, "/socket/longpoll?vsn=2.0.0", nil)
	r.Header.Set("Origin", "https://evil.example")
	r.Header.Set("Access-Control-Request-Headers", "content-type, x-phoenix-authtoken")
	newServer(t).Polls().ServeHTTP(w, r)
	want := map[string]string{
		"Access-Control-Allow-Origin":      "*",
		"Access-Control-Allow-Methods":     "get, post, options",
		"Access-Control-Allow-Headers":     "content-type, x-phoenix-authtoken",
		"Access-Control-Max-Age":           "3600",
		"Access-Control-Allow-Credentials": "",
	}
	for name, value := range want {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("got %d, %q, want 200 without a body", w.Code, w.Body)
	}
}

func TestASessionPassesTheChecksOfAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t, realtime.WithConnectionLimits(0, 1, false), realtime.WithRateLimit(realtime.ConnectsPerIP(0.001, 3)))
		polls := s.Polls()
		visitor := func(auth string, want int) *poller {
			p := newPoller(t, polls)
			if auth != "" {
				p.header.Set("X-Phoenix-AuthToken", auth)
			}
			if a := p.poll(); a.Status != want {
				t.Errorf("the first poll of %q got %+v, want %d", auth, a, want)
			}
			return p
		}
		visitor("", 403)
		older := visitor("ann", 410)
		newer := visitor("ann", 410) // of whom there may be one
		visitor("bob", 403)          // the fourth of this address
		synctest.Wait()
		if a := older.poll(); a.Status != 200 || !strings.Contains(a.Messages[len(a.Messages)-1], `"reason":"replaced"`) {
			t.Errorf("the replaced got %+v, want to be told so", a)
		}
		if a := newer.poll(); a.Status != 200 {
			t.Errorf("the newer got %+v, want connected", a)
		}
		synctest.Wait()
		if n := openConnections(t, s); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
		check(t, s)
	})
}

func TestASessionWithoutASeatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := pollServer(t, realtime.WithConnectionLimits(1, 0, true))
		p := newPoller(t, s.Polls())
		if a := p.poll(); a.Status != 403 || a.Token != nil {
			t.Errorf("the first poll got %+v, want 403", a)
		}
		synctest.Wait()
		if n := openConnections(t, s); n != 1 {
			t.Errorf("%d connections, want the one that has the seat", n)
		}
		check(t, s)
	})
}

func TestASessionEndsFifteenSecondsAfterItsLastPoll(t *testing.T) { // phoenix.md appendix A
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan realtime.Reason, 1)
		s, p := pollServer(t, realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
		p.join("chat:a")
		for range 30 { // a quiet client lives on: five minutes of polls
			if a := p.poll(); a.Status != 204 {
				t.Fatalf("a poll got %+v, want 204", a)
			}
		}
		time.Sleep(14 * time.Second)
		if a := p.poll(); a.Status != 204 {
			t.Fatalf("a poll after 14 s got %+v, want 204", a)
		}
		start := time.Now()
		time.Sleep(14 * time.Second)
		p.send(`{"type":"ping"}`) // which is no poll
		why := <-ended
		if took := time.Since(start); why != realtime.ReasonConnectionLost || took < 15*time.Second || took > 15*time.Second+200*time.Millisecond {
			t.Errorf("ended as %s after %v, want connection_lost after 15 s", why, took)
		}
		synctest.Wait()
		if got := p.post("", "x"); got != 410 {
			t.Errorf("a POST got %d, want 410", got)
		}
		old := p.token
		if a := p.poll(); a.Status != 410 || *a.Token == old {
			t.Errorf("a poll got %+v, want 410 with a new session", a)
		}
		check(t, s)
	})
}

func TestPollsAreLifeEnoughForTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := pollServer(t, realtime.WithHeartbeat(time.Second, 2*time.Second))
		for range 20 {
			if a := p.poll(); a.Status != 204 {
				t.Fatalf("a poll got %+v, want 204", a)
			}
		}
		check(t, s)
	})
}

func TestOneOfTwoPollsIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := pollServer(t)
		p.join("chat:a")
		older := make(chan told)
		twin := *p
		go func() { older <- twin.poll() }()
		synctest.Wait()
		start := time.Now()
		time.AfterFunc(time.Second, func() { publish(t, s, "chat:a", "message", "once") })
		p.wantMessage(`"once"`)
		if a := <-older; a.Status != 204 || time.Since(start) != time.Second {
			t.Errorf("the older poll got %+v, want 204", a)
		}
	})
}

func TestAnAnswerThatWasLostComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := pollServer(t)
		p.join("chat:a")
		publish(t, s, "chat:a", "message", "first")
		synctest.Wait()
		p.h.ServeHTTP(torn{httptest.NewRecorder()}, p.request(http.MethodGet, "", ""))
		publish(t, s, "chat:a", "message", "second")
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		w := httptest.NewRecorder()
		if p.h.ServeHTTP(w, p.request(http.MethodGet, "", "").WithContext(ctx)); w.Body.Len() != 0 {
			t.Errorf("a client that is gone got %s", w.Body)
		}
		if a := p.poll(); len(a.Messages) != 2 || !strings.Contains(a.Messages[0], "first") || !strings.Contains(a.Messages[1], "second") {
			t.Errorf("got %+v, want both messages", a)
		}
	})
}

// torn is the answer to a client that is not there any more.
type torn struct{ *httptest.ResponseRecorder }

func (torn) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAMessageTooLargeEndsTheSession(t *testing.T) {
	for _, kind := range []string{"", "application/x-ndjson"} {
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan realtime.Reason, 1)
			s, p := pollServer(t, realtime.WithMessageBytes(1<<10), realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
			if got := p.post(kind, strings.Repeat("x", 1<<20)); got != 413 {
				t.Errorf("type %q: a POST got %d, want 413", kind, got)
			}
			if why := <-ended; why != realtime.ReasonMessageTooLarge {
				t.Errorf("type %q: ended as %s, want message_too_large", kind, why)
			}
			p.wantMessage(`"reason":"message_too_large"`)
			for _, want := range []int{500, 410} {
				if a := p.poll(); a.Status != want {
					t.Errorf("type %q: a poll after the end got %+v, want %d", kind, a, want)
				}
			}
			check(t, s)
		})
	}
}

func TestAServerThatDoesNotReadIsTooSlow(t *testing.T) { // phoenix.md appendix A: 408
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		handled := 0
		s := newServer(t, noRate)
		s.Topic("chat:{room}").Handle("block", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			<-release
			handled++
			return nil, nil
		})
		p := newPoller(t, s.Polls())
		p.begin()
		p.join("chat:a")
		lines := strings.Repeat(`{"channel":"chat:a","type":"block"}`+"\n", 80)
		start := time.Now()
		if got := p.post("application/x-ndjson", lines); got != 408 {
			t.Errorf("a POST got %d, want 408", got)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %v, want 10 s", took)
		}
		close(release)
		synctest.Wait()
		if handled < 65 || handled > 70 {
			t.Errorf("%d were handled, want those that fit", handled)
		}
		p.send(`{"type":"ping","ref":"p"}`)
		p.wantMessage(`"pong"`)
	})
}

func TestTheQueueOfAClientThatDoesNotPollFollowsItsPolicy(t *testing.T) { // DESIGN section 5
	synctest.Test(t, func(t *testing.T) {
		s, p := pollServer(t, realtime.WithQueue(10, 1<<20))
		s.Topic("log:{name}", realtime.Overflow(realtime.DropOldest))
		p.join("log:a")
		big := strings.Repeat("x", 8<<10)
		for n := range 200 {
			publish(t, s, "log:a", "n", map[string]any{"n": n, "big": big})
			synctest.Wait()
		}
		var texts []string
		for range 40 {
			synctest.Wait()
			a := p.poll()
			texts = append(texts, a.Messages...)
			if len(a.Messages) > 0 && strings.Contains(a.Messages[len(a.Messages)-1], `"n":199`) {
				break
			}
		}
		gaps := slices.DeleteFunc(slices.Clone(texts), func(m string) bool { return !strings.Contains(m, `"type":"gap"`) })
		if len(gaps) != 1 || len(texts) < 15 || len(texts) > 60 || !strings.Contains(texts[len(texts)-1], `"n":199`) {
			t.Errorf("%d messages and %d gaps, want some, one gap, and the newest last", len(texts), len(gaps))
		}
	})
}

func TestASlowPollerIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan realtime.Reason, 1)
		s, p := pollServer(t, realtime.WithQueue(10, 1<<20), realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
		p.join("chat:a")
		for range 40 {
			publish(t, s, "chat:a", "big", strings.Repeat("x", 8<<10))
			synctest.Wait()
		}
		if why := <-ended; why != realtime.ReasonSlowConsumer {
			t.Errorf("ended as %s, want slow_consumer", why)
		}
		check(t, s)
	})
}

func TestDisconnectEndsAPollWithWhatWaits(t *testing.T) { // phoenix.md 5.5
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		p := newPoller(t, s.Polls())
		p.header.Set("X-Phoenix-AuthToken", "ann")
		p.begin()
		got := make(chan told)
		go func() { got <- p.poll() }()
		synctest.Wait()
		start := time.Now()
		if n := s.Disconnect(realtime.Target{User: "ann"}, nil); n != 1 {
			t.Errorf("%d disconnected, want 1", n)
		}
		if a := <-got; a.Status != 200 || len(a.Messages) != 1 || !strings.Contains(a.Messages[0], "closing") {
			t.Errorf("the poll got %+v, want what was said last", a)
		}
		synctest.Wait()
		if n := openConnections(t, s); n != 0 || time.Since(start) != 0 {
			t.Errorf("%d connections after %v, want none at once", n, time.Since(start))
		}
		for _, want := range []int{500, 410} { // the end is told once
			if a := p.poll(); a.Status != want {
				t.Errorf("the next poll got %+v, want %d", a, want)
			}
		}
		check(t, s)
	})
}

func TestAnEndedSessionIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		p := newPoller(t, s.Polls())
		p.header.Set("X-Phoenix-AuthToken", "ann")
		p.begin()
		s.Disconnect(realtime.Target{User: "ann"}, nil)
		time.Sleep(16 * time.Second)
		if a := p.poll(); a.Status != 410 {
			t.Errorf("a poll long after the end got %+v, want 410", a)
		}
	})
}

func TestADrainEndsSessions(t *testing.T) { // phoenix.md 5.6
	synctest.Test(t, func(t *testing.T) {
		s, idle := pollServer(t)
		waiting := newPoller(t, idle.h)
		waiting.begin()
		got := make(chan told)
		go func() {
			a := waiting.poll()
			for a.Status == 204 { // a drain takes its time
				a = waiting.poll()
			}
			got <- a
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if a := <-got; a.Status != 200 || !strings.Contains(a.Messages[0], `"reason":"shutdown"`) {
			t.Errorf("the poll that waited got %+v, want to be told of the drain", a)
		}
		idle.wantMessage(`"reason":"shutdown"`) // what waited is not lost
		if a := idle.poll(); a.Status != 500 {
			t.Errorf("the next poll got %+v, want 500", a)
		}
		w := httptest.NewRecorder()
		idle.h.ServeHTTP(w, idle.request(http.MethodGet, "", ""))
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("a new session got %d, want 503 with Retry-After", w.Code)
		}
		if got := idle.post("", "x"); got != 410 {
			t.Errorf("a POST got %d, want 410", got)
		}
	})
}

func TestPollingWorksOverHTTPWithShortTimeouts(t *testing.T) { // of the host's server, which are for its other paths
	synctest.Test(t, func(t *testing.T) {
		s, p := pollServer(t)
		p.join("chat:a")
		ln := pipeListener(make(chan net.Conn))
		hs := &http.Server{Handler: p.h, ReadTimeout: time.Second, WriteTimeout: 2 * time.Second}
		served := make(chan error)
		go func() { served <- hs.Serve(ln) }()
		web := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return ln.dial(), nil }}}
		get := func(ctx context.Context) string {
			r := p.request(http.MethodGet, "", "").WithContext(ctx)
			r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", "example.com"
			res, err := web.Do(r)
			if err != nil {
				return err.Error()
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				return err.Error()
			}
			return string(body)
		}
		for range 2 { // on one connection
			if got := get(context.Background()); !strings.HasPrefix(got, `{"status":204,`) {
				t.Errorf("a poll got %s, want 204", got)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if got := get(ctx); !strings.Contains(got, "deadline") {
			t.Errorf("a poll that is given up got %s", got)
		}
		synctest.Wait()
		publish(t, s, "chat:a", "message", "kept")
		if got := get(context.Background()); !strings.Contains(got, "kept") {
			t.Errorf("the next poll got %s, want what came between", got)
		}
		web.CloseIdleConnections()
		hs.Close()
		<-served
	})
}

// pipeListener listens for in-memory connections.
type pipeListener chan net.Conn

func (l pipeListener) dial() net.Conn {
	near, far := net.Pipe()
	l <- far
	return near
}

func (l pipeListener) Accept() (net.Conn, error) {
	if nc, ok := <-l; ok {
		return nc, nil
	}
	return nil, net.ErrClosed
}

func (l pipeListener) Close() error {
	close(l)
	return nil
}

func (pipeListener) Addr() net.Addr { return &net.IPAddr{} }
