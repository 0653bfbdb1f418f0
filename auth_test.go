package realtime_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// keyPairs are made once: RSA keys take a while.
var keyPairs = sync.OnceValue(func() (k struct {
	rsa, otherRSA    *rsa.PrivateKey
	p256, p384, p521 *ecdsa.PrivateKey
	ed               ed25519.PrivateKey
}) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.otherRSA, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.p256, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.p521, _ = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, k.ed, _ = ed25519.GenerateKey(rand.Reader)
	return k
})

func newJWT(t testing.TB, opts ...realtime.JWTOption) realtime.Authenticator {
	t.Helper()
	auth, err := realtime.JWT(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func authenticate(auth realtime.Authenticator, token string) (*realtime.Identity, error) {
	return auth(httptest.NewRequest("GET", "/ws", nil), token)
}

// wantReason checks that err is the refusal want and that its text, which goes
// to the log, holds no part of the token that could be used.
func wantReason(t *testing.T, err error, want realtime.Reason, token string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %s", err, want)
		return
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 12 && strings.Contains(err.Error(), part) {
			t.Errorf("error %q quotes the token", err)
		}
	}
}

// sign mints with the JWT library, so that every algorithm is checked against an
// implementation that is not ours.
func sign(t testing.TB, alg, kid string, key any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func userClaims() jwt.MapClaims {
	return jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(time.Hour).Unix()}
}

// part encodes a header or payload as it stands, valid or not.
func part(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func TestJWTAcceptsEveryAlgorithmUnderItsKeyOnly(t *testing.T) {
	keys := keyPairs()
	cases := []struct {
		alg     string
		private any
		option  realtime.JWTOption
	}{
		{"HS256", secret, realtime.HS256("", secret)},
		{"HS384", secret, realtime.HS384("", secret)},
		{"HS512", secret, realtime.HS512("", secret)},
		{"RS256", keys.rsa, realtime.RS256("", &keys.rsa.PublicKey)},
		{"RS384", keys.rsa, realtime.RS384("", &keys.rsa.PublicKey)},
		{"RS512", keys.rsa, realtime.RS512("", &keys.rsa.PublicKey)},
		{"PS256", keys.rsa, realtime.PS256("", &keys.rsa.PublicKey)},
		{"PS384", keys.rsa, realtime.PS384("", &keys.rsa.PublicKey)},
		{"PS512", keys.rsa, realtime.PS512("", &keys.rsa.PublicKey)},
		{"ES256", keys.p256, realtime.ES256("", &keys.p256.PublicKey)},
		{"ES384", keys.p384, realtime.ES384("", &keys.p384.PublicKey)},
		{"ES512", keys.p521, realtime.ES512("", &keys.p521.PublicKey)},
		{"EdDSA", keys.ed, realtime.EdDSA("", keys.ed.Public().(ed25519.PublicKey))},
	}
	for _, key := range cases {
		auth := newJWT(t, key.option)
		for _, token := range cases {
			signed := sign(t, token.alg, "", token.private, userClaims())
			id, err := authenticate(auth, signed)
			if key.alg != token.alg {
				wantReason(t, err, realtime.ReasonTokenInvalid, signed)
				continue
			}
			if err != nil || id.User != "u1" {
				t.Errorf("%s: got %+v, %v, want user u1", key.alg, id, err)
			}
		}
	}
}

func TestJWTFillsIdentity(t *testing.T) {
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	token := realtimetest.Token(secret, "u1",
		realtimetest.Claim("sid", "s1"), realtimetest.Claim("jti", "t1"), realtimetest.Claim("tenantId", "acme"),
		realtimetest.Claim("scope", "chat:read  chat:write"), realtimetest.Claim("exp", exp.Unix()))
	id, err := authenticate(newJWT(t, realtime.HS256("", secret)), token)
	if err != nil {
		t.Fatal(err)
	}
	if id.User != "u1" || id.Session != "s1" || id.TokenID != "t1" || id.Tenant != "acme" || !id.Expires.Equal(exp) {
		t.Errorf("got %+v", id)
	}
	if want := []string{"chat:read", "chat:write"}; !slices.Equal(id.Scopes, want) {
		t.Errorf("got scopes %q, want %q", id.Scopes, want)
	}
	if !id.HasScope("chat:write") || id.HasScope("chat") {
		t.Error("HasScope does not compare whole scopes")
	}
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if string(id.Claims) != string(payload) {
		t.Errorf("got claims %s, want %s", id.Claims, payload)
	}
}

func TestJWTReadsClaimsInEveryUsualShape(t *testing.T) {
	cases := []struct {
		name   string
		claim  string
		value  any
		user   string
		scopes []string
	}{
		{"scopes array", "scopes", []string{"a b", "c"}, "u1", []string{"a b", "c"}},
		{"scp array", "scp", []string{"a"}, "u1", []string{"a"}},
		{"scp string", "scp", "a b", "u1", []string{"a", "b"}},
		{"empty scope", "scope", "", "u1", nil},
		{"whole number as user", "sub", 42, "42", nil},
		{"null is absent", "sid", json.RawMessage("null"), "u1", nil},
		{"fraction of a second", "nbf", 1700000000.5, "u1", nil},
		{"unknown claims", "EXP", "never", "u1", nil},
	}
	auth := newJWT(t, realtime.HS256("", secret))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			id, err := authenticate(auth, realtimetest.Token(secret, "u1", realtimetest.Claim(c.claim, c.value)))
			if err != nil {
				t.Fatal(err)
			}
			if id.User != c.user || !slices.Equal(id.Scopes, c.scopes) {
				t.Errorf("got user %q, scopes %q, want %q, %q", id.User, id.Scopes, c.user, c.scopes)
			}
		})
	}
}

func TestJWTRefusesAttacks(t *testing.T) {
	keys := keyPairs()
	der, _ := x509.MarshalPKIXPublicKey(&keys.rsa.PublicKey)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := realtimetest.Token(secret, "u1", realtimetest.Header("kid", "main"))
	parts := strings.Split(good, ".")
	claim, header := realtimetest.Claim, realtimetest.Header
	kid := header("kid", "main")
	cases := []struct {
		name  string
		token string
		want  realtime.Reason
	}{
		{"no token", "", realtime.ReasonUnauthenticated},
		{"alg none", part(`{"alg":"none","kid":"main"}`) + "." + parts[1] + ".", realtime.ReasonTokenInvalid},
		{"alg None", part(`{"alg":"None","kid":"main"}`) + "." + parts[1] + ".", realtime.ReasonTokenInvalid},
		{"alg none with a signature", part(`{"alg":"none","kid":"main"}`) + "." + parts[1] + "." + parts[2], realtime.ReasonTokenInvalid},
		{"no alg", part(`{"kid":"main"}`) + "." + parts[1] + "." + parts[2], realtime.ReasonTokenInvalid},
		{"alg no string", part(`{"alg":["HS256"],"kid":"main"}`) + "." + parts[1] + "." + parts[2], realtime.ReasonTokenInvalid},
		{"signature removed", parts[0] + "." + parts[1] + ".", realtime.ReasonTokenInvalid},
		{"another key", realtimetest.Token([]byte("another"), "u1", kid), realtime.ReasonTokenInvalid},
		{"empty key", realtimetest.Token(nil, "u1", kid), realtime.ReasonTokenInvalid},
		{"another RSA key", sign(t, "RS256", "rsa", keys.otherRSA, userClaims()), realtime.ReasonTokenInvalid},
		{"RSA public key as HMAC secret", sign(t, "HS256", "rsa", publicPEM, userClaims()), realtime.ReasonTokenInvalid},
		{"the same with the DER bytes", sign(t, "HS256", "rsa", der, userClaims()), realtime.ReasonTokenInvalid},
		{"the same without kid", sign(t, "HS256", "", publicPEM, userClaims()), realtime.ReasonTokenInvalid},
		{"PSS where the key is for PKCS1", sign(t, "PS256", "rsa", keys.rsa, userClaims()), realtime.ReasonTokenInvalid},
		{"right secret, wrong hash", sign(t, "HS512", "main", secret, userClaims()), realtime.ReasonTokenInvalid},
		{"unknown kid", realtimetest.Token(secret, "u1", header("kid", "other")), realtime.ReasonTokenInvalid},
		{"kid of another key", realtimetest.Token(secret, "u1", header("kid", "rsa")), realtime.ReasonTokenInvalid},
		{"kid no string", realtimetest.Token(secret, "u1", header("kid", 1)), realtime.ReasonTokenInvalid},
		{"crit", realtimetest.Token(secret, "u1", kid, header("crit", []string{"exp"})), realtime.ReasonTokenInvalid},
		{"empty crit", realtimetest.Token(secret, "u1", kid, header("crit", json.RawMessage("null"))), realtime.ReasonTokenInvalid},
		{"expired", realtimetest.Token(secret, "u1", kid, realtimetest.Lifetime(-time.Minute)), realtime.ReasonTokenExpired},
		{"expired in 1969", realtimetest.Token(secret, "u1", kid, claim("exp", -1)), realtime.ReasonTokenExpired},
		{"expired and for another audience", realtimetest.Token(secret, "u1", kid, claim("aud", "x"), realtimetest.Lifetime(-time.Minute)), realtime.ReasonTokenInvalid},
		{"no exp", realtimetest.Token(secret, "u1", kid, claim("exp", nil)), realtime.ReasonTokenInvalid},
		{"exp null", realtimetest.Token(secret, "u1", kid, claim("exp", json.RawMessage("null"))), realtime.ReasonTokenInvalid},
		{"exp a string", realtimetest.Token(secret, "u1", kid, claim("exp", "4102444800")), realtime.ReasonTokenInvalid},
		{"EXP instead of exp", realtimetest.Token(secret, "u1", kid, claim("exp", nil), claim("EXP", 4102444800)), realtime.ReasonTokenInvalid},
		{"not yet valid", realtimetest.Token(secret, "u1", kid, claim("nbf", time.Now().Add(time.Hour).Unix())), realtime.ReasonTokenInvalid},
		{"nbf beyond all times", realtimetest.Token(secret, "u1", kid, claim("nbf", 1e300)), realtime.ReasonTokenInvalid},
		{"nbf a string", realtimetest.Token(secret, "u1", kid, claim("nbf", "0")), realtime.ReasonTokenInvalid},
		{"issued in the future", realtimetest.Token(secret, "u1", kid, claim("iat", time.Now().Add(time.Hour).Unix())), realtime.ReasonTokenInvalid},
		{"an audience, none expected", realtimetest.Token(secret, "u1", kid, claim("aud", "other")), realtime.ReasonTokenInvalid},
		{"no user", realtimetest.Token(secret, "", kid), realtime.ReasonTokenInvalid},
		{"user an object", realtimetest.Token(secret, "u1", kid, claim("sub", map[string]any{})), realtime.ReasonTokenInvalid},
		{"scope a number", realtimetest.Token(secret, "u1", kid, claim("scope", 1)), realtime.ReasonTokenInvalid},
		{"scopes with a null", realtimetest.Token(secret, "u1", kid, claim("scopes", []any{nil})), realtime.ReasonTokenInvalid},
		{"sid a number", realtimetest.Token(secret, "u1", kid, claim("sid", 1)), realtime.ReasonTokenInvalid},
		{"huge", realtimetest.Token(secret, strings.Repeat("u", 8<<10), kid), realtime.ReasonTokenInvalid},
		{"garbage", "garbage", realtime.ReasonTokenInvalid},
		{"dots", "..", realtime.ReasonTokenInvalid},
		{"two parts", parts[0] + "." + parts[1], realtime.ReasonTokenInvalid},
		{"four parts", good + "." + parts[2], realtime.ReasonTokenInvalid},
		{"five parts", strings.Repeat(parts[0]+".", 4) + parts[0], realtime.ReasonTokenInvalid},
		{"header an array", part(`[]`) + "." + parts[1] + "." + parts[2], realtime.ReasonTokenInvalid},
		{"header null", part(`null`) + "." + parts[1] + "." + parts[2], realtime.ReasonTokenInvalid},
		{"line break in the signature", good + "\n", realtime.ReasonTokenInvalid},
		{"padding", good + "=", realtime.ReasonTokenInvalid},
		{"stray bits in the last character", good[:len(good)-1] + strayBits(good[len(good)-1]), realtime.ReasonTokenInvalid},
	}
	auth := newJWT(t, realtime.HS256("main", secret), realtime.RS256("rsa", &keys.rsa.PublicKey))
	if _, err := authenticate(auth, good); err != nil {
		t.Fatalf("the good token is refused: %v", err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := authenticate(auth, c.token)
			wantReason(t, err, c.want, c.token)
		})
	}
}

// strayBits returns another last character for the same 32 bytes: of its six
// bits a lax decoder drops two.
func strayBits(last byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, last)^1])
}

func TestJWTChecksAudienceAndIssuer(t *testing.T) {
	auth := newJWT(t, realtime.HS256("", secret), realtime.Audience("ws", "chat"), realtime.Issuer("https://id.example"))
	issuer := realtimetest.Claim("iss", "https://id.example")
	cases := []struct {
		name string
		opts []realtimetest.TokenOption
		ok   bool
	}{
		{"audience a string", []realtimetest.TokenOption{issuer, realtimetest.Claim("aud", "ws")}, true},
		{"one of several", []realtimetest.TokenOption{issuer, realtimetest.Claim("aud", []string{"x", "chat"})}, true},
		{"another audience", []realtimetest.TokenOption{issuer, realtimetest.Claim("aud", "w")}, false},
		{"no audience", []realtimetest.TokenOption{issuer}, false},
		{"no audience among none", []realtimetest.TokenOption{issuer, realtimetest.Claim("aud", []string{})}, false},
		{"audience a number", []realtimetest.TokenOption{issuer, realtimetest.Claim("aud", 1)}, false},
		{"another issuer", []realtimetest.TokenOption{realtimetest.Claim("iss", "https://id.example/"), realtimetest.Claim("aud", "ws")}, false},
		{"no issuer", []realtimetest.TokenOption{realtimetest.Claim("aud", "ws")}, false},
		{"issuer a number", []realtimetest.TokenOption{realtimetest.Claim("iss", 1), realtimetest.Claim("aud", "ws")}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			token := realtimetest.Token(secret, "u1", c.opts...)
			_, err := authenticate(auth, token)
			if c.ok {
				if err != nil {
					t.Errorf("got %v, want it accepted", err)
				}
				return
			}
			wantReason(t, err, realtime.ReasonTokenInvalid, token)
		})
	}
}

func TestJWTHoldsTimesToTheSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strict := newJWT(t, realtime.HS256("", secret))
		lax := newJWT(t, realtime.HS256("", secret), realtime.Leeway(10*time.Second))
		token := realtimetest.Token(secret, "u1", realtimetest.Lifetime(time.Minute))
		early := realtimetest.Token(secret, "u1", realtimetest.Claim("nbf", time.Now().Add(time.Minute).Unix()))

		time.Sleep(49 * time.Second)
		_, err := authenticate(lax, early)
		wantReason(t, err, realtime.ReasonTokenInvalid, early)
		time.Sleep(time.Second)
		if _, err := authenticate(lax, early); err != nil {
			t.Errorf("10s before nbf with a leeway of 10s: %v", err)
		}
		time.Sleep(10*time.Second - 1)
		if _, err := authenticate(strict, token); err != nil {
			t.Errorf("just before exp: %v", err)
		}
		time.Sleep(time.Nanosecond)
		_, err = authenticate(strict, token)
		wantReason(t, err, realtime.ReasonTokenExpired, token)
		id, err := authenticate(lax, token)
		if err != nil {
			t.Fatalf("at exp with a leeway of 10s: %v", err)
		}
		if got := time.Until(id.Expires); got != 10*time.Second {
			t.Errorf("identity expires in %v, want 10s", got)
		}
		time.Sleep(10 * time.Second)
		_, err = authenticate(lax, token)
		wantReason(t, err, realtime.ReasonTokenExpired, token)
	})
}

func TestOptionalExpiryLetsTokensLiveForEver(t *testing.T) {
	auth := newJWT(t, realtime.HS256("", secret), realtime.OptionalExpiry())
	id, err := authenticate(auth, realtimetest.Token(secret, "u1", realtimetest.Claim("exp", nil)))
	if err != nil || !id.Expires.IsZero() {
		t.Errorf("got %+v, %v, want an identity that never expires", id, err)
	}
	expired := realtimetest.Token(secret, "u1", realtimetest.Lifetime(-time.Second))
	_, err = authenticate(auth, expired)
	wantReason(t, err, realtime.ReasonTokenExpired, expired)
}

func TestUserClaimNamesTheUser(t *testing.T) {
	auth := newJWT(t, realtime.HS256("", secret), realtime.UserClaim("user_id"))
	id, err := authenticate(auth, realtimetest.Token(secret, "ignored", realtimetest.Claim("user_id", 7)))
	if err != nil || id.User != "7" {
		t.Errorf("got %+v, %v, want user 7", id, err)
	}
	token := realtimetest.Token(secret, "u1")
	_, err = authenticate(auth, token)
	wantReason(t, err, realtime.ReasonTokenInvalid, token)
}

func TestTokenWithoutKidIsTriedAgainstAllKeysOfItsAlgorithm(t *testing.T) {
	old, named := []byte("old"), []byte("named")
	auth := newJWT(t, realtime.HS512("x", secret), realtime.HS256("n", named), realtime.HS256("", old), realtime.HS256("", secret))
	for _, key := range [][]byte{old, secret, named} {
		if _, err := authenticate(auth, realtimetest.Token(key, "u1")); err != nil {
			t.Errorf("key %q: %v", key, err)
		}
	}
	token := realtimetest.Token(old, "u1", realtimetest.Header("kid", "n"))
	_, err := authenticate(auth, token)
	wantReason(t, err, realtime.ReasonTokenInvalid, token)
}

func TestKeySourcePinsTheAlgorithm(t *testing.T) {
	keys := keyPairs()
	var asked []string
	source := func(_ context.Context, kid, alg string) (any, string, error) {
		asked = append(asked, kid+"/"+alg)
		switch kid {
		case "rsa":
			return &keys.rsa.PublicKey, "RS256", nil
		case "confused":
			return &keys.rsa.PublicKey, "HS256", nil
		case "nil":
			return nil, "RS256", nil
		case "down":
			return nil, "", realtime.ReasonInternal
		}
		return nil, "", errors.New("no such key")
	}
	auth := newJWT(t, realtime.HS256("static", secret), realtime.KeySource(source))
	cases := []struct {
		kid, alg string
		key      any
		want     error
		asked    bool
	}{
		{"rsa", "RS256", keys.rsa, nil, true},
		{"rsa", "RS384", keys.rsa, realtime.ReasonTokenInvalid, true},
		{"rsa", "HS256", secret, realtime.ReasonTokenInvalid, true},
		{"confused", "HS256", secret, realtime.ReasonTokenInvalid, true},
		{"nil", "RS256", keys.rsa, realtime.ReasonTokenInvalid, true},
		{"down", "RS256", keys.rsa, realtime.ReasonInternal, true},
		{"unknown", "RS256", keys.rsa, realtime.ReasonTokenInvalid, true},
		{"static", "HS256", secret, nil, false},
		{"static", "RS256", keys.rsa, realtime.ReasonTokenInvalid, false},
	}
	for _, c := range cases {
		asked = nil
		_, err := authenticate(auth, sign(t, c.alg, c.kid, c.key, userClaims()))
		if !errors.Is(err, c.want) || (len(asked) == 1) != c.asked {
			t.Errorf("%s/%s: got %v, asked %q, want %v, asked %v", c.kid, c.alg, err, asked, c.want, c.asked)
		}
	}
}

func TestKeySourceIsNotFooledByTheNameOfAnAlgorithm(t *testing.T) {
	source := func(context.Context, string, string) (any, string, error) { return secret, "HS256", nil }
	auth := newJWT(t, realtime.KeySource(source))
	for _, alg := range []string{"none", "HS512", "RS256", ""} {
		token := realtimetest.Token(secret, "u1", realtimetest.Header("alg", alg)) // the signature stays HS256
		_, err := authenticate(auth, token)
		wantReason(t, err, realtime.ReasonTokenInvalid, token)
	}
	if _, err := authenticate(auth, realtimetest.Token(secret, "u1")); err != nil {
		t.Error(err)
	}
}

func TestJWTRefusesWiringMistakes(t *testing.T) {
	keys := keyPairs()
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	var many []realtime.JWTOption
	for range 9 {
		many = append(many, realtime.HS256("", secret))
	}
	cases := map[string][]realtime.JWTOption{
		"no key":            {realtime.Issuer("x")},
		"nil option":        {nil},
		"empty secret":      {realtime.HS256("k", nil)},
		"weak RSA key":      {realtime.RS256("k", &weak.PublicKey)},
		"nil RSA key":       {realtime.PS256("k", nil)},
		"RSA key without N": {realtime.PS256("k", &rsa.PublicKey{})},
		"wrong curve":       {realtime.ES256("k", &keys.p384.PublicKey)},
		"nil EC key":        {realtime.ES384("k", nil)},
		//lint:ignore SA1019 this is how such a key is made
		"point off the curve":  {realtime.ES256("k", &ecdsa.PublicKey{Curve: elliptic.P256(), X: keys.p256.X, Y: keys.p384.Y})},
		"short Ed25519 key":    {realtime.EdDSA("k", ed25519.PublicKey("short"))},
		"kid twice":            {realtime.HS256("k", secret), realtime.HS512("k", secret)},
		"too many without kid": many,
		"empty audience":       {realtime.HS256("", secret), realtime.Audience("")},
		"no audience":          {realtime.HS256("", secret), realtime.Audience()},
		"empty issuer":         {realtime.HS256("", secret), realtime.Issuer("")},
		"negative leeway":      {realtime.HS256("", secret), realtime.Leeway(-1)},
		"long leeway":          {realtime.HS256("", secret), realtime.Leeway(time.Hour)},
		"no user claim":        {realtime.HS256("", secret), realtime.UserClaim("")},
		"nil source":           {realtime.KeySource(nil)},
	}
	for name, opts := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := realtime.JWT(opts...); err == nil || !strings.HasPrefix(err.Error(), "realtime: ") {
				t.Errorf("got %v, want an error that begins with the package's name", err)
			}
		})
	}
}

func TestHMACSecretIsCopied(t *testing.T) {
	mine := []byte("my own secret")
	auth := newJWT(t, realtime.HS256("", mine))
	token := realtimetest.Token(mine, "u1")
	clear(mine)
	if _, err := authenticate(auth, token); err != nil {
		t.Error(err)
	}
}

// FuzzJWTNeverAccepts runs with keys that nobody else has, so any token that is
// accepted is a forgery.
func FuzzJWTNeverAccepts(f *testing.F) {
	keys := keyPairs()
	random := make([]byte, 32)
	rand.Read(random)
	auth := newJWT(f, realtime.HS256("h", random), realtime.HS512("", random),
		realtime.RS256("r", &keys.rsa.PublicKey), realtime.PS384("p", &keys.rsa.PublicKey),
		realtime.ES256("e", &keys.p256.PublicKey), realtime.EdDSA("d", keys.ed.Public().(ed25519.PublicKey)))
	f.Add(`{"alg":"none"}`, `{"sub":"u1","exp":4102444800}`, []byte(nil), false)
	f.Add(`{"alg":"HS256","kid":"h"}`, `{"sub":"u1","exp":4102444800}`, make([]byte, 32), false)
	f.Add(`{"alg":"ES256","kid":"e"}`, `{"sub":"u1","exp":4102444800}`, make([]byte, 64), false)
	f.Add(`{"alg":"EdDSA","kid":"d"}`, `[]`, make([]byte, 64), false)
	f.Add(`{"alg":"RS256","kid":"r","crit":[]}`, `{"exp":1e999}`, make([]byte, 256), false)
	f.Add(`a.b.c`, ``, []byte(nil), true)
	f.Fuzz(func(t *testing.T, header, payload string, signature []byte, raw bool) {
		token := part(header) + "." + part(payload) + "." + part(string(signature))
		if raw {
			token = header
		}
		if id, err := authenticate(auth, token); err == nil || id != nil {
			t.Errorf("accepted %q", token)
		}
	})
}

// FuzzJWTClaims signs whatever the fuzzer puts in the payload with the right key.
func FuzzJWTClaims(f *testing.F) {
	auth := newJWT(f, realtime.HS256("", secret))
	f.Add(`{"sub":"u1","exp":4102444800,"scope":"a b","sid":"s","jti":"j"}`)
	f.Add(`{"sub":7,"exp":4.1024448e9,"scopes":["a",null],"aud":[]}`)
	f.Add(`{"sub":"u1","exp":1e308,"nbf":-1e308,"iat":0}`)
	f.Add(`{"sub":"\ud800","exp":null}`)
	f.Fuzz(func(t *testing.T, payload string) {
		signed := part(`{"alg":"HS256"}`) + "." + part(payload)
		signature, err := jwt.SigningMethodHS256.Sign(signed, secret)
		if err != nil {
			t.Fatal(err)
		}
		id, err := authenticate(auth, signed+"."+part(string(signature)))
		if err != nil {
			return
		}
		if id.User == "" || !id.Expires.After(time.Now()) || string(id.Claims) != payload || !json.Valid(id.Claims) {
			t.Errorf("accepted %s as %+v", payload, id)
		}
	})
}

func BenchmarkJWT(b *testing.B) {
	auth := newJWT(b, realtime.HS256("", secret))
	token := realtimetest.Token(secret, "u1", realtimetest.Claim("scope", "a b"))
	r := httptest.NewRequest("GET", "/ws", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := auth(r, token); err != nil {
			b.Fatal(err)
		}
	}
}
