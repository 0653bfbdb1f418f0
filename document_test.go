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
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// The rules are those of document.md; the comments name its sections.

const docTopic = "document:acme:doc1"

// docServer makes a server with documents, and the tenant acme.
func docServer(t *testing.T, opts ...realtime.DocumentOption) (*realtime.Server, *realtime.Documents) {
	t.Helper()
	if sharedDocuments() {
		s := newServer(t, realtime.WithBroker(realtimetest.NewCluster().Node()))
		return s, s.Documents("document:{tenant}:{document}", append([]realtime.DocumentOption{realtime.DocumentTenants(acme(t))}, opts...)...)
	}
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

func TestDocumentNacksOfTheGate(t *testing.T) { // 5.2, 5.5
	synctest.Test(t, func(t *testing.T) {
		s, d := docServer(t, realtime.MaxOps(3), realtime.MaxMessageSize(10))
		a := openDoc(t, s)
		a.id = "nobody"
		a.submit(op(1, 0, `1`))
		a.wantNack(400, "not_authenticated", "Client not connected")
		for range d.Sessions() {
			t.Error("a session was started")
		}
		a.connect(nil)
		own := a.id
		a.push("submitOp", `{"foo":"bar"}`)
		a.wantNack(400, "malformed", "Malformed submitOp: missing clientId or messageBatches")
		a.id = "other"
		a.submit(op(1, 0, `1`))
		a.wantNack(400, "client_id_mismatch", "Client ID mismatch: expected "+own+", got other")
		a.id = own
		a.submit(op(1, 1, `1`), op(2, 1, `1`), op(3, 1, `1`), op(4, 1, `1`))
		a.wantNack(400, "batch_too_large", "Batch size 4 exceeds maximum 3")
		a.submit(op(1, 1, `1`), op(2, 1, `"123456789"`))
		a.wantNack(413, "message_too_large", "Message size 11 exceeds limit 10")
		for bad, field := range map[string]string{
			`{"clientSequenceNumber":"1","referenceSequenceNumber":1}`:              "clientSequenceNumber",
			`{"clientSequenceNumber":1.5,"referenceSequenceNumber":1}`:              "clientSequenceNumber",
			`{"clientSequenceNumber":0,"referenceSequenceNumber":1}`:                "clientSequenceNumber",
			`{"clientSequenceNumber":9007199254740992,"referenceSequenceNumber":1}`: "clientSequenceNumber",
			`{"clientSequenceNumber":1,"referenceSequenceNumber":-2}`:               "referenceSequenceNumber",
			`{"clientSequenceNumber":1}`:                                            "referenceSequenceNumber",
			`{"clientSequenceNumber":1,"referenceSequenceNumber":1,"type":7}`:       "type",
			`5`: "not an object", `null`: "not an object",
		} {
			a.submit(bad)
			f := a.wantNack(400, "malformed", "Malformed operation: "+field)
			var nacks struct {
				ClientID *string
				Nacks    []struct {
					Operation, Content json.RawMessage
					SequenceNumber     int
				}
				Operation      json.RawMessage
				Content        json.RawMessage
				SequenceNumber int
			}
			if err := json.Unmarshal([]byte(f.text), &nacks); err != nil || len(nacks.Nacks) != 1 || *nacks.ClientID != "" {
				t.Fatalf("nack %s", f.text)
			}
			if n := nacks.Nacks[0]; string(n.Content) != string(nacks.Content) || string(n.Operation) != bad || string(nacks.Operation) != bad || n.SequenceNumber != -1 || nacks.SequenceNumber != -1 {
				t.Errorf("nack %s", f.text)
			}
		}
		a.submit()
		a.wantReply("ok", map[string]any{"sequenceNumber": 1})
		a.push("submitOp", fmt.Sprintf(`{"clientId":%q,"messageBatches":[%s,[%s]]}`, a.id, op(1, 1, `1`), `{"clientSequenceNumber":2.0,"referenceSequenceNumber":1e0}`))
		wantSequence(t, a.wantOps(), "op 2/1 op 3/1")
		a.wantReply("ok", map[string]any{"sequenceNumber": 3})
		reader := openDoc(t, s)
		reader.connect(map[string]any{"mode": "read"})
		reader.submit(op(1, 1, `1`))
		reader.wantNack(400, "read_only", "Read-only clients cannot submit operations")
		onlyReads := openDoc(t, s)
		onlyReads.connect(map[string]any{"mode": "read", "token": docToken(t, map[string]any{"scopes": []string{"doc:read"}})})
		onlyReads.submit(op(1, 1, `1`))
		onlyReads.wantNack(403, "read_only", "Read-only clients cannot submit operations")
	})
}

func TestDocumentSequencerNacksFollowTheEcho(t *testing.T) { // 5.3
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t)
		a := openDoc(t, s)
		a.connect(nil)
		a.submit(op(1, 1, `1`), op(2, 1, `2`), op(4, 1, `4`), op(5, 1, `5`))
		wantSequence(t, a.wantOps(), "op 2/1 op 3/1")
		f := a.wantNack(400, "gap", "Gap detected in incoming op")
		if f.data["sequenceNumber"] != 1.0 || f.data["operation"].(map[string]any)["clientSequenceNumber"] != 4.0 {
			t.Errorf("nack %s", f.text)
		}
		a.submit(op(2, 1, `2`)) // known
		a.wantReply("ok", map[string]any{"sequenceNumber": 3})
		a.submit(op(3, 9, `3`))
		a.wantNack(400, "invalid_rsn", "Invalid RSN: current SN is 3, received 9")
		a.submit(`{"type":"leave","clientSequenceNumber":3,"referenceSequenceNumber":3}`)
		a.wantNack(400, "op_not_allowed", "Op not allowed")
		a.submit(op(3, 3, `3`))
		wantSequence(t, a.wantOps(), "op 4/3")
		a.wantReply("ok", map[string]any{"sequenceNumber": 4})
		a.submit(op(4, 1, `1`))
		a.wantNack(400, "rsn_below_msn", "Refseq 1 < 3")
		a.submit(op(5, 3, `1`))
		a.wantNack(400, "nonexistent_client", "Nonexistent client")
	})
}

func TestDocumentConnectIsRefusedInOrder(t *testing.T) { // 3.2, 3.3
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t)
		for _, c := range []struct {
			name   string
			change map[string]any
			code   int
			reason string
			text   string
		}{
			{"fields", map[string]any{"tenantId": nil, "mode": nil}, 400, "missing_fields", "Missing required fields: tenantId, mode"},
			{"mode", map[string]any{"mode": "admin"}, 400, "invalid_request", "Invalid connect_document: mode"},
			{"client", map[string]any{"client": 1}, 400, "invalid_request", "Invalid connect_document: client"},
			{"topic", map[string]any{"tenantId": "beta", "token": "x"}, 400, "topic_mismatch", "Tenant/document ID mismatch with topic"},
			{"no token", map[string]any{"token": nil}, 401, "missing_token", "Missing authentication token"},
			{"empty token", map[string]any{"token": ""}, 401, "missing_token", "Missing authentication token"},
			{"malformed", map[string]any{"token": "a.b"}, 401, "invalid_token", "Invalid token: malformed"},
			{"signature", map[string]any{"token": docToken(t, nil) + "A"}, 401, "invalid_signature", "Invalid token signature"},
			{"claims", map[string]any{"token": docToken(t, map[string]any{"exp": nil})}, 401, "missing_claims", "Invalid token: missing claims: exp"},
			{"expired", map[string]any{"token": docToken(t, map[string]any{"exp": time.Now().Unix()})}, 401, "token_expired", "Token has expired"},
			{"early", map[string]any{"token": docToken(t, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})}, 401, "token_not_yet_valid", "Invalid token: not yet valid"},
			{"tenant", map[string]any{"token": docToken(t, map[string]any{"tenantId": "beta"})}, 403, "tenant_mismatch", "Token not valid for this tenant"},
			{"document", map[string]any{"token": docToken(t, map[string]any{"documentId": "doc2"})}, 403, "document_mismatch", "Token not valid for this document"},
			{"read", map[string]any{"token": docToken(t, map[string]any{"scopes": []string{"doc:write"}})}, 403, "missing_scope", "Token missing required scope: doc:read"},
			{"write", map[string]any{"token": docToken(t, map[string]any{"scopes": []string{"doc:read"}})}, 403, "write_scope_required", "Write mode requires doc:write scope"},
		} {
			a := openDoc(t, s)
			a.push("connect_document", request(docToken(t, nil), c.change))
			f := a.wantEvent("connect_document_error")
			if f.data["code"] != float64(c.code) || f.data["reason"] != c.reason || f.data["message"] != c.text {
				t.Errorf("%s: got %s", c.name, f.text)
			}
			a.wantReply("error", map[string]any{"reason": c.reason, "code": c.code, "message": c.text})
			if c.name == "write" {
				a.connect(map[string]any{"mode": "read"})
				a.push("connect_document", request(docToken(t, nil), nil))
				a.wantEvent("connect_document_error")
				a.wantReply("error", map[string]any{"reason": "already_connected", "code": 400, "message": "Already connected"})
			}
		}
	})
}

func TestDocumentTopics(t *testing.T) { // 2.2
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t)
		for topic, response := range map[string]string{
			"document:acme:a:b": `{"status":"ok","response":{}}`,
			"document:x:y":      `{"status":"ok","response":{}}`,
			"document:acme":     `{"status":"error","response":{"reason":"invalid_topic"}}`,
			"document::x":       `{"status":"error","response":{"reason":"invalid_topic"}}`,
			"document:acme:":    `{"status":"error","response":{"reason":"invalid_topic"}}`,
			"documents:a:b":     `{"status":"error","response":{"reason":"unmatched topic"}}`,
		} {
			c := dialPhoenix(t, s, "vsn=2.0.0")
			c.Send(fmt.Sprintf(`["1","1",%q,"phx_join",{"token":"ignored"}]`, topic))
			if got := c.Recv().Text; !strings.HasSuffix(got, `"phx_reply",`+response+"]") {
				t.Errorf("%s: %s", topic, got)
			}
		}
	})
}

func TestDocumentSignals(t *testing.T) { // 8
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t, realtime.NoMembershipSignals())
		a, b, c := openDoc(t, s), openDoc(t, s), openDoc(t, s)
		a.connect(map[string]any{"mode": "read"})
		b.connect(map[string]any{"mode": "read"})
		c.connect(map[string]any{"mode": "read"})
		both, onlyB := []*doc{b, c}, []*doc{b}
		for _, test := range []struct {
			element string
			content string // "" for none
			to      []*doc
		}{
			{`{"content":"x","type":"forged","clientConnectionNumber":3}`, `"x"`, both},
			{`[{"content":{"n":1.50}}]`, `{"n":1.50}`, both},
			{`{"content":"x","targetedClients":["B","B","nobody"]}`, `"x"`, onlyB},
			{`{"content":"x","targetedClients":["A"]}`, `"x"`, nil},
			{`{"content":"x","targetedClients":[]}`, `"x"`, nil},
			{`{"content":"x","targetedClients":["B"],"ignoredClients":["B"]}`, `"x"`, onlyB},
			{`{"content":"x","ignoredClients":["C"]}`, `"x"`, onlyB},
			{`{"content":"x","ignoredClients":[]}`, `"x"`, both},
			{`{"content":"x","targetClientId":"B"}`, `"x"`, onlyB},
			{`{"content":"x","targetClientId":"unknown"}`, `"x"`, nil},
			{`{"signal":{"content":"p"},"targetedClients":["B"]}`, `"p"`, onlyB},
			{`{"signal":{"content":"p","targetClientId":"B"}}`, `"p"`, onlyB},
			{`{"address":"a","contents":{"content":"v1"},"targetedClients":["B"]}`, `"v1"`, both},
			{`"{\"address\":1}"`, `"{\"address\":1}"`, both},
			{`{"nothing":1}`, ``, nil},
			{`7`, ``, nil},
		} {
			element := strings.NewReplacer(`"A"`, strconv.Quote(a.id), `"B"`, strconv.Quote(b.id), `"C"`, strconv.Quote(c.id)).Replace(test.element)
			a.push("submitSignal", fmt.Sprintf(`{"clientId":%q,"contentBatches":[%s]}`, a.id, element))
			a.wantReply("ok", map[string]any{})
			for _, to := range test.to {
				if f := to.wantEvent("signal"); f.text != fmt.Sprintf(`{"clientId":%q,"content":%s}`, a.id, test.content) {
					t.Errorf("%s: got %s", test.element, f.text)
				}
			}
		}
		a.push("submitSignal", `{"clientId":"forged","contentBatches":["x"]}`)
		a.wantReply("error", map[string]any{"reason": "client_id_mismatch"})
		a.push("submitSignal", fmt.Sprintf(`{"clientId":%q,"contentBatches":[[%s"y"]]}`, a.id, strings.Repeat(`"x",`, 100)))
		a.wantReply("error", map[string]any{"reason": "batch_too_large"})
		a.quiet()
		b.quiet()
		c.quiet()
	})
}

func TestDocumentLeaveIsToldOnce(t *testing.T) { // 8.4, 9
	synctest.Test(t, func(t *testing.T) {
		s, d := docServer(t)
		a, b := openDoc(t, s), openDoc(t, s)
		a.connect(nil)
		b.connect(nil)
		a.wantOps()
		a.wantEvent("signal")
		left := func() {
			t.Helper()
			ms := a.wantOps()
			if m := ms[0]; m.Type != "leave" || m.ClientID != nil || m.Data != strconv.Quote(b.id) || string(m.Contents) != strconv.Quote(b.id) {
				t.Errorf("got %s", m.text)
			}
			if f := a.wantEvent("signal"); f.text != fmt.Sprintf(`{"clientId":null,"content":"{\"type\":\"leave\",\"content\":\"%s\"}"}`, b.id) {
				t.Errorf("got %s", f.text)
			}
			a.quiet()
		}
		b.push("phx_leave", `{}`)
		b.wantReply("ok", map[string]any{})
		b.wantEvent("phx_close")
		left()
		b.rejoin()
		b.connect(nil)
		a.wantOps()
		a.wantEvent("signal")
		b.joinRef = strconv.Itoa(b.ref + 1)
		b.push("phx_join", `{}`)
		b.wantReply("ok", map[string]any{})
		b.wantEvent("phx_close")
		left()
		b.connect(nil)
		a.wantOps()
		a.wantEvent("signal")
		b.Cut()
		left()
		session, err := d.Session(t.Context(), "acme", "doc1")
		if err != nil || session.State() != (realtime.SessionState{SequenceNumber: 7, MinimumSequenceNumber: 0, Clients: 1}) {
			t.Errorf("state %+v, %v", session.State(), err)
		}
	})
}

func TestDocumentGivesWhatWasMissed(t *testing.T) { // 3.7, 3.9, 7.4
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t, realtime.HistoryLimit(5), realtime.NoMembershipSignals())
		a := openDoc(t, s)
		a.connect(nil)
		for i := range 19 {
			a.submit(op(i+1, i+1, `1`))
			a.wantOps()
			a.wantReply("ok", map[string]any{"sequenceNumber": i + 2})
		}
		all := func(ms []docMessage, from, to int64) {
			t.Helper()
			for i, m := range ms {
				if m.SequenceNumber != from+int64(i) {
					t.Fatalf("got %s, want %d to %d", numbers(ms), from, to)
				}
			}
			if int64(len(ms)) != to-from+1 {
				t.Errorf("got %s, want %d to %d", numbers(ms), from, to)
			}
		}
		b := openDoc(t, s)
		all(b.connect(nil).messages(t, "initialMessages"), 1, 20)
		a.wantOps()
		c := openDoc(t, s)
		all(c.connect(map[string]any{"lastSeenSequenceNumber": 17}).messages(t, "initialMessages"), 18, 21)
		all(c.wantOps(), 18, 22)
		c.wantReply("ok", map[string]any{"clientId": c.id})
		c.push("requestOps", `{"from":0}`)
		all(c.wantOps(), 1, 22)
		c.wantReply("ok", map[string]any{})
		for _, from := range []string{`22`, `1000`} {
			c.push("requestOps", `{"from":`+from+`}`)
			c.wantReply("ok", map[string]any{})
		}
		c.push("requestOps", `{"from":"x"}`)
		c.wantReply("error", map[string]any{"reason": "malformed"})
		reader := openDoc(t, s)
		f := reader.connect(map[string]any{"mode": "read"})
		all(f.messages(t, "initialMessages"), 1, 22)
		if f.data["checkpointSequenceNumber"] != 22.0 || f.data["mode"] != "read" {
			t.Errorf("success %v", f.data["checkpointSequenceNumber"])
		}
		reader.quiet()
	})
}
