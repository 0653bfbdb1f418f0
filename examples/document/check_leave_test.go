package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// The checks of leaving, crashes and restarts.

func TestCheck100_LeaveIsToldOnce(t *testing.T) {
	a, b := check(t).pair(t)
	id := b.id
	b.leave()
	got := a.next()
	var event struct{ Op []message }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(got, "op ")), &event); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if one := event.Op[0]; one.Type != "leave" || *one.Data != fmt.Sprintf("%q", id) || one.SequenceNumber != 3 {
		t.Errorf("got %s, want the leave of %s with number 3", got, id)
	}
	a.only(leaveSignal(id))
	b.cut()
	a.nothing()
}

func TestCheck101_LostSocketLeaves(t *testing.T) {
	a, b := check(t).pair(t)
	b.submit(b.made(2))
	b.want(b.echo(3, 0))
	b.cut()
	a.only(b.echo(3, 0), a.leaves(b.id, 4, 0), leaveSignal(b.id))
}

func TestCheck102_CrashOfASessionIsItsOwn(t *testing.T) {
	var mu sync.Mutex
	var crashed []string
	h := host(t, realtime.OnSession(func(e realtime.SessionEvent) {
		if e.Kind == realtime.SessionCrashed {
			mu.Lock()
			defer mu.Unlock()
			crashed = append(crashed, fmt.Sprint(e.Tenant, " ", e.Document, " ", e.Err != nil))
		}
	}))
	a, b := h.pair(t)
	r := h.reader(t)
	all([]*member{a, b}, r.joinSignal())
	other := h.in(t, "doc2", "write")
	session, err := h.documents.Session(t.Context(), "acme", "doc1")
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Do(func() { panic("a fault") }); err == nil {
		t.Error("Do returned nil, want the panic")
	}
	all([]*member{a, b, r}, "phx_close {}")
	other.submit(other.made(1))
	other.only(other.echo(2, 1))
	idOfA, idOfB := a.id, b.id
	a.join("2").connect("write")
	a.wantInitial(1, 4)
	if a.hello.CheckpointSequenceNumber != 5 {
		t.Errorf("the own join is %d, want 5 after two leaves", a.hello.CheckpointSequenceNumber)
	}
	wantGhosts(t, a, 3, idOfA, idOfB)
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(crashed, []string{"acme doc1 true"}) {
		t.Errorf("the hook was told of %q, want one crash", crashed)
	}
}

// wantGhosts wants the leaves of these clients in a member's initialMessages, from
// the number first on.
func wantGhosts(t *testing.T, m *member, first int64, ids ...string) {
	t.Helper()
	var left []string
	for i := range ids {
		one := m.decode(m.messages[first+int64(i)])
		var id string
		if err := json.Unmarshal(one.Contents, &id); err != nil || one.Type != "leave" {
			t.Fatalf("message %d is %s, want a leave", first+int64(i), m.messages[first+int64(i)])
		}
		left = append(left, id)
	}
	slices.Sort(left)
	slices.Sort(ids)
	if !slices.Equal(left, ids) {
		t.Errorf("these left: %q, want %q", left, ids)
	}
}

func TestCheck103_ProcessThatStartsAgainGoesOn(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	first := spawn(t, directory)
	a, b := first.pair(t)
	a.submit(a.made(2))
	all([]*member{a, b}, a.echo(3, 0))
	first.kill()
	second := spawn(t, directory)
	c := second.writer(t)
	if onRedis() { // who starts may not be alone, and has to wait for the leases of nodes that are unknown to it
		c.wantInitial(1, 3)
		for c.messages[6] == nil {
			c.next()
		}
		wantGhosts(t, c, 5, a.id, b.id)
		return
	}
	c.wantInitial(1, 5)
	wantGhosts(t, c, 4, a.id, b.id)
	for sn := int64(1); sn <= 3; sn++ {
		if differs(string(c.messages[sn]), string(b.known(sn))) != "" {
			t.Errorf("message %d was %s, is %s", sn, b.known(sn), c.messages[sn])
		}
	}
	if got := c.ids(); !slices.Equal(got, []string{c.id}) || c.hello.CheckpointSequenceNumber != 6 {
		t.Errorf("%q are there and the own join is %d, want C alone and 6", got, c.hello.CheckpointSequenceNumber)
	}
	c.nothing()
}

// known is a message as the member got it.
func (m *member) known(sn int64) json.RawMessage { return m.messages[sn] }

func TestCheck104_DocumentHasOneSession(t *testing.T) {
	var mu sync.Mutex
	started := 0
	h := host(t, realtime.OnSession(func(e realtime.SessionEvent) {
		if e.Kind == realtime.SessionStarted {
			mu.Lock()
			defer mu.Unlock()
			started++
		}
	}))
	var members []*member
	for range 8 {
		members = append(members, h.joined(t, "acme", "doc1"))
	}
	for _, m := range members {
		m.push("connect_document", m.request("write"))
	}
	var joins []int64
	for _, m := range members {
		m.welcome(0)
		joins = append(joins, m.hello.CheckpointSequenceNumber)
	}
	if slices.Sort(joins); !slices.Equal(joins, from(1, 8)) {
		t.Errorf("the joins are %d, want 1 to 8", joins)
	}
	mu.Lock()
	defer mu.Unlock()
	if started != 1 {
		t.Errorf("%d sessions started, want 1", started)
	}
}

func TestCheck105_ClientThatStopsReadingIsClosed(t *testing.T) {
	s := host(t)
	a, b := s.pair(t)
	b.deaf.Store(true)
	big := strings.Repeat("x", 60_000)
	var slowest time.Duration
	a.submit(a.made(2, fields{"contents": big}))
	for began := time.Now(); ; {
		got := a.next()
		slowest = max(slowest, time.Since(began))
		if strings.HasPrefix(got, `signal `) {
			if found := mismatch(got, leaveSignal(b.id)); found != "" {
				t.Fatalf("got %.300s: %s", got, found)
			}
			break
		}
		if strings.Contains(got, big) && a.audit.writers[b.id] {
			time.Sleep(time.Millisecond)
			began = time.Now()
			a.submit(a.made(2, fields{"contents": big}))
		}
	}
	if slowest > stallTime {
		t.Errorf("an op of A took %v", slowest)
	}
	for a.audit.csn[a.id] < int64(a.csn) {
		a.next()
	}
	seen := a.head
	a.submit(a.made(seen))
	a.only(a.echo(seen+1, seen))
}
