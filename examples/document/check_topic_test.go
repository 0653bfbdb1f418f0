package main

import "testing"

// The checks of topics and joins. docs/protocols.md says what each number is
// about.

// joinAnswer sends a phx_join and returns the whole answer.
func joinAnswer(t *testing.T, s *site, topic string) string {
	t.Helper()
	p := s.dial(t, "2.0.0")
	p.send(`["1","1","` + topic + `","phx_join",{}]`)
	return p.next()
}

// joinRefused wants that answer for a topic that is none. joinRef is what the answer
// says of it: Phoenix itself, that finds no channel, has none.
func joinRefused(t *testing.T, s *site, topic, joinRef, reason string) {
	t.Helper()
	want := `[` + joinRef + `,"1","` + topic + `","phx_reply",{"status":"error","response":{"reason":"` + reason + `"}}]`
	if found := differs(joinAnswer(t, s, topic), want); found != "" {
		t.Errorf("%s: %s", topic, found)
	}
}

func TestCheck001_JoinNeedsNoToken(t *testing.T) {
	got := joinAnswer(t, check(t), "document:acme:doc1")
	if found := differs(got, `["1","1","document:acme:doc1","phx_reply",{"status":"ok","response":{}}]`); found != "" {
		t.Error(found)
	}
}

func TestCheck002_DocumentMayHaveColons(t *testing.T) {
	m := check(t).in(t, "a:b", "write")
	m.submit(m.made(1))
	m.only(m.echo(2, 1))
}

func TestCheck003_TopicWithoutDocumentIsInvalid(t *testing.T) {
	s := check(t)
	joinRefused(t, s, "document:acme", `"1"`, "invalid_topic")
	joinRefused(t, s, "documents:acme:doc1", "null", "unmatched topic")
}

func TestCheck004_TopicWithEmptyPartIsInvalid(t *testing.T) {
	s := check(t)
	for _, topic := range []string{"document::x", "document:acme:", "document::", "document:"} {
		joinRefused(t, s, topic, `"1"`, "invalid_topic")
	}
}

func TestCheck005_JoinTellsNothingOfTenants(t *testing.T) {
	s := check(t)
	m := s.joined(t, "nobody", "doc1")
	m.nothing()
	if got := s.state(t); got.Documents != 0 || got.Connections != 1 {
		t.Errorf("got %+v, want one connection and no session", got)
	}
}

func TestCheck006_SubmissionBeforeConnectIsRefused(t *testing.T) {
	s := check(t)
	m := s.joined(t, "acme", "doc1")
	m.id = "someone"
	m.ask("7", "submitOp", m.submission(m.made(0)))
	m.only(
		nack(nil, -1, refusal(400, "not_authenticated", "Client not connected")),
		replyError("7", 400, "not_authenticated", "Client not connected"))
	if got := s.state(t); got.Documents != 0 {
		t.Errorf("got %+v, want no session", got)
	}
}

func TestCheck007_UnknownEventIsNothing(t *testing.T) {
	m := check(t).joined(t, "acme", "doc1")
	m.push("frobnicate", fields{"a": 1})
	m.ask("5", "frobnicate", fields{"a": 1})
	m.nothing()
	m.connect("write")
	m.push("frobnicate", fields{"a": 1})
	m.submit(m.made(1))
	m.only(m.echo(2, 1))
}
