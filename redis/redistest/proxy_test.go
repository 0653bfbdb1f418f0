package redistest_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// echo is a server that sends back what comes.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// wantEcho sends a word and returns how long its echo took.
func wantEcho(t *testing.T, conn net.Conn) time.Duration {
	t.Helper()
	sent := time.Now()
	if _, err := conn.Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "word" {
		t.Fatalf("got %q, %v, want the echo", got, err)
	}
	return time.Since(sent)
}

// wantEnd waits for the end of a connection.
func wantEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v, want the end", n, err)
	}
}

// wantNobody wants a connection to end as soon as it is made, or while it is.
func wantNobody(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	wantEnd(t, conn)
}

func TestProxyCarriesUntilItIsCutAndAgainWhenHealed(t *testing.T) {
	t.Parallel()
	p := redistest.StartProxy(t, echo(t))
	conn := dial(t, p.Addr)
	wantEcho(t, conn)
	if got := p.Connections(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
	p.Cut()
	wantEnd(t, conn)
	wantNobody(t, p.Addr)
	p.Heal()
	wantEcho(t, dial(t, p.Addr))
}

func TestProxyDelaysBothDirections(t *testing.T) {
	t.Parallel()
	p := redistest.StartProxy(t, echo(t))
	conn := dial(t, p.Addr)
	p.Delay(30 * time.Millisecond)
	if took := wantEcho(t, conn); took < 60*time.Millisecond {
		t.Errorf("the echo took %v, want at least 60ms", took)
	}
}

func TestHalfOpenProxySwallowsAndEndsThatWithAReset(t *testing.T) {
	t.Parallel()
	p := redistest.StartProxy(t, echo(t))
	old := dial(t, p.Addr)
	wantEcho(t, old)
	p.HalfOpen()
	for _, conn := range []net.Conn{old, dial(t, p.Addr)} {
		if _, err := conn.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %d bytes, %v, want silence", n, err)
		}
		defer wantEnd(t, conn)
	}
	p.Heal()
	wantEcho(t, dial(t, p.Addr))
}

func TestProxyEndsAConnectionToNobody(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	wantNobody(t, redistest.StartProxy(t, nobody).Addr)
}
