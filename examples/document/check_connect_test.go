package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
)

// The checks of connect_document.

// client is the pattern of the client object of a connection of the user u1.
func client(mode string, scopes ...string) fields {
	return fields{
		"mode": mode, "details": fields{"capabilities": fields{"interactive": true}}, "permission": []string{},
		"user": fields{"id": "u1", "name": "User One"}, "scopes": scopes, "timestamp": aTime,
	}
}

// success is the pattern of connect_document_success on an empty document.
func success(scopes ...string) fields {
	return fields{
		"clientId": aUUID, "existing": true, "mode": "write", "maxMessageSize": json.RawMessage(`"<any>"`),
		"claims": fields{
			"documentId": "doc1", "tenantId": "acme", "scopes": scopes,
			"user": fields{"id": "u1", "name": "User One"}, "iat": anyValue, "exp": anyValue, "ver": "1.0",
		},
		"serviceConfiguration": fields{"blockSize": 65536, "maxMessageSize": anyValue},
		"initialClients":       []any{fields{"clientId": aUUID, "mode": "write", "client": client("write", scopes...)}},
		"initialMessages":      []any{}, "initialSignals": []any{},
		"supportedVersions": []string{"^0.1.0", "^1.0.0"}, "supportedFeatures": fields{"submit_signals_v2": true},
		"version": "0.1.0", "checkpointSequenceNumber": 1, "timestamp": aTime,
	}
}

func TestCheck008_SuccessComesBeforeTheOwnJoin(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.ask("4", "connect_document", m.request("write"))
	got := m.next()
	if found := mismatch(got, "connect_document_success "+success("doc:read", "doc:write", "summary:write").String()); found != "" {
		t.Fatalf("got %s\n%s", got, found)
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(got, "connect_document_success ")), &m.hello); err != nil {
		t.Fatal(err)
	}
	m.id = m.hello.ClientID
	m.audit = newAudit(t, &m.hello, 0)
	m.wantUnordered(m.joins(1, 0), reply("4", compact(fields{"clientId": m.id})))
	m.nothing()
}

func TestCheck009_DocumentBeginsWithTheFirstJoin(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.push("connect_document", m.request("write"))
	m.welcome(0)
	m.only(m.joins(1, 0))
	if m.hello.CheckpointSequenceNumber != 1 || len(m.hello.InitialMessages) != 0 {
		t.Errorf("got %+v, want the checkpoint 1 and no messages", m.hello)
	}
}

func TestCheck010_MissingFieldsAreNamed(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	for missing, request := range map[string]fields{
		"tenantId, mode":             m.request("write").with(fields{"tenantId": nil, "mode": nil}),
		"tenantId, id, client, mode": {},
		"client":                     m.request("write").with(fields{"client": nil, "token": "bad"}),
	} {
		m.refused(request, 400, "missing_fields", "Missing required fields: "+missing)
	}
}

func TestCheck011_RequestHasToFitTheTopic(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	for _, change := range []fields{
		{"tenantId": "beta"}, {"tenantId": "beta", "token": "broken"}, {"id": "doc2"}, {"tenantId": "Acme"},
	} {
		m.refused(m.request("write").with(change), 400, "topic_mismatch", "Tenant/document ID mismatch with topic")
	}
}

func TestCheck012_TokenIsNeeded(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	for _, token := range []any{nil, "", json.RawMessage("null")} {
		m.refused(m.request("write").with(fields{"token": token}), 401, "missing_token", "Missing authentication token")
	}
}

func TestCheck013_ModeIsOneOfTwoWords(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.refused(m.request("admin"), 400, "invalid_request", "Invalid connect_document: mode")
	m.refused(m.request("write").with(fields{"client": "me"}), 400, "invalid_request", "Invalid connect_document: client")
	m.refused(m.request("write").with(fields{"tenantId": 5}), 400, "invalid_request", "Invalid connect_document: tenantId")
	m.id = "someone"
	m.submit(m.made(0))
	m.only(nack(nil, -1, refusal(400, "not_authenticated", "Client not connected")))
}

func TestCheck014_WriterNeedsTheScope(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.token = tokenFor("doc1", "doc:read")
	m.refused(m.request("write"), 403, "write_scope_required", "Write mode requires doc:write scope")
	if m.connect("read"); m.hello.Mode != "read" {
		t.Errorf("got mode %q, want read", m.hello.Mode)
	}
	m.nothing()
}

func TestCheck015_WriterWithoutTheScopeMayBecomeReader(t *testing.T) {
	m := host(t, realtime.DowngradeToRead()).joined(t, "acme", "doc1")
	m.token = tokenFor("doc1", "doc:read")
	m.connect("write")
	if m.hello.Mode != "read" || m.hello.CheckpointSequenceNumber != 0 {
		t.Errorf("got %+v, want a reader, who takes no number", m.hello)
	}
	m.nothing()
	var detail struct{ Mode string }
	if err := json.Unmarshal(m.detail(), &detail); err != nil || detail.Mode != "read" {
		t.Errorf("the client's description is %s, want the mode read", m.detail())
	}
}

func TestCheck016_OneScopeDoesNotImplyAnother(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.token = tokenFor("doc1", "doc:write", "summary:write")
	for _, mode := range []string{"write", "read"} {
		m.refused(m.request(mode), 403, "missing_scope", "Token missing required scope: doc:read")
	}
}

func TestCheck017_ChannelMayTryAgain(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.refused(m.request("write").with(fields{"token": vectorD}), 401, "invalid_signature", "Invalid token signature")
	m.connect("write").nothing()
}

func TestCheck018_SecondConnectIsRefused(t *testing.T) {
	a, b := check(t).pair(t)
	a.refused(a.request("write"), 400, "already_connected", "Already connected")
	a.submit(a.made(2))
	all([]*member{a, b}, a.echo(3, 0))
	id := a.id
	a.leave()
	b.only(b.leaves(id, 4, 0), leaveSignal(id))
}

func TestCheck019_ClientIDsAreNeverUsedAgain(t *testing.T) {
	s := check(t)
	var members []*member
	for range 50 {
		members = append(members, s.joined(t, "acme", "doc1"))
	}
	ids := map[string]bool{}
	for _, again := range []bool{false, true} {
		if again {
			s.crash(t, "doc1")
		}
		for _, m := range members {
			if again {
				m.until("phx_close")
				m.join("2")
			}
			m.push("connect_document", m.request("write"))
		}
		for _, m := range members {
			m.welcome(0)
			if !uuidForm.MatchString(m.id) {
				t.Errorf("%q is no UUID", m.id)
			}
			ids[m.id] = true
		}
	}
	if len(ids) != 100 {
		t.Errorf("100 connections had %d ids", len(ids))
	}
}

// crash makes the session of a document of acme panic, on every node.
func (s *site) crash(t *testing.T, document string) {
	t.Helper()
	for _, base := range append([]string{s.base}, s.also...) {
		one := &site{base: base}
		if status, text := one.call(t, "", http.MethodPost, "/admin/crash?tenant=acme&document="+document, ""); status != 204 {
			t.Fatalf("the crash: %d %s", status, text)
		}
	}
}

// ids returns the clients that a member was told of.
func (m *member) ids() (ids []string) {
	for _, one := range m.hello.InitialClients {
		ids = append(ids, one.ClientID)
	}
	slices.Sort(ids)
	return ids
}

func TestCheck020_InitialClientsHaveTheNewOne(t *testing.T) {
	a, b := check(t).pair(t)
	if got := a.ids(); !slices.Equal(got, []string{a.id}) {
		t.Errorf("A was told of %q, want itself", got)
	}
	want := []string{a.id, b.id}
	slices.Sort(want)
	if got := b.ids(); !slices.Equal(got, want) {
		t.Errorf("B was told of %q, want %q", got, want)
	}
}

func TestCheck021_ModeIsTheOneAtTheTop(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	b := s.joined(t, "acme", "doc1")
	b.connect("write", fields{"client": fields{"mode": "read", "user": fields{"id": ""}}})
	if b.hello.Mode != "write" {
		t.Fatalf("got mode %q, want write", b.hello.Mode)
	}
	scopes := []string{"doc:read", "doc:write", "summary:write"}
	if found := differs(string(b.detail()), client("write", scopes...).String()); found != "" {
		t.Error(found)
	}
	for _, one := range b.hello.InitialClients {
		if one.Mode != "write" {
			t.Errorf("%s has mode %q, want write", one.ClientID, one.Mode)
		}
	}
	a.only(b.joins(2, 0), b.joinSignal())
}

func TestCheck022_TokenSaysWhoTheClientIs(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	b := s.joined(t, "acme", "doc1")
	b.token = mint(secretOne, claims("doc1", "doc:read", "doc:write", "made:up"))
	b.connect("write", fields{"client": fields{
		"user": fields{"id": "root", "name": "Root", "color": "red"}, "scopes": []string{"x"}, "timestamp": 1, "mode": "admin",
	}})
	want := client("write", "doc:read", "doc:write", "made:up").with(
		fields{"user": fields{"id": "u1", "name": "User One", "color": "red"}})
	if found := differs(string(b.detail()), want.String()); found != "" {
		t.Errorf("%s\n%s", b.detail(), found)
	}
	a.only(b.joins(2, 0), b.joinSignal())
}

func TestCheck023_DescriptionIsTheSameTextEverywhere(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	b := s.joined(t, "acme", "doc1")
	b.connect("write", fields{"client": fields{
		"zebra": 1, "user": fields{"zone": "é <&>", "id": "", "age": 1.50}, "details": fields{"capabilities": fields{"interactive": false}, "b": nil}, "a": "x",
	}})
	want := b.detail()
	joined, signal := a.next(), a.next()
	var event struct{ Op []message }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(joined, "op ")), &event); err != nil {
		t.Fatalf("%s: %v", joined, err)
	}
	var inner struct{ Detail json.RawMessage }
	if err := json.Unmarshal([]byte(*event.Op[0].Data), &inner); err != nil {
		t.Fatal(err)
	}
	var outer struct{ Content string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(signal, "signal ")), &outer); err != nil {
		t.Fatalf("%s: %v", signal, err)
	}
	var announced struct {
		Content struct{ Client json.RawMessage }
	}
	if err := json.Unmarshal([]byte(outer.Content), &announced); err != nil {
		t.Fatal(err)
	}
	// The client object is parsed and written again by the client before it
	// compares: the order of the keys counts, the escapes do not.
	for name, got := range map[string]json.RawMessage{"join message": inner.Detail, "join signal": announced.Content.Client} {
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got %s\nwant %s", name, got, want)
		}
	}
	c := s.writer(t)
	for _, one := range c.hello.InitialClients {
		if one.ClientID == b.id && !bytes.Equal(one.Client, want) {
			t.Errorf("later: got %s\nwant %s", one.Client, want)
		}
	}
}

func TestCheck024_FeaturesAreTheServersThatTheClientDoesNotRefuse(t *testing.T) {
	s := check(t)
	for _, test := range []struct {
		asked any
		want  bool
	}{
		{nil, true}, {fields{"submit_signals_v2": true}, true}, {fields{"submit_signals_v2": false}, false},
		{fields{"other": true}, true}, {"all", true}, {[]string{}, true},
	} {
		m := s.joined(t, "acme", "doc1").connect("read", fields{"supportedFeatures": test.asked})
		if got, ok := m.hello.SupportedFeatures["submit_signals_v2"]; !ok || got != test.want || m.hello.SupportedFeatures["other"] != nil {
			t.Errorf("%v: got %v, want %v and nothing unknown", test.asked, m.hello.SupportedFeatures, test.want)
		}
	}
}

func TestCheck025_VersionIsTheServersFirst(t *testing.T) {
	s := check(t)
	for _, test := range []struct {
		asked any
		want  string
	}{
		{[]string{"^1.0.0"}, "1.0.0"}, {[]string{"^0.1.0", "^1.0.0"}, "0.1.0"}, {[]string{"^1.0.0", "^0.1.0"}, "0.1.0"},
		{[]string{"^9.0.0"}, "0.1.0"}, {nil, "0.1.0"}, {[]string{}, "0.1.0"}, {"^1.0.0", "0.1.0"}, {[]any{1, "^1.0.0"}, "0.1.0"},
	} {
		m := s.joined(t, "acme", "doc1").connect("read", fields{"versions": test.asked})
		if m.hello.Version != test.want {
			t.Errorf("%v: got %q, want %q", test.asked, m.hello.Version, test.want)
		}
	}
}

// numbers returns the sequence numbers of messages.
func numbers(t *testing.T, messages []json.RawMessage) (numbers []int64) {
	t.Helper()
	for _, text := range messages {
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		numbers = append(numbers, m.SequenceNumber)
	}
	return numbers
}

// from returns the numbers first to last.
func from(first, last int64) (numbers []int64) {
	for n := first; n <= last; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// wantInitial compares the numbers of initialMessages.
func (m *member) wantInitial(first, last int64) {
	m.t.Helper()
	if got := numbers(m.t, m.hello.InitialMessages); !slices.Equal(got, from(first, last)) {
		m.t.Errorf("initialMessages are %d, want %d to %d", got, first, last)
	}
}

func TestCheck026_NewcomerGetsEveryMessage(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	a.fill(20, 1)
	b := s.writer(t)
	b.wantInitial(1, 20)
	b.nothing()
	if b.hello.CheckpointSequenceNumber != 21 {
		t.Errorf("the own join is %d, want 21", b.hello.CheckpointSequenceNumber)
	}
}

func TestCheck027_HistoryLimitDoesNotCutInitialMessages(t *testing.T) {
	s := host(t, realtime.HistoryLimit(1000))
	s.writer(t).fill(1500, 1)
	s.writer(t).wantInitial(1, 1500)
}

// summarized answers every summary with an acknowledgement.
func summarized() realtime.DocumentOption {
	return realtime.OnSummary(func(_ context.Context, r realtime.SummaryRequest) (string, error) {
		return "accepted-" + r.Handle, nil
	})
}

// summarize makes the member summarize what it knows up to rsn, and reads op and
// answer. It returns the number of the op.
func (m *member) summarize(handle string, rsn int64) int64 {
	m.t.Helper()
	m.submit(m.made(rsn, fields{"type": "summarize", "contents": summary(handle).String()}))
	op := m.head + 1
	m.want(m.echo(op, rsn), m.ops(acknowledged("accepted-"+handle, op, rsn)))
	return op
}

// summary is the contents of a summarize op.
func summary(handle string) fields {
	return fields{
		"handle": handle, "head": "", "message": "Summary", "parents": []string{}, "details": fields{"includesProtocolTree": false},
	}
}

// acknowledged is the pattern of the answer to the summarize op with number op.
func acknowledged(handle string, op, msn int64) string {
	contents := compact(fields{"handle": handle, "summaryProposal": fields{"summarySequenceNumber": op}})
	return system("summaryAck", op+1, msn, json.RawMessage(contents), jsonOf+contents)
}

func TestCheck028_InitialMessagesReachBackToTheLastButOneSummary(t *testing.T) {
	s := host(t, summarized(), realtime.HistoryLimit(50))
	a := s.writer(t)
	a.fill(520, 1)
	a.summarize("one", 500)
	b := s.reader(t)
	b.wantInitial(1, a.head)
	a.want(b.joinSignal())
	a.fill(920, 500)
	a.summarize("two", 900)
	c := s.reader(t)
	got := numbers(t, c.hello.InitialMessages)
	if first := got[0]; first > 501 || !slices.Equal(got, from(first, a.head)) {
		t.Errorf("got %d to %d (%d), want all from 501 at the latest to %d", first, got[len(got)-1], len(got), a.head)
	}
}

func TestCheck029_ClientThatComesBackGetsWhatItMissed(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	a.fill(20, 1)
	b := s.joined(t, "acme", "doc1")
	b.push("connect_document", b.request("write").with(fields{"lastSeenSequenceNumber": 17}))
	b.welcome(17)
	got := b.next()
	if missed := b.operations([]byte(strings.TrimPrefix(got, "op "))); !slices.Equal(numbers(t, missed), from(18, 21)) {
		t.Errorf("got %.600s, want one event with 18 to 21", got)
	}
	for _, n := range numbers(t, b.hello.InitialMessages) {
		if n <= 17 || n > 20 {
			t.Errorf("initialMessages have %d", n)
		}
	}
	b.nothing()
	a.only(b.joins(21, 1), b.joinSignal())
}

func TestCheck030_LastSeenOfTheFutureIsIgnored(t *testing.T) {
	s := check(t)
	s.writer(t).fill(20, 1)
	for i, seen := range []any{99, -1, "17", 17.5, json.RawMessage("null")} {
		b := s.joined(t, "acme", "doc1").connect("read", fields{"lastSeenSequenceNumber": seen})
		b.wantInitial(1, 20)
		if i == 0 {
			b.nothing()
		}
	}
}

func TestCheck031_SummaryContextNamesTheLastSummary(t *testing.T) {
	s := host(t, summarized())
	a := s.writer(t)
	if a.hello.SummaryContext != nil {
		t.Errorf("before: got %s, want none", a.hello.SummaryContext)
	}
	op := a.summarize("one", 1)
	want := compact(fields{"handle": "accepted-one", "sequenceNumber": op})
	if found := differs(string(s.reader(t).hello.SummaryContext), want); found != "" {
		t.Error(found)
	}
}

func TestCheck032_ReaderTakesNoNumber(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	r := s.reader(t)
	if r.hello.CheckpointSequenceNumber != 1 || !slices.Contains(r.ids(), r.id) || len(r.ids()) != 2 {
		t.Errorf("got %+v, want the checkpoint 1 and two clients", r.hello)
	}
	a.only(r.joinSignal())
	a.submit(a.made(1))
	all([]*member{a, r}, a.echo(2, 1))
	r.nothing()
}

func TestCheck033_DocumentNeedNotBeCreated(t *testing.T) {
	check(t).in(t, "never-created", "write").nothing()
}
