// Package jwks gives a realtime server the keys that an identity provider
// publishes as a JSON Web Key Set (RFC 7517), and keeps up with them:
//
//	keys, err := jwks.URL(ctx, "https://id.example.com/.well-known/jwks.json")
//	auth, err := realtime.JWT(keys, realtime.Issuer("https://id.example.com/"), realtime.Audience("chat"))
//
// It is a module of its own so that servers with fixed keys do not depend on the
// library that reads key sets.
package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

const (
	// defaultInterval is how long a key that its owner withdrew may still be
	// believed. New keys are noticed earlier: by the first token that names one.
	defaultInterval = time.Hour

	// retryInterval is the wait after a load that failed.
	retryInterval = 30 * time.Second

	// loadTimeout bounds one load, and so how long a handshake waits for a key.
	loadTimeout = 10 * time.Second

	// forcedInterval bounds the loads that tokens with unknown kids can cause.
	forcedInterval = 10 * time.Second

	// maxSetBytes bounds a set. Large providers publish about 20 KB.
	maxSetBytes = 512 << 10
)

// Option is one setting of [URL] or [File].
type Option func(*config) error

type config struct {
	interval  time.Duration
	client    *http.Client
	logger    *slog.Logger
	plainHTTP bool
}

// Interval is how often the set is loaded anew: every hour by default, and up to
// a tenth earlier, so that many servers do not ask at the same time.
func Interval(interval time.Duration) Option {
	return func(c *config) error {
		if interval < time.Second {
			return fmt.Errorf("jwks: interval of %v is shorter than 1s", interval)
		}
		c.interval = interval
		return nil
	}
}

// Client is the HTTP client to use instead of one with default settings, for
// example to trust a private authority. It is copied; its CheckRedirect, if nil,
// becomes one that holds redirects to the rules of [URL].
func Client(client *http.Client) Option {
	return func(c *config) error {
		if client == nil {
			return errors.New("jwks: nil client")
		}
		c.client = client
		return nil
	}
}

// Logger is told about loads that failed and keys that were left out, instead of
// slog.Default().
func Logger(logger *slog.Logger) Option {
	return func(c *config) error {
		if logger == nil {
			return errors.New("jwks: nil logger")
		}
		c.logger = logger
		return nil
	}
}

// AllowHTTP accepts http:// URLs of other hosts than this one. Whoever can
// change what such a server answers can sign tokens: use it only in a network
// where nobody can.
func AllowHTTP() Option {
	return func(c *config) error {
		c.plainHTTP = true
		return nil
	}
}

// URL returns an option for [realtime.JWT] that finds keys in the set at
// address, which must be https, or http on a loopback address.
//
// It blocks for the first load, at most 10 s. If that fails the error is logged,
// tokens are refused as [realtime.ReasonInternal], and the load is tried again;
// URL itself fails only for mistakes in its arguments. Later the set is loaded
// at intervals, and when a token names an unknown kid, at most every 10 s.
// While loads fail the last set stands. A goroutine does this until ctx ends.
//
// A key is used with the algorithm that its alg member names; without one, with
// RS256, EdDSA, or the ECDSA algorithm of its curve. Symmetric keys, private
// keys, keys for encryption and those that cannot be read are left out. A token
// without kid is accepted if one key alone has its algorithm.
func URL(ctx context.Context, address string, opts ...Option) (realtime.JWTOption, error) {
	c, err := configure(opts)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	if err := c.checkURL(u); err != nil {
		return nil, err
	}
	client := http.Client{}
	if c.client != nil {
		client = *c.client
	}
	if client.CheckRedirect == nil {
		client.CheckRedirect = c.checkRedirect
	}
	s := newSet(ctx, c, u.Redacted(), func(ctx context.Context) ([]byte, error) {
		return fetch(ctx, &client, address)
	})
	s.start()
	return realtime.KeySource(s.find), nil
}

// File is [URL] for a set in a file, which is read again in the same way, so
// that replacing the file replaces the keys. Unlike URL it fails if the first
// load does: a file that is not there now is a mistake.
func File(ctx context.Context, path string, opts ...Option) (realtime.JWTOption, error) {
	c, err := configure(opts)
	if err != nil {
		return nil, err
	}
	s := newSet(ctx, c, path, func(context.Context) ([]byte, error) {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return readBounded(file)
	})
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	s.start()
	return realtime.KeySource(s.find), nil
}

func configure(opts []Option) (*config, error) {
	c := &config{interval: defaultInterval, logger: slog.Default()}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("jwks: nil option")
		}
		if err := opt(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *config) checkURL(u *url.URL) error {
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
	switch {
	case u.Host == "":
		return fmt.Errorf("jwks: %q is not an absolute URL", u.Redacted())
	case u.Scheme == "https", u.Scheme == "http" && (loopback || c.plainHTTP):
		return nil
	}
	return fmt.Errorf("jwks: %q is not https: whoever can change the answer can sign tokens (AllowHTTP permits http)", u.Redacted())
}

// checkRedirect keeps a redirect from leading out of https.
func (c *config) checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errors.New("jwks: more than 5 redirects")
	}
	return c.checkURL(r.URL)
}

func fetch(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}
	return readBounded(response.Body)
}

func readBounded(from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxSetBytes+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxSetBytes {
		return nil, fmt.Errorf("set is larger than %d bytes", maxSetBytes)
	}
	return body, nil
}
