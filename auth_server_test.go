package realtime_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

var jwtSecret = []byte("a secret of at least thirty-two bytes")

func jwtServer(t testing.TB, opts ...realtime.Option) *realtime.Server {
	t.Helper()
	return realtimetest.NewServer(t, append([]realtime.Option{
		realtime.WithJWT(realtime.HS256("", jwtSecret), realtime.Audience("chat"))}, opts...)...)
}

// token is good but for opts.
func token(user string, opts ...realtimetest.TokenOption) string {
	return realtimetest.Token(jwtSecret, user, append([]realtimetest.TokenOption{realtimetest.Claim("aud", "chat")}, opts...)...)
}

// unsigned is a token with alg none.
func unsigned() string {
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	return head + "." + strings.Split(token("u1"), ".")[1] + "."
}

// TestBadTokensAreToldAsCloses has every way to bring a token meet every token
// that must not count (envelope.md section 6, S1.2).
func TestBadTokensAreToldAsCloses(t *testing.T) {
	const expired, invalid = realtime.ReasonTokenExpired, realtime.ReasonTokenInvalid
	places := map[string]func(token string) []realtimetest.Option{
		"header": func(token string) []realtimetest.Option { return []realtimetest.Option{realtimetest.WithToken(token)} },
		"subprotocol": func(token string) []realtimetest.Option {
			return []realtimetest.Option{realtimetest.WithProtocols("bearer." + token)}
		},
		"query": func(token string) []realtimetest.Option {
			return []realtimetest.Option{realtimetest.WithURL("/ws?token=" + token)}
		},
		"message": func(string) []realtimetest.Option { return nil },
	}
	synctest.Test(t, func(t *testing.T) { // the tokens' times are the bubble's
		tokens := map[string]struct {
			token string
			want  realtime.Reason
		}{
			"alg none":       {unsigned(), invalid},
			"wrong key":      {realtimetest.Token([]byte(strings.Repeat("x", 32)), "u1", realtimetest.Claim("aud", "chat")), invalid},
			"expired":        {token("u1", realtimetest.Lifetime(-time.Second)), expired},
			"not yet valid":  {token("u1", realtimetest.Claim("nbf", time.Now().Add(time.Hour).Unix())), invalid},
			"wrong audience": {token("u1", realtimetest.Claim("aud", "mail")), invalid},
			"no audience":    {token("u1", realtimetest.Claim("aud", nil)), invalid},
			"no expiry":      {token("u1", realtimetest.Claim("exp", nil)), invalid},
			"no user":        {token("u1", realtimetest.Claim("sub", nil)), invalid},
			"crit header":    {token("u1", realtimetest.Header("crit", []string{"x"})), invalid},
			"huge":           {token("u1", realtimetest.Claim("x", strings.Repeat("y", 40<<10))), invalid},
			"garbage":        {"a.b.c", invalid},
			"cut off":        {token("u1")[:40] + ".", invalid},
		}
		s := jwtServer(t, realtime.WithTokenSources(realtime.TokenHeader|realtime.TokenSubprotocol|realtime.TokenQuery|realtime.TokenMessage))
		for place, bring := range places {
			for name, one := range tokens {
				c := dial(t, s, bring(one.token)...)
				if place == "message" {
					c.Push("global", "auth", map[string]string{"token": one.token})
				}
				told := c.WantClosed(one.want)
				if told.Code != 4001 || told.Retry != realtime.RetryNewToken || told.MinMS != 0 || strings.Contains(told.Error, one.token) {
					t.Errorf("%s in %s: closing is %+v, want 4001 and new_token", name, place, told)
				}
			}
		}
	})
}

func TestAPublicKeyIsNoSecret(t *testing.T) { // the key pins the algorithm
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := realtimetest.NewServer(t, realtime.WithJWT(realtime.RS256("k", &key.PublicKey)))
		for name, secret := range map[string][]byte{
			"der": der, "pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "modulus": key.N.Bytes(),
		} {
			for _, alg := range []string{"HS256", "RS256"} {
				forged := realtimetest.Token(secret, "admin", realtimetest.Header("alg", alg), realtimetest.Header("kid", "k"))
				if told := dial(t, s, realtimetest.WithToken(forged)).WantClosed(realtime.ReasonTokenInvalid); told.Code != 4001 {
					t.Errorf("%s as %s: code %d, want 4001", name, alg, told.Code)
				}
			}
		}
	})
}

func TestABadTokenIsNotRescuedByTheNextSource(t *testing.T) { // envelope.md section 1
	synctest.Test(t, func(t *testing.T) {
		s := jwtServer(t)
		good := token("u1")
		for name, opts := range map[string][]realtimetest.Option{
			"header first":      {realtimetest.WithToken("bad"), realtimetest.WithProtocols("bearer." + good)},
			"subprotocol first": {realtimetest.WithProtocols("bearer.ba.d"), realtimetest.WithURL("?ticket=" + good)},
		} {
			t.Logf("%s", name)
			dial(t, s, opts...).WantClosed(realtime.ReasonTokenInvalid)
		}
	})
}

func TestWhatIsNoTokenIsAsIfNotThere(t *testing.T) { // envelope.md section 1
	synctest.Test(t, func(t *testing.T) {
		s := jwtServer(t)
		for name, opts := range map[string][]realtimetest.Option{
			"another scheme": {realtimetest.WithHeader("Authorization", "Basic dTpw")},
			"empty bearer":   {realtimetest.WithHeader("Authorization", "Bearer ")},
			"empty ticket":   {realtimetest.WithURL("?ticket=")},
			"query is off":   {realtimetest.WithURL("?token=garbage")},
			"cookie is off":  {realtimetest.WithHeader("Cookie", "token=garbage")},
		} {
			c := dial(t, s, opts...)
			c.Push("global", "auth", map[string]string{"token": token("u1")})
			if got := c.Connected(); !strings.Contains(got.Text, `"user":"u1"`) {
				t.Errorf("%s: got %s, want to be in as u1", name, got)
			}
		}
	})
}

func TestCookiesCountOnlyWithACheckedOrigin(t *testing.T) { // envelope.md section 1
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t, realtime.WithTokenSources(0), realtime.WithTokenCookie("session"))
		cookie := realtimetest.WithHeader("Cookie", "session=u1")
		dial(t, s, cookie, realtimetest.WithHeader("Origin", "http://example.com")).Connected()
		dial(t, s, cookie).WantClosed(realtime.ReasonUnauthenticated)
		dial(t, s, cookie, realtimetest.WithHeader("Origin", "http://evil.com")).WantClosed(realtime.ReasonOriginNotAllowed)
	})
}

func TestWithoutAnAuthenticatorNobodyGetsIn(t *testing.T) { // DESIGN: safe and useless
	synctest.Test(t, func(t *testing.T) {
		var log lines
		s := realtimetest.NewServer(t, realtime.WithLogger(textLogger(&log)))
		dial(t, s).WantClosed(realtime.ReasonUnauthenticated)
		dial(t, s, realtimetest.WithToken("anything")).WantClosed(realtime.ReasonUnauthenticated)
		for _, option := range []string{"WithJWT", "WithAuth", "Anonymous"} {
			if !strings.Contains(log.String(), option) {
				t.Errorf("the log does not name %s", option)
			}
		}
	})
}

func TestATicketLetsOneConnectionIn(t *testing.T) { // S1.1
	synctest.Test(t, func(t *testing.T) {
		s := jwtServer(t)
		ticket, err := s.Ticket(context.Background(), &realtime.Identity{User: "u7"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		first := dial(t, s, realtimetest.WithURL("/ws?ticket="+ticket))
		if got := first.Connected(); !strings.Contains(got.Text, `"user":"u7"`) {
			t.Errorf("got %s, want user u7", got)
		}
		dial(t, s, realtimetest.WithURL("/ws?ticket="+ticket)).WantClosed(realtime.ReasonTokenInvalid)
		dial(t, s, realtimetest.WithURL("/ws?ticket=nonsense")).WantClosed(realtime.ReasonTokenInvalid)

		late, err := s.Ticket(context.Background(), &realtime.Identity{User: "u7"}, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		dial(t, s, realtimetest.WithURL("/ws?ticket="+late)).WantClosed(realtime.ReasonTokenExpired)
	})
}

func TestTicketsAreTradedForTokens(t *testing.T) { // S1.1
	synctest.Test(t, func(t *testing.T) {
		s := jwtServer(t)
		ask := func(method, authorization string) *httptest.ResponseRecorder {
			r, w := httptest.NewRequest(method, "/ticket", nil), httptest.NewRecorder()
			r.Header.Set("Authorization", authorization)
			s.Tickets().ServeHTTP(w, r)
			return w
		}
		w := ask(http.MethodPost, "Bearer "+token("u1"))
		var told struct {
			Ticket  string
			Expires int `json:"expires_in"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || told.Expires != 30 || w.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("got %d %s, want a ticket for 30 s", w.Code, w.Body)
		}
		dial(t, s, realtimetest.WithURL("?ticket="+told.Ticket)).Connected()
		for _, c := range []struct {
			method, authorization string
			want                  int
		}{
			{http.MethodGet, "Bearer " + token("u1"), 405},
			{http.MethodPost, "", 401},
			{http.MethodPost, "Bearer nonsense", 401},
		} {
			if w := ask(c.method, c.authorization); w.Code != c.want {
				t.Errorf("%s with %q: got %d, want %d", c.method, c.authorization, w.Code, c.want)
			}
		}
	})
}

func TestFirstMessageAuthenticates(t *testing.T) { // envelope.md sections 1 and 3
	synctest.Test(t, func(t *testing.T) {
		s := jwtServer(t)
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Send(`{"type":"ping","data":{"timestamp":1},"ref":"p"}`)
		if m := c.Recv(); m.Type != "pong" || m.Seq != 1 {
			t.Errorf("got %s, want a pong before anything else", m)
		}
		expires := time.Now().Add(time.Hour)
		ref := c.Push("global", "auth", map[string]string{"token": token("u1")})
		join := c.Push("chat:a", "subscribe", nil) // sent right behind it
		greeting := c.Connected()
		m := c.Recv()
		var told struct {
			User    string
			Expires int64 `json:"expires_at"`
		}
		if err := json.Unmarshal(m.Data, &told); err != nil || m.Type != "auth_success" || m.Ref != ref || m.Channel != "global" ||
			told.User != "u1" || told.Expires != expires.UnixMilli()/1000*1000 {
			t.Errorf("got %s, want auth_success for u1 until %d", m, expires.UnixMilli())
		}
		if greeting.Seq != 2 || m.Seq != 3 {
			t.Errorf("connected was message %d and auth_success %d, want 2 and 3", greeting.Seq, m.Seq)
		}
		c.WantReply(join, "ok", nil)
	})
}

func TestNoTokenWithinTenSecondsCloses(t *testing.T) { // envelope.md section 1
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := dial(t, jwtServer(t))
		c.Send(`{"type":"ping"}`) // buys no time
		c.WantClosed(realtime.ReasonUnauthenticated)
		if took := time.Since(start); took < 10*time.Second || took > 10*time.Second+200*time.Millisecond {
			t.Errorf("closed after %v, want 10 s", took)
		}
	})
}

func TestBeforeAuthOnlyPingAndAuth(t *testing.T) { // envelope.md section 1
	for name, text := range map[string]string{
		"subscribe":      `{"channel":"chat:a","type":"subscribe","ref":"1"}`,
		"bad subscribe":  `{"channel":"chat:a","type":"subscribe","data":7}`,
		"event":          `{"type":"x"}`,
		"answer":         `{"type":"answer","ref":"1"}`,
		"auth elsewhere": `{"channel":"chat:a","type":"auth","data":{"token":"u1"}}`,
		"undecodable":    `nonsense`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := userServer(t)
				s.Topic("chat:{room}")
				c, start := dial(t, s), time.Now()
				c.Send(text)
				c.WantClosed(realtime.ReasonUnauthenticated)
				if took := time.Since(start); took != 0 {
					t.Errorf("closed after %v, want at once", took)
				}
			})
		})
	}
}

func TestWhereFirstMessagesAreOffAMissingTokenClosesAtOnce(t *testing.T) { // envelope.md section 1
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := userServer(t, realtime.WithTokenSources(realtime.TokenHeader))
		dial(t, s).WantClosed(realtime.ReasonUnauthenticated)
		if took := time.Since(start); took != 0 {
			t.Errorf("closed after %v, want at once", took)
		}
	})
}

func TestARefusedAuthIsToldWithItsOwnReason(t *testing.T) { // envelope.md section 1
	for token, want := range map[string]struct {
		reason realtime.Reason
		err    error
		text   string
	}{
		"a": {realtime.ReasonForbidden, realtime.Reject("Not on this site"), "Not on this site"},
		"b": {realtime.ReasonTokenExpired, realtime.ReasonTokenExpired, "The token has expired"},
		"c": {realtime.ReasonTokenInvalid, errors.New("secret detail"), "The token is not valid"},
		"d": {realtime.ReasonInternal, realtime.ReasonInternal, "Internal error"},
		"e": {realtime.ReasonTokenInvalid, &realtime.Error{Code: "banned", Text: "Banned until May"}, "Banned until May"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := realtimetest.NewServer(t, realtime.WithAuth(func(_ *http.Request, got string) (*realtime.Identity, error) {
				if got == "" {
					return nil, realtime.ReasonUnauthenticated
				}
				return nil, want.err
			}))
			c := dial(t, s)
			c.Push("global", "auth", map[string]string{"token": token})
			if told := c.WantClosed(want.reason); told.Error != want.text {
				t.Errorf("told %q, want %q", told.Error, want.text)
			}
		})
	}
}

// claims lets in whoever names themselves; a token "user/rooms" lists what may
// be joined.
func claims(_ *http.Request, token string) (*realtime.Identity, error) {
	user, rooms, ok := strings.Cut(token, "/")
	if !ok {
		return nil, realtime.ReasonTokenInvalid
	}
	return &realtime.Identity{User: user, Scopes: strings.Split(rooms, ","), Expires: time.Now().Add(time.Hour)}, nil
}

func claimServer(t *testing.T, opts ...realtime.Option) *realtime.Server {
	t.Helper()
	s := realtimetest.NewServer(t, append([]realtime.Option{realtime.WithAuth(claims)}, opts...)...)
	s.Topic("chat:{room}", realtime.Join(func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		if !c.Identity().HasScope(m.Param("room")) {
			return nil, realtime.Reject("Not your room")
		}
		return nil, nil
	})).Handle("echo", echo)
	return s
}

func TestARefreshAuthorizesEveryTopicAgain(t *testing.T) { // envelope.md section 3
	synctest.Test(t, func(t *testing.T) {
		s := claimServer(t)
		c := dial(t, s, realtimetest.WithToken("u1/a,b"))
		c.Join("chat:a")
		c.Join("chat:b")
		ref := c.Push("global", "auth", map[string]string{"token": "u1/b,c"})
		if m := c.Recv(); m.Type != "auth_success" || m.Ref != ref {
			t.Errorf("got %s, want auth_success", m)
		}
		c.WantPush("global", "unsubscribed", map[string]string{"channel": "chat:a", "code": "forbidden", "error": "Not your room", "retry": "never"})
		publish(t, s, "chat:a", "x", 1)
		c.WantNothing()
		c.WantError(c.Push("chat:a", "echo", 1), "not_subscribed")
		c.WantReply(c.Push("chat:b", "echo", 1), "ok", 1)
		c.Join("chat:c")
	})
}

func TestARefreshThatFailsChangesNothing(t *testing.T) { // envelope.md section 3
	synctest.Test(t, func(t *testing.T) {
		s := claimServer(t)
		c := dial(t, s, realtimetest.WithToken("u1/a"))
		c.Join("chat:a")
		for token, code := range map[string]string{"u2/a,b": "forbidden", "nonsense": "token_invalid"} {
			m := c.WantError(c.Push("global", "auth", map[string]string{"token": token}), code)
			if m.Channel != "global" {
				t.Errorf("got %s, want it on global", m)
			}
		}
		c.WantError(c.Push("global", "auth", 7), "token_invalid")
		c.WantReply(c.Push("chat:a", "echo", 1), "ok", 1)
		c.WantError(c.Push("chat:b", "subscribe", nil), "forbidden")
		c.WantNothing()
	})
}

func TestAnExpiredTokenClosesUnlessRefreshed(t *testing.T) { // envelope.md section 6
	const life, grace = time.Hour, 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		s := claimServer(t, realtime.WithTokenGrace(grace))
		start := time.Now()
		lazy, eager := dial(t, s, realtimetest.WithToken("u1/a")), dial(t, s, realtimetest.WithToken("u2/a"))
		time.Sleep(life + grace/2)
		eager.Push("global", "auth", map[string]string{"token": "u2/a"})
		time.Sleep(grace/2 - time.Second)
		lazy.WantNothing()
		if told := lazy.WantClosed(realtime.ReasonTokenExpired); told.Code != 4001 || told.Retry != realtime.RetryNewToken {
			t.Errorf("closing is %+v, want 4001 and new_token", told)
		}
		if took := time.Since(start); took < life+grace || took > life+grace+200*time.Millisecond {
			t.Errorf("closed after %v, want %v", took, life+grace)
		}
		eager.Recv()
		time.Sleep(life / 2)
		eager.WantNothing()
		eager.Push("global", "ping", nil)
		eager.Recv()
	})
}

func TestGreeting(t *testing.T) { // envelope.md section 5, S2.3
	synctest.Test(t, func(t *testing.T) {
		s := jwtServer(t)
		c := dial(t, s, realtimetest.WithToken(token("u1")))
		id := ""
		for client := range s.Clients("global") {
			id = client.ID()
		}
		m := c.Connected()
		err := realtimetest.Exactly(map[string]any{
			"connection": id, "user": "u1", "server_time": time.Now().UnixMilli(),
			"heartbeat":  map[string]int{"interval_ms": 25000, "timeout_ms": 10000},
			"limits":     map[string]int{"message_bytes": 65536, "channels": 128, "messages_per_second": 100, "burst": 200},
			"expires_at": time.Now().Add(time.Hour).UnixMilli(),
		})(m.Data)
		if err != nil || m.Seq != 1 {
			t.Errorf("message %d: %v", m.Seq, err)
		}
		anonymous := dial(t, newServer(t, realtime.WithRateLimit(realtime.WarnOnly(realtime.PerConnection(1, 1))))).Connected()
		if err := realtimetest.Exactly(map[string]any{"user": nil, "expires_at": nil})(pick(t, anonymous.Data, "user", "expires_at")); err != nil {
			t.Errorf("anonymous: %v", err)
		}
		if err := realtimetest.Exactly(map[string]any{"messages_per_second": nil, "burst": nil})(pick(t, pick(t, anonymous.Data, "limits"), "messages_per_second", "burst")); err != nil {
			t.Errorf("no limit: %v", err)
		}
	})
}

// pick returns the named fields of an object, or the one alone.
func pick(t *testing.T, data json.RawMessage, names ...string) json.RawMessage {
	t.Helper()
	all, some := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	if len(names) == 1 {
		return all[names[0]]
	}
	for _, name := range names {
		if value, ok := all[name]; ok {
			some[name] = value
		}
	}
	text, err := json.Marshal(some)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheLogHoldsNoToken(t *testing.T) { // envelope.md section 1
	synctest.Test(t, func(t *testing.T) {
		var log lines
		s := jwtServer(t, realtime.WithLogger(textLogger(&log)), realtime.WithTokenSources(realtime.TokenQuery|realtime.TokenHeader|realtime.TokenMessage|realtime.TokenTicket))
		bad := realtimetest.Token([]byte("another secret, long enough, 32 b"), "u1")
		dial(t, s, realtimetest.WithURL("/ws?a=1&token="+bad)).WantClosed(realtime.ReasonTokenInvalid)
		dial(t, s, realtimetest.WithToken(bad)).WantClosed(realtime.ReasonTokenInvalid)
		dial(t, s, realtimetest.WithURL("/ws?ticket=THETICKET")).WantClosed(realtime.ReasonTokenInvalid)
		c := dial(t, s)
		c.Push("global", "auth", map[string]string{"token": bad})
		c.WantClosed(realtime.ReasonTokenInvalid)
		synctest.Wait()
		for _, part := range append(strings.Split(bad, "."), "THETICKET") {
			if strings.Contains(log.String(), part) {
				t.Errorf("the log holds %q", part)
			}
		}
		if !strings.Contains(log.String(), "token=***") {
			t.Errorf("the log does not show the masked query:\n%s", &log)
		}
	})
}

func TestARefreshLeavesGlobalAlone(t *testing.T) { // envelope.md section 3: stays there
	synctest.Test(t, func(t *testing.T) {
		s := realtimetest.NewServer(t, realtime.WithAuth(claims))
		s.Topic("global", realtime.Join(func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			return nil, realtime.Reject("nobody joins")
		}))
		c := dial(t, s, realtimetest.WithToken("u1/a"))
		c.Push("global", "auth", map[string]string{"token": "u1/b"})
		c.Recv()
		c.WantNothing()
		publish(t, s, "global", "x", 1)
		c.WantPush("global", "x", 1)
	})
}

func TestAnAuthenticatorThatDawdlesIsNotWaitedFor(t *testing.T) { // envelope.md section 1: within 10 s
	synctest.Test(t, func(t *testing.T) {
		in, out := 0, 0
		s := realtimetest.NewServer(t,
			realtime.WithConnected(func(*realtime.Client) { in++ }),
			realtime.WithDisconnected(func(*realtime.Client, realtime.Reason) { out++ }),
			realtime.WithAuth(func(_ *http.Request, token string) (*realtime.Identity, error) {
				if token == "" {
					return nil, realtime.ReasonUnauthenticated
				}
				time.Sleep(20 * time.Second)
				return &realtime.Identity{User: token}, nil
			}))
		start := time.Now()
		c := dial(t, s)
		c.Push("global", "auth", map[string]string{"token": "u1"})
		c.WantClosed(realtime.ReasonUnauthenticated)
		if took := time.Since(start); took > 10200*time.Millisecond {
			t.Errorf("closed after %v, want 10 s", took)
		}
		time.Sleep(time.Minute)
		check(t, s)
		if n := openConnections(t, s); n != 0 || in != out {
			t.Errorf("%d connections are left, %d connected and %d disconnected; want none, and pairs", n, in, out)
		}
	})
}
