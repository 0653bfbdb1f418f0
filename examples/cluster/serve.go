package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// drainTime is how long a stop waits for the clients to leave.
const drainTime = 5 * time.Second

// config is what the flags decide.
type config struct {
	addr  string
	nodes int
	redis string // URL; none means one of our own
	ttl   time.Duration
	log   *slog.Logger
}

// serve serves until ctx ends, then drains.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, leave func(context.Context) error, name string, stdout io.Writer) error {
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	fmt.Fprintf(stdout, "%slistening on http://%s\n", name, dialable(listener.Addr()))
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// The clients first, while /readyz still answers that we are leaving.
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(leave(drain), srv.Shutdown(drain))
}

// dialable returns the address in a form that a client can use: a listener on
// every interface is reached over the loopback one.
func dialable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
}
