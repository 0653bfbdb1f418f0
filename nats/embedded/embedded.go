// Package embedded runs a NATS server inside the process, for one binary that is a
// cluster with its likes, and for tests that need nothing installed. Programs that
// only connect to NATS do without this package, and without the server's code.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Option is an option of [Start].
type Option func(*server.Options) error

// Store keeps what is stored in a directory. Without it, it is kept in one that the
// system may delete: give one whenever the events matter.
func Store(dir string) Option {
	return func(o *server.Options) error { o.StoreDir = dir; return nil }
}

// Address has the server listen for clients. The default is a free port of
// 127.0.0.1.
func Address(host string, port int) Option {
	return func(o *server.Options) error { o.Host, o.Port = host, port; return nil }
}

// Cluster makes the server, called name, one of a cluster. It listens for the
// others at host and port and looks for them at routes, such as nats://10.0.0.2:6222.
// Give each the routes of all others: the number of routes tells JetStream how many
// servers there are. It needs three or more to go on when one is lost. secret keeps
// strangers out, must not be empty, and is the same for all.
func Cluster(cluster, name, host string, port int, secret string, routes ...string) Option {
	return func(o *server.Options) error {
		if cluster == "" || name == "" || len(routes) == 0 {
			return errors.New("embedded: a cluster and its servers need names, and routes to each other")
		}
		if secret == "" {
			return errors.New("embedded: without a secret whoever reaches the port could join the cluster")
		}
		o.ServerName = name
		o.Cluster = server.ClusterOpts{Name: cluster, Host: host, Port: port, Username: cluster, Password: secret}
		for _, route := range routes {
			u, err := url.Parse(route)
			if err != nil {
				return fmt.Errorf("embedded: route %q: %w", route, err)
			}
			if u.User == nil {
				u.User = url.UserPassword(cluster, secret)
			}
			o.Routes = append(o.Routes, u)
		}
		return nil
	}
}

// Options lets f change whatever the server's own options are.
func Options(f func(*server.Options)) Option {
	return func(o *server.Options) error { f(o); return nil }
}

// Server is a NATS server in this process.
type Server struct {
	server *server.Server
}

// startTime is how long a server may take until it accepts connections.
const startTime = 30 * time.Second

// Start starts a server with JetStream and returns when it accepts connections. See
// [Server.Ready] for those of a cluster: they have to agree who leads.
func Start(opts ...Option) (*Server, error) {
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, NoSigs: true, NoLog: true}
	for _, opt := range opts {
		if err := opt(o); err != nil {
			return nil, err
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	if !o.NoLog {
		s.ConfigureLogger()
	}
	s.Start()
	if !s.ReadyForConnections(startTime) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded: the server was not ready within %v", startTime)
	}
	return &Server{s}, nil
}

// Connect returns a connection to this server that needs no socket, with the options
// that a broker wants. It ends with the server: nobody else is asked.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append([]nats.Option{nats.InProcessServer(s.server),
		nats.MaxReconnects(-1), nats.ReconnectBufSize(-1)}, opts...)...)
}

// Ready returns when the server, or its cluster, can store something.
func (s *Server) Ready(ctx context.Context) error {
	nc, err := s.Connect()
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err := js.AccountInfo(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("embedded: JetStream is not ready: %w", err)
		}
	}
}

// URL returns where clients connect.
func (s *Server) URL() string { return s.server.ClientURL() }

// Close stops the server and waits until it has.
func (s *Server) Close() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}
