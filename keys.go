package realtime

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"
)

// JWTOption is one setting of [JWT]: a key or a check.
type JWTOption func(*jwtConfig) error

// jwtConfig is what the options of one [JWT] call add up to. It is not changed
// after that.
type jwtConfig struct {
	keys         []jwtKey
	sources      []keySource
	audiences    []string
	issuer       string
	leeway       time.Duration
	userClaim    string
	expiryNeeded bool
}

// jwtKey is a key with the one algorithm that it may be used with. Taking the
// algorithm from the token instead is how an RSA public key becomes an HMAC
// secret (RFC 8725 section 2.1).
type jwtKey struct {
	kid string // "" for a key without a name
	alg string
	key any
}

type keySource func(ctx context.Context, kid, alg string) (key any, keyAlg string, err error)

// maxUnnamedKeys bounds the signatures that one token without kid can make the
// server compute. Two are a rotation; eight leave room.
const maxUnnamedKeys = 8

// minRSABits is the smallest RSA key that RFC 7518 sections 3.3 and 3.5 allow.
const minRSABits = 2048

// maxLeeway is where a difference between clocks stops being one and becomes a
// longer life for every token.
const maxLeeway = 5 * time.Minute

// HS256 accepts tokens signed with HMAC and SHA-256 under secret, which is
// copied. An empty secret is refused, since anyone can sign with it. RFC 7518
// section 3.2 asks for at least 32 bytes (48 for HS384, 64 for HS512); that is
// not enforced, because secrets that another system chose must go on working,
// but a secret that people can remember can be guessed from a single token.
//
// kid is the key's name: tokens whose header names another are not tried
// against it. "" is a key without a name, for tokens whose header has no kid.
func HS256(kid string, secret []byte) JWTOption { return hmacKey(kid, "HS256", secret) }

// HS384 is [HS256] with SHA-384.
func HS384(kid string, secret []byte) JWTOption { return hmacKey(kid, "HS384", secret) }

// HS512 is [HS256] with SHA-512.
func HS512(kid string, secret []byte) JWTOption { return hmacKey(kid, "HS512", secret) }

// RS256 accepts tokens signed with RSASSA-PKCS1-v1_5 and SHA-256. The key must
// have at least 2048 bits (RFC 7518 section 3.3). For kid see [HS256].
func RS256(kid string, key *rsa.PublicKey) JWTOption { return addKey(kid, "RS256", key) }

// RS384 is [RS256] with SHA-384.
func RS384(kid string, key *rsa.PublicKey) JWTOption { return addKey(kid, "RS384", key) }

// RS512 is [RS256] with SHA-512.
func RS512(kid string, key *rsa.PublicKey) JWTOption { return addKey(kid, "RS512", key) }

// PS256 accepts tokens signed with RSASSA-PSS and SHA-256. The key must have at
// least 2048 bits (RFC 7518 section 3.5). For kid see [HS256].
func PS256(kid string, key *rsa.PublicKey) JWTOption { return addKey(kid, "PS256", key) }

// PS384 is [PS256] with SHA-384.
func PS384(kid string, key *rsa.PublicKey) JWTOption { return addKey(kid, "PS384", key) }

// PS512 is [PS256] with SHA-512.
func PS512(kid string, key *rsa.PublicKey) JWTOption { return addKey(kid, "PS512", key) }

// ES256 accepts tokens signed with ECDSA on P-256. For kid see [HS256].
func ES256(kid string, key *ecdsa.PublicKey) JWTOption { return addKey(kid, "ES256", key) }

// ES384 is [ES256] on P-384.
func ES384(kid string, key *ecdsa.PublicKey) JWTOption { return addKey(kid, "ES384", key) }

// ES512 is [ES256] on P-521.
func ES512(kid string, key *ecdsa.PublicKey) JWTOption { return addKey(kid, "ES512", key) }

// EdDSA accepts tokens signed with Ed25519. For kid see [HS256].
func EdDSA(kid string, key ed25519.PublicKey) JWTOption { return addKey(kid, "EdDSA", key) }

// KeySource asks source for the keys that the other options do not have: when a
// token names an unknown kid, or has none and no other key of its algorithm
// fits. kid and alg are the token's and not to be trusted; the token is accepted
// only if alg equals keyAlg, the algorithm that source knows to belong to key,
// so a source must never answer with the alg it was given unless it checked it.
// key has the type that [HS256], [RS256] and the others take.
//
// source may block as long as ctx allows and is called from many goroutines. A
// fault that is not the client's should wrap [ReasonInternal]; any other error
// means that there is no such key.
func KeySource(source func(ctx context.Context, kid, alg string) (key any, keyAlg string, err error)) JWTOption {
	return func(c *jwtConfig) error {
		if source == nil {
			return errors.New("realtime: KeySource without a function")
		}
		c.sources = append(c.sources, source)
		return nil
	}
}

// Audience accepts tokens whose aud claim holds one of audiences, and no others.
// Without it a token that has an audience is refused, since it was made for
// somebody else (RFC 7519 section 4.1.3).
func Audience(audiences ...string) JWTOption {
	return func(c *jwtConfig) error {
		if len(audiences) == 0 || slices.Contains(audiences, "") {
			return errors.New("realtime: Audience needs names that are not empty")
		}
		c.audiences = append(c.audiences, audiences...)
		return nil
	}
}

// Issuer accepts tokens whose iss claim equals issuer, and no others. Without it
// iss is not looked at.
func Issuer(issuer string) JWTOption {
	return func(c *jwtConfig) error {
		if issuer == "" {
			return errors.New("realtime: Issuer needs a name")
		}
		c.issuer = issuer
		return nil
	}
}

// Leeway is how far the issuer's clock may be from this one when exp, nbf and
// iat are checked: 0 by default, at most 5 minutes. A token's [Identity.Expires]
// is later than its exp by as much.
func Leeway(leeway time.Duration) JWTOption {
	return func(c *jwtConfig) error {
		if leeway < 0 || leeway > maxLeeway {
			return fmt.Errorf("realtime: leeway of %v is not between 0 and %v", leeway, maxLeeway)
		}
		c.leeway = leeway
		return nil
	}
}

// UserClaim names the claim that becomes [Identity.User]: a string that is not
// empty or a whole number. The default is "sub".
func UserClaim(name string) JWTOption {
	return func(c *jwtConfig) error {
		if name == "" {
			return errors.New("realtime: UserClaim needs a name")
		}
		c.userClaim = name
		return nil
	}
}

// OptionalExpiry accepts tokens without exp, whose connections never expire.
// Without it they are refused: a token that leaks once would be good for ever.
func OptionalExpiry() JWTOption {
	return func(c *jwtConfig) error {
		c.expiryNeeded = false
		return nil
	}
}

func hmacKey(kid, alg string, secret []byte) JWTOption {
	return addKey(kid, alg, slices.Clone(secret))
}

func addKey(kid, alg string, key any) JWTOption {
	return func(c *jwtConfig) error {
		if err := checkKey(alg, key); err != nil {
			return fmt.Errorf("realtime: key %q: %w", kid, err)
		}
		c.keys = append(c.keys, jwtKey{kid, alg, key})
		return nil
	}
}

// check refuses what no token could pass or what the rules cannot tell apart.
func (c *jwtConfig) check() error {
	if len(c.keys) == 0 && len(c.sources) == 0 {
		return errors.New("realtime: JWT without a key: give it HS256, RS256, … or KeySource")
	}
	unnamed := 0
	named := make(map[string]bool)
	for _, k := range c.keys {
		switch {
		case k.kid == "":
			unnamed++
		case named[k.kid]:
			return fmt.Errorf("realtime: two keys with kid %q", k.kid)
		}
		named[k.kid] = true
	}
	if unnamed > maxUnnamedKeys {
		return fmt.Errorf("realtime: %d keys without kid, the most is %d", unnamed, maxUnnamedKeys)
	}
	return nil
}

// candidates returns the keys that may verify a token with this kid and
// algorithm: the one that kid names, or without kid all of the algorithm, the
// nameless first, as many as the bound allows.
func (c *jwtConfig) candidates(kid, alg string) []jwtKey {
	var fit []jwtKey
	for _, k := range c.keys {
		if k.alg != alg || (kid != "" && k.kid != kid) {
			continue
		}
		fit = append(fit, k)
	}
	slices.SortStableFunc(fit, func(a, b jwtKey) int { return min(len(a.kid), 1) - min(len(b.kid), 1) })
	return fit[:min(len(fit), maxUnnamedKeys)]
}

// named says whether an option, as opposed to a source, has a key called kid.
func (c *jwtConfig) named(kid string) bool {
	return kid != "" && slices.ContainsFunc(c.keys, func(k jwtKey) bool { return k.kid == kid })
}

// checkKey says whether key may be used with alg. It guards the keys of the
// options and, while serving, those of a [KeySource].
func checkKey(alg string, key any) error {
	switch alg {
	case "HS256", "HS384", "HS512":
		if k, ok := key.([]byte); !ok || len(k) == 0 {
			return fmt.Errorf("%s needs a secret that is not empty", alg)
		}
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		k, ok := key.(*rsa.PublicKey)
		if !ok || k == nil || k.N == nil || k.N.BitLen() < minRSABits {
			return fmt.Errorf("%s needs an *rsa.PublicKey of at least %d bits", alg, minRSABits)
		}
	case "ES256":
		return checkCurve(alg, key, elliptic.P256())
	case "ES384":
		return checkCurve(alg, key, elliptic.P384())
	case "ES512":
		return checkCurve(alg, key, elliptic.P521())
	case "EdDSA":
		if k, ok := key.(ed25519.PublicKey); !ok || len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("%s needs an ed25519.PublicKey of %d bytes", alg, ed25519.PublicKeySize)
		}
	default:
		return fmt.Errorf("unknown algorithm %q", alg)
	}
	return nil
}

func checkCurve(alg string, key any, curve elliptic.Curve) error {
	k, ok := key.(*ecdsa.PublicKey)
	if !ok || k == nil || k.Curve != curve {
		return fmt.Errorf("%s needs an *ecdsa.PublicKey on %s", alg, curve.Params().Name)
	}
	if _, err := k.ECDH(); err != nil { // also fails for a point that is not on the curve
		return fmt.Errorf("%s: %w", alg, err)
	}
	return nil
}
