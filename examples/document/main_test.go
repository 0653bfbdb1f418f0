package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/examples/internal/web"
)

// enough is how long a step may take before it counts as failed.
const enough = 20 * time.Second

// program is the whole thing, listening.
type program struct {
	t    *testing.T
	base string
	stop func()
}

// launch runs the program until stop or the end of the test; both want it to end
// without an error.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), stdout, t.Output()) }()
	p := &program{t: t}
	p.stop = func() {
		cancel()
		select {
		case err := <-ended:
			if ended <- err; err != nil {
				t.Errorf("run returned %v", err)
			}
		case <-time.After(enough):
			t.Error("the program does not end")
		}
	}
	t.Cleanup(p.stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	base, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("the first line is %q (%v)", line, err)
	}
	p.base = base
	return p
}

// send makes a request, with a token for the development tenant's document doc1 if
// the path is one of the REST API.
func (p *program) send(method, path, body string) (int, http.Header, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.base+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if strings.Contains(path, devTenant) {
		r.Header.Set("Authorization", "Bearer "+p.token())
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func (p *program) token() string {
	p.t.Helper()
	token, err := devToken("doc1", "u1", everything, time.Hour)
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

// get decodes an answer of 200 or 201.
func (p *program) get(method, path, body string, to any) {
	p.t.Helper()
	status, _, text := p.send(method, path, body)
	if err := json.Unmarshal([]byte(text), to); err != nil || status > 201 {
		p.t.Fatalf("%s %s: got %d %.300s (%v)", method, path, status, text, err)
	}
}

// writer is a client that is connected to doc1.
type writer struct {
	*program
	socket *websocket.Conn
	id     string
	csn    int
}

// write connects a client.
func (p *program) write() *writer {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), enough)
	defer cancel()
	socket, _, err := websocket.Dial(ctx, p.base+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	socket.SetReadLimit(1 << 20)
	p.t.Cleanup(func() { _ = socket.CloseNow() })
	w := &writer{program: p, socket: socket}
	w.push("phx_join", map[string]any{})
	w.until("phx_reply", nil)
	w.push("connect_document", map[string]any{
		"tenantId": devTenant, "id": "doc1", "mode": "write", "token": p.token(), "client": map[string]any{},
	})
	var hello struct{ ClientID string }
	w.until("connect_document_success", &hello)
	w.id = hello.ClientID
	return w
}

func (w *writer) push(event string, payload any) {
	w.t.Helper()
	frame := mustJSON([]any{"1", "1", "document:" + devTenant + ":doc1", event, payload})
	if err := w.socket.Write(w.t.Context(), websocket.MessageText, frame); err != nil {
		w.t.Fatal(err)
	}
}

// until reads up to an event, and decodes its payload.
func (w *writer) until(event string, payload any) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), enough)
	defer cancel()
	for {
		_, text, err := w.socket.Read(ctx)
		if err != nil {
			w.t.Fatalf("waiting for %s: %v", event, err)
		}
		var frame []json.RawMessage
		if err := json.Unmarshal(text, &frame); err != nil || len(frame) != 5 {
			w.t.Fatalf("%.300s (%v)", text, err)
		}
		if string(frame[3]) != `"`+event+`"` {
			continue
		}
		if payload != nil {
			if err := json.Unmarshal(frame[4], payload); err != nil {
				w.t.Fatal(err)
			}
		}
		return
	}
}

// sequencedJSON is what tests look at of a sequenced one.
type sequencedJSON struct {
	SequenceNumber int64
	Type           string
	Data           string
}

// untilType reads up to a message of a type.
func (w *writer) untilType(kind string) sequencedJSON {
	w.t.Helper()
	for {
		var event struct{ Op []sequencedJSON }
		w.until("op", &event)
		for _, m := range event.Op {
			if m.Type == kind {
				return m
			}
		}
	}
}

func (w *writer) submit(kind string, contents any, rsn int64) {
	w.t.Helper()
	w.csn++
	w.push("submitOp", map[string]any{"clientId": w.id, "messageBatches": [][]any{{map[string]any{
		"type": kind, "contents": string(mustJSON(contents)), "clientSequenceNumber": w.csn, "referenceSequenceNumber": rsn,
	}}}})
}

func TestDocumentOutlivesTheProgram(t *testing.T) {
	directory := t.TempDir()
	p := launch(t, "-data", directory)
	var id string
	if p.get("POST", "/documents/fluid", `{"id":"doc1","summary":`+wholeSummary+`}`, &id); id != "doc1" {
		t.Fatalf("created %q", id)
	}
	w := p.write()
	w.submit("op", "first", 1)
	w.untilType("op")
	_, _, before := p.send("GET", "/deltas/fluid/doc1", "")
	_, _, head := p.send("GET", "/repos/fluid/git/refs/heads/doc1", "")
	_ = w.socket.CloseNow()
	p.stop()

	p = launch(t, "-data", directory)
	_, _, after := p.send("GET", "/deltas/fluid/doc1", "")
	if kept := strings.TrimSuffix(before, "]}"); len(kept) < 100 || !strings.HasPrefix(after, kept) {
		t.Errorf("messages were %s\nand are %s", before, after)
	}
	_, _, text := p.send("GET", "/repos/fluid/git/refs/heads/doc1", "")
	if was, is := shaOf(t, head), shaOf(t, text); was != is || !isSHA(is) {
		t.Errorf("the head was %s and is %s", was, is)
	}
	w = p.write()
	if m := w.untilType("join"); m.SequenceNumber < 4 {
		t.Errorf("the next join has number %d, want it after what there was", m.SequenceNumber)
	}
	_ = w.socket.CloseNow()
	p.stop()
	if err := run(t.Context(), []string{"-addr", "127.0.0.1:0", "-data", directory + "/none"}, io.Discard, io.Discard); err == nil {
		t.Error("a directory that is not there was no error")
	}
}

func shaOf(t *testing.T, ref string) string {
	t.Helper()
	var r refJSON
	if err := json.Unmarshal([]byte(ref), &r); err != nil {
		t.Fatal(err)
	}
	return r.Object.SHA
}

func TestSummaryOverTheWire(t *testing.T) { // document.md sections 10 and 12.6
	p := launch(t)
	var id string
	p.get("POST", "/documents/fluid", `{"id":"doc1","summary":`+wholeSummary+`}`, &id)
	w := p.write()
	w.submit("op", "first", 1)
	w.untilType("op")

	var ref refJSON
	p.get("GET", "/repos/fluid/git/refs/heads/doc1", "", &ref)
	first := ref.Object.SHA
	var blob, tree, made struct{ SHA string }
	p.get("POST", "/repos/fluid/git/blobs", `{"content":"new","encoding":"utf-8"}`, &blob)
	p.get("POST", "/repos/fluid/git/trees", fmt.Sprintf(`{"tree":[{"path":"state","mode":"100644","type":"blob","sha":%q},
		{"path":".channels","mode":"040000","type":"tree","sha":"/.channels"}]}`, blob.SHA), &tree)
	p.get("POST", "/repos/fluid/git/commits", fmt.Sprintf(`{"message":"m","tree":%q,"parents":[%q]}`, tree.SHA, first), &made)
	p.get("PATCH", "/repos/fluid/git/refs/heads/doc1", fmt.Sprintf(`{"sha":%q,"force":true}`, made.SHA), &ref)
	if ref.Object.SHA != first {
		t.Errorf("the upload became the head")
	}
	proposal := map[string]any{"handle": made.SHA, "head": first, "message": "m", "parents": []string{first}}
	w.submit("summarize", proposal, 2)
	var ack struct{ Handle string }
	if err := json.Unmarshal([]byte(w.untilType("summaryAck").Data), &ack); err != nil {
		t.Fatal(err)
	}
	p.get("GET", "/repos/fluid/git/refs/heads/doc1", "", &ref)
	if ref.Object.SHA != ack.Handle || ack.Handle == first || ack.Handle == made.SHA {
		t.Errorf("acknowledged %s, the head is %s, before it was %s", ack.Handle, ref.Object.SHA, first)
	}
	w.submit("summarize", proposal, 4) // based on what is no longer the head
	if nack := w.untilType("summaryNack"); !strings.Contains(nack.Data, "not based on the latest one") {
		t.Errorf("got %s", nack.Data)
	}

	w = launch(t, "-no-summaries").write()
	w.submit("summarize", proposal, 1)
	w.untilType("summaryNack")
}

func TestAdminTellsAndCrashes(t *testing.T) {
	p := launch(t)
	var idle, busy load
	if p.get("GET", "/admin/state", "", &idle); idle.Connections != 0 || idle.Documents != 0 || idle.Goroutines < 1 {
		t.Errorf("at rest: %+v", idle)
	}
	w := p.write()
	if p.get("GET", "/admin/state", "", &busy); busy.Connections != 1 || busy.Documents != 1 {
		t.Errorf("with one client: %+v", busy)
	}
	for path, want := range map[string]int{
		"/admin/crash": 400, "/admin/crash?tenant=a": 400, "/admin/crash?tenant=a&document=doc1": 404,
		"/admin/crash?document=doc1&tenant=" + devTenant: 204,
	} {
		if status, _, text := p.send("POST", path, ""); status != want {
			t.Errorf("POST %s: got %d %s, want %d", path, status, text, want)
		}
	}
	w.until("phx_close", nil)
	if m := p.write().untilType("join"); m.SequenceNumber != 3 {
		t.Errorf("the next join has number %d, want 3: after a join and its leave", m.SequenceNumber)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", p.base+"/admin/crash?tenant=fluid&document=doc1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "https://elsewhere.example")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page elsewhere: got %d, want 403", resp.StatusCode)
	}
}

func TestTokensAreGivenForTheDevelopmentTenantAlone(t *testing.T) {
	p := launch(t)
	var given struct{ Tenant, Token string }
	p.get("GET", "/token?document=doc1&user=ada", "", &given)
	tenants := realtime.NewTenants()
	if err := tenants.Register(devTenant, []byte(devSecret)); err != nil {
		t.Fatal(err)
	}
	id, err := tenants.Verify(given.Tenant, given.Token)
	if err != nil || id.User != "ada" || !slices.Equal(id.Scopes, everything) {
		t.Errorf("got %+v (%v)", id, err)
	}
	p.get("GET", "/token?document=doc1&user=ada&access=read", "", &given)
	if id, err := tenants.Verify(given.Tenant, given.Token); err != nil || !slices.Equal(id.Scopes, []string{scopeRead}) {
		t.Errorf("to read: got %+v (%v)", id, err)
	}
	for _, path := range []string{"/token", "/token?document=d", "/token?user=u", "/token?document=d&user=" + strings.Repeat("u", 65)} {
		if status, _, _ := p.send("GET", path, ""); status != 400 {
			t.Errorf("%s: got %d, want 400", path, status)
		}
	}
	if status, header, _ := p.send("GET", "/token?document=d&user=u", ""); status != 200 || header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("got %d and %v, want no other origin to read it", status, header)
	}
	own := launch(t, "-tenant", "acme:secret")
	if status, _, _ := own.send("GET", "/token?document=d&user=u", ""); status != 404 {
		t.Errorf("with a tenant of its own: got %d, want 404", status)
	}
	if status, _, _ := own.send("GET", "/deltas/fluid/doc1", ""); status != 401 {
		t.Errorf("the development tenant is known: got %d, want 401", status)
	}
}

func TestFlagsAreParsed(t *testing.T) {
	_, cfg, err := parseFlags([]string{"-tenant", "a:one", "-tenant", "b:one:two", "-no-summaries", "-origins", "https://a.example, https://b.example"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.tenants) != 2 || cfg.tenants[1].id != "b" || len(cfg.tenants[1].secrets) != 2 || cfg.summaries || !cfg.msgpack || len(cfg.origins) != 2 {
		t.Errorf("got %+v", cfg)
	}
}

func TestFlagsWithoutSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"extra"}, {"-nonsense"}, {"-origins", "not an origin"}, {"-tenant", "secret"}, {"-tenant", "a:b:c:d"}, {"-tenant", ":b"},
		{"-tenant", "a:"}, {"-tenant", "a:b:b"}, {"-history", "0"}, {"-max-ops", "0"}, {"-max-message", "0"}, {"-max-clients", "-1"},
		{"-session-idle", "0s"}, {"-connect-time", "-1s"}, {"-client-timeout", "-1s"}, {"-max-message", "9999999999"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), enough)
		var said strings.Builder
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), io.Discard, &said)
		if err == nil || ctx.Err() != nil {
			t.Errorf("%v: got %v, want an error at once", args, err)
		}
		cancel()
	}
}

func TestPageIsServedWithItsPolicy(t *testing.T) {
	p := launch(t)
	for path, kind := range map[string]string{
		"/": "text/html", "/app.js": "text/javascript", "/client.js": "text/javascript", "/storage.js": "text/javascript",
		"/board.js": "text/javascript", "/style.css": "text/css", "/phoenix/phoenix.mjs": "text/javascript",
	} {
		status, header, _ := p.send("GET", path, "")
		if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), kind) || header.Get("Content-Security-Policy") != web.Policy {
			t.Errorf("%s: got %d, %v", path, status, header)
		}
	}
	if status, _, text := p.send("GET", "/metrics", ""); status != 200 || !strings.Contains(text, "document_sessions") {
		t.Errorf("/metrics: got %d", status)
	}
}

func TestPageKeepsTextText(t *testing.T) {
	for _, name := range []string{"index.html", "app.js", "client.js", "storage.js", "board.js"} {
		text, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, door := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"} {
			if strings.Contains(string(text), door) {
				t.Errorf("%s uses %s", name, door)
			}
		}
	}
}
