package main

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// The checks of noops, of silent writers and of requestOps.

// refers sends the noop event and waits until it has been handled.
func (m *member) refers(rsn any) {
	m.t.Helper()
	m.ask("refers", "noop", fields{"clientId": m.id, "referenceSequenceNumber": rsn})
	m.want(reply("refers", `{}`))
}

// noop is an op of the type noop, with contents null or with none at all.
func (m *member) noop(rsn int64, silent bool) fields {
	op := m.made(rsn, fields{"type": "noop", "contents": nil})
	if silent {
		op["contents"] = json.RawMessage("null")
	}
	m.last = op
	return op
}

func TestCheck080_NoopEventRaisesTheMinimum(t *testing.T) {
	a, b := host(t, realtime.NoopTime(time.Minute)).pair(t) // the next message is the op, however slow the machine
	b.fill(40, 2)
	for a.head < 40 {
		a.next()
	}
	a.refers(40)
	b.push("noop", fields{"clientId": b.id, "referenceSequenceNumber": 40})
	b.submit(b.made(40))
	all([]*member{a, b}, b.echo(41, 40))
}

func TestCheck081_NoopEventOfTheFutureIsIgnored(t *testing.T) {
	a, b := check(t).pair(t)
	for _, rsn := range []int{1_000_000, 3} {
		a.push("noop", fields{"clientId": a.id, "referenceSequenceNumber": rsn})
		b.push("noop", fields{"clientId": b.id, "referenceSequenceNumber": rsn})
	}
	for _, payload := range []fields{
		{"clientId": a.id, "referenceSequenceNumber": "2"}, {"clientId": a.id, "referenceSequenceNumber": 1.5},
		{"clientId": b.id, "referenceSequenceNumber": 2}, {"referenceSequenceNumber": 2}, {},
	} {
		a.push("noop", payload)
	}
	a.nothingFor(settle)
	b.nothing()
	b.submit(b.made(2))
	all([]*member{a, b}, b.echo(3, 0))
}

func TestCheck082_NoopIsSequencedIfItTellsSomething(t *testing.T) {
	a := check(t).writer(t)
	a.submit(a.made(1))
	a.want(a.echo(2, 1))
	a.submit(a.noop(2, false))
	a.last["contents"] = json.RawMessage("null")
	a.want(a.echo(3, 2))
	a.submit(a.noop(2, false))
	a.nothingFor(settle)
	a.submit(a.made(3))
	a.only(a.echo(4, 3))
}

// serverNoop is the pattern of a noop that the server has sent. With or without
// data, which has nothing to say.
func (m *member) wantServerNoop(sn, msn int64) {
	m.t.Helper()
	got := m.next()
	without := fields{
		"clientId": nil, "sequenceNumber": sn, "minimumSequenceNumber": msn, "clientSequenceNumber": -1,
		"referenceSequenceNumber": sn - 1, "type": "noop", "contents": nil, "timestamp": aTime,
	}
	if mismatch(got, m.ops(without.String())) == "" {
		return
	}
	with := without.with(fields{"data": "null"})
	with["clientId"], with["contents"] = nil, nil
	if found := mismatch(got, m.ops(with.String())); found != "" {
		m.t.Fatalf("got %s, want a server noop with %d and %d: %s", got, sn, msn, found)
	}
}

func TestCheck083_NoopsAreConsolidated(t *testing.T) {
	a, b := check(t).pair(t)
	began := time.Now()
	a.submit(a.noop(2, true))
	b.submit(b.noop(2, true))
	for _, m := range []*member{a, b} {
		m.wantServerNoop(3, 2)
	}
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("the noop came after %v, want 250ms", took)
	}
	a.submit(a.noop(2, true))
	b.submit(b.noop(2, true))
	a.nothingFor(settle)
	b.nothing()
}

func TestCheck084_SilentWriterIsExpelled(t *testing.T) {
	a, b := host(t, realtime.ClientTimeout(time.Second)).pair(t)
	a.submit(a.made(2))
	all([]*member{a, b}, a.echo(3, 0))
	a.submit(a.made(3))
	all([]*member{a, b}, a.echo(4, 0))
	began := time.Now()
	a.want(a.leaves(b.id, 5, 3), leaveSignal(b.id))
	b.want(a.leaves(b.id, 5, 3), leaveSignal(b.id))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("expelled after %v, want about a second", took)
	}
	b.submit(b.made(5))
	b.only(nack(b.last, 3, refusal(400, "nonexistent_client", "Nonexistent client")))
	id := b.id
	b.leave()
	a.nothing() // it has left already
	b.join("again").connect("write")
	a.only(b.joins(6, 3), b.joinSignal())
	if slices.Contains(b.ids(), id) {
		t.Errorf("%s is still said to be there", id)
	}
}

func TestCheck085_QuietDocumentKeepsItsWriters(t *testing.T) {
	a, b := host(t, realtime.ClientTimeout(time.Second)).pair(t)
	a.nothingFor(2500 * time.Millisecond)
	b.nothing()
	b.submit(b.made(2))
	all([]*member{a, b}, b.echo(3, 0))
}

// requested asks for messages again and returns their numbers.
func (m *member) requested(from any, count int) (got []int64) {
	m.t.Helper()
	m.asked = true
	m.push("requestOps", fields{"from": from})
	for len(got) < count {
		event := m.next()
		got = append(got, numbers(m.t, m.operations([]byte(event[len("op "):])))...)
	}
	m.nothing()
	return got
}

func TestCheck086_OpsAreToldAgain(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	a.fill(20, 1)
	for start, want := range map[any][]int64{0: from(1, 20), -5: from(1, 20), 17: from(18, 20), 20: nil, 21: nil, "x": nil, 1.5: nil} {
		if got := a.requested(start, len(want)); !slices.Equal(got, want) {
			t.Errorf("from %v: got %d, want %d", start, got, want)
		}
	}
	a.push("requestOps", fields{})
	a.nothing()
	unconnected := s.joined(t, "acme", "doc1")
	unconnected.push("requestOps", fields{"from": 0})
	unconnected.nothing()
}
