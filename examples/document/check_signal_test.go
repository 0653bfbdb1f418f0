package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// The checks of signals.

// three returns the members that most of these need; nothing is left unread.
func (s *site) three(t *testing.T) (a, b, c *member) {
	t.Helper()
	a, b = s.pair(t)
	c = s.writer(t)
	all([]*member{a, b}, c.joins(3, 0), c.joinSignal())
	return a, b, c
}

// signals submits signals.
func (m *member) signals(batches ...any) {
	m.t.Helper()
	m.push("submitSignal", fields{"clientId": m.id, "contentBatches": batches})
}

// reaches submits a signal that has to reach these members and nobody else. What
// comes is the string "x", and after it a broadcast that everyone waits for, so
// that what should not come would have come.
func (m *member) reaches(signal any, who []*member, others []*member) {
	m.t.Helper()
	m.signals(signal)
	m.signals(fields{"content": "end"})
	all(who, m.signal("x"))
	all(append(who, others...), m.signal("end"))
}

func TestCheck087_SignalReachesAllButItsSender(t *testing.T) {
	a, b, c := check(t).three(t)
	a.ask("6", "submitSignal", fields{"clientId": a.id, "contentBatches": []any{fields{"content": "x"}}})
	b.only(a.signal("x"))
	c.only(a.signal("x"))
	a.only(reply("6", `{}`))
}

func TestCheck088_SignalHasTwoKeys(t *testing.T) {
	a, b := check(t).pair(t)
	a.signals(fields{
		"content": "x", "type": "op", "clientConnectionNumber": 3, "referenceSequenceNumber": 2, "targetClientId": b.id, "extra": 1,
	})
	b.only(a.signal("x")) // a pattern has to have every key
}

func TestCheck089_SignalReachesItsTargets(t *testing.T) {
	a, b, c := check(t).three(t)
	targets := func(ids ...string) fields {
		return fields{"content": "x", "targetedClients": append([]string{}, ids...)}
	}
	a.reaches(targets(b.id), []*member{b}, []*member{c})
	a.reaches(targets(b.id, b.id, "nobody"), []*member{b}, []*member{c})
	a.reaches(targets(a.id), nil, []*member{b, c})
	a.reaches(targets(), nil, []*member{b, c})
	a.nothing()
}

func TestCheck090_SignalSparesWhomItIgnores(t *testing.T) {
	a, b, c := check(t).three(t)
	a.reaches(fields{"content": "x", "ignoredClients": []string{b.id}}, []*member{c}, []*member{b})
	a.reaches(fields{"content": "x", "ignoredClients": []string{}}, []*member{b, c}, nil)
	a.nothing()
}

func TestCheck091_SignalMayHaveOneTarget(t *testing.T) {
	a, b, c := check(t).three(t)
	a.reaches(fields{"content": "x", "targetClientId": b.id}, []*member{b}, []*member{c})
	a.reaches(fields{"content": "x", "targetClientId": "nobody"}, nil, []*member{b, c})
	a.reaches(fields{"content": "x", "targetClientId": ""}, []*member{b, c}, nil)
	a.nothing()
}

func TestCheck092_TargetsComeBeforeIgnored(t *testing.T) {
	a, b, c := check(t).three(t)
	a.reaches(fields{"content": "x", "targetedClients": []string{b.id}, "ignoredClients": []string{b.id}, "targetClientId": c.id},
		[]*member{b}, []*member{c})
}

func TestCheck093_EnvelopeOfVersionTwoIsOpened(t *testing.T) {
	a, b, c := check(t).three(t)
	a.reaches(fields{"signal": fields{"content": "x"}, "targetedClients": []string{b.id}}, []*member{b}, []*member{c})
	a.reaches(fields{"signal": fields{"content": "x"}, "ignoredClients": []string{b.id}}, []*member{c}, []*member{b})
	a.reaches(fields{"signal": fields{"content": "x", "targetClientId": c.id}}, []*member{c}, []*member{b})
}

func TestCheck094_EnvelopeOfVersionOneIsOpened(t *testing.T) {
	a, b, _ := check(t).three(t)
	inner := fields{"type": "cursor", "content": fields{"x": 1}}
	a.signals(fields{"address": "root", "contents": inner})
	b.want(a.signal(inner["content"]))
	text := fields{"address": "root", "contents": inner}.String()
	a.signals(text)
	b.want(a.signal(text))
	a.signals(5, fields{"nothing": "known"}, json.RawMessage("null"), fields{"content": "end"})
	b.only(a.signal("end"))
}

func TestCheck095_SignalsComeInTheirOrder(t *testing.T) {
	a, b := check(t).pair(t)
	a.signals([]any{fields{"content": "1"}, fields{"content": "2"}, "3"})
	b.only(a.signal("1"), a.signal("2"), a.signal("3"))
}

func TestCheck096_SignalOfAnotherIsNone(t *testing.T) {
	s := check(t)
	a, b, c := s.three(t)
	a.push("submitSignal", fields{"clientId": b.id, "contentBatches": []any{fields{"content": "x"}}})
	a.push("submitSignal", fields{"clientId": a.id})
	unconnected := s.joined(t, "acme", "doc1")
	unconnected.push("submitSignal", fields{"clientId": b.id, "contentBatches": []any{fields{"content": "x"}}})
	unconnected.nothing()
	for _, m := range []*member{a, b, c} {
		m.nothing()
	}
}

func TestCheck097_ReaderMaySignal(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	r := s.reader(t)
	a.want(r.joinSignal())
	r.signals(fields{"content": "x"})
	a.only(r.signal("x"))
	a.signals(fields{"content": "y"})
	r.only(a.signal("y"))
}

func TestCheck098_SignalsAreNotSequenced(t *testing.T) {
	s := check(t)
	a, b := s.pair(t)
	a.signals(fields{"content": "unheard"})
	b.want(a.signal("unheard"))
	a.submit(a.made(2))
	all([]*member{a, b}, a.echo(3, 0))
	stored := s.deltas(t, "doc1", "")
	if len(stored) != 3 || strings.Contains(compact(stored), "unheard") {
		t.Errorf("got %s, want three messages without the signal", stored)
	}
	c := s.writer(t)
	c.wantInitial(1, 3)
	c.nothing()
}

func TestCheck099_SignalsTellWhoComesAndGoes(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	b := s.writer(t)
	b.nothing()
	a.want(b.joins(2, 0), b.joinSignal())
	id := b.id
	b.leave()
	a.only(a.leaves(id, 3, 0), leaveSignal(id))
}
