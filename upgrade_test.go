package realtime

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// offering is a handshake that offers extensions, one header line each.
func offering(extensions ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://example.com/ws", nil)
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {"other, realtime.v1"},
	}
	if extensions != nil {
		r.Header["Sec-Websocket-Extensions"] = extensions
	}
	return r
}

// lend returns a connection with early behind the handshake, and header set by
// middleware.
func lend(early string, header http.Header) *lentConn {
	r := bufio.NewReader(strings.NewReader(early))
	_, _ = r.Peek(1)
	return &lentConn{header, memoryConn{strings.NewReader("")}, bufio.NewReadWriter(r, bufio.NewWriter(io.Discard))}
}

// answerOf returns the headers of an answer, which has to be a 101.
func answerOf(t *testing.T, answer []byte) http.Header {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer %q: %v, want a 101", answer, err)
	}
	return response.Header
}

func TestTheAnswerToAHandshake(t *testing.T) { // RFC 6455 sections 1.3 and 4.2.2
	w := lend("early", http.Header{
		"X-Request-Id": {"7"}, "Set-Cookie": {"a=1", "b=2"}, "Connection": {"close"}, "Sec-Websocket-Extensions": {"forged"},
	})
	up, err := upgrade(w, offering(), "realtime.v1", false)
	if err != nil {
		t.Fatal(err)
	}
	if string(up.early) != "early" {
		t.Errorf("early bytes %q, want %q", up.early, "early")
	}
	got := answerOf(t, up.answer)
	for name, want := range map[string][]string{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
		"Sec-Websocket-Accept": {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, "Sec-Websocket-Protocol": {"realtime.v1"},
		"Sec-Websocket-Extensions": nil, "X-Request-Id": {"7"}, "Set-Cookie": {"a=1", "b=2"},
	} {
		if values := got[name]; strings.Join(values, "|") != strings.Join(want, "|") {
			t.Errorf("%s: got %q, want %q", name, values, want)
		}
	}
}

// extensionOffers are lists of offers, one string per header line.
var extensionOffers = [][]string{
	nil,
	{""},
	{"permessage-deflate"},
	{" permessage-deflate ; client_max_window_bits "},
	{"permessage-deflate; client_max_window_bits=10"},
	{"permessage-deflate; server_max_window_bits=15; client_no_context_takeover"},
	{"permessage-deflate; server_max_window_bits=10"},
	{"permessage-deflate; server_max_window_bits=10, permessage-deflate"},
	{"permessage-deflate; server_max_window_bits=10", "x, permessage-deflate; server_no_context_takeover"},
	{"permessage-deflate;"},
	{"permessage-deflate; unknown"},
	{"Permessage-Deflate"},
	{"x-webkit-deflate-frame"},
	{"permessage-deflate2", ",,"},
	{"x; permessage-deflate"},
}

func TestHandshakesAreAnsweredAsByTheLibrary(t *testing.T) {
	for _, offers := range extensionOffers {
		for _, compress := range []bool{false, true} {
			for _, subprotocol := range []string{"", "realtime.v1"} {
				want := lend("", http.Header{})
				opts := &websocket.AcceptOptions{InsecureSkipVerify: true}
				if subprotocol != "" {
					opts.Subprotocols = []string{subprotocol}
				}
				if compress {
					opts.CompressionMode = websocket.CompressionNoContextTakeover
				}
				c, err := websocket.Accept(want, offering(offers...), opts)
				if err != nil {
					t.Fatal(err)
				}
				c.CloseNow()
				up, err := upgrade(lend("", http.Header{}), offering(offers...), subprotocol, compress)
				if err != nil {
					t.Fatal(err)
				}
				got := answerOf(t, up.answer)
				for _, name := range []string{"Upgrade", "Connection", "Sec-Websocket-Accept", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions"} {
					if got.Get(name) != want.header.Get(name) {
						t.Errorf("offers %q, compress %v, subprotocol %q: %s is %q, the library says %q",
							offers, compress, subprotocol, name, got.Get(name), want.header.Get(name))
					}
				}
				if up.deflate != (got.Get("Sec-Websocket-Extensions") != "") {
					t.Errorf("offers %q: deflate is %v, the answer says %q", offers, up.deflate, got.Get("Sec-Websocket-Extensions"))
				}
			}
		}
	}
}

func FuzzOffersDeflate(f *testing.F) {
	for _, offers := range extensionOffers {
		f.Add(strings.Join(offers, ","))
	}
	f.Fuzz(func(t *testing.T, offers string) {
		w := lend("", http.Header{})
		c, err := websocket.Accept(w, offering(offers), &websocket.AcceptOptions{
			InsecureSkipVerify: true, CompressionMode: websocket.CompressionNoContextTakeover})
		if err != nil {
			t.Fatal(err)
		}
		c.CloseNow()
		want := w.header.Get("Sec-Websocket-Extensions") != ""
		if got := offersDeflate(http.Header{"Sec-Websocket-Extensions": {offers}}); got != want {
			t.Errorf("%q: got %v, the library says %v", offers, got, want)
		}
	})
}

// brokenConn fails where it is told to.
type brokenConn struct {
	net.Conn
	hijack, deadline error
	closed           bool
}

func (b *brokenConn) SetDeadline(time.Time) error { return b.deadline }

func (b *brokenConn) Close() error {
	b.closed = true
	return nil
}

// brokenWriter hands b out, or not.
type brokenWriter struct {
	*httptest.ResponseRecorder
	b *brokenConn
}

func (w brokenWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.b, bufio.NewReadWriter(bufio.NewReader(strings.NewReader("")), bufio.NewWriter(io.Discard)), w.b.hijack
}

func TestAConnectionThatCannotBeTakenOverIsAnsweredOrClosed(t *testing.T) {
	broken := errors.New("broken")
	t.Run("hijack", func(t *testing.T) {
		w := brokenWriter{httptest.NewRecorder(), &brokenConn{hijack: broken}}
		if _, err := upgrade(w, offering(), "", false); !errors.Is(err, broken) || w.Code != http.StatusInternalServerError {
			t.Errorf("got %v and status %d, want %v and 500", err, w.Code, broken)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		w := brokenWriter{httptest.NewRecorder(), &brokenConn{deadline: broken}}
		if _, err := upgrade(w, offering(), "", false); !errors.Is(err, broken) || !w.b.closed {
			t.Errorf("got %v and closed %v, want %v and true", err, w.b.closed, broken)
		}
	})
}
