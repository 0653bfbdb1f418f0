// Cluster is several nodes of one application on one machine: a process for each, a
// Redis that they share, and a proxy that gives every connection to the next node,
// whoever it comes from. Its page shows on which node each tab is, and has buttons to
// kill nodes, drain them, cut them off, and to pause, kill and flush Redis.
//
//	go run ./cluster -addr 127.0.0.1:8080 -nodes 3
//
// Redis is started by the program, which needs redis-server in the PATH; with -redis
// one that runs already is used. Anybody who reaches the page may kill nodes, and the
// secret of its tokens is public, so it listens on the loopback address by default.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// maxNodes is what fits on the page, and on a laptop.
const maxNodes = 12

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// run is the supervisor, or one of its nodes, until ctx ends. The address goes to
// stdout, the log to stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	cfg, node, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	if node != "" {
		cfg.log = slog.New(slog.NewTextHandler(stderr, nil)).With("process", node)
		return runNode(ctx, cfg, node, stdin, stdout)
	}
	cfg.log = slog.New(slog.NewTextHandler(stderr, nil))
	return supervise(ctx, cfg, stdout, stderr)
}

// supervise runs Redis, the nodes and the proxy.
func supervise(ctx context.Context, cfg config, stdout, stderr io.Writer) (err error) {
	s, err := openStore(cfg.redis)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := newFleet(cfg.nodes, s, func(args ...string) *exec.Cmd {
		command := exec.Command(self, append(args, "-ttl", cfg.ttl.String())...)
		command.Stderr = stderr
		return command
	})
	if err != nil {
		return err
	}
	defer f.close()
	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	return serve(ctx, listener, routes(f, s), func(context.Context) error { return nil }, "", stdout)
}

// parseFlags returns the configuration, and the name of the node that this process is
// to be; usage goes to stderr.
func parseFlags(args []string, stderr io.Writer) (cfg config, node string, err error) {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.addr, "addr", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	flags.IntVar(&cfg.nodes, "nodes", 3, "number of nodes")
	flags.StringVar(&cfg.redis, "redis", "", "URL of a Redis that runs already, such as redis://127.0.0.1:6379; none means that one is started")
	flags.DurationVar(&cfg.ttl, "ttl", 5*time.Second, "how long a node may be silent before the others take its clients for gone")
	flags.StringVar(&node, "node", "", "be the node of this name; for the program's own use")
	if err := flags.Parse(args); err != nil {
		return cfg, "", err
	}
	if flags.NArg() > 0 {
		return cfg, "", fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if cfg.nodes < 1 || cfg.nodes > maxNodes {
		return cfg, "", fmt.Errorf("-nodes %d: want 1 to %d", cfg.nodes, maxNodes)
	}
	return cfg, node, nil
}
