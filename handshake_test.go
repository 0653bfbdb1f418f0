package realtime_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// upgradeRequest is a good handshake, to be spoilt.
func upgradeRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://example.com/ws", nil)
	r.Header.Set("Connection", "keep-alive, Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	return r
}

func TestPlainRequestsAreRefusedBeforeAnythingElse(t *testing.T) { // envelope.md section 1
	for name, c := range map[string]struct {
		spoil func(r *http.Request)
		want  int
		text  string
	}{
		"no upgrade at all":   {func(r *http.Request) { r.Header = http.Header{} }, 426, "WebSocket"},
		"POST":                {func(r *http.Request) { r.Method = http.MethodPost }, 400, "GET"},
		"HTTP/1.0":            {func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 1, 0 }, 400, "HTTP/1.1"},
		"another upgrade":     {func(r *http.Request) { r.Header.Set("Upgrade", "h2c") }, 400, "Upgrade"},
		"Connection dropped":  {func(r *http.Request) { r.Header.Del("Connection") }, 400, "proxy"},
		"old version":         {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") }, 400, "13"},
		"no key":              {func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") }, 400, "Key"},
		"short key":           {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "c2hvcnQ=") }, 400, "Key"},
		"two keys":            {func(r *http.Request) { r.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") }, 400, "Key"},
		"unknown subprotocol": {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "mqtt, soap") }, 400, "realtime.v1, realtime.flat"},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := upgradeRequest(), httptest.NewRecorder()
			c.spoil(r)
			newServer(t).ServeHTTP(w, r)
			if w.Code != c.want || !strings.Contains(w.Body.String(), c.text) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, c.want, c.text)
			}
		})
	}
}

// TestTheFirstFailingCheckAnswers removes one fault after the other from a
// handshake that has all of them (envelope.md section 1).
func TestTheFirstFailingCheckAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t, realtime.WithOrigins("https://good.example"),
			realtime.WithRateLimit(realtime.AcceptRate(0.001, 1)), realtime.WithAuthTime(time.Second))
		h := s.Mount(realtime.PlainRefusals(), realtime.TokensFrom(realtime.TokenHeader))
		realtimetest.Dial(t, h, realtimetest.WithToken("u1")) // takes the only token of the accept rate
		status := func(r *http.Request) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		r := upgradeRequest()
		r.Header.Del("Upgrade")
		r.Header.Set("Sec-WebSocket-Protocol", "soap")
		r.Header.Set("Origin", "https://evil.example")
		want := func(code int, when string) {
			t.Helper()
			if got := status(r); got != code {
				t.Errorf("%s: got %d, want %d", when, got, code)
			}
		}
		want(400, "upgrade headers come before all")
		r.Header.Set("Upgrade", "websocket")
		want(400, "then the subprotocol")
		r.Header.Del("Sec-WebSocket-Protocol")
		want(403, "then Origin")
		r.Header.Del("Origin")
		want(503, "then admission")
		time.Sleep(20 * time.Minute)
		want(401, "then the token")
		time.Sleep(20 * time.Minute)
		r.Header.Set("Sec-WebSocket-Protocol", "soap")
		go s.Shutdown(context.Background())
		synctest.Wait()
		want(503, "draining comes first")
	})
}

func TestSubprotocols(t *testing.T) { // envelope.md section 1
	for name, c := range map[string]struct {
		offers   []string
		mount    []realtime.MountOption
		echoed   string
		greeting string
	}{
		"none":                    {nil, nil, "", `{"channel":"global","type":"connected"`},
		"v1":                      {[]string{"realtime.v1"}, nil, "realtime.v1", `{"channel":"global","type":"connected"`},
		"flat":                    {[]string{"realtime.flat"}, nil, "realtime.flat", `{"type":"connected"`},
		"the client's order":      {[]string{"soap", "realtime.flat", "realtime.v1"}, nil, "realtime.flat", `{"type":"connected"`},
		"the mount's own":         {nil, []realtime.MountOption{realtime.Protocols("realtime.flat", "realtime.v1")}, "", `{"type":"connected"`},
		"what the mount knows":    {[]string{"realtime.v1", "realtime.flat"}, []realtime.MountOption{realtime.Protocols("realtime.flat")}, "realtime.flat", `{"type":"connected"`},
		"a token is not an offer": {[]string{"bearer.abc"}, nil, "", `{"channel":"global","type":"connected"`},
		"a token beside an offer": {[]string{"bearer.abc", "realtime.v1"}, nil, "realtime.v1", `{"channel":"global","type":"connected"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				client := dialMount(t, s, s.Mount(c.mount...), realtimetest.WithProtocols(c.offers...))
				if got := client.Protocol(); got != c.echoed {
					t.Errorf("the server echoed %q, want %q", got, c.echoed)
				}
				if got := client.Connected().Text; !strings.HasPrefix(got, c.greeting) {
					t.Errorf("got %s, want %s…", got, c.greeting)
				}
			})
		})
	}
}

func TestOnlyUnknownSubprotocolsAreRefused(t *testing.T) { // envelope.md section 1
	s := newServer(t)
	answer := realtimetest.Refused(t, s.Mount(realtime.Protocols("realtime.flat")), realtimetest.WithProtocols("realtime.v1", "bearer.x.y.z"))
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d, want 400", answer.StatusCode)
	}
}

func TestOrigins(t *testing.T) { // envelope.md section 1, S1.3, S4.3
	const listed, own = "https://app.example.com", ""
	for _, c := range []struct {
		list   string // what WithOrigins has
		origin string
		ok     bool
	}{
		{listed, "https://app.example.com", true},
		{listed, "https://APP.example.com", true},
		{listed, "https://app.example.com:443", true},
		{listed, "https://app.example.com:8443", false},
		{listed, "http://app.example.com", false},
		{listed, "https://app.example.com.evil.com", false},
		{listed, "https://evilapp.example.com", false},
		{listed, "https://sub.app.example.com", false},
		{listed, "null", false},
		{listed, "", true}, // not a browser
		{"http://localhost:5173", "http://localhost:5173", true},
		{"http://localhost:5173", "http://localhost:5174", false},
		{"http://localhost:5173", "http://localhost", false},
		{"https://*.example.com", "https://a.example.com", true},
		{"https://*.example.com", "https://a.b.example.com", false},
		{"https://*.example.com", "https://example.com", false},
		{"null", "null", true},
		{own, "http://example.com", true},
		{own, "http://example.com:8080", false},
		{own, "http://other.com", false},
		{own, "null", false},
	} {
		t.Run(fmt.Sprintf("%s from %s", c.list, c.origin), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opts []realtime.Option
				if c.list != own {
					opts = append(opts, realtime.WithOrigins(c.list))
				}
				var dials []realtimetest.Option
				if c.origin != "" {
					dials = append(dials, realtimetest.WithHeader("Origin", c.origin))
				}
				client := dial(t, newServer(t, opts...), dials...)
				if c.ok {
					client.Connected()
					return
				}
				if told := client.WantClosed(realtime.ReasonOriginNotAllowed); told.Code != 4003 || told.Retry != realtime.RetryNever {
					t.Errorf("closing is %+v, want 4003 and never", told)
				}
			})
		})
	}
}

func TestAnEmptyOrASecondOriginIsRefused(t *testing.T) { // envelope.md section 1
	s := newServer(t)
	for _, origins := range [][]string{{""}, {"http://example.com", "http://example.com"}} {
		r, w := upgradeRequest(), httptest.NewRecorder()
		r.Header["Origin"] = origins
		s.Mount(realtime.PlainRefusals()).ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("Origin %q: got %d, want 403", origins, w.Code)
		}
	}
}

func TestAWrapperWithUnwrapIsSeenThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(unwrapping{hiding{w}}, r) })
		dialMount(t, s, h).Connected()
	})
}

func TestAWrapperWithoutUnwrapIsNamed(t *testing.T) {
	var log lines
	s := newServer(t, realtime.WithLogger(textLogger(&log)))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(hiding{w}, r) })
	if answer := realtimetest.Refused(t, h); answer.StatusCode != http.StatusInternalServerError {
		t.Errorf("got %d, want 500", answer.StatusCode)
	}
	if !strings.Contains(log.String(), "hiding") {
		t.Errorf("the log is %q, want the wrapper's type in it", log.String())
	}
}

// hiding is what careless middleware does to a ResponseWriter.
type hiding struct{ w http.ResponseWriter }

func (h hiding) Header() http.Header         { return h.w.Header() }
func (h hiding) Write(p []byte) (int, error) { return h.w.Write(p) }
func (h hiding) WriteHeader(status int)      { h.w.WriteHeader(status) }

type unwrapping struct{ hiding }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.w }

func TestBytesBehindTheHandshakeAreRead(t *testing.T) { // envelope.md section 1: may send right away
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		near, far := net.Pipe()
		defer near.Close()
		early := clientFrame(0x81, `{"channel":"chat:a","type":"subscribe","ref":"1"}`)
		w := &preloaded{httptest.NewRecorder(), far, strings.NewReader(string(early))}
		s.ServeHTTP(w, upgradeRequest())
		r := bufio.NewReader(near)
		if answer, err := http.ReadResponse(r, nil); err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("answer %v, %v, want 101", answer, err)
		}
		for _, want := range []string{"connected", "subscription_success"} {
			head := make([]byte, 2)
			readFull(t, r, head)
			n := int(head[1])
			if n == 126 {
				readFull(t, r, head)
				n = int(head[0])<<8 | int(head[1])
			}
			payload := make([]byte, n)
			readFull(t, r, payload)
			if !strings.Contains(string(payload), `"type":"`+want+`"`) {
				t.Fatalf("got %s, want %s", payload, want)
			}
		}
	})
}

func readFull(t *testing.T, r *bufio.Reader, p []byte) {
	t.Helper()
	for n := 0; n < len(p); {
		m, err := r.Read(p[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
}

// preloaded hijacks into a pipe, with bytes that net/http has read already.
type preloaded struct {
	*httptest.ResponseRecorder
	nc    net.Conn
	early *strings.Reader
}

func (p *preloaded) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r := bufio.NewReader(p.early)
	_, _ = r.Peek(1)
	return p.nc, bufio.NewReadWriter(r, bufio.NewWriter(p.nc)), nil
}

func TestPlainRefusals(t *testing.T) { // envelope.md section 6
	reject := func(err error) realtime.Option {
		return realtime.WithAuth(func(*http.Request, string) (*realtime.Identity, error) { return nil, err })
	}
	for name, c := range map[string]struct {
		opts       []realtime.Option
		dial       []realtimetest.Option
		warm       int
		want       int
		retryAfter string
	}{
		"no token":       {[]realtime.Option{realtime.WithAuth(users)}, nil, 0, 401, ""},
		"expired":        {[]realtime.Option{reject(realtime.ReasonTokenExpired)}, []realtimetest.Option{realtimetest.WithToken("t")}, 0, 401, ""},
		"invalid":        {[]realtime.Option{reject(realtime.ReasonTokenInvalid)}, []realtimetest.Option{realtimetest.WithToken("t")}, 0, 401, ""},
		"forbidden":      {[]realtime.Option{reject(realtime.Reject("no"))}, []realtimetest.Option{realtimetest.WithToken("t")}, 0, 403, ""},
		"origin":         {[]realtime.Option{realtime.Anonymous()}, []realtimetest.Option{realtimetest.WithHeader("Origin", "https://x.y")}, 0, 403, ""},
		"connects":       {[]realtime.Option{realtime.Anonymous(), realtime.WithRateLimit(realtime.ConnectsPerIP(0.01, 1))}, nil, 1, 429, "10"},
		"accept rate":    {[]realtime.Option{realtime.Anonymous(), realtime.WithRateLimit(realtime.AcceptRate(0.01, 1))}, nil, 1, 503, "20"},
		"internal":       {[]realtime.Option{reject(realtime.ReasonInternal)}, []realtimetest.Option{realtimetest.WithToken("t")}, 0, 503, "5"},
		"no option":      {nil, []realtimetest.Option{realtimetest.WithToken("t")}, 0, 401, ""},
		"host's own":     {[]realtime.Option{reject(&realtime.Error{Code: "no_seat", Text: "No seat"})}, []realtimetest.Option{realtimetest.WithToken("t")}, 0, 401, ""},
		"plain error":    {[]realtime.Option{reject(fmt.Errorf("boom"))}, []realtimetest.Option{realtimetest.WithToken("t")}, 0, 401, ""},
		"wrapped reason": {[]realtime.Option{reject(fmt.Errorf("x: %w", realtime.ReasonForbidden))}, []realtimetest.Option{realtimetest.WithToken("t")}, 0, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := realtimetest.NewServer(t, c.opts...)
				h := s.Mount(realtime.PlainRefusals(), realtime.TokensFrom(realtime.TokenHeader))
				for range c.warm {
					realtimetest.Dial(t, h, c.dial...)
				}
				answer := realtimetest.Refused(t, h, c.dial...)
				if answer.StatusCode != c.want || answer.Header.Get("Retry-After") != c.retryAfter {
					t.Errorf("got %d, Retry-After %q, want %d, %q", answer.StatusCode, answer.Header.Get("Retry-After"), c.want, c.retryAfter)
				}
			})
		})
	}
}

func TestARefusedPeerIsHeardOutButNotActedOn(t *testing.T) { // envelope.md section 6
	synctest.Test(t, func(t *testing.T) {
		handled := 0
		s := userServer(t)
		s.Topic("global").Handle("x", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			handled++
			return nil, nil
		})
		h := s.Mount(realtime.TokensFrom(realtime.TokenHeader))
		start := time.Now()
		c, tap := mountTap(t, s, h)
		c.StopReading()
		go tapWrite(t, tap, clientFrame(0x81, `{"type":"x"}`), clientFrame(0x81, `{"type":"auth","data":{"token":"u1"}}`))
		synctest.Wait()
		c.Resume()
		if told := c.WantClosed(realtime.ReasonUnauthenticated); told.Code != 4001 || told.Retry != realtime.RetryNewToken {
			t.Errorf("closing is %+v, want 4001 and new_token", told)
		}
		synctest.Wait()
		if handled != 0 || time.Since(start) > 5*time.Second {
			t.Errorf("%d messages were handled, within %v; want none, within 5 s", handled, time.Since(start))
		}
	})
}

func mountTap(t *testing.T, s *realtime.Server, h http.Handler, opts ...realtimetest.Option) (*realtimetest.Client, net.Conn) {
	t.Helper()
	var tap net.Conn
	c := dialMount(t, s, h, append(opts, realtimetest.WithConn(func(nc net.Conn) net.Conn { tap = nc; return nc }))...)
	return c, tap
}

func TestARefusedPeerThatNeverClosesIsCutAfterFiveSeconds(t *testing.T) { // envelope.md section 6
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		start := time.Now()
		silent := realtimetest.WithConn(func(nc net.Conn) net.Conn { return voiceless{nc} })
		dialMount(t, s, s.Mount(realtime.TokensFrom(realtime.TokenHeader)), silent)
		time.Sleep(4900 * time.Millisecond)
		if n := openConnections(t, s); n != 1 {
			t.Errorf("%d connections after %v, want 1", n, time.Since(start))
		}
		time.Sleep(200 * time.Millisecond)
		if n := openConnections(t, s); n != 0 {
			t.Errorf("%d connections after %v, want none", n, time.Since(start))
		}
	})
}

// voiceless is a connection whose writes reach nobody, from the first one on, nor
// does its end.
type voiceless struct{ net.Conn }

func (voiceless) Close() error { return nil }

func (voiceless) Write(p []byte) (int, error) { return len(p), nil }

func TestBearerSubprotocolInBothForms(t *testing.T) { // envelope.md section 1
	for name, offer := range map[string]string{
		"base64url": "bearer." + base64.RawURLEncoding.EncodeToString([]byte("user one/ü")),
		"as it is":  "bearer.a.b.c",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dial(t, userServer(t), realtimetest.WithProtocols("realtime.v1", offer))
				want := map[string]string{"base64url": "user one/ü", "as it is": "a.b.c"}[name]
				if got := c.Connected(); !strings.Contains(got.Text, `"user":"`+want+`"`) {
					t.Errorf("got %s, want user %q", got, want)
				}
			})
		})
	}
}
