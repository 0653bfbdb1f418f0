// Document is a server for shared documents, to which containers of the Fluid
// Framework connect by a driver for Phoenix channels: the ordering of each
// document's operations, the REST API for snapshots, and a page with a board on
// which two browser tabs move notes and go back in time.
//
//	go run ./document -addr 127.0.0.1:8080 -data DIRECTORY
//
// Several that have one Redis in common, by -redis URL, serve the same documents.
//
// Without -tenant it has one whose secret everybody knows, and its /admin asks
// nobody who they are, so it listens on the loopback address by default.
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

	"github.com/seed-58bc6ac1/realtime"
)

// drainTime is how long a stop waits for the clients to leave.
const drainTime = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "document:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then drains, and returns nil if all went well. The
// address goes to stdout, the log to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	addr, cfg, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	cfg.log = slog.New(slog.NewTextHandler(stderr, nil))
	a, err := newApp(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: a.routes(cfg), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	fmt.Fprintf(stdout, "listening on http://%s\n", dialable(listener.Addr()))

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(a.rt.Shutdown(drain), srv.Shutdown(drain))
}

// parseFlags returns the address and the configuration; usage goes to stderr.
func parseFlags(args []string, stderr io.Writer) (string, config, error) {
	var cfg config
	flags := flag.NewFlagSet("document", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	origins := flags.String("origins", "", "comma separated origins of pages that may open a socket; none means the page's own")
	flags.StringVar(&cfg.data, "data", "", "existing directory for the messages and snapshots; none means memory")
	flags.StringVar(&cfg.redis, "redis", "", "URL of a Redis server that keeps everything, so that there can be several of these")
	flags.Func("tenant", "id:secret1[:secret2], repeatable (default "+devTenant+":"+devSecret+")", func(text string) error {
		t, err := parseTenant(text)
		cfg.tenants = append(cfg.tenants, t)
		return err
	})
	flags.IntVar(&cfg.maxMessage, "max-message", 16<<20, "largest contents of an operation, in bytes")
	flags.BoolVar(&cfg.msgpack, "msgpack", true, "serve clients that speak MessagePack (vsn 3.0.0)")
	noSummaries := flags.Bool("no-summaries", false, "refuse every summary")
	limits := documentFlags(flags)
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
	cfg.summaries = !*noSummaries
	if cfg.data != "" && cfg.redis != "" {
		return "", config{}, errors.New("-data and -redis are two places for the same")
	}
	if cfg.maxMessage < 1 {
		return "", config{}, errors.New("-max-message is too small")
	}
	var err error
	cfg.documents, err = limits()
	return *addr, cfg, err
}

// documentFlags adds the flags that are options of the documents. The options are
// there once the flags are parsed.
func documentFlags(flags *flag.FlagSet) func() ([]realtime.DocumentOption, error) {
	history := flags.Int("history", 1000, "messages of each document kept in memory")
	maxOps := flags.Int("max-ops", 100, "operations in one submission")
	maxClients := flags.Int("max-clients", 0, "clients of one document; 0 means any number")
	clientTimeout := flags.Duration("client-timeout", 5*time.Minute, "silence of a writer behind the others after which it is expelled; 0 means never")
	connectTime := flags.Duration("connect-time", time.Minute, "time from joining a topic to connecting to its document")
	idle := flags.Duration("session-idle", time.Minute, "time that a document without clients stays in memory")
	downgrade := flags.Bool("downgrade", false, "let clients whose token cannot write connect as readers, even if they ask to write")
	return func() ([]realtime.DocumentOption, error) {
		if *history < 1 || *maxOps < 1 || *maxClients < 0 || *clientTimeout < 0 || *connectTime <= 0 || *idle <= 0 {
			return nil, errors.New("a limit is too small")
		}
		options := []realtime.DocumentOption{
			realtime.HistoryLimit(*history), realtime.MaxOps(*maxOps), realtime.ClientTimeout(*clientTimeout),
			realtime.ConnectTime(*connectTime), realtime.SessionTime(*idle),
		}
		if *maxClients > 0 {
			options = append(options, realtime.MaxDocumentClients(*maxClients))
		}
		if *downgrade {
			options = append(options, realtime.DowngradeToRead())
		}
		return options, nil
	}
}

// parseTenant reads id:secret1[:secret2].
func parseTenant(text string) (tenant, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return tenant{}, errors.New("want id:secret1[:secret2]") // and do not repeat a secret
	}
	t := tenant{id: parts[0]}
	for _, secret := range parts[1:] {
		t.secrets = append(t.secrets, []byte(secret))
	}
	return t, nil
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
