package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// patience is how long a step may take before it counts as failed. Nothing waits
// for it unless something is wrong.
const patience = 10 * time.Second

// start runs the program with a free port and returns its base URL. At cleanup
// it is interrupted, and has to end without an error.
func start(t *testing.T, args ...string) string {
	t.Helper()
	base, interrupt := launch(t, args...)
	t.Cleanup(func() {
		if err := interrupt(); err != nil {
			t.Errorf("run returned %v, want nil", err)
		}
	})
	return base
}

// launch runs the program and returns its base URL. interrupt asks it to end,
// and returns what run returned; it may be called more than once.
func launch(t *testing.T, args ...string) (base string, interrupt func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), stdout, io.Discard)
		stdout.CloseWithError(errors.Join(io.ErrUnexpectedEOF, err))
		ended <- err
	}()
	interrupt = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(drainTime + patience):
			return errors.New("it is still running")
		}
	})
	t.Cleanup(func() { _ = interrupt() }) // whatever happens below
	line, err := bufio.NewReader(out).ReadString('\n')
	base, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("first line is %q (%v), want the address", line, err)
	}
	return base, interrupt
}

// frame is one message of either protocol; flat has its fields beside type.
type frame struct {
	Channel string          `json:"channel"`
	Type    string          `json:"type"`
	Ref     string          `json:"ref"`
	Offset  uint64          `json:"offset"`
	Data    json.RawMessage `json:"data"`
	whole   string
}

// data unmarshals the frame's data.
func (f frame) data(t *testing.T) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(f.Data, &fields); err != nil {
		t.Fatalf("data of %s: %v", f.whole, err)
	}
	return fields
}

// peer is one client.
type peer struct {
	t    *testing.T
	conn *websocket.Conn
	ctx  context.Context
}

// dial opens a socket at path, which may have a query.
func dial(t *testing.T, base, path string, header http.Header, protocols ...string) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, base+path, &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols})
	if err != nil {
		t.Fatalf("dial %s: %v", path, err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &peer{t: t, conn: conn, ctx: ctx}
}

// member returns a client of user that was greeted.
func member(t *testing.T, base, user string) *peer {
	t.Helper()
	p := dial(t, base, "/ws?token="+url.QueryEscape(tokenOf(t, base, user, "")), nil)
	p.want("connected")
	return p
}

// send writes one message; data is JSON.
func (p *peer) send(channel, event, data, ref string) {
	p.t.Helper()
	p.raw(fmt.Sprintf(`{"channel":%q,"type":%q,"data":%s,"ref":%q}`, channel, event, data, ref))
}

func (p *peer) raw(text string) {
	p.t.Helper()
	if err := p.conn.Write(p.ctx, websocket.MessageText, []byte(text)); err != nil {
		p.t.Fatalf("write %s: %v", text, err)
	}
}

// want reads up to the first message of that type. What it skips is in no
// promised order with it.
func (p *peer) want(kind string) frame {
	p.t.Helper()
	for {
		_, bytes, err := p.conn.Read(p.ctx)
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", kind, err)
		}
		f := frame{whole: string(bytes)}
		if err := json.Unmarshal(bytes, &f); err != nil {
			p.t.Fatalf("not JSON: %s", bytes)
		}
		if f.Type == kind {
			return f
		}
	}
}

// join subscribes and returns the success's data.
func (p *peer) join(channel, data string) map[string]any {
	p.t.Helper()
	p.send(channel, "subscribe", data, "join")
	return p.want("subscription_success").data(p.t)
}

// wantClosed reads up to the close frame. The closing message before it has to
// tell the same.
func (p *peer) wantClosed(code int, reason string) {
	p.t.Helper()
	told := p.want("closing").data(p.t)
	if told["reason"] != reason || told["code"] != float64(code) {
		p.t.Errorf("closing says %v %v, want %d %s", told["code"], told["reason"], code, reason)
	}
	_, _, err := p.conn.Read(p.ctx)
	if got := websocket.CloseStatus(err); int(got) != code {
		p.t.Errorf("close code %d (%v), want %d", got, err, code)
	}
}

// get returns the status and the body of a GET.
func get(t *testing.T, address string) (int, string, http.Header) {
	t.Helper()
	return request(t, http.MethodGet, address, "", nil)
}

func request(t *testing.T, method, address, body string, header http.Header) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	bytes, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(bytes), resp.Header
}

// tokenOf fetches a token as a page would.
func tokenOf(t *testing.T, base, user, ttl string) string {
	t.Helper()
	status, body, _ := get(t, base+"/token?user="+url.QueryEscape(user)+"&ttl="+ttl)
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || answer.Token == "" {
		t.Fatalf("GET /token: %d %s (%v)", status, body, err)
	}
	return answer.Token
}
