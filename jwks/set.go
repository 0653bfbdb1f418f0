package jwks

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/seed-58bc6ac1/realtime"
)

// set is a key set and what keeps it fresh.
type set struct {
	// Set by newSet, never changed.
	*config
	ctx    context.Context // the life of the set
	source string          // for people
	read   func(context.Context) ([]byte, error)

	loaded atomic.Pointer[outcome] // nil before the first load

	mu      sync.Mutex    // guards the following
	current chan struct{} // closed when the load that is under way ends; nil without one
	forced  time.Time     // when a token last caused a load
}

// outcome is the last load's keys and error. After an error the keys are those
// of the load before.
type outcome struct {
	keys []key
	err  error
}

// key is one usable key of the set with the only algorithm it is used with.
type key struct {
	kid, alg string
	key      any
}

func newSet(ctx context.Context, c *config, source string, read func(context.Context) ([]byte, error)) *set {
	return &set{config: c, ctx: ctx, source: source, read: read}
}

// start loads the set if nobody has and begins to refresh it.
func (s *set) start() {
	if s.loaded.Load() == nil {
		_ = s.load() // logged, and kept for find
	}
	go s.refreshLoop()
}

// refreshLoop loads the set again and again until its context ends.
func (s *set) refreshLoop() {
	for {
		wait := s.interval - rand.N(s.interval/10)
		if s.loaded.Load().err != nil {
			wait = min(wait, retryInterval)
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			<-s.begin()
		}
	}
}

// find is the realtime.KeySource.
func (s *set) find(ctx context.Context, kid, alg string) (any, string, error) {
	last := s.loaded.Load()
	k, err := last.find(kid, alg)
	if (err != nil && kid != "") || last.keys == nil {
		if err := s.force(ctx); err != nil {
			return nil, "", err
		}
		last = s.loaded.Load()
		k, err = last.find(kid, alg)
	}
	if err != nil && last.err != nil {
		return nil, "", fmt.Errorf("%w: keys of %s: %v", realtime.ReasonInternal, s.source, last.err)
	}
	return k.key, k.alg, err
}

// find returns the key called kid, with the algorithm alg if several are; for an
// empty kid the only key with that algorithm.
func (o *outcome) find(kid, alg string) (key, error) {
	var fit []key
	for _, k := range o.keys {
		if k.alg == alg && (kid == "" || k.kid == kid) {
			fit = append(fit, k)
		}
	}
	switch {
	case len(fit) == 1, len(fit) > 1 && kid != "":
		return fit[0], nil
	case len(fit) > 1:
		return key{}, fmt.Errorf("%d keys may have signed a token without kid", len(fit))
	}
	if i := slices.IndexFunc(o.keys, func(k key) bool { return kid != "" && k.kid == kid }); i >= 0 {
		return o.keys[i], nil // its algorithm is another, so the token will be refused
	}
	return key{}, errors.New("no such key in the set")
}

// force loads the set because of a token, or waits for the load that is under
// way; soon after another forced load it does nothing. Its error holds
// ReasonInternal: ctx ended.
func (s *set) force(ctx context.Context) error {
	s.mu.Lock()
	done := s.current
	if done == nil && (s.forced.IsZero() || time.Since(s.forced) >= forcedInterval) {
		s.forced = time.Now()
		done = s.beginLocked()
	}
	s.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for the keys of %s: %w", realtime.ReasonInternal, s.source, context.Cause(ctx))
	}
}

// begin starts a load unless one is under way, and returns what closes when it
// ends.
func (s *set) begin() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beginLocked()
}

// beginLocked: the load has a goroutine of its own, which ends within
// loadTimeout, since it must not end with the one request that caused it.
func (s *set) beginLocked() chan struct{} {
	if s.current != nil {
		return s.current
	}
	done := make(chan struct{})
	s.current = done
	go func() {
		_ = s.load() // logged, and kept for find
		s.mu.Lock()
		s.current = nil
		s.mu.Unlock()
		close(done)
	}()
	return done
}

// load reads the set once. What it finds replaces the keys, so that one which is
// no longer published is no longer believed; an error replaces nothing.
func (s *set) load() error {
	ctx, cancel := context.WithTimeout(s.ctx, loadTimeout)
	defer cancel()
	next := new(outcome)
	body, err := s.read(ctx)
	if err == nil {
		next.keys, err = s.parse(body)
	}
	if err != nil {
		next.err = fmt.Errorf("load %s: %w", s.source, err)
		if last := s.loaded.Load(); last != nil {
			next.keys = last.keys
		}
		if s.ctx.Err() == nil {
			s.logger.Error("jwks: keys not loaded", "source", s.source, "error", err, "keys_kept", len(next.keys))
		}
	}
	s.loaded.Store(next)
	return next.err
}

// parse returns the usable keys. A set without any is an error: it is more
// likely to be a fault than meant to shut everybody out.
func (s *set) parse(body []byte) ([]key, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return nil, fmt.Errorf("not a key set: %w", err)
	}
	var keys []key
	for i, raw := range document.Keys {
		k, err := parseKey(raw)
		if err != nil {
			s.logger.Debug("jwks: key left out", "source", s.source, "index", i, "reason", err)
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no usable key among %d", len(document.Keys))
	}
	return keys, nil
}

// parseKey's errors quote nothing: a set published by mistake may hold secrets.
func parseKey(raw json.RawMessage) (key, error) {
	var jwk jose.JSONWebKey
	if json.Unmarshal(raw, &jwk) != nil {
		return key{}, errors.New("unreadable or of an unknown type")
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return key{}, errors.New("not for signatures")
	}
	alg, err := algorithm(jwk)
	if err != nil {
		return key{}, err
	}
	return key{kid: jwk.KeyID, alg: alg, key: jwk.Key}, nil
}

// algorithm returns the key's own algorithm, or the one that its type implies.
func algorithm(jwk jose.JSONWebKey) (string, error) {
	var fit []string
	switch k := jwk.Key.(type) {
	case *rsa.PublicKey:
		fit = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		fit = []string{map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Params().BitSize]}
	case ed25519.PublicKey:
		fit = []string{"EdDSA"}
	default:
		return "", errors.New("not a public key for signatures")
	}
	if jwk.Algorithm == "" {
		return fit[0], nil
	}
	if !slices.Contains(fit, jwk.Algorithm) {
		return "", errors.New("its alg does not belong to its type")
	}
	return jwk.Algorithm, nil
}
