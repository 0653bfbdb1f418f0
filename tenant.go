package realtime

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Codes of the errors of [Tenants] (document.md sections 3.3 and 4.2).
const (
	CodeUnknownTenant    = "unknown_tenant"
	CodeInvalidToken     = "invalid_token"
	CodeInvalidSignature = "invalid_signature"
	CodeMissingClaims    = "missing_claims"
	CodeTokenNotYetValid = "token_not_yet_valid"
	CodeTenantNotFound   = "tenant_not_found"
	CodeInvalidSlot      = "invalid_slot"
)

// Tenants are the tenants that may sign tokens, each with two secrets. Both are
// good for checking, so that one can be replaced while tokens signed with the
// other go on working: hand out secret 2, regenerate 1, hand out 1, regenerate 2.
//
// Tenants come and go at run time, and all methods are safe for concurrent use.
// Nothing here touches standing connections.
type Tenants struct {
	mu       sync.RWMutex // guards the following
	tenants  map[string]tenant
	lifetime time.Duration
}

// tenant is never changed; a new secret makes a new tenant.
type tenant struct {
	name    string
	secrets [2][]byte
}

// NewTenants returns an empty set of tenants.
func NewTenants() *Tenants { return &Tenants{tenants: make(map[string]tenant)} }

// Create adds a tenant under a new id and returns its two new secrets. name is
// for people; only [Tenants.All] shows it.
func (t *Tenants) Create(name string) (id string, secrets [2][]byte) {
	id = strings.ToLower(rand.Text())
	secrets = [2][]byte{newSecret(), newSecret()}
	t.put(id, tenant{name, secrets})
	return id, copySecrets(secrets)
}

// Register adds a tenant with one or two secrets, which are copied; with one,
// the second is random. Registering again replaces both. The id must be free of
// colons, which part the names of topics, and a secret must not be empty, since
// anyone can sign with an empty one.
func (t *Tenants) Register(id string, secrets ...[]byte) error {
	if id == "" || strings.Contains(id, ":") {
		return fmt.Errorf("realtime: tenant id %q is empty or has a colon", id)
	}
	if len(secrets) < 1 || len(secrets) > 2 {
		return fmt.Errorf("realtime: tenant %q with %d secrets, want one or two", id, len(secrets))
	}
	slots := [2][]byte{nil, newSecret()}
	for i, secret := range secrets {
		if len(secret) == 0 {
			return fmt.Errorf("realtime: secret %d of tenant %q is empty", i+1, id)
		}
		slots[i] = slices.Clone(secret)
	}
	if bytes.Equal(slots[0], slots[1]) {
		return fmt.Errorf("realtime: the secrets of tenant %q are equal: replacing one would not end its tokens", id)
	}
	t.put(id, tenant{secrets: slots})
	return nil
}

// Unregister removes a tenant; its tokens fail from now on. An unknown id is no
// error.
func (t *Tenants) Unregister(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tenants, id)
}

// Secrets returns a copy of a tenant's secrets, the signing one first, or an
// [*Error] with [CodeTenantNotFound].
func (t *Tenants) Secrets(id string) ([2][]byte, error) {
	one, _, ok := t.get(id)
	if !ok {
		return [2][]byte{}, errTenantNotFound()
	}
	return copySecrets(one.secrets), nil
}

// Regenerate puts a new secret in slot 1 or 2 and returns it. Tokens signed with
// the old one fail at once. Its error is an [*Error] with [CodeTenantNotFound]
// or [CodeInvalidSlot].
func (t *Tenants) Regenerate(id string, slot int) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, ok := t.tenants[id]
	if !ok {
		return nil, errTenantNotFound()
	}
	if slot != 1 && slot != 2 {
		return nil, &Error{Code: CodeInvalidSlot, Text: fmt.Sprintf("No slot %d: a tenant has 1 and 2", slot), Retry: RetryNever}
	}
	secret := newSecret()
	one.secrets[slot-1] = secret
	t.tenants[id] = one
	return slices.Clone(secret), nil
}

// All yields the id and the name of every tenant at the time of the call, in no
// order.
func (t *Tenants) All() iter.Seq2[string, string] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := make(map[string]string, len(t.tenants))
	for id, one := range t.tenants {
		names[id] = one.name
	}
	return func(yield func(string, string) bool) {
		for id, name := range names {
			if !yield(id, name) {
				return
			}
		}
	}
}

// MaxTokenLifetime refuses tokens whose exp is later than their iat by more than
// d, and those without iat. 0, the default, allows any.
func (t *Tenants) MaxTokenLifetime(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lifetime = d
}

// Verify checks a token against the secrets of tenant, which the caller knows
// from elsewhere than the token: steps 1 to 5 of document.md section 4.3. The
// caller has still to compare the identity's Tenant and the document with those
// that it is about, and to look at the scopes.
//
// Its error is an [*Error] with one of the codes above or "token_expired", its
// text that of document.md section 3.3.
func (t *Tenants) Verify(tenant, token string) (*Identity, error) {
	one, lifetime, ok := t.get(tenant)
	if !ok {
		return nil, tokenError(CodeUnknownTenant, "Unknown tenant")
	}
	parsed, err := parseToken(token)
	if err != nil {
		return nil, tokenError(CodeInvalidToken, "Invalid token: malformed")
	}
	if !one.signed(parsed) {
		return nil, tokenError(CodeInvalidSignature, "Invalid token signature")
	}
	return tenantIdentity(parsed.payload, lifetime, time.Now())
}

// Authenticator accepts at the handshake what [Tenants.Verify] accepts; the
// tenant is the one that the token's tenantId claim names. Every refusal but
// that of an expired token is [ReasonTokenInvalid], so that a stranger cannot
// find out which tenants there are; the error's text, for the log, has the code.
func (t *Tenants) Authenticator() Authenticator {
	return func(_ *http.Request, token string) (*Identity, error) {
		if token == "" {
			return nil, ReasonUnauthenticated
		}
		tenant, err := unverifiedTenant(token)
		if err != nil {
			return nil, invalid(err)
		}
		id, err := t.Verify(tenant, token)
		if refusal, ok := errors.AsType[*Error](err); ok {
			reason := ReasonTokenInvalid
			if refusal.Code == string(ReasonTokenExpired) {
				reason = ReasonTokenExpired
			}
			return nil, fmt.Errorf("%w: tenant %.128q: %s: %s", reason, tenant, refusal.Code, refusal.Text)
		}
		return id, err
	}
}

// unverifiedTenant reads the claim that says whose secret to try. What it
// returns is only a guess until the signature is checked with that secret.
func unverifiedTenant(token string) (string, error) {
	parsed, err := parseToken(token)
	if err != nil {
		return "", err
	}
	claims, err := parseClaims(parsed.payload)
	if err != nil {
		return "", err
	}
	var tenant string
	if err := claims.text("tenantId", &tenant); err != nil {
		return "", err
	}
	return tenant, nil
}

// signed says whether one of the tenant's secrets made the signature. HS256 is
// the only algorithm (document.md section 4.1); kid and the like are ignored.
func (t tenant) signed(token *jws) bool {
	if token.critical() {
		return false
	}
	for _, secret := range t.secrets {
		if len(secret) > 0 && token.signedBy(jwtKey{alg: "HS256", key: secret}) {
			return true
		}
	}
	return false
}

// tenantIdentity checks the claims of a payload whose signature was right.
func tenantIdentity(payload []byte, lifetime time.Duration, now time.Time) (*Identity, error) {
	claims, err := parseClaims(payload)
	if err != nil {
		return nil, tokenError(CodeInvalidToken, "Invalid token: malformed")
	}
	c, missing := readDocumentClaims(claims)
	if lifetime > 0 && c.issued.IsZero() && !slices.Contains(missing, "iat") {
		missing = append(missing, "iat")
	}
	if len(missing) > 0 {
		return nil, tokenError(CodeMissingClaims, "Invalid token: missing claims: "+strings.Join(missing, ", "))
	}
	switch {
	case !now.Before(c.expires):
		return nil, tokenError(string(ReasonTokenExpired), "Token has expired")
	case now.Before(c.notBefore):
		return nil, tokenError(CodeTokenNotYetValid, "Invalid token: not yet valid")
	case lifetime > 0 && c.expires.Sub(c.issued) > lifetime:
		return nil, tokenError(CodeInvalidToken, "Invalid token: lifetime too long")
	}
	return &Identity{
		User: c.user, TokenID: c.tokenID, Tenant: c.tenant, Scopes: c.scopes,
		Expires: c.expires, Claims: payload,
	}, nil
}

// documentClaims are the claims of document.md section 4.1.
type documentClaims struct {
	document, tenant, user, tokenID string
	scopes                          []string
	issued, notBefore, expires      time.Time
}

// readDocumentClaims also returns the names of the claims that are missing or
// have the wrong type, in the order of the table.
func readDocumentClaims(claims claims) (c documentClaims, missing []string) {
	check := func(name string, needed bool, err error) {
		if err != nil || (needed && !claims.has(name)) {
			missing = append(missing, name)
		}
	}
	check("documentId", true, claims.text("documentId", &c.document))
	check("tenantId", true, claims.text("tenantId", &c.tenant))
	var err error
	c.scopes, err = claims.strings("scopes")
	check("scopes", true, err)
	check("user", true, claims.nested("user", "id", &c.user))
	c.expires, _, err = claims.time("exp")
	check("exp", true, err)
	c.notBefore, _, err = claims.time("nbf")
	check("nbf", false, err)
	c.issued, _, err = claims.time("iat")
	check("iat", false, err)
	check("jti", false, claims.text("jti", &c.tokenID))
	return c, missing
}

func (t *Tenants) get(id string) (tenant, time.Duration, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	one, ok := t.tenants[id]
	return one, t.lifetime, ok
}

func (t *Tenants) put(id string, one tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tenants[id] = one
}

// newSecret returns 32 random bytes as 64 lower-case hex digits, the form in
// which other services keep them; the key is the text.
func newSecret() []byte {
	var random [32]byte
	rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	return hex.AppendEncode(nil, random[:])
}

func copySecrets(secrets [2][]byte) [2][]byte {
	return [2][]byte{slices.Clone(secrets[0]), slices.Clone(secrets[1])}
}

func tokenError(code, text string) *Error {
	return &Error{Code: code, Text: text, Retry: RetryNewToken}
}

func errTenantNotFound() *Error {
	return &Error{Code: CodeTenantNotFound, Text: "Tenant not found", Retry: RetryNever}
}
