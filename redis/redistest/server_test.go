package redistest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// patience is how long a step may take before it counts as failed.
const patience = 30 * time.Second

// put and get are one key of a server.
func put(t *testing.T, s *redistest.Server, value string) {
	t.Helper()
	if _, err := s.CLI("SET", "key", value); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, s *redistest.Server, want string) {
	t.Helper()
	got, err := s.CLI("GET", "key")
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("the key is %q, want %q", got, want)
	}
}

func TestServerAnswersAndForgetsWhenFlushed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	put(t, s, "1")
	wantValue(t, s, "1")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "")
}

func TestDurableServerHasItsDataAfterAKill(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Durable)
	addr := s.Addr
	put(t, s, "1")
	s.Kill()
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("a killed server accepts connections")
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if s.Addr != addr {
		t.Errorf("the address is %s, want still %s", s.Addr, addr)
	}
	wantValue(t, s, "1")
	if err := s.RestartEmpty(); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "")
}

func TestServerWithoutADiskIsEmptyAfterARestart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	put(t, s, "1")
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "")
}

func TestStoppedServerIsSilentUntilItGoesOn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 5)
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := conn.Read(answer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stopped server answered %q, %v", answer, err)
	}
	if err := s.Cont(); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(answer); err != nil || string(answer) != "+PONG" {
		t.Errorf("got %q, %v, want the answer that was due", answer, err)
	}
}

func TestStoppedServerCanBeClosed(t *testing.T) {
	t.Parallel()
	s, err := redistest.New()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("SKIPPED: Redis is not installed")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Stop(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", s.Addr); err == nil {
		conn.Close()
		t.Error("a closed server accepts connections")
	}
}

func TestConfigurationThatRedisRefusesIsShownWithItsLog(t *testing.T) {
	t.Parallel()
	s, err := redistest.New("no-such-directive 1")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("SKIPPED: Redis is not installed")
	}
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "no-such-directive") {
		t.Errorf("got %v, want what Redis says", err)
	}
}

func TestErrorOfRedisIsOneOfTheCommand(t *testing.T) {
	t.Parallel()
	s, err := redistest.New() // not Start: the error would fail the test
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("SKIPPED: Redis is not installed")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if said, err := s.CLI("INCR", "a", "b"); err == nil {
		t.Errorf("got %q without an error", said)
	}
}

// orphan makes the test binary start a server, say where, and wait to be killed.
const orphan = "REDISTEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphan) != "" {
		s, err := redistest.New()
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(s.Addr + "\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestServerDiesWithTheProcessThatStartedIt(t *testing.T) {
	t.Parallel()
	redistest.Start(t) // skips
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("only Linux sees to that")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	parent := exec.CommandContext(ctx, os.Args[0])
	parent.Env = append(os.Environ(), orphan+"=1", "TMPDIR="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(line); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server lives on")
	}
}
