package realtime_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// The rules are those of document.md; the comments name its sections.

const docTopic = "document:acme:doc1"

// docServer makes a server with documents, and the tenant acme.
func docServer(t *testing.T, opts ...realtime.DocumentOption) (*realtime.Server, *realtime.Documents) {
	t.Helper()
	s := newServer(t)
	return s, s.Documents("document:{tenant}:{document}", append([]realtime.DocumentOption{realtime.DocumentTenants(acme(t))}, opts...)...)
}

func acme(t *testing.T) *realtime.Tenants {
	t.Helper()
	tenants := realtime.NewTenants()
	for _, id := range []string{"acme", "beta"} {
		if err := tenants.Register(id, []byte(id+"-secret")); err != nil {
			t.Fatal(err)
		}
	}
	return tenants
}

// docToken is a token of acme's for doc1; change sets claims.
func docToken(t *testing.T, change map[string]any) string {
	t.Helper()
	claims := map[string]any{"documentId": "doc1", "tenantId": "acme", "scopes": []string{"doc:read", "doc:write", "summary:write"},
		"user": map[string]string{"id": "u1", "name": "User One"}, "iat": time.Now().Unix(), "exp": time.Now().Add(24 * time.Hour).Unix()}
	for k, v := range change {
		claims[k] = v
	}
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	mac := hmac.New(sha256.New, []byte("acme-secret"))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// doc is a Phoenix client with one document's channel.
type doc struct {
	phx
	topic   string
	id      string // once connected
	ref     int
	joinRef string
}

// docFrame is one message to a doc.
type docFrame struct {
	event, ref string
	data       map[string]any
	text       string // of the payload
}

// openDoc dials and joins.
func openDoc(t *testing.T, s *realtime.Server) *doc {
	t.Helper()
	c := &doc{phx: dialPhoenix(t, s, "vsn=2.0.0"), topic: docTopic}
	c.rejoin()
	return c
}

func (c *doc) rejoin() {
	c.t.Helper()
	c.joinRef = strconv.Itoa(c.ref + 1)
	c.push("phx_join", `{}`)
	c.wantReply("ok", map[string]any{})
}

// push sends an event.
func (c *doc) push(event, payload string) {
	c.t.Helper()
	c.ref++
	c.Send(fmt.Sprintf(`[%q,"%d",%q,%q,%s]`, c.joinRef, c.ref, c.topic, event, payload))
}

// next reads one message.
func (c *doc) next() docFrame {
	c.t.Helper()
	var five []json.RawMessage
	text := c.Recv().Text
	if err := json.Unmarshal([]byte(text), &five); err != nil || len(five) != 5 {
		c.t.Fatalf("got %s", text)
	}
	f := docFrame{text: string(five[4]), ref: string(five[1])}
	json.Unmarshal(five[3], &f.event)
	json.Unmarshal(five[4], &f.data)
	return f
}

// wantEvent reads the next message, which must be that event.
func (c *doc) wantEvent(event string) docFrame {
	c.t.Helper()
	f := c.next()
	if f.event != event {
		c.t.Fatalf("got %s %s, want %s", f.event, f.text, event)
	}
	return f
}

// wantReply reads the reply to what was pushed last.
func (c *doc) wantReply(status string, response map[string]any) {
	c.t.Helper()
	f := c.wantEvent("phx_reply")
	want, _ := json.Marshal(map[string]any{"status": status, "response": response})
	got, _ := json.Marshal(f.data)
	if string(got) != string(want) || f.ref != fmt.Sprintf(`"%d"`, c.ref) {
		c.t.Errorf("reply %s to %s, want %s to %d", got, f.ref, want, c.ref)
	}
}

// request is a connect_document with fields changed; nil removes one.
func request(token string, change map[string]any) string {
	r := map[string]any{"tenantId": "acme", "id": "doc1", "token": token, "mode": "write", "client": map[string]any{"mode": "read",
		"details": map[string]any{"capabilities": map[string]bool{"interactive": true}}, "permission": []string{}, "user": map[string]string{"id": "root"}, "scopes": []string{"x"}}}
	for k, v := range change {
		if r[k] = v; v == nil {
			delete(r, k)
		}
	}
	text, _ := json.Marshal(r)
	return string(text)
}

// connect connects and returns the success.
func (c *doc) connect(change map[string]any) docFrame {
	c.t.Helper()
	c.push("connect_document", request(docToken(c.t, nil), change))
	f := c.wantEvent("connect_document_success")
	c.id = f.data["clientId"].(string)
	if f.data["mode"] == "write" && change["lastSeenSequenceNumber"] == nil {
		if ms := c.wantOps(); len(ms) != 1 || ms[0].Type != "join" {
			c.t.Fatalf("after success %+v, want the own join", ms)
		}
	} else if change["lastSeenSequenceNumber"] != nil {
		return f
	}
	c.wantReply("ok", map[string]any{"clientId": c.id})
	return f
}

// docMessage is a sequenced message as a client sees it.
type docMessage struct {
	ClientID                *string
	SequenceNumber          int64
	MinimumSequenceNumber   int64
	ClientSequenceNumber    int64
	ReferenceSequenceNumber int64
	Type                    string
	Contents                json.RawMessage
	Data                    string
	Metadata, Compression   json.RawMessage
	Timestamp               int64
	text                    string
}

func messagesOf(t testing.TB, list string) (ms []docMessage) {
	t.Helper()
	var raws []json.RawMessage
	if err := json.Unmarshal([]byte(list), &raws); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	for _, raw := range raws {
		m := docMessage{text: string(raw)}
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	return ms
}

// wantOps reads an op event.
func (c *doc) wantOps() []docMessage {
	c.t.Helper()
	return c.wantEvent("op").messages(c.t, "op")
}

func (f docFrame) messages(t testing.TB, field string) []docMessage {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(f.text), &fields); err != nil {
		t.Fatal(err)
	}
	return messagesOf(t, string(fields[field]))
}

// op is one op's JSON.
func op(csn, rsn int, contents string) string {
	return fmt.Sprintf(`{"type":"op","clientSequenceNumber":%d,"referenceSequenceNumber":%d,"contents":%s}`, csn, rsn, contents)
}

// submit sends ops in one batch.
func (c *doc) submit(ops ...string) {
	c.t.Helper()
	c.push("submitOp", fmt.Sprintf(`{"clientId":%q,"messageBatches":[[%s]]}`, c.id, strings.Join(ops, ",")))
}

// wantNack reads a nack and the error reply.
func (c *doc) wantNack(code int, reason, text string) docFrame {
	c.t.Helper()
	f := c.wantEvent("nack")
	content := f.data["content"].(map[string]any)
	if content["code"] != float64(code) || content["reason"] != reason || !strings.Contains(content["message"].(string), text) {
		c.t.Errorf("nack %v, want %d %s %q", content, code, reason, text)
	}
	c.wantReply("error", map[string]any{"reason": reason, "code": code, "message": content["message"]})
	return f
}

// numbers are the SNs and MSNs of messages.
func numbers(ms []docMessage) string {
	var b strings.Builder
	for _, m := range ms {
		fmt.Fprintf(&b, "%s %d/%d ", m.Type, m.SequenceNumber, m.MinimumSequenceNumber)
	}
	return strings.TrimSpace(b.String())
}

func wantSequence(t testing.TB, ms []docMessage, want string) {
	t.Helper()
	if got := numbers(ms); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDocumentOpsReachEveryoneInOrder(t *testing.T) { // 3.9, 5.4, 6
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t)
		a := openDoc(t, s)
		first := a.connect(nil)
		if first.data["checkpointSequenceNumber"] != 1.0 || len(first.data["initialMessages"].([]any)) != 0 || first.data["existing"] != true {
			t.Errorf("success %s", first.text)
		}
		b := openDoc(t, s)
		f := b.connect(nil)
		wantSequence(t, f.messages(t, "initialMessages"), "join 1/0")
		wantSequence(t, a.wantOps(), "join 2/0")
		if sig := a.wantEvent("signal"); sig.data["clientId"] != nil || !strings.Contains(sig.data["content"].(string), b.id) {
			t.Errorf("join signal %s", sig.text)
		}
		contents := `{"snake_key":12345678901234567890.10,"u":"é","n":[null]}`
		a.submit(`{"clientSequenceNumber":1,"referenceSequenceNumber":2,"contents":`+contents+`,"metadata":{"batch":true},"compression":"lz4","traces":[]}`,
			op(2, 2, `"x"`))
		echo, other := a.wantEvent("op"), b.wantEvent("op")
		a.wantReply("ok", map[string]any{"sequenceNumber": 4})
		if echo.text != other.text {
			t.Errorf("the submitter got %s, the other %s", echo.text, other.text)
		}
		ms := other.messages(t, "op")
		wantSequence(t, ms, "op 3/0 op 4/0")
		if m := ms[0]; string(m.Contents) != contents || *m.ClientID != a.id || string(m.Metadata) != `{"batch":true}` || string(m.Compression) != `"lz4"` {
			t.Errorf("got %s", m.text)
		}
		if m := ms[1]; m.Metadata != nil || m.Compression != nil {
			t.Errorf("got %s", m.text)
		}
	})
}
