package realtime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The library's reader is the reference for our own. Known differences, each of
// them ours being stricter:
//
//   - lengths that are not in their shortest form, which the library takes
//   - close reasons that are not UTF-8, which the library takes
//   - content behind a final deflate block, which the library drops, or takes for
//     the next frame's header if it is over 4 KiB
//   - a message that the connection's end cuts off between two fragments or
//     before a payload's first byte: the library gives what came as if it were
//     whole, even of a message that would be over the limit
//   - a compressed message that ends inside a block: the library gives what it
//     could decode; ours reads the tail as part of that block, and mostly finds it
//     broken
//   - more than maxFragments fragments
//
// Where a compressed and fragmented message is broken early, the library says so
// before it has read the control frames between the later fragments; ours after.

// memoryConn is a connection that reads from src and swallows what is written.
type memoryConn struct{ io.Reader }

func (memoryConn) Write(p []byte) (int, error)      { return len(p), nil }
func (memoryConn) Close() error                     { return nil }
func (memoryConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (memoryConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (memoryConn) SetDeadline(time.Time) error      { return nil }
func (memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (memoryConn) SetWriteDeadline(time.Time) error { return nil }

type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriterSize(h.conn, 128)), nil
}

// acceptFrom returns the library's server end of a connection on which src arrives.
func acceptFrom(t testing.TB, src io.Reader, options *websocket.AcceptOptions) *websocket.Conn {
	t.Helper()
	req := httptest.NewRequest("GET", "/ws", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if options.CompressionMode != websocket.CompressionDisabled {
		req.Header.Set("Sec-WebSocket-Extensions", "permessage-deflate; client_no_context_takeover")
	}
	conn, err := websocket.Accept(hijackable{httptest.NewRecorder(), memoryConn{src}}, req, options)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// libraryReads returns what the library makes of a stream: the data messages,
// the control frames, and both together in their order.
func libraryReads(t testing.TB, stream []byte, compress bool) (data, control, all []got, err error) {
	note := func(op opcode) func(context.Context, []byte) {
		return func(_ context.Context, payload []byte) {
			control = append(control, got{op, string(payload)})
			all = append(all, got{op, string(payload)})
		}
	}
	ping := note(framePing)
	options := &websocket.AcceptOptions{
		OnPingReceived: func(ctx context.Context, payload []byte) bool { ping(ctx, payload); return false },
		OnPongReceived: note(framePong),
	}
	if compress {
		options.CompressionMode = websocket.CompressionNoContextTakeover
	}
	conn := acceptFrom(t, bytes.NewReader(stream), options)
	defer conn.CloseNow()
	conn.SetReadLimit(testLimit)
	for {
		kind, payload, err := conn.Read(context.Background())
		if err != nil {
			if closed, ok := errors.AsType[websocket.CloseError](err); ok {
				payload := string(closePayload(int(closed.Code), closed.Reason))
				note(frameClose)(context.Background(), []byte(payload))
			}
			return data, control, all, err
		}
		one := got{opcode(kind), string(payload)}
		data, all = append(data, one), append(all, one)
	}
}

// oursReads is libraryReads with our reader. It ends at a close frame, as the
// library does.
func oursReads(stream []byte, compress bool) (data, control, all []got, err error) {
	var r frameReader
	r.init(bytes.NewReader(stream), testLimit, compress)
	for {
		op, payload, err := r.next()
		if err == io.EOF && r.partial != nil {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return data, control, all, err
		}
		one := got{op, string(payload)}
		all = append(all, one)
		if !op.isControl() {
			data = append(data, one)
			continue
		}
		if control = append(control, one); op == frameClose {
			return data, control, all, io.EOF
		}
	}
}

// stricter holds the errors with which our reader may end before the library.
var stricter = map[error]bool{
	protocolError("length not in its shortest form"): true,
	protocolError("close reason is not UTF-8"):       true,
	protocolError("message in too many fragments"):   true,
	errInvalidDeflate: true,
}

// cutOff reports whether the library's last message may be the beginning of one
// that the end of the stream has cut off.
func cutOff(ours, library error) bool {
	return (ours == io.ErrUnexpectedEOF || ours == errMessageTooLarge) &&
		(errors.Is(library, io.EOF) || errors.Is(library, io.ErrUnexpectedEOF) || unread(library))
}

// unread reports whether the library ended because a message had ended before
// its last fragment.
func unread(err error) bool { return strings.Contains(err.Error(), "previous message not read") }

// checkAgreement compares both readers on one stream.
func checkAgreement(t testing.TB, stream []byte, compress bool) {
	t.Helper()
	ourData, ourControl, ourAll, ourErr := oursReads(stream, compress)
	data, control, all, err := libraryReads(t, stream, compress)

	same := func(a, b got) bool {
		return a == b || compress && a.op == b.op && (strings.HasPrefix(a.payload, b.payload) || strings.HasPrefix(b.payload, a.payload))
	}
	agree := func(what string, ours, library []got) {
		n := min(len(ours), len(library))
		if !slices.EqualFunc(ours[:n], library[:n], same) {
			t.Errorf("%s differ: got %v, the library %v", what, ours, library)
		}
	}
	agree("messages", ourData, data)
	agree("control frames", ourControl, control)
	if !compress {
		agree("orders", ourAll, all)
	}

	if cutOff(ourErr, err) && len(data) == len(ourData)+1 {
		data = data[:len(ourData)]
	}
	if (len(ourData) < len(data) || len(ourControl) < len(control)) && !stricter[ourErr] {
		t.Errorf("ours ends with %v after %v, the library with %v after %v", ourErr, ourAll, err, all)
	}
	libraryMayEndEarly := compress && (errors.Is(err, websocket.ErrMessageTooBig) || strings.Contains(err.Error(), "flate") || unread(err))
	if (len(ourData) > len(data) || len(ourControl) > len(control)) && !libraryMayEndEarly {
		t.Errorf("the library ends with %v after %v, ours with %v after %v", err, all, ourErr, ourAll)
	}
}

func TestReaderAgreesWithTheLibrary(t *testing.T) {
	for _, c := range readerCases() {
		t.Run(c.name, func(t *testing.T) {
			checkAgreement(t, c.bytes, true)
			checkAgreement(t, c.bytes, false)
		})
	}
}

// The differences that the comment at the top lists, so that an upgrade of the
// library that changes one is noticed.
func TestLibraryIsLaxerWhereItIsSaidToBe(t *testing.T) {
	var w wire
	for _, c := range []struct {
		name  string
		bytes wire
		want  got
	}{
		{"long form of a length", w.raw(fText, 0xfe, 0, 1, 0, 0, 0, 0, 'x'), text("x")},
		{"close reason", w.frame(fClose, "\x03\xe8\xff"), got{frameClose, closeText(1000, "\uFFFD")}},
		{"behind a final block", w.frame(fPacked, "\xf3\x48\xcd\xc9\xc9\x07\x00junk"), text("Hello")},
		{"cut off before the payload", w.frame(fText, "hello")[:6], text("")},
		{"cut off between fragments", w.frame(textMore, "hello"), text("hello")},
		{"cut off over the limit", w.raw(fText, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4), text("")},
	} {
		_, _, all, _ := libraryReads(t, c.bytes, true)
		if len(all) != 1 || all[0] != c.want {
			t.Errorf("%s: the library gives %v, want %v", c.name, all, c.want)
		}
		if _, _, all, err := oursReads(c.bytes, true); len(all) != 0 {
			t.Errorf("%s: ours gives %v, %v, want an error", c.name, all, err)
		}
	}
}

func FuzzReaderAgreesWithTheLibrary(f *testing.F) {
	for _, c := range readerCases() {
		if len(c.bytes) < 1000 {
			f.Add([]byte(c.bytes), true)
			f.Add([]byte(c.bytes), false)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, compress bool) { checkAgreement(t, stream, compress) })
}

// dialPipe connects the library's client to the returned server end of a pipe,
// with permessage-deflate and no context takeover.
func dialPipe(t *testing.T) (*websocket.Conn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		br := bufio.NewReaderSize(far, 16)
		req, err := http.ReadRequest(br)
		if err != nil {
			return // Dial reports it
		}
		w := httptest.NewRecorder()
		websocket.Accept(hijackable{w, memoryConn{strings.NewReader("")}}, req, &websocket.AcceptOptions{CompressionMode: websocket.CompressionNoContextTakeover})
		res := w.Result()
		fmt.Fprint(far, "HTTP/1.1 101 Switching Protocols\r\n")
		res.Header.Write(far)
		fmt.Fprint(far, "\r\n")
	}()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}}
	conn, _, err := websocket.Dial(context.Background(), "ws://server/ws", &websocket.DialOptions{
		HTTPClient: client, CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow(); far.Close() })
	return conn, far
}

func TestLibraryClientReadsOurFrames(t *testing.T) {
	conn, far := dialPipe(t)
	conn.SetReadLimit(testLimit)
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536} {
		for _, packed := range []bool{false, true} {
			payload := []byte(long[:n])
			if packed {
				payload = deflateMessage([]byte{}, payload)
			}
			go func() {
				far.Write(pingFrame)
				far.Write(append(appendHeader(nil, frameText, packed, len(payload)), payload...))
			}()
			// The answer to the ping: a masked pong without payload.
			go io.ReadFull(far, make([]byte, 6))
			kind, got, err := conn.Read(context.Background())
			if err != nil || kind != websocket.MessageText || string(got) != long[:n] {
				t.Fatalf("%d bytes, packed %v: the client read %d bytes, %v", n, packed, len(got), err)
			}
		}
	}
	payload := closePayload(4001, "bye")
	go func() {
		far.Write(append(appendHeader(nil, frameClose, false, len(payload)), payload...))
		io.Copy(io.Discard, far)
	}()
	_, _, err := conn.Read(context.Background())
	if closed, _ := errors.AsType[websocket.CloseError](err); closed.Code != 4001 || closed.Reason != "bye" {
		t.Errorf("the client read %v, want a close with 4001 and bye", err)
	}
}

func TestReaderReadsTheLibrarysClient(t *testing.T) {
	conn, far := dialPipe(t)
	var r frameReader
	r.init(far, testLimit, true)
	for _, n := range []int{0, 1, 99, 100, 125, 126, 4096, 65535, 65536} {
		go conn.Write(context.Background(), websocket.MessageText, []byte(long[:n]))
		op, payload, err := r.next()
		if err != nil || op != frameText || string(payload) != long[:n] {
			t.Fatalf("%d bytes: read %v of %d bytes, %v", n, op, len(payload), err)
		}
	}
	go conn.Close(4001, "bye")
	op, payload, err := r.next()
	if code, reason := parseClose(payload); err != nil || op != frameClose || code != 4001 || reason != "bye" {
		t.Errorf("read %v %d %q, %v, want a close with 4001 and bye", op, code, reason, err)
	}
	// The client waits for the answer.
	far.Write(append(appendHeader(nil, frameClose, false, len(payload)), payload...))
}

// repeating gives one frame over and over.
type repeating struct {
	frame []byte
	at    int
}

func (s *repeating) Read(p []byte) (n int, err error) {
	for n < len(p) {
		m := copy(p[n:], s.frame[s.at:])
		n += m
		s.at = (s.at + m) % len(s.frame)
	}
	return n, nil
}

func benchmarkFrames() map[string]struct {
	frame wire
	size  int64
} {
	return map[string]struct {
		frame wire
		size  int64
	}{
		"128B":       {wire{}.frame(fText, long[:128]), 128},
		"4KiB":       {wire{}.frame(fText, long[:4096]), 4096},
		"64KiB":      {wire{}.frame(fText, long), 65536},
		"packed4KiB": {wire{}.frame(fPacked, pack(long[:4096])), 4096},
	}
}

func BenchmarkReader(b *testing.B) {
	for name, c := range benchmarkFrames() {
		b.Run(name+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(c.size)
			var r frameReader
			r.init(&repeating{frame: c.frame}, 1<<20, true)
			for b.Loop() {
				if _, _, err := r.next(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/library", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(c.size)
			conn := acceptFrom(b, &repeating{frame: c.frame}, &websocket.AcceptOptions{CompressionMode: websocket.CompressionNoContextTakeover})
			defer conn.CloseNow()
			conn.SetReadLimit(1 << 20)
			for b.Loop() {
				if _, _, err := conn.Read(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
