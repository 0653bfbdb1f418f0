package realtimetest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/coder/websocket"
)

// Option changes how a client connects.
type Option func(*dialing)

// dialing is one handshake in memory. It is the transport of the WebSocket
// library's HTTP client.
type dialing struct {
	handler   http.Handler
	url       *url.URL
	header    http.Header
	protocols []string
	deflate   bool
	wrap      []func(net.Conn) net.Conn

	wire *wire // set by RoundTrip
}

// WithToken brings a token as "Authorization: Bearer". For other places see
// [WithURL] (?token= and ?ticket=), [WithProtocols] ("bearer."+token) and the
// message "auth" ([Client.Push]).
func WithToken(token string) Option { return WithHeader("Authorization", "Bearer "+token) }

// WithHeader sets a header of the handshake, Origin for example.
func WithHeader(name, value string) Option {
	return func(d *dialing) { d.header.Set(name, value) }
}

// WithProtocols offers subprotocols, in this order. The default is none, which
// asks for the mount's own.
func WithProtocols(names ...string) Option {
	return func(d *dialing) { d.protocols = names }
}

// WithURL sets where the client connects, relative to ws://example.com/: a path,
// a query, another host. It panics if ref is no URL.
func WithURL(ref string) Option {
	return func(d *dialing) {
		u, err := d.url.Parse(ref)
		if err != nil {
			panic("realtimetest: WithURL: " + err.Error())
		}
		d.url = u
	}
}

// WithCompression offers permessage-deflate, and compresses what the client
// sends if the server agrees.
func WithCompression() Option { return func(d *dialing) { d.deflate = true } }

// WithConn puts wrap between the client and its connection, to look at the bytes
// on the wire or to change them. The bytes of the handshake do not pass.
func WithConn(wrap func(net.Conn) net.Conn) Option {
	return func(d *dialing) { d.wrap = append(d.wrap, wrap) }
}

func newDialing(h http.Handler, opts []Option) *dialing {
	d := &dialing{handler: h, url: &url.URL{Scheme: "ws", Host: "example.com", Path: "/"}, header: http.Header{}}
	for _, opt := range opts {
		opt(d)
	}
	return d
}

func (d *dialing) dial() (*websocket.Conn, *http.Response, error) {
	opts := &websocket.DialOptions{HTTPClient: &http.Client{Transport: d}, HTTPHeader: d.header, Subprotocols: d.protocols}
	if d.deflate {
		opts.CompressionMode = websocket.CompressionNoContextTakeover
		opts.CompressionThreshold = 1
	}
	return websocket.Dial(context.Background(), d.url.String(), opts)
}

// Dial connects to h, which is a [realtime.Server], a mount, or what an
// application has around one. The test fails at once if h answers with anything
// but an upgrade; a server that accepts only to close, as it does by default
// with those it refuses, is met by [Client.WantClosed]. The connection is cut
// when the test ends.
func Dial(t testing.TB, h http.Handler, opts ...Option) *Client {
	t.Helper()
	d := newDialing(h, opts)
	ws, answer, err := d.dial()
	if err != nil {
		if answer != nil {
			text, _ := io.ReadAll(answer.Body)
			t.Fatalf("realtimetest: dial: %s: %s", answer.Status, bytes.TrimSpace(text))
		}
		t.Fatalf("realtimetest: dial: %v", err)
	}
	c := newClient(t, ws, d.wire)
	t.Cleanup(c.shut)
	return c
}

// Refused makes a handshake that h must answer with plain HTTP, and returns the
// answer. The test fails at once if h upgrades the connection.
func Refused(t testing.TB, h http.Handler, opts ...Option) *http.Response {
	t.Helper()
	d := newDialing(h, opts)
	_, answer, err := d.dial()
	if err == nil {
		d.wire.Cut()
		t.Fatal("realtimetest: the handshake was accepted, want a plain HTTP refusal")
	}
	if answer == nil {
		t.Fatalf("realtimetest: handshake: %v", err)
	}
	return answer
}

// RoundTrip implements [http.RoundTripper]: it calls the handler on the caller's
// goroutine.
func (d *dialing) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel() // as net/http does when the handler returns
	in := r.Clone(ctx)
	in.RequestURI, in.RemoteAddr, in.Body = r.URL.RequestURI(), "192.0.2.1:1234", http.NoBody
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	w := &answer{header: http.Header{}}
	d.handler.ServeHTTP(w, in)
	if w.near == nil {
		w.WriteHeader(http.StatusOK)
		return w.response(r, io.NopCloser(&w.body)), nil
	}
	if w.status == 0 {
		if err := w.readAnswer(r); err != nil {
			return nil, err
		}
	}
	near := w.near
	for _, wrap := range d.wrap {
		near = wrap(near)
	}
	d.wire = newWire(near)
	return w.response(r, d.wire), nil
}

// answer is the ResponseWriter of a handshake.
type answer struct {
	status int
	header http.Header
	sent   http.Header // as it was when the status was written
	body   bytes.Buffer
	near   net.Conn // the client's end, nil until the handler hijacks
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *answer) Write(p []byte) (int, error) {
	if w.near != nil {
		return 0, http.ErrHijacked
	}
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// Hijack implements [http.Hijacker].
func (w *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.near != nil {
		return nil, nil, http.ErrHijacked
	}
	near, far := net.Pipe()
	w.near = near
	return far, bufio.NewReadWriter(bufio.NewReader(far), bufio.NewWriter(far)), nil
}

// readAnswer takes from the connection what the handler wrote there as the answer
// to the handshake, and not a byte more.
func (w *answer) readAnswer(r *http.Request) error {
	var head bytes.Buffer
	for !bytes.HasSuffix(head.Bytes(), []byte("\r\n\r\n")) {
		if _, err := io.CopyN(&head, w.near, 1); err != nil {
			return err
		}
	}
	answer, err := http.ReadResponse(bufio.NewReader(&head), r)
	if err != nil {
		return err
	}
	w.status, w.sent = answer.StatusCode, answer.Header
	return nil
}

func (w *answer) response(r *http.Request, body io.ReadCloser) *http.Response {
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: body, ContentLength: -1, Request: r,
	}
}

// logger writes to the test's output.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
