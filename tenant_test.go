package realtime_test

import (
	"errors"
	"maps"
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

// The vectors of document.md section 4.6.
const (
	vectorPayload = "eyJkb2N1bWVudElkIjoiZG9jMSIsInNjb3BlcyI6WyJkb2M6cmVhZCIsImRvYzp3cml0ZSJdLCJ0ZW5hbnRJZCI6ImFjbWUiLCJ1c2VyIjp7ImlkIjoidTEifSwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjQxMDI0NDQ4MDAsInZlciI6IjEuMCJ9"
	vectorA       = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." + vectorPayload + ".qU4yux5oykkJQyWxO4QNbftu_TZAbCn1SryY1Tc3rAo"
	vectorB       = "eyJhbGciOiJIUzI1NiJ9." + vectorPayload + ".ikxVywsWSAYljTdrbvIl9yEaWEr-hmdzCgf2AxhI47Q"
	vectorC       = "eyJhbGciOiJub25lIn0." + vectorPayload + "."
	vectorD       = "eyJhbGciOiJIUzI1NiJ9." + vectorPayload + ".GqYFsud83YwIOYQQyMuNzlXGEae54QfIMENomFmAt08"
	vectorE       = "eyJhbGciOiJIUzI1NiJ9.eyJkb2N1bWVudElkIjoiZG9jMSIsInNjb3BlcyI6WyJkb2M6cmVhZCIsImRvYzp3cml0ZSJdLCJ0ZW5hbnRJZCI6ImFjbWUiLCJ1c2VyIjp7ImlkIjoidTEifSwiaWF0IjoxNzAwMDAwMDAwLCJ2ZXIiOiIxLjAifQ.AooZf7GZNWJy-8unEHjNeJ90t8wgUxnqyaKc7TS--yc"
)

var (
	first  = []byte("first-secret")
	second = []byte("second-secret")
)

func newTenants(t testing.TB) *realtime.Tenants {
	t.Helper()
	tenants := realtime.NewTenants()
	for id, secrets := range map[string][][]byte{"acme": {first, second}, "beta": {[]byte("beta-secret")}} {
		if err := tenants.Register(id, secrets...); err != nil {
			t.Fatal(err)
		}
	}
	return tenants
}

// codeOf returns the code of the error that Verify made, "" for none.
func codeOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*realtime.Error](err)
	if !ok {
		t.Fatalf("got %T %v, want an *Error", err, err)
	}
	return e.Code
}

func TestTenantTokensAreCheckedByTheDocumentRules(t *testing.T) {
	full := func(opts ...realtimetest.TokenOption) string {
		return realtimetest.FullAccessToken(first, "acme", "doc1", "u1", opts...)
	}
	claim, header := realtimetest.Claim, realtimetest.Header
	documentClaims := jwt.MapClaims{
		"documentId": "doc1", "tenantId": "acme", "scopes": []string{"doc:read"},
		"user": map[string]any{"id": "u1"}, "exp": 4102444800,
	}
	now := time.Now().Unix()
	parts := strings.Split(vectorA, ".")
	cases := []struct {
		name   string
		tenant string
		token  string
		want   string
		text   string
	}{
		{"vector A", "acme", vectorA, "", ""},
		{"vector B", "acme", vectorB, "", ""},
		{"vector C", "acme", vectorC, "invalid_signature", "Invalid token signature"},
		{"vector D", "acme", vectorD, "invalid_signature", "Invalid token signature"},
		{"vector D, second secret random", "beta", vectorD, "invalid_signature", "Invalid token signature"},
		{"vector E", "acme", vectorE, "missing_claims", "Invalid token: missing claims: exp"},
		{"alg None", "acme", part(`{"alg":"None"}`) + "." + vectorPayload + ".", "invalid_signature", ""},
		{"alg none over a right signature", "acme", full(header("alg", "none")), "invalid_signature", ""},
		{"alg HS512 over a right HS256 signature", "acme", full(header("alg", "HS512")), "invalid_signature", ""},
		{"no alg over a right signature", "acme", full(header("alg", nil)), "invalid_signature", ""},
		{"empty signature", "acme", parts[0] + "." + parts[1] + ".", "invalid_signature", ""},
		{"HS384 with the right secret", "acme", sign(t, "HS384", "", first, documentClaims), "invalid_signature", ""},
		{"HS512 with the right secret", "acme", sign(t, "HS512", "", first, documentClaims), "invalid_signature", ""},
		{"RS256", "acme", sign(t, "RS256", "", keyPairs().rsa, documentClaims), "invalid_signature", ""},
		{"ES256", "acme", sign(t, "ES256", "", keyPairs().p256, documentClaims), "invalid_signature", ""},
		{"another tenant's secret", "acme", realtimetest.FullAccessToken([]byte("beta-secret"), "beta", "doc1", "u1"), "invalid_signature", ""},
		{"another tenant's claim is left to the caller", "acme", full(claim("tenantId", "beta")), "", ""},
		{"one character appended", "acme", vectorA + "A", "invalid_signature", ""},
		{"line break appended", "acme", vectorA + "\n", "invalid_signature", ""},
		{"stray bits", "acme", vectorA[:len(vectorA)-1] + strayBits(vectorA[len(vectorA)-1]), "invalid_signature", ""},
		{"signature no base64", "acme", parts[0] + "." + parts[1] + ".!", "invalid_signature", ""},
		{"payload changed", "acme", parts[0] + "." + part(`{"exp":4102444800}`) + "." + parts[2], "invalid_signature", ""},
		{"crit", "acme", full(header("crit", []string{"x"})), "invalid_signature", ""},
		{"kid, jku, x5u and jwk are ignored", "acme", full(header("kid", 7), header("jku", "https://evil.example"), header("x5u", "x"), header("jwk", map[string]any{"k": ""})), "", ""},
		{"unknown tenant", "nobody", vectorA, "unknown_tenant", "Unknown tenant"},
		{"unknown tenant, garbage", "nobody", "garbage", "unknown_tenant", "Unknown tenant"},
		{"tenant in another case", "Acme", vectorA, "unknown_tenant", "Unknown tenant"},
		{"not a token", "acme", "not-a-jwt", "invalid_token", "Invalid token: malformed"},
		{"two parts", "acme", "a.b", "invalid_token", ""},
		{"five parts", "acme", vectorA + ".x.y", "invalid_token", ""},
		{"payload an array", "acme", parts[0] + "." + part("[]") + "." + parts[2], "invalid_token", ""},
		{"payload null", "acme", parts[0] + "." + part("null") + "." + parts[2], "invalid_token", ""},
		{"header an array", "acme", part("[]") + "." + parts[1] + "." + parts[2], "invalid_token", ""},
		{"payload not UTF-8", "acme", parts[0] + "." + part("{\"a\":\"\xff\"}") + "." + parts[2], "invalid_token", ""},
		{"too long", "acme", full(claim("x", strings.Repeat("x", 8<<10))), "invalid_token", ""},
		{"exp missing", "acme", full(claim("exp", nil)), "missing_claims", ""},
		{"exp a string", "acme", full(claim("exp", "4102444800")), "missing_claims", ""},
		{"exp an object", "acme", full(claim("exp", map[string]any{})), "missing_claims", ""},
		{"expired", "acme", full(claim("exp", now-1)), "token_expired", "Token has expired"},
		{"nbf ahead", "acme", full(claim("nbf", now+60)), "token_not_yet_valid", "Invalid token: not yet valid"},
		{"nbf a string", "acme", full(claim("nbf", "0")), "missing_claims", ""},
		{"iat is not compared with the clock", "acme", full(claim("iat", now+60)), "", ""},
		{"scopes a string", "acme", full(claim("scopes", "doc:read doc:write")), "missing_claims", "Invalid token: missing claims: scopes"},
		{"scopes of numbers", "acme", full(claim("scopes", []int{1})), "missing_claims", ""},
		{"scopes empty", "acme", full(claim("scopes", []string{})), "", ""},
		{"user a string", "acme", full(claim("user", "u1")), "missing_claims", ""},
		{"user without id", "acme", full(claim("user", map[string]any{"name": "u1"})), "missing_claims", ""},
		{"all missing, in order", "acme", realtimetest.Token(first, "u1", claim("exp", nil)), "missing_claims", "Invalid token: missing claims: documentId, tenantId, scopes, user, exp"},
	}
	tenants := newTenants(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			id, err := tenants.Verify(c.tenant, c.token)
			if got := codeOf(t, err); got != c.want {
				t.Fatalf("got %q (%v), want %q", got, err, c.want)
			}
			if c.want == "" {
				if id == nil || id.User != "u1" {
					t.Errorf("got identity %+v, want user u1", id)
				}
				return
			}
			if e, _ := errors.AsType[*realtime.Error](err); c.text != "" && e.Text != c.text {
				t.Errorf("got text %q, want %q", e.Text, c.text)
			}
			if id != nil {
				t.Errorf("got identity %+v with an error", id)
			}
		})
	}
}

func TestTenantIdentityHoldsTheClaims(t *testing.T) {
	token := realtimetest.ReadOnlyToken(second, "acme", "doc1", "u1", realtimetest.Claim("jti", "t1"), realtimetest.Claim("exp", 4102444800))
	id, err := newTenants(t).Verify("acme", token)
	if err != nil {
		t.Fatal(err)
	}
	if id.User != "u1" || id.Tenant != "acme" || id.TokenID != "t1" || id.Expires.Unix() != 4102444800 || !slices.Equal(id.Scopes, []string{"doc:read"}) {
		t.Errorf("got %+v", id)
	}
	if !strings.Contains(string(id.Claims), `"documentId":"doc1"`) {
		t.Errorf("got claims %s, want the payload", id.Claims)
	}
}

func TestTenantTokenExpiresAtExp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenants := newTenants(t)
		token := realtimetest.ReadOnlyToken(first, "acme", "doc1", "u1", realtimetest.Lifetime(time.Minute))
		time.Sleep(time.Minute - 1)
		if _, err := tenants.Verify("acme", token); err != nil {
			t.Errorf("just before exp: %v", err)
		}
		time.Sleep(time.Nanosecond)
		_, err := tenants.Verify("acme", token)
		if got := codeOf(t, err); got != "token_expired" {
			t.Errorf("at exp: got %q, want token_expired", got)
		}
	})
}

func TestMaxTokenLifetimeBoundsExpMinusIat(t *testing.T) {
	tenants := newTenants(t)
	tenants.MaxTokenLifetime(time.Hour)
	cases := []struct {
		name string
		opt  realtimetest.TokenOption
		want string
	}{
		{"an hour", realtimetest.Claim("ver", "1.0"), ""},
		{"more", realtimetest.Lifetime(time.Hour + 2*time.Second), "invalid_token"},
		{"without iat", realtimetest.Claim("iat", nil), "missing_claims"},
		{"iat a string", realtimetest.Claim("iat", "1"), "missing_claims"},
	}
	for _, c := range cases {
		_, err := tenants.Verify("acme", realtimetest.ReadOnlyToken(first, "acme", "doc1", "u1", c.opt))
		if got := codeOf(t, err); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRegeneratingOneSlotLeavesTheOther(t *testing.T) {
	tenants := newTenants(t)
	for slot, step := range []struct{ fails, works string }{{vectorA, vectorB}, {vectorB, ""}} {
		secret, err := tenants.Regenerate("acme", slot+1)
		if err != nil {
			t.Fatal(err)
		}
		if len(secret) != 64 || strings.Trim(string(secret), "0123456789abcdef") != "" {
			t.Errorf("secret %q is not 64 lower-case hex digits", secret)
		}
		_, err = tenants.Verify("acme", step.fails)
		if got := codeOf(t, err); got != "invalid_signature" {
			t.Errorf("slot %d: the old secret's token: got %q, want invalid_signature", slot+1, got)
		}
		if step.works != "" {
			if _, err := tenants.Verify("acme", step.works); err != nil {
				t.Errorf("slot %d: the other secret's token: %v", slot+1, err)
			}
		}
		if _, err := tenants.Verify("acme", realtimetest.ReadOnlyToken(secret, "acme", "doc1", "u1")); err != nil {
			t.Errorf("slot %d: the new secret's token: %v", slot+1, err)
		}
	}
}

func TestTenantsComeAndGo(t *testing.T) {
	tenants := realtime.NewTenants()
	id, secrets := tenants.Create("Acme Ltd")
	if slices.Equal(secrets[0], secrets[1]) || len(secrets[0]) != 64 || strings.Contains(id, ":") {
		t.Errorf("Create gave %q with %q", id, secrets)
	}
	token := realtimetest.ReadOnlyToken(secrets[1], id, "doc1", "u1")
	clear(secrets[0])
	clear(secrets[1])
	if _, err := tenants.Verify(id, token); err != nil {
		t.Errorf("created tenant: %v", err)
	}
	kept, err := tenants.Secrets(id)
	if err != nil || len(kept[1]) != 64 || kept[1][0] == 0 {
		t.Errorf("Secrets gave %q, %v", kept, err)
	}
	if got := maps.Collect(tenants.All()); !maps.Equal(got, map[string]string{id: "Acme Ltd"}) {
		t.Errorf("All gave %v", got)
	}
	if err := tenants.Register(id, first); err != nil {
		t.Fatal(err)
	}
	_, err = tenants.Verify(id, token)
	if got := codeOf(t, err); got != "invalid_signature" {
		t.Errorf("after registering again: got %q, want invalid_signature: both secrets are replaced", got)
	}
	tenants.Unregister(id)
	tenants.Unregister(id)
	_, err = tenants.Verify(id, realtimetest.ReadOnlyToken(first, id, "doc1", "u1"))
	if got := codeOf(t, err); got != "unknown_tenant" {
		t.Errorf("after Unregister: got %q, want unknown_tenant", got)
	}
}

func TestTenantsRefuseBadCalls(t *testing.T) {
	tenants := newTenants(t)
	for name, err := range map[string]error{
		"no id":         tenants.Register("", first),
		"colon in id":   tenants.Register("a:b", first),
		"no secret":     tenants.Register("x"),
		"three secrets": tenants.Register("x", first, second, first),
		"empty secret":  tenants.Register("x", nil),
		"empty second":  tenants.Register("x", first, []byte{}),
		"equal secrets": tenants.Register("x", first, first),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, err := tenants.Secrets("x")
	if got := codeOf(t, err); got != "tenant_not_found" {
		t.Errorf("Secrets: got %q, want tenant_not_found", got)
	}
	_, err = tenants.Regenerate("x", 1)
	if got := codeOf(t, err); got != "tenant_not_found" {
		t.Errorf("Regenerate: got %q, want tenant_not_found", got)
	}
	for _, slot := range []int{0, 3, -1} {
		_, err = tenants.Regenerate("acme", slot)
		if got := codeOf(t, err); got != "invalid_slot" {
			t.Errorf("slot %d: got %q, want invalid_slot", slot, got)
		}
	}
}

func TestTenantAuthenticatorTellsStrangersNothing(t *testing.T) {
	auth := newTenants(t).Authenticator()
	id, err := authenticate(auth, vectorA)
	if err != nil || id.Tenant != "acme" {
		t.Errorf("got %+v, %v, want tenant acme", id, err)
	}
	cases := []struct {
		name, token string
		want        realtime.Reason
	}{
		{"none", "", realtime.ReasonUnauthenticated},
		{"garbage", "garbage", realtime.ReasonTokenInvalid},
		{"no tenant", realtimetest.Token(first, "u1"), realtime.ReasonTokenInvalid},
		{"tenant a number", realtimetest.Token(first, "u1", realtimetest.Claim("tenantId", 1)), realtime.ReasonTokenInvalid},
		{"unknown tenant", realtimetest.FullAccessToken(first, "nobody", "doc1", "u1"), realtime.ReasonTokenInvalid},
		{"another tenant's secret", realtimetest.FullAccessToken([]byte("beta-secret"), "acme", "doc1", "u1"), realtime.ReasonTokenInvalid},
		{"another tenant's name", realtimetest.FullAccessToken(first, "beta", "doc1", "u1"), realtime.ReasonTokenInvalid},
		{"vector C", vectorC, realtime.ReasonTokenInvalid},
		{"vector E", vectorE, realtime.ReasonTokenInvalid},
		{"expired", realtimetest.FullAccessToken(first, "acme", "doc1", "u1", realtimetest.Lifetime(-time.Second)), realtime.ReasonTokenExpired},
	}
	for _, c := range cases {
		_, err := authenticate(auth, c.token)
		wantReason(t, err, c.want, c.token)
		if _, ok := errors.AsType[*realtime.Error](err); ok {
			t.Errorf("%s: the client would be shown the code of %v", c.name, err)
		}
	}
}

// The race detector is what this test is for.
func TestTenantsMayChangeWhileTokensAreChecked(t *testing.T) {
	tenants := newTenants(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 50 {
				_, err := tenants.Verify("acme", vectorB)
				if code := codeOf(t, err); code != "" && code != "unknown_tenant" {
					t.Errorf("got %q", code)
				}
			}
		})
	}
	group.Go(func() {
		for range 50 {
			tenants.Unregister("acme")
			_ = tenants.Register("acme", first, second)
			_, _ = tenants.Regenerate("acme", 1)
			_, _ = tenants.Secrets("acme")
			tenants.MaxTokenLifetime(0)
		}
	})
	group.Wait()
}

func FuzzTenantToken(f *testing.F) {
	tenants := newTenants(f)
	for _, vector := range []string{vectorA, vectorB, vectorC, vectorD, vectorE, "a.b.c"} {
		f.Add(vector)
	}
	f.Fuzz(func(t *testing.T, token string) {
		_, err := tenants.Verify("acme", token)
		if err == nil && token != vectorA && token != vectorB {
			t.Errorf("accepted %q", token)
		}
		if _, err := authenticate(tenants.Authenticator(), token); err == nil && token != vectorA && token != vectorB {
			t.Errorf("authenticated %q", token)
		}
	})
}
