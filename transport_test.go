package realtime

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// peerReader reads a server's frames and is strict about them.
type peerReader struct{ br *bufio.Reader }

func newPeerReader(r io.Reader) *peerReader { return &peerReader{bufio.NewReader(r)} }

// next returns the next frame. An error other than io.EOF between two frames
// means that the stream is broken.
func (p *peerReader) next() (op opcode, payload []byte, err error) {
	first, err := p.br.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	second, err := p.br.ReadByte()
	if err != nil {
		return 0, nil, insideFrame(err)
	}
	op = opcode(first & bitsOp)
	switch {
	case first&bitFin == 0 || first&(bitRSV1|bitsRSV23) != 0 || second&bitMask != 0:
		return op, nil, fmt.Errorf("frame begins with %x %x", first, second)
	case op != frameText && op != frameBinary && op != frameClose && op != framePing && op != framePong:
		return op, nil, fmt.Errorf("opcode %x", op)
	case op.isControl() && second > maxControlPayload:
		return op, nil, fmt.Errorf("control frame with length %d", second)
	}
	n := uint64(second)
	var long [8]byte
	switch second {
	case len16:
		_, err = io.ReadFull(p.br, long[6:])
		n = binary.BigEndian.Uint64(long[:])
	case len64:
		_, err = io.ReadFull(p.br, long[:])
		n = binary.BigEndian.Uint64(long[:])
	}
	if err != nil {
		return op, nil, insideFrame(err)
	}
	if n > 16<<20 {
		return op, nil, fmt.Errorf("length %d", n)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(p.br, payload); err != nil {
		return op, nil, insideFrame(err)
	}
	if op == frameText && !utf8.Valid(payload) {
		return op, nil, errors.New("text is not UTF-8")
	}
	return op, payload, nil
}

// told is a message of realtime.v1 as a client sees it.
type told struct {
	Channel, Type, Ref string
	Data               json.RawMessage
	Offset             uint64
}

// message skips control frames up to the next message.
func (p *peerReader) message(t *testing.T) told {
	t.Helper()
	for {
		op, payload, err := p.next()
		if err != nil {
			t.Fatalf("want a message: %v", err)
		}
		if op == frameClose {
			t.Fatalf("want a message, got a close frame %q", payload)
		}
		if op.isControl() {
			continue
		}
		var m told
		if err := json.Unmarshal(payload, &m); err != nil {
			t.Fatalf("%v in %q", err, payload)
		}
		return m
	}
}

// until skips messages up to one of the type.
func (p *peerReader) until(t *testing.T, kind string) told {
	t.Helper()
	for {
		if m := p.message(t); m.Type == kind {
			return m
		}
	}
}

// wantEnd reads `closing`, the close frame and the end of the stream.
func (p *peerReader) wantEnd(t *testing.T, reason Reason) {
	t.Helper()
	closing := p.until(t, "closing")
	if !strings.Contains(string(closing.Data), fmt.Sprintf("%q", string(reason))) {
		t.Errorf("closing says %s, want %s", closing.Data, reason)
	}
	op, payload, err := p.next()
	if err != nil || op != frameClose {
		t.Fatalf("after closing: opcode %x, %q, %v; want a close frame", op, payload, err)
	}
	if code, text := parseClose(payload); code != reason.info().Code || text != string(reason) {
		t.Errorf("close frame has %d %q, want %d %q", code, text, reason.info().Code, reason)
	}
}

// peer is a client made by hand: what it sends is up to the test.
type peer struct {
	net.Conn
	*peerReader
}

// upgradeRequest is a handshake with bytes to follow at once.
func upgradeRequest(host, path string, follow []byte, headers ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", path, host)
	fmt.Fprintf(&b, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
	for _, h := range headers {
		fmt.Fprintf(&b, "%s\r\n", h)
	}
	b.WriteString("\r\n")
	b.Write(follow)
	return b.Bytes()
}

// shake sends the handshake and follow in one write, and reads the answer.
func shake(t *testing.T, nc net.Conn, follow []byte, headers ...string) *peer {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := nc.Write(upgradeRequest("localhost", "/", follow, headers...)); err != nil {
		t.Fatal(err)
	}
	p := &peer{nc, newPeerReader(nc)}
	res, err := http.ReadResponse(p.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("handshake: %s: %s", res.Status, body)
	}
	return p
}

func dialTCP(t *testing.T, s *httptest.Server) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// newQuietServer is a server that lets everybody in and shuts down with the test,
// its books in order.
func newQuietServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := New(append([]Option{Anonymous(), WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(ctx)
		if err := s.node.check(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func listen(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	hs := httptest.NewServer(h)
	t.Cleanup(hs.Close)
	return hs
}

func pingMessage(ref string) string {
	return fmt.Sprintf(`{"channel":"global","type":"ping","data":%q}`, ref)
}

// wantPong pings and waits for the answer: the connection works both ways.
func (p *peer) wantPong(t *testing.T) {
	t.Helper()
	if _, err := p.Write(wire(nil).frame(fText, pingMessage("there?"))); err != nil {
		t.Fatal(err)
	}
	if got := p.until(t, "pong"); string(got.Data) != `"there?"` {
		t.Errorf("pong with %s, want the ping's data", got.Data)
	}
}

// The wrappers of middleware: some know how to be seen through.
type (
	unwraps  struct{ http.ResponseWriter }
	hijacks  struct{ http.ResponseWriter }
	conceals struct{ http.ResponseWriter }
)

func (u unwraps) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func (h hijacks) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.ResponseWriter.(http.Hijacker).Hijack()
}

func TestHandshakePassesThroughMiddleware(t *testing.T) {
	s := newQuietServer(t)
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"none":                    func(w http.ResponseWriter) http.ResponseWriter { return w },
		"with Unwrap":             func(w http.ResponseWriter) http.ResponseWriter { return unwraps{w} },
		"with Hijack":             func(w http.ResponseWriter) http.ResponseWriter { return hijacks{w} },
		"several":                 func(w http.ResponseWriter) http.ResponseWriter { return unwraps{unwraps{hijacks{w}}} },
		"a pattern of http's mux": nil,
	} {
		t.Run(name, func(t *testing.T) {
			var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(wrap(w), r) })
			if wrap == nil {
				mux := http.NewServeMux()
				mux.Handle("GET /{$}", s)
				h = mux
			}
			p := shake(t, dialTCP(t, listen(t, h)), nil)
			p.until(t, "connected")
			p.wantPong(t)
		})
	}
}

func TestWriterWithoutHijackIsNamedInTheLogAndAnswered500(t *testing.T) {
	var log bytes.Buffer
	s := newQuietServer(t, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	for _, h := range []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="} {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	s.ServeHTTP(conceals{w}, r)
	if w.Code != http.StatusInternalServerError {
		t.Errorf("status %d, want 500", w.Code)
	}
	if !strings.Contains(log.String(), "realtime.conceals") {
		t.Errorf("the log does not name the wrapper: %s", log.String())
	}
}

func TestConnectionOverTLS(t *testing.T) {
	s := newQuietServer(t)
	s.Topic("room:{id}")
	hs := httptest.NewTLSServer(s)
	defer hs.Close()
	nc, err := tls.Dial("tcp", hs.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	p := shake(t, nc, wire(nil).frame(fText, `{"channel":"room:1","type":"subscribe","ref":"1"}`))
	p.until(t, "subscription_success")
	for i := range 50 {
		if err := s.Publish(t.Context(), "room:1", "n", strings.Repeat("x", i*500)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		if m := p.until(t, "n"); len(m.Data) != i*500+2 {
			t.Fatalf("event %d has %d bytes, want %d", i, len(m.Data), i*500+2)
		}
	}
	s.Disconnect(Target{Connection: s.node.list()[0].id}, nil)
	if got := s.node.list(); len(got) == 1 && got[0].raw != nil {
		t.Error("a TLS connection has a descriptor of its own; want none")
	}
	p.wantEnd(t, ReasonDisconnected)
}

// manyPings are n messages, and the number of bytes that they have.
func manyPings(n int) (w wire) {
	for i := range n {
		w = w.frame(fText, pingMessage(fmt.Sprint(i)))
	}
	return w
}

func wantPongs(t *testing.T, p *peerReader, n int) {
	t.Helper()
	for i := range n {
		if got, want := string(p.until(t, "pong").Data), fmt.Sprintf("%q", fmt.Sprint(i)); got != want {
			t.Fatalf("pong %s, want %s", got, want)
		}
	}
}

func TestBytesThatComeWithTheHandshakeAreRead(t *testing.T) {
	s := newQuietServer(t, WithRateLimit(PerConnection(10_000, 10_000)))
	hs := listen(t, s)
	for _, n := range []int{1, 10, 300} { // 300 are about 19,000 bytes
		p := shake(t, dialTCP(t, hs), manyPings(n))
		wantPongs(t, p.peerReader, n)
		p.wantPong(t)
	}
}

// A server with larger buffers than net/http's, or a wrapper with its own, hands
// over more than one read buffer holds.
func TestManyEarlyBytesAreAllRead(t *testing.T) {
	for _, early := range []int{1, 4095, 4096, 4097, 8192, 19_000} {
		for _, raw := range []bool{true, false} {
			near, far := net.Pipe()
			if raw {
				near, far = tcpPair(t)
			}
			stream := manyPings(300)
			n := min(early, len(stream))
			tr := &transport{outlet: outlet{enc: envelopeCodec{}}, base: time.Now()}
			tr.open(&upgraded{nc: near, early: stream[:n:n]}, 1<<16)
			go far.Write(stream[n:])
			for i := range 300 {
				if err := tr.wait(); err != nil {
					t.Fatal(err)
				}
				op, payload, err := tr.in.next()
				if want := pingMessage(fmt.Sprint(i)); err != nil || op != frameText || string(payload) != want {
					t.Fatalf("%d early bytes: message %d is %q, %v; want %q", early, i, payload, err, want)
				}
			}
			if tr.early != nil || tr.in.buffered() != 0 {
				t.Errorf("%d early bytes: %d kept, %d buffered at the end", early, len(tr.early), tr.in.buffered())
			}
			near.Close()
			far.Close()
		}
	}
}

// tcpPair is a connection over loopback whose server end soon takes no more.
func tcpPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{}
	if client, err = d.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	server.(*net.TCPConn).SetWriteBuffer(16 << 10)
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

// newLooseTransport is a transport without a connection's read loop.
func newLooseTransport(nc net.Conn, stall time.Duration) *transport {
	tr := &transport{outlet: outlet{pool: newFlushPool(newMetrics(), stall), enc: envelopeCodec{}}, base: time.Now()}
	tr.out.bounds = &queueBounds{messages: 256, bytes: 1 << 20}
	tr.open(&upgraded{nc: nc}, 1<<16)
	return tr
}

// textFrame is a text frame of n bytes that all are c.
func textFrame(c byte, n int) *frame {
	return &frame{wire: append(appendHeader(nil, frameText, false, n), bytes.Repeat([]byte{c}, n)...)}
}

func TestHalfWrittenFrameIsCompletedBeforeTheCloseFrame(t *testing.T) {
	for _, raw := range []bool{true, false} {
		server, client := net.Pipe()
		if raw {
			server, client = tcpPair(t)
		}
		tr := newLooseTransport(server, 10*time.Second)
		const size = 4 << 20 // more than any socket takes at once
		tr.send(textFrame('a', size))
		p := newPeerReader(client)
		p.br.Peek(2) // it has begun
		for range 5 {
			tr.send(textFrame('b', 1000))
		}
		if !tr.finish(true, textFrame('c', 10), closeFrame(4008, "slow_consumer")) {
			t.Fatal("finish was not the first")
		}
		if res := tr.send(textFrame('d', 10)); res != pushClosed {
			t.Errorf("send after finish: %v, want pushClosed", res)
		}
		var got []string
		for {
			op, payload, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%x:%d", byte(op), len(payload)))
			if op == frameText && bytes.Count(payload, payload[:1]) != len(payload) {
				t.Error("a payload holds bytes of another")
			}
			if op == frameClose {
				break
			}
		}
		if got, want := strings.Join(got, " "), fmt.Sprintf("1:%d 1:10 8:15", size); got != want {
			t.Errorf("raw %v: frames %s, want %s", raw, got, want)
		}
		tr.out.await(5 * time.Second)
		server.Close()
		if _, _, err := p.next(); err != io.EOF {
			t.Errorf("after the close frame: %v, want nothing", err)
		}
		client.Close()
	}
}

// The same for a connection with a server: events, then `closing`, then the close
// frame, and nothing after it though publishing goes on.
func TestCloseComesAfterWhatWasQueuedAndNothingAfterIt(t *testing.T) {
	s := newQuietServer(t)
	s.Topic("room:{id}")
	p := shake(t, dialTCP(t, listen(t, s)), wire(nil).frame(fText, `{"channel":"room:1","type":"subscribe","ref":"1"}`))
	p.until(t, "subscription_success")
	for i := range 100 {
		s.Publish(t.Context(), "room:1", "n", i)
	}
	s.Disconnect(Target{Connection: s.node.list()[0].id}, nil)
	for range 100 {
		s.Publish(t.Context(), "room:1", "late", nil)
	}
	for i := range 100 {
		if m := p.message(t); m.Type != "n" || string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("message %d is %s %s", i, m.Type, m.Data)
		}
	}
	if m := p.message(t); m.Type != "closing" {
		t.Fatalf("after the events: %s, want closing", m.Type)
	}
	if op, _, err := p.next(); op != frameClose || err != nil {
		t.Fatalf("after closing: opcode %x, %v", op, err)
	}
	p.Write(wire(nil).frame(fClose, closeText(4011, "")))
	if op, payload, err := p.next(); err != io.EOF {
		t.Errorf("after the close frame: opcode %x %q, %v; want the end", op, payload, err)
	}
}

// Bytes that nobody reads turn a close into a TCP reset, which swallows the close
// frame.
func TestPeerThatKeepsSendingStillSeesTheCloseFrame(t *testing.T) {
	s := newQuietServer(t, WithRateLimit(PerConnection(1e6, 1_000_000)))
	p := shake(t, dialTCP(t, listen(t, s)), nil)
	p.until(t, "connected")
	s.Disconnect(Target{Connection: s.node.list()[0].id}, nil)
	flood := wire(nil).frame(fText, `{"channel":"global","type":"x","data":"`+strings.Repeat("y", 30_000)+`"}`)
	for range 200 { // 6 MB: more than the socket's buffers
		if _, err := p.Write(flood); err != nil {
			t.Fatalf("the server does not read any more: %v", err)
		}
	}
	p.wantEnd(t, ReasonDisconnected)
	p.Write(wire(nil).frame(fClose, closeText(4011, "")))
	if _, _, err := p.next(); err != io.EOF {
		t.Errorf("after the handshake of closes: %v, want the end without a reset", err)
	}
}

// Bytes of the peer that are under way when its close frame is answered do not
// matter; those before it were read.
func TestCloseOfThePeerIsAnsweredWithItsCode(t *testing.T) {
	s := newQuietServer(t)
	p := shake(t, dialTCP(t, listen(t, s)), nil)
	p.until(t, "connected")
	p.Write(manyPings(20).frame(fClose, closeText(4321, "enough")))
	wantPongs(t, p.peerReader, 20)
	op, payload, err := p.next()
	if code, text := parseClose(payload); op != frameClose || err != nil || code != 4321 || text != "" {
		t.Errorf("got opcode %x, %d %q, %v; want a close frame with 4321", op, code, text, err)
	}
	if _, _, err := p.next(); err != io.EOF {
		t.Errorf("after it: %v, want the end", err)
	}
}

func TestWriteWithoutProgressIsASlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		tr := newLooseTransport(server, 30*time.Second)
		tr.send(textFrame('a', 100_000))
		start := time.Now()
		tr.out.await(time.Hour)
		if got := time.Since(start); got != 30*time.Second {
			t.Errorf("gave up after %v, want 30s", got)
		}
		if got := tr.failed.Load(); got == nil || *got != ReasonSlowConsumer {
			t.Errorf("failed as %v, want slow_consumer", got)
		}
		if res := tr.send(textFrame('b', 1)); res != pushClosed {
			t.Errorf("send: %v, want pushClosed", res)
		}
		synctest.Wait()
	})
}

func TestWriteThatMakesProgressIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		tr := newLooseTransport(server, 30*time.Second)
		tr.send(textFrame('a', 50))
		var b [2]byte
		for range 26 { // 52 bytes with the header, 2 in 20 s
			time.Sleep(20 * time.Second)
			if _, err := io.ReadFull(client, b[:]); err != nil {
				t.Fatalf("the writer has given up: %v", err)
			}
		}
		synctest.Wait()
		if got := tr.failed.Load(); got != nil {
			t.Errorf("failed as %v, want no failure", *got)
		}
		if tr.out.whenIdle() != nil {
			t.Error("the queue is not idle")
		}
		server.Close()
	})
}

func TestSocketThatFailsIsALostConnection(t *testing.T) {
	for _, raw := range []bool{true, false} {
		server, client := net.Pipe()
		if raw {
			server, client = tcpPair(t)
		}
		tr := newLooseTransport(server, 30*time.Second)
		client.Close()
		server.Close()
		tr.send(textFrame('a', 10))
		tr.out.await(10 * time.Second)
		if got := tr.failed.Load(); got == nil || *got != ReasonConnectionLost {
			t.Errorf("raw %v: failed as %v, want connection_lost", raw, got)
		}
	}
}

func TestFramePrefixIsRightBeforeThePayload(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		payload := bytes.Repeat([]byte{'x'}, n)
		w := prefix(append(make([]byte, maxHeader), payload...), frameText, false)
		op, got, err := newPeerReader(bytes.NewReader(w)).next()
		if op != frameText || err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: opcode %x, %d bytes, %v", n, op, len(got), err)
		}
		if got := payloadOf(w); !bytes.Equal(got, payload) {
			t.Errorf("payloadOf gives %d bytes, want %d", len(got), n)
		}
	}
}

func TestFrameIsCompressedOnceAndOnlyIfThatHelps(t *testing.T) {
	plain := &outlet{enc: envelopeCodec{}}
	one := &outlet{enc: envelopeCodec{}, deflate: true}
	two := &outlet{enc: envelopeCodec{}, deflate: true}
	f := textFrame('a', 5000)
	f.flat = &squeezed{}
	if got := plain.wire(f); &got[0] != &f.wire[0] {
		t.Error("a connection without compression gets other bytes")
	}
	a, b := one.wire(f), two.wire(f)
	if &a[0] != &b[0] {
		t.Error("compressed twice")
	}
	if len(a) >= 1000 || a[0] != bitFin|bitRSV1|byte(frameText) {
		t.Errorf("compressed frame of %d bytes begins with %x", len(a), a[0])
	}
	if got, err := inflate(payloadOf(a), 1<<20); err != nil || !bytes.Equal(got, payloadOf(f.wire)) {
		t.Errorf("inflates to %d bytes, %v", len(got), err)
	}
	noise := &frame{wire: append(appendHeader(nil, frameBinary, false, 3), 1, 7, 250), flat: &squeezed{}}
	if got := one.wire(noise); &got[0] != &noise.wire[0] {
		t.Error("a frame that does not get smaller was compressed")
	}
}
