// Package redistest runs real Redis servers for tests and for demonstrations: one
// server, a replica, three sentinels, a cluster of three masters, and a proxy that
// makes the network between a client and a server as bad as it can be.
//
// The programs redis-server and redis-cli are taken from the PATH. The servers
// listen on free ports of the loopback address, keep their files in a temporary
// directory and keep no data there unless asked to ([Durable]). On Linux they die
// with the process that started them, however that ends.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Durable is the configuration of a server that has every write on the disk before
// it answers: nothing that was acknowledged is lost by Kill and Restart.
const Durable = "appendonly yes\nappendfsync always"

// Server is a running redis-server. Its methods may be called from any goroutine;
// Kill, Restart and Close not at the same time. Of a server that was made by
// [Start] an error also fails the test.
type Server struct {
	// Addr is host:port, the same after a restart.
	Addr string

	dir       string
	config    string
	arguments []string          // after the configuration file
	fail      func(error) error // tells the test, if there is one

	mu  sync.Mutex // guards the following
	run *process   // nil if it was killed
}

// New starts a server and returns when it answers. Each of config is a line of
// redis.conf, or several. The caller calls Close. If redis-server is not installed
// the error is an [exec.ErrNotFound].
func New(config ...string) (*Server, error) {
	return start(nil, config...)
}

// start tries ports until the server has one. A server whose port was taken in the
// meantime ends at once.
func start(arguments []string, config ...string) (*Server, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, arguments: arguments, fail: func(err error) error { return err }}
	for range 10 {
		var port int
		if port, err = freePort(); err != nil {
			break
		}
		s.Addr = fmt.Sprintf("127.0.0.1:%d", port)
		s.config = strings.Join(append([]string{
			"bind 127.0.0.1", fmt.Sprintf("port %d", port), "dir " + dir,
			`save ""`, "appendonly no",
			// A replica's first copy begins five seconds after it was asked for
			// unless its master is told otherwise.
			"repl-diskless-sync-delay 0",
		}, config...), "\n") + "\n"
		if err = s.launch(); err == nil {
			return s, nil
		}
	}
	os.RemoveAll(dir)
	return nil, fmt.Errorf("redis-server: %w", err)
}

// launch starts the process with a fresh configuration file: sentinels and
// replicas write into theirs.
func (s *Server) launch() error {
	file := filepath.Join(s.dir, "redis.conf")
	if err := os.WriteFile(file, []byte(s.config), 0o600); err != nil {
		return err
	}
	run, err := startProcess("redis-server", append([]string{file}, s.arguments...)...)
	if err != nil {
		return err
	}
	if err := s.answers(run); err != nil {
		run.kill()
		return fmt.Errorf("%w; its log:\n%s", err, run.log())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = run
	return nil
}

// answers waits until the server serves. One that loads its data says so.
func (s *Server) answers(run *process) error {
	return wait("the first answer of "+s.Addr, func(ctx context.Context) error {
		select {
		case <-run.ended:
			return permanent{errors.New("it has ended")}
		default:
		}
		said, err := ask(ctx, s.Addr, "PING")
		if err == nil && strings.HasPrefix(said, "-LOADING") {
			return errors.New(said)
		}
		return err
	})
}

// URL returns the address as a redis:// URL.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Log returns the end of what the running server has written, "" if it was killed.
func (s *Server) Log() string {
	if run := s.process(); run != nil {
		return run.log()
	}
	return ""
}

func (s *Server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// Kill ends the server as kill -9 does and returns when it is gone. Its port
// refuses connections until Restart.
func (s *Server) Kill() {
	s.mu.Lock()
	run := s.run
	s.run = nil
	s.mu.Unlock()
	if run != nil {
		run.kill()
	}
}

// Restart starts the server again on its port, with what it had on its disk: with
// all its data if it is [Durable], with none otherwise. One that still runs is
// killed first. It returns when the server answers.
func (s *Server) Restart() error {
	s.Kill()
	var err error
	for range 10 { // another process may hold the port for a moment
		if err = s.launch(); err == nil {
			return nil
		}
	}
	return s.fail(fmt.Errorf("starting redis-server again: %w", err))
}

// RestartEmpty is Restart after a loss of the disk.
func (s *Server) RestartEmpty() error {
	s.Kill()
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return s.fail(fmt.Errorf("emptying the disk of redis-server: %w", err))
	}
	for _, file := range files {
		if err := os.RemoveAll(filepath.Join(s.dir, file.Name())); err != nil {
			return s.fail(fmt.Errorf("emptying the disk of redis-server: %w", err))
		}
	}
	return s.Restart()
}

// Stop pauses the server as SIGSTOP does: its connections stay, and nobody
// answers. A server that was killed stays so.
func (s *Server) Stop() error { return s.signal(pause) }

// Cont lets a paused server go on.
func (s *Server) Cont() error { return s.signal(resume) }

func (s *Server) signal(which func(*os.Process) error) error {
	run := s.process()
	if run == nil {
		return nil
	}
	if err := which(run.command.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return s.fail(fmt.Errorf("signalling redis-server: %w", err))
	}
	return nil
}

// Flush removes all data, as FLUSHALL does.
func (s *Server) Flush() error {
	_, err := s.CLI("FLUSHALL")
	return err
}

// CLI runs redis-cli with these arguments against the server and returns what it
// printed, without the last line break. An answer of Redis that is an error is one
// of CLI.
func (s *Server) CLI(arguments ...string) (string, error) {
	text, err := cli(s.Addr, arguments...)
	if err != nil {
		return text, s.fail(err)
	}
	return text, nil
}

// Close kills the server and removes its files.
func (s *Server) Close() error {
	s.Kill()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("removing the files of redis-server: %w", err)
	}
	return nil
}
