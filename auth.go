package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Identity is who a connection speaks for. It is not changed after the
// authenticator returned it; a refreshed token brings a new one.
type Identity struct {
	User    string          // "" means anonymous
	Session string          // for Disconnect by session; "" if the token names none
	TokenID string          // for Disconnect by token; the jti claim of a JWT
	Tenant  string          // "" without tenants
	Scopes  []string        // what the token allows, in the words of the host
	Expires time.Time       // zero means never
	Claims  json.RawMessage // the token's payload as it came, nil without a token
}

// seat is under which name the identity's connections are counted and found: a
// user of one tenant is not the user of that name in another.
func (id *Identity) seat() string {
	if id.User == "" || id.Tenant == "" {
		return id.User
	}
	return id.Tenant + "\x00" + id.User
}

// HasScope reports whether the identity's token carries scope, letter for letter.
func (id *Identity) HasScope(scope string) bool { return slices.Contains(id.Scopes, scope) }

// Authenticator turns a token into an identity. It is called at the handshake,
// with the request, and for a token that comes in a message, with a request that
// holds only what outlives the handshake: the URL's path and RemoteAddr. token
// is "" if the client brought none.
//
// It may block for as long as the request's context allows. An error that holds
// a [Reason] or an [*Error] decides what the client is told; any other error
// counts as [ReasonTokenInvalid], or [ReasonUnauthenticated] if there was no
// token. A fault that is not the client's should wrap [ReasonInternal].
type Authenticator func(r *http.Request, token string) (*Identity, error)

// anonymous lets everyone in, as nobody.
var anonymous Authenticator = func(*http.Request, string) (*Identity, error) { return &Identity{}, nil }

// JWT returns an [Authenticator] for tokens in JWS compact form (RFC 7515,
// 7519). opts must give at least one key. The header's kid picks the key, and a
// token without kid is tried against the keys of its algorithm, at most eight.
// A key is used with its own algorithm only, whatever the token says.
//
// A token must have an exp that has not passed (but see [OptionalExpiry]), no
// nbf or iat in the future, no crit header, the audience and the issuer that
// were asked for, and a user (see [UserClaim]). The claims become the
// [Identity]: Session from sid, TokenID from jti, Tenant from tenantId, Scopes
// from scope, scopes or scp, each a string with spaces (RFC 8693 section 4.2) or
// an array of strings. Each of these claims, if present, must have its type.
//
// The authenticator's error holds [ReasonUnauthenticated] without a token,
// [ReasonTokenExpired] if the token is past its exp and otherwise good,
// [ReasonInternal] if a [KeySource] says so, and else [ReasonTokenInvalid]. Its
// text says more, for the log, and never holds the token. It blocks only in a
// KeySource, within the request's context.
//
// An error of JWT itself is a mistake in opts.
func JWT(opts ...JWTOption) (Authenticator, error) {
	c := &jwtConfig{userClaim: "sub", expiryNeeded: true}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("realtime: nil JWTOption")
		}
		if err := opt(c); err != nil {
			return nil, err
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return func(r *http.Request, token string) (*Identity, error) {
		return c.authenticate(r.Context(), token)
	}, nil
}

func (c *jwtConfig) authenticate(ctx context.Context, token string) (*Identity, error) {
	if token == "" {
		return nil, ReasonUnauthenticated
	}
	t, err := parseToken(token)
	if err != nil {
		return nil, invalid(err)
	}
	if err := c.verify(ctx, t); err != nil {
		return nil, err
	}
	return c.identity(t.payload)
}

// verify checks the header and the signature of t.
func (c *jwtConfig) verify(ctx context.Context, t *jws) error {
	if t.critical() {
		return invalid(errors.New("crit header"))
	}
	var kid string
	if err := t.header.text("kid", &kid); err != nil {
		return invalid(err)
	}
	for _, k := range c.candidates(kid, t.alg) {
		if t.signedBy(k) {
			return nil
		}
	}
	if c.named(kid) {
		return invalid(fmt.Errorf("key %.64q and algorithm %.16q do not fit the signature", kid, t.alg))
	}
	refusal := fmt.Errorf("no key with kid %.64q and algorithm %.16q fits the signature", kid, t.alg)
	for _, source := range c.sources {
		key, alg, err := source(ctx, kid, t.alg)
		if err == nil {
			err = checkKey(alg, key)
		}
		if err == nil && t.signedBy(jwtKey{kid, alg, key}) {
			return nil
		}
		if reason, ok := errors.AsType[Reason](err); ok && reason == ReasonInternal {
			return fmt.Errorf("key source: %w", err)
		}
		if err != nil {
			refusal = fmt.Errorf("%w; key source: %v", refusal, err)
		}
	}
	return invalid(refusal)
}

// identity checks the claims of a payload whose signature was right, and keeps
// the payload.
func (c *jwtConfig) identity(payload []byte) (*Identity, error) {
	var few [8]claim // as many as most tokens have
	claims, err := appendClaims(few[:0], payload)
	if err != nil {
		return nil, invalid(err)
	}
	if err := c.checkParties(claims); err != nil {
		return nil, invalid(err)
	}
	id := &Identity{Claims: payload}
	for _, field := range []struct {
		claim string
		to    *string
	}{{"sid", &id.Session}, {"jti", &id.TokenID}, {"tenantId", &id.Tenant}} {
		if err := claims.text(field.claim, field.to); err != nil {
			return nil, invalid(err)
		}
	}
	if id.User, err = claims.user(c.userClaim); err != nil {
		return nil, invalid(err)
	}
	if id.Scopes, err = claims.scopes(); err != nil {
		return nil, invalid(err)
	}
	if id.Expires, err = c.checkTimes(claims, time.Now()); err != nil {
		return nil, err
	}
	return id, nil
}

// checkParties checks who made the token and for whom.
func (c *jwtConfig) checkParties(claims claims) error {
	var issuer string
	if err := claims.text("iss", &issuer); err != nil {
		return err
	}
	if c.issuer != "" && issuer != c.issuer {
		return fmt.Errorf("issuer %.128q is not %q", issuer, c.issuer)
	}
	audiences, err := claims.list("aud")
	if err != nil {
		return err
	}
	if len(audiences) == 0 && len(c.audiences) == 0 {
		return nil
	}
	for _, audience := range audiences {
		if slices.Contains(c.audiences, audience) {
			return nil
		}
	}
	return fmt.Errorf("audience %.128q is not in Audience(%q)", audiences, c.audiences)
}

// checkTimes returns when the token ends, the zero time for never. exp comes
// last, so that "expired" means that nothing else was wrong.
func (c *jwtConfig) checkTimes(claims claims, now time.Time) (time.Time, error) {
	for _, name := range []string{"nbf", "iat"} {
		t, ok, err := claims.time(name)
		if err != nil {
			return time.Time{}, invalid(err)
		}
		if ok && now.Add(c.leeway).Before(t) {
			return time.Time{}, invalid(fmt.Errorf("%s is %v in the future", name, t.Sub(now)))
		}
	}
	expires, ok, err := claims.time("exp")
	if err != nil {
		return time.Time{}, invalid(err)
	}
	if !ok && c.expiryNeeded {
		return time.Time{}, invalid(errors.New("no exp claim"))
	}
	if !ok {
		return time.Time{}, nil
	}
	expires = expires.Add(c.leeway)
	if !now.Before(expires) {
		return time.Time{}, fmt.Errorf("%w: %v ago", ReasonTokenExpired, now.Sub(expires))
	}
	return expires, nil
}

// invalid is [ReasonTokenInvalid] with a cause for the log.
func invalid(cause error) error { return fmt.Errorf("%w: %w", ReasonTokenInvalid, cause) }

// signedBy says whether k made the signature of t, by k's algorithm. It is the
// one place where signatures are checked.
func (t *jws) signedBy(k jwtKey) bool {
	if t.alg != k.alg || len(t.signature) == 0 {
		return false
	}
	method := jwt.GetSigningMethod(k.alg)
	return method != nil && method.Verify(t.signed, t.signature, k.key) == nil
}
