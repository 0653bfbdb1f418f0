package nats_test

import (
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"

	"github.com/seed-58bc6ac1/realtime/nats"
	"github.com/seed-58bc6ac1/realtime/nats/embedded"
)

// fast has broken connections noticed within a test's time.
var fast = []client.Option{client.MaxReconnects(-1), client.ReconnectBufSize(-1),
	client.ReconnectWait(20 * time.Millisecond), client.ReconnectJitter(0, 0),
	client.ErrorHandler(func(*client.Conn, *client.Subscription, error) {})}

// host is an embedded server that can be stopped and started at the same address.
type host struct {
	t      *testing.T
	server *embedded.Server
	dir    string
	port   int
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), port: server.RANDOM_PORT}
	h.start()
	t.Cleanup(h.stop)
	return h
}

// start starts the server, again at the same address.
func (h *host) start() {
	h.t.Helper()
	var err error
	if h.server, err = embedded.Start(embedded.Store(h.dir), embedded.Address("127.0.0.1", h.port)); err != nil {
		h.t.Fatal(err)
	}
	u, err := url.Parse(h.server.URL())
	if err == nil {
		h.port, err = strconv.Atoi(u.Port())
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) stop() {
	if h.server != nil {
		h.server.Close()
		h.server = nil
	}
}

// node returns a broker with a connection of its own.
func (h *host) node(opts ...nats.Option) *nats.Broker {
	h.t.Helper()
	b, _ := connect(h.t, h.server.URL(), opts...)
	return b
}

func connect(t *testing.T, url string, opts ...nats.Option) (*nats.Broker, *client.Conn) {
	t.Helper()
	nc, err := client.Connect(url, fast...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := nats.New(nc, append([]nats.Option{nats.Heartbeat(200 * time.Millisecond)}, opts...)...)
	if err != nil {
		nc.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		nc.Close()
	})
	return b, nc
}
