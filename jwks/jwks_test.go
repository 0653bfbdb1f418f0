package jwks

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-58bc6ac1/realtime"
)

var quiet = Logger(slog.New(slog.DiscardHandler))

var pairs = sync.OnceValue(func() (k struct {
	rsa        *rsa.PrivateKey
	p256, p384 *ecdsa.PrivateKey
	ed         ed25519.PrivateKey
}) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.p256, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, k.ed, _ = ed25519.GenerateKey(rand.Reader)
	return k
})

// provider is an identity provider whose answers a test can change. It works
// over loopback and, as a RoundTripper, inside a synctest bubble.
type provider struct {
	mu     sync.Mutex
	body   []byte
	status int
	loads  atomic.Int32
}

func (p *provider) publish(t *testing.T, keys ...jose.JSONWebKey) {
	t.Helper()
	body, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	p.answer(http.StatusOK, body)
}

func (p *provider) answer(status int, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.body = status, body
}

func (p *provider) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.loads.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	w.WriteHeader(p.status)
	w.Write(p.body)
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	p.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

func public(kid, alg string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: alg}
}

func authenticator(t *testing.T, option realtime.JWTOption, err error) realtime.Authenticator {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	auth, err := realtime.JWT(option)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

// check authenticates a token signed with key and wants the error want, nil for
// none.
func check(t *testing.T, auth realtime.Authenticator, kid, alg string, key any, want error) {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(time.Hour).Unix()})
	if kid != "" {
		token.Header["kid"] = kid
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth(httptest.NewRequest("GET", "/ws", nil), signed); !errors.Is(err, want) {
		t.Errorf("kid %q, %s: got %v, want %v", kid, alg, err, want)
	}
}

func TestURLFollowsRotation(t *testing.T) {
	keys := pairs()
	idp := &provider{}
	idp.publish(t, public("old", "", &keys.p256.PublicKey))
	server := httptest.NewServer(idp)
	defer server.Close()
	option, err := URL(t.Context(), server.URL, quiet)
	auth := authenticator(t, option, err)
	check(t, auth, "old", "ES256", keys.p256, nil)

	idp.publish(t, public("new", "", &keys.p384.PublicKey))
	check(t, auth, "old", "ES256", keys.p256, nil) // no reason to look yet
	check(t, auth, "new", "ES384", keys.p384, nil)
	check(t, auth, "old", "ES256", keys.p256, realtime.ReasonTokenInvalid)

	server.Close()
	check(t, auth, "new", "ES384", keys.p384, nil)
}

func TestURLStartsWithoutItsServer(t *testing.T) {
	keys := pairs()
	server := httptest.NewServer(&provider{})
	server.Close()
	option, err := URL(t.Context(), server.URL, quiet)
	auth := authenticator(t, option, err)
	check(t, auth, "k", "ES256", keys.p256, realtime.ReasonInternal)
	check(t, auth, "", "ES256", keys.p256, realtime.ReasonInternal)
}

func TestURLRecoversWhenItsServerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		keys := pairs()
		idp := &provider{}
		idp.answer(http.StatusBadGateway, nil)
		option, err := URL(ctx, "https://id.example/keys", Client(&http.Client{Transport: idp}), quiet)
		auth := authenticator(t, option, err)
		check(t, auth, "k", "ES256", keys.p256, realtime.ReasonInternal)

		idp.publish(t, public("k", "", &keys.p256.PublicKey))
		check(t, auth, "k", "ES256", keys.p256, realtime.ReasonInternal) // the last forced load was just now
		time.Sleep(retryInterval)
		synctest.Wait()
		loads := idp.loads.Load()
		check(t, auth, "k", "ES256", keys.p256, nil)
		if got := idp.loads.Load(); got != loads {
			t.Errorf("%d loads for a known kid, want none: the background load has it", got-loads)
		}
	})
}

func TestRefreshEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		keys := pairs()
		idp := &provider{}
		idp.publish(t, public("k", "", &keys.p256.PublicKey))
		option, err := URL(ctx, "https://id.example/keys", Client(&http.Client{Transport: idp}), Interval(time.Minute), quiet)
		auth := authenticator(t, option, err)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := idp.loads.Load(); got < 11 || got > 13 {
			t.Errorf("%d loads in ten minutes at an interval of one, want 11 to 13", got)
		}
		idp.publish(t, public("other", "", &keys.p256.PublicKey))
		time.Sleep(time.Minute)
		synctest.Wait()
		check(t, auth, "k", "ES256", keys.p256, realtime.ReasonTokenInvalid) // withdrawn
		cancel()                                                             // a goroutine left behind would fail the bubble
	})
}

func TestUnknownKidsCauseFewLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		keys := pairs()
		idp := &provider{}
		idp.publish(t, public("k", "", &keys.p256.PublicKey))
		option, err := URL(ctx, "https://id.example/keys", Client(&http.Client{Transport: idp}), quiet)
		auth := authenticator(t, option, err)
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() { check(t, auth, "unknown", "ES256", keys.p256, realtime.ReasonTokenInvalid) })
		}
		group.Wait()
		if got := idp.loads.Load(); got != 2 {
			t.Errorf("%d loads, want the first and one for all the tokens", got)
		}
		time.Sleep(forcedInterval)
		check(t, auth, "unknown", "ES256", keys.p256, realtime.ReasonTokenInvalid)
		check(t, auth, "", "RS256", keys.rsa, realtime.ReasonTokenInvalid) // without kid: no reason to load
		check(t, auth, "k", "RS256", keys.rsa, realtime.ReasonTokenInvalid)
		if got := idp.loads.Load(); got != 3 {
			t.Errorf("%d loads, want one more", got)
		}
	})
}

func TestHandshakeDoesNotWaitForKeysLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stuck := make(chan struct{})
		s := newSet(ctx, &config{interval: time.Hour, logger: slog.New(slog.DiscardHandler)}, "stuck", func(ctx context.Context) ([]byte, error) {
			select {
			case <-stuck:
				return nil, errors.New("released")
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		s.loaded.Store(&outcome{})
		begun := time.Now()
		request, done := context.WithTimeout(t.Context(), time.Second)
		defer done()
		_, _, err := s.find(request, "k", "ES256")
		if !errors.Is(err, realtime.ReasonInternal) || time.Since(begun) != time.Second {
			t.Errorf("got %v after %v, want internal after 1s", err, time.Since(begun))
		}
		close(stuck)
	})
}

func TestBadAnswersLeaveTheKeysAlone(t *testing.T) {
	keys := pairs()
	huge := append([]byte(`{"keys":[]}`), strings.Repeat(" ", maxSetBytes)...)
	for name, c := range map[string]struct {
		status int
		body   []byte
	}{
		"oversized":   {200, huge},
		"endless":     {200, []byte(strings.Repeat("x", maxSetBytes+1))},
		"no JSON":     {200, []byte("<html>")},
		"empty set":   {200, []byte(`{"keys":[]}`)},
		"not found":   {404, nil},
		"no key here": {200, []byte(`{}`)},
	} {
		t.Run(name, func(t *testing.T) {
			idp := &provider{}
			idp.publish(t, public("k", "", &keys.p256.PublicKey))
			server := httptest.NewServer(idp)
			defer server.Close()
			option, err := URL(t.Context(), server.URL, quiet)
			auth := authenticator(t, option, err)
			idp.answer(c.status, c.body)
			check(t, auth, "unknown", "ES256", keys.p256, realtime.ReasonInternal) // forces a load
			if got := idp.loads.Load(); got != 2 {
				t.Errorf("%d loads, want 2", got)
			}
			check(t, auth, "k", "ES256", keys.p256, nil)
		})
	}
}

func TestKeyHasOneAlgorithm(t *testing.T) {
	keys := pairs()
	secret := []byte("0123456789abcdef0123456789abcdef")
	idp := &provider{}
	encryption := public("enc", "", &keys.rsa.PublicKey)
	encryption.Use = "enc"
	idp.publish(t,
		public("rsa", "", &keys.rsa.PublicKey), public("ps", "PS256", &keys.rsa.PublicKey),
		public("ed", "", keys.ed.Public()), public("p384", "ES384", &keys.p384.PublicKey),
		public("hmac", "HS256", secret), public("private", "", keys.p256), encryption,
		public("lie", "HS256", &keys.rsa.PublicKey), public("curve", "ES384", &keys.p256.PublicKey))
	server := httptest.NewServer(idp)
	defer server.Close()
	option, err := URL(t.Context(), server.URL, quiet)
	auth := authenticator(t, option, err)
	cases := []struct {
		kid, alg string
		key      any
		want     error
	}{
		{"rsa", "RS256", keys.rsa, nil},
		{"rsa", "RS512", keys.rsa, realtime.ReasonTokenInvalid},
		{"rsa", "PS256", keys.rsa, realtime.ReasonTokenInvalid},
		{"ps", "PS256", keys.rsa, nil},
		{"ps", "RS256", keys.rsa, realtime.ReasonTokenInvalid},
		{"ed", "EdDSA", keys.ed, nil},
		{"p384", "ES384", keys.p384, nil},
		{"hmac", "HS256", secret, realtime.ReasonTokenInvalid},
		{"rsa", "HS256", keys.rsa.N.Bytes(), realtime.ReasonTokenInvalid},
		{"lie", "HS256", secret, realtime.ReasonTokenInvalid},
		{"lie", "RS256", keys.rsa, realtime.ReasonTokenInvalid},
		{"enc", "RS256", keys.rsa, realtime.ReasonTokenInvalid},
		{"private", "ES256", keys.p256, realtime.ReasonTokenInvalid},
		{"curve", "ES256", keys.p256, realtime.ReasonTokenInvalid},
		{"", "ES384", keys.p384, nil},
		{"", "EdDSA", keys.ed, nil},
	}
	for _, c := range cases {
		check(t, auth, c.kid, c.alg, c.key, c.want)
	}
}

func TestTokenWithoutKidNeedsOneKeyAlone(t *testing.T) {
	keys := pairs()
	idp := &provider{}
	idp.publish(t, public("a", "", &keys.p256.PublicKey), public("b", "", &keys.p256.PublicKey))
	server := httptest.NewServer(idp)
	defer server.Close()
	option, err := URL(t.Context(), server.URL, quiet)
	check(t, authenticator(t, option, err), "", "ES256", keys.p256, realtime.ReasonTokenInvalid)
}

func TestFileIsReadAgain(t *testing.T) {
	keys := pairs()
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(k jose.JSONWebKey) {
		body, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k}})
		if err == nil {
			err = os.WriteFile(path, body, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := File(t.Context(), path, quiet); err == nil {
		t.Error("a file that is not there was accepted")
	}
	write(public("a", "", &keys.p256.PublicKey))
	option, err := File(t.Context(), path, quiet)
	auth := authenticator(t, option, err)
	check(t, auth, "a", "ES256", keys.p256, nil)
	write(public("b", "", &keys.p384.PublicKey))
	check(t, auth, "b", "ES384", keys.p384, nil)
}

func TestURLRefusesWiringMistakes(t *testing.T) {
	for address, opts := range map[string][]Option{
		"http://id.example/keys":        nil,
		"ftp://127.0.0.1/keys":          nil,
		"/keys":                         nil,
		"https://":                      nil,
		"://":                           nil,
		"https://id.example/short":      {Interval(time.Millisecond)},
		"https://id.example/nil":        {nil},
		"https://id.example/nil-client": {Client(nil)},
		"https://id.example/nil-logger": {Logger(nil)},
	} {
		if _, err := URL(t.Context(), address, opts...); err == nil {
			t.Errorf("%s was accepted", address)
		}
	}
}

func TestRedirectsStayInHTTPS(t *testing.T) {
	var asked []string
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.String())
		return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {"http://id.example/keys"}}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
	})
	if _, err := URL(t.Context(), "https://id.example/keys", Client(&http.Client{Transport: transport}), quiet); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 1 {
		t.Errorf("asked %q, want the https URL alone", asked)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func FuzzParse(f *testing.F) {
	keys := pairs()
	good, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public("k", "", &keys.p256.PublicKey), public("e", "", keys.ed.Public())}})
	f.Add(good)
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"RSA","n":"AQ","e":"AQAB"},null,1]}`))
	s := newSet(context.Background(), &config{logger: slog.New(slog.DiscardHandler)}, "fuzz", nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		parsed, err := s.parse(body)
		if (len(parsed) == 0) != (err != nil) {
			t.Errorf("%d keys, error %v", len(parsed), err)
		}
		for _, k := range parsed {
			if _, secret := k.key.([]byte); secret || k.alg == "" || strings.HasPrefix(k.alg, "HS") {
				t.Errorf("got key %+v", k)
			}
		}
	})
}
