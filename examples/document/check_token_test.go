package main

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The checks of tokens.

// accepts connects with a token, and leaves.
func (m *member) accepts(token string) {
	m.t.Helper()
	m.connect("write", fields{"token": token})
	m.leave()
	m.join(m.joinRef + "x")
}

// rejects is about a token that has to be refused.
func (m *member) rejects(token string, code int, reason, message string) {
	m.t.Helper()
	m.refused(m.request("write").with(fields{"token": token}), code, reason, message)
}

// forged is rejects for a wrong signature.
func (m *member) forged(token string) {
	m.t.Helper()
	m.rejects(token, 401, "invalid_signature", "Invalid token signature")
}

// lacks is rejects for a claim that is not there, or of the wrong type.
func (m *member) lacks(claim string, claims fields) {
	m.t.Helper()
	m.rejects(mint(secretOne, claims), 401, "missing_claims", "Invalid token: missing claims: "+claim)
}

func TestCheck034_TokensOfBothSecretsAreGood(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.accepts(vectorA)
	m.accepts(vectorB)
}

func TestCheck035_TokenWithoutSignatureIsRefused(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.forged(vectorC)
	m.forged(vectorD)
	h := startHost(t)
	if err := h.tenants.Register("acme", []byte(secretOne)); err != nil {
		t.Fatal(err)
	}
	one := h.joined(t, "acme", "doc1")
	one.forged(vectorD)
	one.forged(vectorB)
	one.accepts(vectorA)
}

func TestCheck036_TokenWithoutEndIsRefused(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.rejects(vectorE, 401, "missing_claims", "Invalid token: missing claims: exp")
	good := claims("doc1")
	for _, exp := range []any{json.RawMessage("null"), "4102444800", fields{}} {
		m.lacks("exp", good.with(fields{"exp": exp}))
	}
	m.lacks("documentId", good.with(fields{"documentId": nil}))
	m.lacks("user", good.with(fields{"user": fields{"name": "no id"}}))
	m.lacks("tenantId", good.with(fields{"tenantId": 5}))
}

func TestCheck037_OtherAlgorithmIsRefused(t *testing.T) {
	text := unsigned(`{"alg":"HS512"}`, claims("doc1").String())
	mac := hmac.New(sha512.New, []byte(secretOne))
	mac.Write([]byte(text))
	m := check(t).joined(t, "acme", "doc1")
	m.forged(text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	for _, header := range []string{`{"alg":"None"}`, `{"alg":"hs256"}`, `{"alg":"HS384"}`, `{"alg":"RS256"}`, `{}`, `{"alg":"HS256","crit":["exp"]}`} {
		m.forged(sealed(secretOne, header, claims("doc1").String()))
	}
	m.accepts(sealed(secretOne, `{"alg":"HS256","kid":"x","jku":"https://example.com","typ":"what"}`, claims("doc1").String()))
}

func TestCheck038_ChangedTokenIsRefused(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.forged(vectorA + "x")
	m.forged(strings.TrimSuffix(vectorA, "c") + "d")
	parts := strings.Split(vectorA, ".")
	admin := base64.RawURLEncoding.EncodeToString([]byte(claims("doc1").with(fields{"user": fields{"id": "root"}}).String()))
	m.forged(parts[0] + "." + admin + "." + parts[2])
}

func TestCheck039_TokenOfAnotherTenantIsRefused(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.forged(mint("beta-secret", claims("doc1").with(fields{"tenantId": "beta"})))
	m.forged(mint("", claims("doc1")))
}

func TestCheck040_ClaimOfAnotherTenantIsRefused(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	for _, tenant := range []string{"beta", "Acme"} {
		m.rejects(mint(secretOne, claims("doc1").with(fields{"tenantId": tenant})), 403, "tenant_mismatch", "Token not valid for this tenant")
	}
}

func TestCheck041_ClaimOfAnotherDocumentIsRefused(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	for _, document := range []string{"doc2", "Doc1", ""} {
		m.rejects(tokenFor(document), 403, "document_mismatch", "Token not valid for this document")
	}
}

func TestCheck042_TokenEnds(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	ends := func(at int64) string { return mint(secretOne, claims("doc1").with(fields{"exp": at})) }
	now := time.Now().Unix()
	m.rejects(ends(now-1), 401, "token_expired", "Token has expired")
	m.rejects(ends(now), 401, "token_expired", "Token has expired")
	m.accepts(ends(now + 60))
}

func TestCheck043_TokenOfTheFutureIsRefused(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	begins := func(at int64) string { return mint(secretOne, claims("doc1").with(fields{"nbf": at})) }
	now := time.Now().Unix()
	m.rejects(begins(now+60), 401, "token_not_yet_valid", "Invalid token: not yet valid")
	m.accepts(begins(now - 1))
}

func TestCheck044_ScopesAreAList(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	for _, scopes := range []any{"doc:read doc:write", json.RawMessage("null"), fields{}, []any{"doc:read", 5}} {
		m.lacks("scopes", claims("doc1").with(fields{"scopes": scopes}))
	}
	m.accepts(vectorA)
}

func TestCheck045_WhatIsNoTokenIsMalformed(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	for _, token := range []string{
		"not-a-jwt", "a.b", vectorA + ".a.b", sealed(secretOne, `{"alg":"HS256"}`, `[]`),
		sealed(secretOne, `[]`, claims("doc1").String()), "...", strings.Repeat("a", 9<<10),
	} {
		m.rejects(token, 401, "invalid_token", "Invalid token: malformed")
	}
}

func TestCheck046_TenantIsLookedUpBeforeTheTokenIsRead(t *testing.T) {
	m := check(t).joined(t, "nobody", "doc1")
	for _, token := range []string{vectorA, "garbage", mint(secretOne, claims("doc1").with(fields{"tenantId": "nobody"}))} {
		m.rejects(token, 401, "unknown_tenant", "Unknown tenant")
	}
}

func TestCheck047_SecretsAreReplacedOneAfterTheOther(t *testing.T) {
	h := host(t)
	m := h.joined(t, "acme", "doc1")
	replace := func(slot int) {
		t.Helper()
		secret, err := h.tenants.Regenerate("acme", slot)
		if err != nil || !regexp.MustCompile(`^[0-9a-f]{64}$`).Match(secret) {
			t.Errorf("slot %d: got %q (%v), want 64 hex digits", slot, secret, err)
		}
		m.accepts(mint(string(secret), claims("doc1")))
	}
	replace(1)
	m.forged(vectorA)
	m.accepts(vectorB)
	replace(2)
	m.forged(vectorB)
	if secret, err := h.tenants.Regenerate("acme", 3); err == nil {
		t.Errorf("slot 3: got %q, want an error", secret)
	}
}

func TestCheck048_ChannelClosesWhenTheTokenEnds(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	b := s.joined(t, "acme", "doc1")
	end := time.Unix(time.Now().Unix()+2, 0)
	b.connect("write", fields{"token": mint(secretOne, claims("doc1").with(fields{"exp": end.Unix()}))})
	a.want(b.joins(2, 0), b.joinSignal())
	b.want("phx_close {}")
	if late := time.Since(end); late < 0 || late > 2*time.Second {
		t.Errorf("closed %v after the token's end, want at most 2s", late)
	}
	a.only(b.leaves(b.id, 3, 0), leaveSignal(b.id))
}
