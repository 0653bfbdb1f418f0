package redis_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"testing"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime/redis"
)

// moving is an address that points to another server later, as that of a service
// that fails over by itself does.
type moving struct{ to atomic.Pointer[string] }

func openMoving(t *testing.T, m *moving) *redis.Broker {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"moving:1"}, ForceSingleClient: true, DisableCache: true,
		DialCtxFn: func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", *m.to.Load())
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	b := redis.New(client, quick...)
	t.Cleanup(b.Close)
	return b
}
