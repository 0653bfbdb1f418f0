package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// The checks of the order of ops.

func TestCheck058_NumbersAreThoseOfTheTable(t *testing.T) {
	s := check(t)
	r := s.reader(t)
	a := s.writer(t)
	r.want(a.joins(1, 0), a.joinSignal())
	b := s.writer(t)
	r.want(b.joins(2, 0), b.joinSignal())
	a.submit(a.made(2))
	r.want(a.echo(3, 0))
	b.submit(b.made(3))
	r.want(b.echo(4, 2))
	a.submit(a.made(4))
	r.want(a.echo(5, 3))
	c := s.writer(t)
	r.want(c.joins(6, 3), c.joinSignal())
	idOfB, idOfC, idOfA := b.id, c.id, a.id
	b.cut()
	r.want(r.leaves(idOfB, 7, 3), leaveSignal(idOfB))
	c.want(r.leaves(idOfB, 7, 3), leaveSignal(idOfB))
	c.submit(c.made(2))
	c.want(nack(c.last, 3, refusal(400, "rsn_below_msn", "Refseq 2 < 3")))
	c.cut()
	r.want(r.leaves(idOfC, 8, 4), leaveSignal(idOfC))
	a.cut()
	r.want(r.leaves(idOfA, 9, 9), leaveSignal(idOfA))
	d := s.writer(t)
	r.only(d.joins(10, 9), d.joinSignal())
}

func TestCheck059_OpComesBackToAllAsItWas(t *testing.T) {
	a, b := check(t).pair(t)
	a.submit(a.made(2, fields{
		"contents": `{"type":"component"}`, "metadata": fields{"batch": true, "n": []any{1, nil}},
		"traces": []any{}, "serverMetadata": 5, "data": "dropped",
	}))
	a.last = a.last.with(fields{"traces": nil, "serverMetadata": nil, "data": nil})
	all([]*member{a, b}, a.echo(3, 0))
	if !bytes.Equal(a.messages[3], b.messages[3]) {
		t.Errorf("A got %s\nB got %s", a.messages[3], b.messages[3])
	}
}

func TestCheck060_BatchIsOneEvent(t *testing.T) {
	a, b := check(t).pair(t)
	ops := a.many(3, 2)
	a.submit(ops...)
	all([]*member{a, b}, a.event(3, 0, ops...))
	b.nothing()
}

func TestCheck061_OpThatComesAgainIsDropped(t *testing.T) {
	a, b := check(t).pair(t)
	first := a.made(2)
	a.submit(first)
	all([]*member{a, b}, a.echo(3, 0))
	a.submit(first)
	a.nothing()
	second := a.made(3)
	a.submit(first, second) // a duplicate does not end a submission
	all([]*member{a, b}, a.echo(4, 0))
	a.nothing()
	b.nothing()
}

func TestCheck062_GapIsRefused(t *testing.T) {
	a, b := check(t).pair(t)
	one, two, three := a.made(2), a.made(2), a.made(2)
	a.submit(one)
	a.submit(three)
	a.want(a.event(3, 0, one), nack(three, 0, refusal(400, "gap", "Gap detected in incoming op")))
	a.submit(two)
	a.only(a.event(4, 0, two))
	b.only(a.event(3, 0, one), a.event(4, 0, two))
}

func TestCheck063_WhatCameBeforeTheGapStays(t *testing.T) {
	a, b := check(t).pair(t)
	ops := a.many(5, 2)
	a.ask("8", "submitOp", a.submission(ops[0], ops[1], ops[3], ops[4]))
	event := a.event(3, 0, ops[0], ops[1])
	a.want(event, nack(ops[3], 0, refusal(400, "gap", "Gap detected in incoming op")))
	a.want(replyError("8", 400, "gap", "Gap detected in incoming op"))
	b.only(event)
	a.nothing()
}

func TestCheck064_OpMayNotReferToTheFuture(t *testing.T) {
	a := check(t).writer(t)
	wrong := a.made(2)
	a.submit(wrong)
	a.want(nack(wrong, 0, refusal(400, "invalid_rsn", "Invalid RSN: current SN is 1, received 2")))
	right := wrong.with(fields{"referenceSequenceNumber": 1})
	a.submit(right)
	a.only(a.event(2, 1, right))
}

func TestCheck065_OpBelowTheMinimumBarsItsClient(t *testing.T) {
	s := check(t)
	a, b := s.pair(t)
	a.submit(a.made(2))
	all([]*member{a, b}, a.echo(3, 0))
	b.submit(b.made(3))
	all([]*member{a, b}, b.echo(4, 2))
	b.submit(b.made(1))
	b.want(nack(b.last, 2, refusal(400, "rsn_below_msn", "Refseq 1 < 2")))
	b.submit(b.made(4))
	b.want(nack(b.last, 2, refusal(400, "nonexistent_client", "Nonexistent client")))
	b.nothing()
	id := b.id
	b.leave()
	a.want(a.leaves(id, 5, 2), leaveSignal(id))
	b.join("again").connect("write")
	a.want(b.joins(6, 2), b.joinSignal())
	b.submit(b.made(6))
	all([]*member{a, b}, b.echo(7, 2))
}

func TestCheck066_ClientMayLeaveTheReferenceToTheServer(t *testing.T) {
	a := check(t).writer(t)
	for sn := int64(2); sn < 5; sn++ {
		a.submit(a.made(-1))
		a.last["referenceSequenceNumber"] = sn - 1
		a.want(a.echo(sn, sn-1))
	}
}

func TestCheck067_ClientMayNotSpeakForTheServer(t *testing.T) {
	a, b := check(t).pair(t)
	for _, kind := range []string{"join", "leave", "noClient", "control", "summaryAck", "summaryNack"} {
		a.made(2, fields{"type": kind})
		a.submit(a.last)
		a.want(nack(a.last, 0, refusal(400, "op_not_allowed", "Op not allowed")))
		a.csn--
	}
	b.nothing()
	a.submit(a.made(2))
	all([]*member{a, b}, a.echo(3, 0))
}

func TestCheck068_JoinTouchesNobodyElse(t *testing.T) {
	s := check(t)
	a, b := s.pair(t)
	first := a.made(2)
	a.submit(first)
	all([]*member{a, b}, a.echo(3, 0))
	b.submit(b.made(2))
	all([]*member{a, b}, b.echo(4, 2))
	c := s.writer(t)
	all([]*member{a, b}, c.joins(5, 2), c.joinSignal())
	a.submit(first)
	a.nothing()
	a.submit(a.made(3))
	all([]*member{a, b, c}, a.echo(6, 2))
}

func TestCheck069_SilentWriterHoldsTheMinimum(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	a.submit(a.made(1))
	a.want(a.echo(2, 1))
	b := s.writer(t)
	a.want(b.joins(3, 1), b.joinSignal())
	for i := range int64(50) {
		a.submit(a.made(3 + i))
		all([]*member{a, b}, a.echo(4+i, 1))
	}
}

func TestCheck070_MinimumFollowsWhoStays(t *testing.T) {
	a, b := check(t).pair(t)
	a.submit(a.made(2))
	a.want(a.echo(3, 0))
	id := b.id
	b.want(a.echo(3, 0))
	b.leave()
	a.want(a.leaves(id, 4, 2), leaveSignal(id))
	a.submit(a.made(4))
	a.only(a.echo(5, 4))
}

func TestCheck071_MinimumOfAnEmptyDocumentIsItsNumber(t *testing.T) {
	s := check(t)
	r := s.reader(t)
	a := s.writer(t)
	r.want(a.joins(1, 0), a.joinSignal())
	a.fill(10, 1)
	for r.head < 10 {
		r.next()
	}
	id := a.id
	a.leave()
	r.want(r.leaves(id, 11, 11), leaveSignal(id))
	b := s.writer(t)
	r.only(b.joins(12, 11), b.joinSignal())
}

func TestCheck072_ReadersDoNotHoldTheMinimum(t *testing.T) {
	s := check(t)
	r := s.reader(t)
	a := s.writer(t)
	r.want(a.joins(1, 0), a.joinSignal())
	r2 := s.reader(t)
	all([]*member{r, a}, r2.joinSignal())
	for sn := int64(2); sn < 8; sn++ {
		a.submit(a.made(sn - 1))
		all([]*member{r, r2, a}, a.echo(sn, sn-1))
	}
}

// wander does so many random things: ops with any reference that is allowed, noops
// of both kinds, leaving and coming back.
func (m *member) wander(random *rand.Rand, events int) {
	m.t.Helper()
	anyNumber := func() int64 { return m.msn + random.Int64N(m.head-m.msn+1) }
	for turn := 0; events > 0; turn++ {
		leaves := false
		switch dice := random.IntN(1000); {
		case dice < 850:
			var ops []fields
			for range 1 + random.IntN(10) {
				op := m.made(anyNumber())
				if random.IntN(10) == 0 {
					op["type"], op["contents"] = "noop", nil
				}
				ops = append(ops, op)
			}
			m.submit(ops...)
			events -= len(ops)
		case dice < 990:
			m.push("noop", fields{"clientId": m.id, "referenceSequenceNumber": anyNumber()})
			events--
		default:
			leaves = true
			events--
		}
		if nacked := m.catchUp(turn%4 == 3); nacked || leaves {
			m.again()
		}
	}
	m.catchUp(true) // what was sent last is in the document, too
}

// again leaves and comes back with the last number that the member has seen.
func (m *member) again() {
	m.t.Helper()
	m.ask("bye", "phx_leave", fields{})
	m.until("phx_close")
	seen := m.head
	m.join(m.joinRef + "'")
	m.push("connect_document", m.request("write").with(fields{"lastSeenSequenceNumber": seen}))
	m.welcome(seen)
	for m.head < m.hello.CheckpointSequenceNumber {
		m.next()
	}
}

// until reads up to an event.
func (m *member) until(name string) {
	m.t.Helper()
	for !strings.HasPrefix(m.next(), name+" ") {
	}
}

// catchUp reads what is there, and at times also an answer to be sure that all
// before it has come. It tells of a nack: others may have raised the minimum over
// what the member had seen.
func (m *member) catchUp(all bool) (nacked bool) {
	m.t.Helper()
	if all {
		m.ask("mark", "noop", fields{"clientId": m.id, "referenceSequenceNumber": 0})
	}
	for all || len(m.frames) > 0 {
		got := m.next()
		nacked = nacked || strings.HasPrefix(got, "nack ")
		if strings.HasPrefix(got, "reply mark ") {
			return nacked
		}
	}
	return nacked
}

func TestCheck073_MinimumNeverFalls(t *testing.T) {
	s := check(t)
	r := s.reader(t)
	const clients, events = 5, 2000
	var members []*member
	for range clients {
		members = append(members, s.writer(t))
	}
	var wait sync.WaitGroup
	for i, m := range members {
		wait.Go(func() { m.wander(rand.New(rand.NewPCG(73, uint64(i))), events) })
	}
	wait.Wait()
	last := s.writer(t)
	for r.head < last.head { // each message is audited: see audit.take
		r.next()
	}
	if r.head < clients*events/2 {
		t.Errorf("only %d messages came of it", r.head)
	}
}

func TestCheck074_EveryoneSeesTheSameOrder(t *testing.T) {
	s := check(t)
	const clients, count = 8, 200
	var members []*member
	for range clients {
		members = append(members, s.writer(t))
	}
	const last = clients + clients*count
	var wait sync.WaitGroup
	for _, m := range members {
		wait.Go(func() {
			for range count / 2 {
				m.submit(m.made(clients))
			}
			for range count / 2 {
				m.submit(m.made(clients))
				m.catchUp(false)
			}
			for m.head < last {
				m.next()
			}
		})
	}
	wait.Wait()
	for _, m := range members {
		for sn := int64(clients + 1); sn <= last; sn++ {
			if !bytes.Equal(m.messages[sn], members[0].messages[sn]) {
				t.Fatalf("message %d: one got %s, another %s", sn, m.messages[sn], members[0].messages[sn])
			}
		}
		if got := m.csn; m.audit.csn[m.id] != int64(got) || got != count {
			t.Errorf("the last CSN of %s is %d, want %d", m.id, m.audit.csn[m.id], count)
		}
	}
	wantDenseCSNs(t, members[0], clients+1, last)
}

// wantDenseCSNs wants the ops of each client to be numbered without a gap.
func wantDenseCSNs(t *testing.T, m *member, first, last int64) {
	t.Helper()
	next := map[string]int64{}
	for sn := first; sn <= last; sn++ {
		one := m.decode(m.messages[sn])
		if next[*one.ClientID]++; one.ClientSequenceNumber != next[*one.ClientID] {
			t.Fatalf("message %s: want CSN %d", m.messages[sn], next[*one.ClientID])
		}
	}
}

func TestCheck075_CompressionIsPassedOn(t *testing.T) {
	a, b := check(t).pair(t)
	a.submit(a.made(2, fields{"compression": "lz4"}))
	all([]*member{a, b}, a.echo(3, 0))
	a.submit(a.made(2))
	all([]*member{a, b}, a.echo(4, 0))
}

func TestCheck076_ContentsAreNotTouched(t *testing.T) {
	a, b := check(t).pair(t)
	for i, contents := range []string{
		`{"snake_case_key":{"inner_key":[{"deep_er":null}]},"UPPER":1}`,
		`[123456789012345678901234567890,0.1000,1E400,-0,1e-7,9007199254740993]`,
		`"é\u00e9\ud83d\ude00\u2028<&>\u0000"`, `{"a":{"b":{"c":null}},"":[]}`, `null`, `false`,
	} {
		a.submit(a.made(2, fields{"contents": json.RawMessage(contents)}))
		all([]*member{a, b}, a.echo(int64(3+i), 0))
	}
	op := a.made(2)
	delete(op, "contents")
	a.submit(op)
	a.last = op.with(fields{"contents": json.RawMessage("null")})
	all([]*member{a, b}, a.echo(9, 0))
}

func TestCheck077_SummaryNeedsItsScope(t *testing.T) {
	s := check(t)
	a := s.joined(t, "acme", "doc1")
	a.token = tokenFor("doc1", "doc:read", "doc:write")
	a.connect("write")
	a.submit(a.made(1, fields{"type": "summarize", "contents": summary("x").String()}))
	content := refusal(403, "summary_scope", "Client "+a.id+" does not have summary permission")
	a.only(nack(a.last, 0, content))
	if got := s.writer(t).hello.CheckpointSequenceNumber; got != 2 {
		t.Errorf("the next number is %d, want 2", got)
	}
}

func TestCheck078_OpThatIsNotStoredIsNone(t *testing.T) {
	log := &brittleLog{OpLog: realtime.NewMemoryLog()}
	a, b := host(t, realtime.DocumentLog(log)).pair(t)
	op := a.made(2)
	log.fail.Store(1)
	a.submit(op)
	a.want(nack(anyValue, 0, refusal(429, "unavailable", "Document temporarily unavailable").with(fields{"retryAfter": 5})))
	b.nothing()
	a.submit(op)
	all([]*member{a, b}, a.echo(3, 0))
}

func TestCheck079_TenantsDoNotShareDocuments(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	b := s.joined(t, "beta", "doc1").connect("write")
	if b.hello.CheckpointSequenceNumber != 1 {
		t.Errorf("beta's document begins at %d, want 1", b.hello.CheckpointSequenceNumber)
	}
	a.submit(a.made(1))
	a.only(a.echo(2, 1))
	b.push("submitSignal", fields{"clientId": b.id, "contentBatches": []any{fields{"content": "x", "targetClientId": a.id}}})
	b.nothing()
	a.nothing()
}

// settle is longer than the consolidation of noops takes.
const settle = 250*time.Millisecond + silence
