package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// patience is how long a step may take before it counts as failed. Nothing waits
// for it unless something is wrong.
const patience = 10 * time.Second

// silence is how long "nothing" lasts: the specification's 300 ms.
const silence = 300 * time.Millisecond

// TestMain lets many tests run at a time, unless -parallel says how many: they
// mostly wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// site is one running program.
type site struct {
	base      string // its URL
	log       *watchedLog
	interrupt func() error // asks it to end, and returns what run returned
}

// check starts the program for a test that runs beside others.
func check(t *testing.T, args ...string) *site {
	t.Helper()
	t.Parallel()
	return start(t, args...)
}

// start runs the program with a free port. At cleanup it is interrupted, and has
// to end without an error.
func start(t *testing.T, args ...string) *site {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, stdout := io.Pipe()
	s := &site{log: &watchedLog{}}
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), stdout, s.log)
		stdout.CloseWithError(errors.Join(io.ErrUnexpectedEOF, err))
		ended <- err
	}()
	s.interrupt = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(2*drainTime + patience):
			return errors.New("it is still running")
		}
	})
	t.Cleanup(func() {
		if err := s.interrupt(); err != nil {
			t.Errorf("run returned %v, want nil", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	base, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("first line is %q (%v), want the address", line, err)
	}
	s.base = base
	return s
}

// request sends a request without a socket and returns its answer.
func request(t *testing.T, method, url, body string, header http.Header) (status int, text string, answered http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, "", resp.Header
	}
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, string(read), resp.Header
}

// post asks the admin handler, which has to agree.
func (s *site) post(t *testing.T, path, body string) {
	t.Helper()
	if status, text, _ := request(t, http.MethodPost, s.base+path, body, nil); status != http.StatusNoContent {
		t.Fatalf("POST %s: got %d %s, want 204", path, status, text)
	}
}

// get fetches JSON from the admin handler.
func (s *site) get(t *testing.T, path string, into any) {
	t.Helper()
	status, text, _ := request(t, http.MethodGet, s.base+path, "", nil)
	if err := json.Unmarshal([]byte(text), into); err != nil || status != http.StatusOK {
		t.Fatalf("GET %s: got %d %s (%v), want JSON", path, status, text, err)
	}
}

// upgrades returns what makes a request a WebSocket handshake, and more of the
// header as pairs of name and value.
func upgrades(more ...string) http.Header {
	h := http.Header{}
	for _, pair := range append([][]string{
		{"Connection", "Upgrade"}, {"Upgrade", "websocket"},
		{"Sec-WebSocket-Version", "13"}, {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
	}, pairs(more)...) {
		h.Set(pair[0], pair[1])
	}
	return h
}

func pairs(list []string) (pairs [][]string) {
	for ; len(list) > 1; list = list[2:] {
		pairs = append(pairs, list[:2])
	}
	return pairs
}

// handshake asks for a socket and drops it. It returns status and body.
func (s *site) handshake(t *testing.T, query string, more ...string) (int, string) {
	t.Helper()
	status, text, _ := request(t, http.MethodGet, s.base+"/socket/websocket?"+query, "", upgrades(more...))
	return status, text
}

// frame is one data frame of the server.
type frame struct {
	binary bool
	bytes  []byte
}

func (f frame) String() string {
	if f.binary {
		return fmt.Sprintf("% x", f.bytes)
	}
	return string(f.bytes)
}

// is compares the frame with JSON, by value, or with bytes in hexadecimal.
func (f frame) is(want string) bool {
	if strings.HasPrefix(want, "[") || strings.HasPrefix(want, "{") {
		return !f.binary && reflect.DeepEqual(parsed(string(f.bytes)), parsed(want))
	}
	return f.binary && bytes.Equal(f.bytes, unhex(want))
}

// parsed returns the value of a JSON text. Whatever is no JSON equals nothing.
func parsed(text string) any {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	return value
}

func unhex(text string) []byte {
	bytes, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err) // written in the test
	}
	return bytes
}

// peer is one client. All that it gets is kept in order.
type peer struct {
	t      *testing.T
	conn   *websocket.Conn
	header http.Header // of the answer to the handshake
	frames chan frame  // closed at the end
	passed []frame     // what until has read over
	err    error       // why it ended; set before frames is closed
}

// dial opens a socket at path, which may have a query.
func (s *site) dial(t *testing.T, path string, options *websocket.DialOptions) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, s.base+path, options)
	if err != nil {
		t.Fatalf("dial %s: %v", path, err)
	}
	conn.SetReadLimit(1 << 20)
	p := &peer{t: t, conn: conn, header: resp.Header, frames: make(chan frame, 1024)}
	go p.readLoop(t.Context())
	t.Cleanup(func() { _ = conn.CloseNow() })
	return p
}

func (p *peer) readLoop(ctx context.Context) {
	defer close(p.frames)
	for {
		kind, bytes, err := p.conn.Read(ctx)
		if err != nil {
			p.err = err
			return
		}
		p.frames <- frame{binary: kind == websocket.MessageBinary, bytes: bytes}
	}
}

// socket opens a socket of a version, with more of the query.
func (s *site) socket(t *testing.T, query string) *peer {
	t.Helper()
	return s.dial(t, "/socket/websocket?"+query, nil)
}

func (s *site) v1(t *testing.T) *peer { t.Helper(); return s.socket(t, "vsn=1.0.0") }
func (s *site) v2(t *testing.T) *peer { t.Helper(); return s.socket(t, "vsn=2.0.0") }

// joined returns a V2 socket in room:1, joined with ref "1".
func (s *site) joined(t *testing.T) *peer { t.Helper(); return s.v2(t).join("1") }

// join joins room:1 under a join_ref, which is the ref, too.
func (p *peer) join(ref string) *peer {
	p.t.Helper()
	p.send(event(ref, ref, "phx_join", `{}`))
	p.want(ok(ref, ref, `{}`))
	return p
}

// event is a V2 message of a client to room:1.
func event(joinRef, ref, event, payload string) string {
	return fmt.Sprintf(`[%q,%q,"room:1",%q,%s]`, joinRef, ref, event, payload)
}

// ok is a V2 reply on room:1 that all is well.
func ok(joinRef, ref, response string) string { return reply(joinRef, ref, "ok", response) }

// reply is a V2 reply on room:1.
func reply(joinRef, ref, status, response string) string {
	return fmt.Sprintf(`[%q,%q,"room:1","phx_reply",{"status":%q,"response":%s}]`, joinRef, ref, status, response)
}

// unmatched is the V2 reply to a message on a topic that is not joined.
func unmatched(ref, topic string) string {
	return fmt.Sprintf(`[null,%q,%q,"phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`, ref, topic)
}

// closed is the V2 end of the channel of room:1 that was joined with joinRef.
func closed(joinRef string) string {
	return fmt.Sprintf(`[%q,%q,"room:1","phx_close",{}]`, joinRef, joinRef)
}

// crashed is the V2 end of that channel by a fault.
func crashed(joinRef string) string {
	return fmt.Sprintf(`[%q,%q,"room:1","phx_error",{"reason":"channel_crash"}]`, joinRef, joinRef)
}

// send writes text messages.
func (p *peer) send(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.write(websocket.MessageText, []byte(text))
	}
}

// sendBytes writes a binary message, given in hexadecimal.
func (p *peer) sendBytes(text string) {
	p.t.Helper()
	p.write(websocket.MessageBinary, unhex(text))
}

func (p *peer) write(kind websocket.MessageType, bytes []byte) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := p.conn.Write(ctx, kind, bytes); err != nil {
		p.t.Fatalf("write %.100q: %v", bytes, err)
	}
}

// next returns the next frame.
func (p *peer) next() frame {
	p.t.Helper()
	select {
	case f, more := <-p.frames:
		if !more {
			p.t.Fatalf("the connection ended: %v, want a frame", p.err)
		}
		return f
	case <-time.After(patience):
		p.t.Fatal("no frame came")
		panic("not reached")
	}
}

// want is about the next frames: exactly these, in this order.
func (p *peer) want(want ...string) {
	p.t.Helper()
	for i, one := range want {
		if got := p.next(); !got.is(one) {
			p.t.Fatalf("frame %d: got %v\nwant %s", i+1, got, one)
		}
	}
}

// only is want, and nothing after it.
func (p *peer) only(want ...string) {
	p.t.Helper()
	p.want(want...)
	p.nothing()
}

// nothing waits for the time of silence, in which no frame may come and the
// connection may not end.
func (p *peer) nothing() {
	p.t.Helper()
	for _, f := range p.gather(silence) {
		p.t.Errorf("got %v, want nothing", f)
	}
}

// gather returns the frames of a span. The connection may not end.
func (p *peer) gather(span time.Duration) (all []frame) {
	p.t.Helper()
	over := time.After(span)
	for {
		select {
		case f, more := <-p.frames:
			if !more {
				p.t.Fatalf("the connection ended: %v", p.err)
			}
			all = append(all, f)
		case <-over:
			return all
		}
	}
}

// gatherFrom is gather from the n-th frame on, which may take longer than a span on a
// busy machine. It returns those before it, too.
func (p *peer) gatherFrom(n int, span time.Duration) (all []frame) {
	p.t.Helper()
	for range n {
		all = append(all, p.next())
	}
	return append(all, p.gather(span)...)
}

// wantClosed waits for a close frame with that code. No data frame may come
// before it.
func (p *peer) wantClosed(code int) {
	p.t.Helper()
	late := time.After(patience)
	for {
		select {
		case f, more := <-p.frames:
			if more {
				p.t.Errorf("got %v before the close, want nothing", f)
				continue
			}
			if got := int(websocket.CloseStatus(p.err)); got != code {
				p.t.Errorf("closed with %d (%v), want %d", got, p.err, code)
			}
			return
		case <-late:
			p.t.Fatalf("still open, want close %d", code)
		}
	}
}

// cut ends the connection without a close frame.
func (p *peer) cut() { _ = p.conn.CloseNow() }
