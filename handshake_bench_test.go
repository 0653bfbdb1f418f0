package realtime

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// lentConn hands out a connection with buffers that are used again: what is
// measured is ours.
type lentConn struct {
	header http.Header
	nc     net.Conn
	brw    *bufio.ReadWriter
}

func (l *lentConn) Header() http.Header       { return l.header }
func (*lentConn) Write(p []byte) (int, error) { return len(p), nil }
func (*lentConn) WriteHeader(int)             {}

func (l *lentConn) Hijack() (net.Conn, *bufio.ReadWriter, error) { return l.nc, l.brw, nil }

// BenchmarkHandshake is a handshake with a signed token and its end, without
// net/http and without a socket.
func BenchmarkHandshake(b *testing.B) {
	b.ReportAllocs()
	secret := []byte("a secret of the benchmark")
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "u1", "exp": time.Now().Add(time.Hour).Unix(), "jti": "1", "sid": "s1",
	}).SignedString(secret)
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(WithJWT(HS256("", secret)), WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "http://example.com/ws", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": "Bearer " + token,
	} {
		r.Header.Set(name, value)
	}
	empty := bufio.NewReadWriter(bufio.NewReader(strings.NewReader("")), bufio.NewWriter(io.Discard))
	for b.Loop() {
		s.ServeHTTP(&lentConn{http.Header{}, memoryConn{strings.NewReader("")}, empty}, r)
	}
	s.node.work.Wait()
}
