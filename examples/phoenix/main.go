// Phoenix is a server for unmodified Phoenix clients, to test them against: the
// channels of a Phoenix application under /socket, an admin handler that does from
// outside what a test needs done, and a page that chats through the stock
// phoenix.js. Clients of this library's own protocols are in the same rooms.
//
//	go run ./phoenix -addr 127.0.0.1:8080
//
// It lets everyone in and everyone administrate, so it listens on the loopback
// address by default.
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
	"strconv"
	"strings"
	"syscall"
	"time"
)

// drainTime is how long a drain may take. A Phoenix application takes thirty
// seconds; here are few clients, and tests wait for it.
const drainTime = 3 * time.Second

// minIdleTimeout is the least that the server can count: two ticks of its clock.
const minIdleTimeout = 200 * time.Millisecond

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "phoenix:", err)
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
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	cfg.origins = append(cfg.origins, ownOrigins(listener.Addr())...)
	a, handler, err := newApp(cfg)
	if err != nil {
		listener.Close()
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
	drained := a.drain()
	stop, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(drained, srv.Shutdown(stop))
}

// parseFlags returns the address and the configuration; usage goes to stderr.
func parseFlags(args []string, stderr io.Writer) (string, config, error) {
	var cfg config
	flags := flag.NewFlagSet("phoenix", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	origins := flags.String("origins", "", "comma separated origins that may connect beside //example.com and this server's own page")
	flags.DurationVar(&cfg.idleTimeout, "idle-timeout", time.Minute, "silence of a Phoenix client after which it is disconnected")
	flags.BoolVar(&cfg.compress, "compress", false, "negotiate permessage-deflate with clients that offer it")
	flags.BoolVar(&cfg.longpoll, "longpoll", false, "serve /socket/longpoll, too")
	if err := flags.Parse(args); err != nil {
		return "", config{}, err
	}
	if flags.NArg() > 0 {
		return "", config{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if cfg.idleTimeout < minIdleTimeout {
		return "", config{}, fmt.Errorf("-idle-timeout of %v: want at least %v", cfg.idleTimeout, minIdleTimeout)
	}
	for origin := range strings.SplitSeq(*origins, ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			cfg.origins = append(cfg.origins, origin)
		}
	}
	return *addr, cfg, nil
}

// ownOrigins returns the origins of the page that the program itself serves: a
// browser on this machine may have come by any name of the loopback interface.
func ownOrigins(addr net.Addr) []string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return nil
	}
	hosts := []string{tcp.IP.String()}
	if tcp.IP.IsUnspecified() || tcp.IP.IsLoopback() {
		hosts = []string{"127.0.0.1", "::1", "localhost"}
	}
	origins := make([]string, len(hosts))
	for i, host := range hosts {
		origins[i] = "//" + net.JoinHostPort(host, strconv.Itoa(tcp.Port))
	}
	return origins
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
