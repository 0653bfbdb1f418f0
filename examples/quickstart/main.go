// Quickstart is a chi application with a page on which two browser tabs chat and
// see their connection's state, its round trip and every close explained.
//
//	go run ./quickstart -addr 127.0.0.1:8080
//
// Its secret is public, so it listens on the loopback address by default.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// drainTime is how long a stop waits for the clients to leave.
const drainTime = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then drains, and returns nil if all went well. The
// address goes to stdout, the log to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	addr, cfg, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	cfg.log = slog.New(slog.NewTextHandler(stderr, nil))
	rt, handler, err := newApp(cfg)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	fmt.Fprintf(stdout, "listening on http://%s\n", dialable(listener.Addr()))

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// The clients first, while /readyz still answers that we are leaving.
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(rt.Shutdown(drain), srv.Shutdown(drain))
}

// parseFlags returns the address and the configuration; usage goes to stderr.
func parseFlags(args []string, stderr io.Writer) (string, config, error) {
	var cfg config
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	origins := flags.String("origins", "", "comma separated origins that may connect; none means the page's own")
	flags.IntVar(&cfg.rate, "rate", 100, "messages per second and connection; the burst is twice that")
	flags.IntVar(&cfg.authCode, "auth-code", 4001, "close code for failed authentication")
	if err := flags.Parse(args); err != nil {
		return "", config{}, err
	}
	if flags.NArg() > 0 {
		return "", config{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	for origin := range strings.SplitSeq(*origins, ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			cfg.origins = append(cfg.origins, origin)
		}
	}
	return *addr, cfg, nil
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
