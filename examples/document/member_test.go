package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// member is a client of one document on a socket of its own. It numbers its ops,
// and audits the stream that it gets.
type member struct {
	*peer
	tenant, document string
	token            string
	joinRef          string
	id               string // of the connection, once there is one
	hello            hello
	csn              int // of the last op that it made
	last             fields
	*audit
}

// hello is connect_document_success.
type hello struct {
	ClientID                 string
	Mode                     string
	InitialClients           []present
	InitialMessages          []json.RawMessage
	CheckpointSequenceNumber int64
	SupportedFeatures        map[string]any
	SummaryContext           json.RawMessage
	Version                  string
	MaxMessageSize           int
}

type present struct {
	ClientID, Mode string
	Client         json.RawMessage
}

// joined returns a member of a channel that is not yet connected.
func (s *site) joined(t *testing.T, tenant, document string) *member {
	t.Helper()
	return s.over(t, "2.0.0", tenant, document)
}

// over is joined with a version of the protocol.
func (s *site) over(t *testing.T, version, tenant, document string) *member {
	t.Helper()
	m := &member{peer: s.dial(t, version), tenant: tenant, document: document}
	m.token = tokenFor(document)
	if tenant == "beta" {
		m.token = mint("beta-secret", claims(document).with(fields{"tenantId": "beta"}))
	}
	return m.join("1")
}

// writer and reader return connected members of acme's document doc1.
func (s *site) writer(t *testing.T) *member { t.Helper(); return s.in(t, "doc1", "write") }
func (s *site) reader(t *testing.T) *member { t.Helper(); return s.in(t, "doc1", "read") }

func (s *site) in(t *testing.T, document, mode string) *member {
	t.Helper()
	return s.joined(t, "acme", document).connect(mode)
}

// pair returns two writers on an empty document; nothing is left unread.
func (s *site) pair(t *testing.T) (a, b *member) {
	t.Helper()
	a = s.writer(t)
	b = s.writer(t)
	a.want(b.joins(2, 0), b.joinSignal())
	return a, b
}

func (m *member) topic() string { return "document:" + m.tenant + ":" + m.document }

// join joins the topic under a join_ref, which is the ref, too.
func (m *member) join(ref string) *member {
	m.t.Helper()
	m.joinRef = ref
	m.ask(ref, "phx_join", fields{"token": "ignored"})
	m.want(reply(ref, `{}`))
	return m
}

// leave leaves the topic.
func (m *member) leave() {
	m.t.Helper()
	m.ask("bye", "phx_leave", fields{})
	m.want(reply("bye", `{}`), "phx_close {}")
	m.id = ""
}

// push sends an event without a ref, so that there is no reply.
func (m *member) push(event string, payload any) {
	m.t.Helper()
	m.send(compact([]any{m.joinRef, nil, m.topic(), event, payload}))
}

// ask sends an event that wants a reply.
func (m *member) ask(ref, event string, payload any) {
	m.t.Helper()
	m.send(compact([]any{m.joinRef, ref, m.topic(), event, payload}))
}

// next returns the next message as its event and payload. In place of phx_reply
// stand the word reply and the ref.
func (m *member) next() string {
	m.t.Helper()
	text := m.peer.next()
	var e envelope
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		m.t.Fatalf("%.300s: %v", text, err)
	}
	if e.topic != m.topic() || e.joinRef != nil && *e.joinRef != m.joinRef {
		m.t.Fatalf("%.300s: want the topic %s and the join_ref %s", text, m.topic(), m.joinRef)
	}
	switch e.event {
	case "phx_reply":
		if e.ref == nil {
			m.t.Fatalf("%.300s: a reply without a ref", text)
		}
		return "reply " + *e.ref + " " + string(e.payload)
	case "phx_close", "phx_error":
		return e.event + " " + string(e.payload)
	case "op":
		if m.audit == nil {
			m.t.Fatalf("got %.300s before the connection", text)
		}
		m.live(m.operations(e.payload))
	}
	if e.ref != nil {
		m.t.Fatalf("%.300s: an event with a ref", text)
	}
	return e.event + " " + string(e.payload)
}

// operations returns the messages of an op event.
func (m *member) operations(payload []byte) []json.RawMessage {
	m.t.Helper()
	var event struct {
		DocumentID string
		Op         []json.RawMessage
	}
	if err := json.Unmarshal(payload, &event); err != nil || event.DocumentID != m.document || len(event.Op) == 0 {
		m.t.Fatalf("op event %.300s: %v, want messages of %s", payload, err, m.document)
	}
	return event.Op
}

// want is about the next messages: exactly these, in this order. A pattern is the
// name of an event and JSON.
func (m *member) want(patterns ...string) {
	m.t.Helper()
	for i, pattern := range patterns {
		if got := m.next(); mismatch(got, pattern) != "" {
			m.t.Fatalf("message %d: got %.1500s\nwant %.1500s\n%s", i+1, got, pattern, mismatch(got, pattern))
		}
	}
}

// mismatch compares what next returns with a pattern.
func mismatch(got, pattern string) string {
	start := strings.IndexAny(pattern, "{[")
	name := pattern[:start]
	payload, ok := strings.CutPrefix(got, name)
	if !ok {
		return fmt.Sprintf("it is no %s", name)
	}
	return differs(payload, pattern[start:])
}

// only is want, and nothing after it.
func (m *member) only(patterns ...string) {
	m.t.Helper()
	m.want(patterns...)
	m.nothing()
}

// wantUnordered is about the next messages: these, in any order.
func (m *member) wantUnordered(patterns ...string) {
	m.t.Helper()
	for len(patterns) > 0 {
		got := m.next()
		i := slices.IndexFunc(patterns, func(pattern string) bool { return mismatch(got, pattern) == "" })
		if i < 0 {
			m.t.Fatalf("got %.1000s\nwant one of %s", got, strings.Join(patterns, "\n"))
		}
		patterns = slices.Delete(slices.Clone(patterns), i, i+1)
	}
}

// all asks several members for the same.
func all(members []*member, patterns ...string) {
	for _, m := range members {
		m.t.Helper()
		m.want(patterns...)
	}
}

// request is a full connect_document.
func (m *member) request(mode string) fields {
	return fields{
		"tenantId": m.tenant, "id": m.document, "token": m.token, "mode": mode,
		"client": fields{
			"mode": mode, "details": fields{"capabilities": fields{"interactive": true}},
			"permission": []string{}, "user": fields{"id": ""}, "scopes": []string{},
		},
		"versions": []string{"^0.4.0", "^0.3.0", "^0.2.0", "^0.1.0"},
	}
}

// connect connects with some fields of the request changed, and reads success and
// the member's own join.
func (m *member) connect(mode string, changes ...fields) *member {
	m.t.Helper()
	m.push("connect_document", m.changed(mode, changes))
	m.welcome(0)
	if m.hello.Mode == "write" {
		m.want(m.joins(m.hello.CheckpointSequenceNumber, anyValue))
	}
	return m
}

func (m *member) changed(mode string, changes []fields) fields {
	request := m.request(mode)
	for _, change := range changes {
		request = request.with(change)
	}
	return request
}

// welcome reads connect_document_success. lastSeen is what the request named.
func (m *member) welcome(lastSeen int64) {
	m.t.Helper()
	got := m.next()
	payload, ok := strings.CutPrefix(got, "connect_document_success ")
	if !ok {
		m.t.Fatalf("got %.600s, want success", got)
	}
	m.hello = hello{}
	if err := json.Unmarshal([]byte(payload), &m.hello); err != nil {
		m.t.Fatalf("%s: %v", payload, err)
	}
	m.id, m.csn = m.hello.ClientID, 0
	m.audit = newAudit(m.t, &m.hello, lastSeen)
}

// refused sends a connect_document that has to fail, with and without a ref.
func (m *member) refused(request fields, code int, reason, message string) {
	m.t.Helper()
	text := compact(fields{"code": code, "message": message, "reason": reason})
	m.push("connect_document", request)
	m.want("connect_document_error " + text)
	m.ask("refused", "connect_document", request)
	m.want("connect_document_error "+text, "reply refused "+compact(fields{"status": "error", "response": json.RawMessage(text)}))
}

// detail is the member's own description, as the server wrote it.
func (m *member) detail() json.RawMessage {
	m.t.Helper()
	for _, one := range m.hello.InitialClients {
		if one.ClientID == m.id {
			return one.Client
		}
	}
	m.t.Fatalf("%s is not in its initialClients", m.id)
	panic("not reached")
}

// made returns the member's next op.
func (m *member) made(rsn int64, changes ...fields) fields {
	m.csn++
	op := fields{"type": "op", "clientSequenceNumber": m.csn, "referenceSequenceNumber": rsn, "contents": "x"}
	for _, change := range changes {
		op = op.with(change)
	}
	m.last = op
	return op
}

// echo is the pattern of an event with the last op that the member made.
func (m *member) echo(sn, msn int64) string { return m.ops(m.opMessage(m.last, sn, msn)) }

// fill makes the document longer, up to a sequence number, by ops that refer to
// rsn. Nobody else may write meanwhile.
func (m *member) fill(to, rsn int64) {
	m.t.Helper()
	for m.head < to {
		before := m.head
		var ops []fields
		for range min(100, to-before) {
			ops = append(ops, m.made(rsn))
		}
		m.submit(ops...)
		for m.head < before+int64(len(ops)) {
			m.next()
		}
	}
}

// submission is the payload of submitOp, with one batch.
func (m *member) submission(ops ...fields) fields {
	return fields{"clientId": m.id, "messageBatches": [][]fields{ops}}
}

func (m *member) submit(ops ...fields) {
	m.t.Helper()
	m.push("submitOp", m.submission(ops...))
}

// opMessage is the pattern of an op of the member, once it has numbers.
func (m *member) opMessage(op fields, sn, msn int64) string {
	return opMessage(m.id, op, sn, msn)
}

func opMessage(id string, op fields, sn, msn int64) string {
	message := maps.Clone(op)
	maps.Copy(message, fields{"clientId": id, "sequenceNumber": sn, "minimumSequenceNumber": msn, "timestamp": aTime})
	return compact(message)
}

// ops is the pattern of an op event.
func (m *member) ops(messages ...string) string {
	return "op " + fmt.Sprintf(`{"documentId":%q,"op":%s}`, m.document, list(messages...))
}

// system is the pattern of a message of the server.
func system(kind string, sn, msn, contents, data any) string {
	message := fields{
		"clientId": nil, "sequenceNumber": sn, "minimumSequenceNumber": msn, "clientSequenceNumber": -1,
		"referenceSequenceNumber": anyValue, "type": kind, "contents": contents, "data": data, "timestamp": aTime,
	}
	if number, ok := sn.(int64); ok {
		message["referenceSequenceNumber"] = number - 1
	}
	return compact(message)
}

// joinMessage, joins and joinSignal are what tells the others of the member.
func (m *member) joinMessage(sn int64, msn any) string {
	m.t.Helper()
	contents := compact(fields{"clientId": m.id, "detail": m.detail()})
	return system("join", sn, msn, json.RawMessage(contents), jsonOf+contents)
}

func (m *member) joins(sn int64, msn any) string { m.t.Helper(); return m.ops(m.joinMessage(sn, msn)) }

func (m *member) joinSignal() string {
	m.t.Helper()
	return announced(fields{"type": "join", "content": fields{"clientId": m.id, "client": m.detail()}})
}

// leaveMessage, leaves and leaveSignal are what tells the others of the end of the
// connection with that id.
func leaveMessage(id string, sn int64, msn any) string {
	return system("leave", sn, msn, id, jsonOf+compact(id))
}

func (m *member) leaves(id string, sn int64, msn any) string { return m.ops(leaveMessage(id, sn, msn)) }

func leaveSignal(id string) string { return announced(fields{"type": "leave", "content": id}) }

func announced(content fields) string {
	return "signal " + compact(fields{"clientId": nil, "content": jsonOf + compact(content)})
}

// signal is the pattern of a signal of the member.
func (m *member) signal(content any) string {
	return "signal " + compact(fields{"clientId": m.id, "content": content})
}

// nack is the pattern of a refusal: the list, and beside it the same fields.
func nack(operation any, sn int64, content fields) string {
	whole := fields{"clientId": "", "operation": operation, "sequenceNumber": sn, "content": content}
	one := maps.Clone(whole)
	delete(one, "clientId")
	whole["nacks"] = []fields{one}
	return "nack " + compact(whole)
}

// refusal is the content of a nack.
func refusal(code int, reason, message string) fields {
	kind := map[int]string{400: "BadRequestError", 403: "InvalidScopeError", 413: "BadRequestError", 429: "ThrottlingError"}[code]
	return fields{"code": code, "type": kind, "message": message, "reason": reason}
}

// reply is the pattern of a reply that all is well.
func reply(ref, response string) string {
	return fmt.Sprintf(`reply %s {"status":"ok","response":%s}`, ref, response)
}

// replyError is the pattern of a reply that refuses.
func replyError(ref string, code int, reason, message string) string {
	return "reply " + ref + " " + compact(fields{"status": "error", "response": fields{"reason": reason, "code": code, "message": message}})
}
