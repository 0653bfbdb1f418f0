package redistest

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// Start is [New] for a test, which ends the server. If Redis is not installed the
// test is skipped, and fails with CI=true.
func Start(t testing.TB, config ...string) *Server {
	t.Helper()
	s, err := New(config...)
	need(t, err)
	own(t, s)
	return s
}

// StartReplica is [NewReplica] for a test.
func StartReplica(t testing.TB, of *Server, config ...string) *Server {
	t.Helper()
	s, err := NewReplica(of, config...)
	need(t, err)
	own(t, s)
	return s
}

// StartSentinel is [NewSentinel] for a test.
func StartSentinel(t testing.TB, config ...string) *Sentinel {
	t.Helper()
	s, err := NewSentinel(config...)
	need(t, err)
	for _, one := range s.all() {
		own(t, one)
	}
	return s
}

// StartCluster is [NewCluster] for a test.
func StartCluster(t testing.TB, config ...string) *Cluster {
	t.Helper()
	c, err := NewCluster(config...)
	need(t, err)
	for _, one := range c.Masters {
		own(t, one)
	}
	return c
}

// StartProxy is [NewProxy] for a test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// need ends a test that cannot have its Redis.
func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true":
		t.Skip("SKIPPED: Redis is not installed")
	case err != nil:
		t.Fatal(err)
	}
}

// own has the test end the server, show its log if it fails, and fail with it.
func own(t testing.TB, s *Server) {
	s.fail = func(err error) error {
		t.Helper()
		t.Error(err)
		return err
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of redis-server %s:\n%s", s.Addr, s.Log())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
