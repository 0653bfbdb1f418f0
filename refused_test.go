package realtime

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// handshakeWith connects to url with frames right behind the handshake, in one
// segment, and reads until the server has closed.
func handshakeWith(t *testing.T, url, headers, frames string) string {
	t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(2 * time.Second))
	io.WriteString(nc, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+headers+"\r\n"+frames)
	all, _ := io.ReadAll(bufio.NewReader(nc))
	return string(all)
}

// A close frame without a code, masked with zeros.
const maskedClose = "\x88\x80\x00\x00\x00\x00"

func clientFrame(text string) string {
	return string([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}) + text
}

func TestWhatARefusedClientSentWithItsHandshakeIsNotActedOn(t *testing.T) {
	var asked, connected atomic.Int32
	rt, err := New(
		WithLogger(slog.New(slog.DiscardHandler)),
		WithOrigins("https://good.example"),
		WithAuth(func(_ *http.Request, token string) (*Identity, error) {
			if token == "" {
				return nil, ReasonUnauthenticated
			}
			asked.Add(1)
			return &Identity{User: "u"}, nil
		}),
		WithConnected(func(*Client) { connected.Add(1) }),
	)
	if err != nil {
		t.Fatal(err)
	}
	raw := rt.Raw(func(context.Context, *Client, io.ReadWriteCloser) error { return nil })
	for name, h := range map[string]http.Handler{"realtime.v1": rt, "raw": raw} {
		server := httptest.NewServer(h)
		got := handshakeWith(t, server.URL, "Origin: https://evil.example\r\n",
			clientFrame(`{"type":"auth","data":{"token":"good"}}`)+maskedClose)
		server.Close()
		if !strings.Contains(got, "origin_not_allowed") {
			t.Errorf("%s: got %q, want a close as origin_not_allowed", name, got)
		}
	}
	if asked.Load() != 0 || connected.Load() != 0 {
		t.Errorf("refused clients: %d tokens were looked at, %d let in, want none", asked.Load(), connected.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := rt.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
