package realtimetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// TokenOption changes one thing in a token that is being minted.
type TokenOption func(header, claims map[string]any)

// Token mints a JWT for user (the sub claim), signed with HS256 under secret and
// good for an hour. It panics if an option holds a value that JSON cannot carry.
//
// The options make the tokens that a server must refuse, too:
//
//	Token(secret, "u1", Lifetime(-time.Minute))          // expired
//	Token(secret, "u1", Claim("exp", nil))               // never expires
//	Token(secret, "u1", Claim("aud", "another service"))
//	Token([]byte("another secret"), "u1")
func Token(secret []byte, user string, opts ...TokenOption) string {
	return mint(secret, map[string]any{"sub": user}, opts)
}

// FullAccessToken mints a token for one document of a tenant with the scopes
// doc:read, doc:write and summary:write, signed with one of the tenant's secrets
// and good for an hour.
func FullAccessToken(secret []byte, tenant, document, user string, opts ...TokenOption) string {
	return tenantToken(secret, tenant, document, user, []string{"doc:read", "doc:write", "summary:write"}, opts)
}

// ReadOnlyToken is [FullAccessToken] with the scope doc:read alone.
func ReadOnlyToken(secret []byte, tenant, document, user string, opts ...TokenOption) string {
	return tenantToken(secret, tenant, document, user, []string{"doc:read"}, opts)
}

// Claim sets a claim; the value nil removes it.
func Claim(name string, value any) TokenOption {
	return func(_, claims map[string]any) { set(claims, name, value) }
}

// Header sets a field of the token's header, kid for example; the value nil
// removes it. The signature stays HS256, whatever alg then says.
func Header(name string, value any) TokenOption {
	return func(header, _ map[string]any) { set(header, name, value) }
}

// Lifetime sets exp to that long from now; if it is negative the token has
// expired.
func Lifetime(d time.Duration) TokenOption {
	return Claim("exp", time.Now().Add(d).Unix())
}

func tenantToken(secret []byte, tenant, document, user string, scopes []string, opts []TokenOption) string {
	return mint(secret, map[string]any{
		"tenantId": tenant, "documentId": document, "scopes": scopes,
		"user": map[string]any{"id": user}, "ver": "1.0",
	}, opts)
}

func mint(secret []byte, claims map[string]any, opts []TokenOption) string {
	header := map[string]any{"alg": "HS256", "typ": "JWT"}
	now := time.Now()
	claims["iat"] = now.Unix()
	claims["exp"] = now.Add(time.Hour).Unix()
	for _, opt := range opts {
		opt(header, claims)
	}
	signed := encode(header) + "." + encode(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func set(fields map[string]any, name string, value any) {
	if value == nil {
		delete(fields, name)
		return
	}
	fields[name] = value
}

func encode(fields map[string]any) string {
	text, err := json.Marshal(fields)
	if err != nil {
		panic(fmt.Sprintf("realtimetest: token: %v", err))
	}
	return base64.RawURLEncoding.EncodeToString(text)
}
