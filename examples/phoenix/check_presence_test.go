package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"
)

// The checks of presence, all on pres:1. docs/protocols.md says what each number is
// about.

// settled is how long after a change of presence everybody has heard of it: a tick
// is 250 ms.
const settled = silence + 300*time.Millisecond

// presences is the payload of presence_state, and each half of presence_diff.
type presences map[string]struct {
	Metas []map[string]any `json:"metas"`
}

// only returns the one meta of a key.
func (p presences) only(t *testing.T, key string) map[string]any {
	t.Helper()
	if metas := p[key].Metas; len(metas) == 1 {
		return metas[0]
	}
	t.Fatalf("got %v, want one meta of %s", p, key)
	return nil
}

// ref returns the phx_ref of the one meta of a key.
func (p presences) ref(t *testing.T, key string) string {
	t.Helper()
	ref, _ := p.only(t, key)["phx_ref"].(string)
	if ref == "" {
		t.Fatalf("got %v, want a phx_ref", p)
	}
	return ref
}

// counts returns how many metas each key has.
func (p presences) counts() map[string]int {
	counts := map[string]int{}
	for key, one := range p {
		counts[key] = len(one.Metas)
	}
	return counts
}

// message is a text frame of V2.
type message struct {
	joinRef, ref any
	topic, event string
	payload      json.RawMessage
}

func (p *peer) message(f frame) message {
	p.t.Helper()
	var m message
	fields := []any{&m.joinRef, &m.ref, &m.topic, &m.event, &m.payload}
	if err := json.Unmarshal(f.bytes, &fields); err != nil || len(fields) != 5 || f.binary {
		p.t.Fatalf("got %v (%v), want a message of V2", f, err)
	}
	return m
}

// messages are the frames of a span, parsed.
func (p *peer) messages(span time.Duration) (all []message) {
	p.t.Helper()
	for _, f := range p.gatherFrom(1, span) {
		all = append(all, p.message(f))
	}
	return all
}

// diff is the payload of presence_diff.
type diff struct{ joins, leaves presences }

// diff reads a broadcast that has to be a presence_diff, with both halves.
func (p *peer) diff(m message) diff {
	p.t.Helper()
	var halves map[string]presences
	if err := json.Unmarshal(m.payload, &halves); err != nil {
		p.t.Fatalf("%s: %v", m.payload, err)
	}
	d := diff{joins: halves["joins"], leaves: halves["leaves"]}
	if m.event != "presence_diff" || m.topic != "pres:1" || m.joinRef != nil || m.ref != nil ||
		len(halves) != 2 || d.joins == nil || d.leaves == nil {
		p.t.Fatalf("got %+v %s, want a presence_diff with null refs, joins and leaves", m, m.payload)
	}
	return d
}

// wantDiff takes the next frame, a diff in which the keys have that many metas.
func (p *peer) wantDiff(joins, leaves string) diff {
	p.t.Helper()
	d := p.diff(p.message(p.next()))
	p.wantCounts("joins", d.joins, joins)
	p.wantCounts("leaves", d.leaves, leaves)
	return d
}

func (p *peer) wantCounts(what string, got presences, want string) {
	p.t.Helper()
	counts := map[string]int{}
	if err := json.Unmarshal([]byte(want), &counts); err != nil {
		p.t.Fatal(err)
	}
	if !maps.Equal(got.counts(), counts) {
		p.t.Fatalf("%s are %v, want %s", what, got, want)
	}
}

// appear joins pres:1, under key with the meta {"n":1} unless key is "", and
// returns the state that it was sent. The joiner may hear of itself once more, in
// a diff, and of nothing else.
func appear(t *testing.T, p *peer, ref, key string) presences {
	t.Helper()
	payload := `{}`
	if key != "" {
		payload = fmt.Sprintf(`{"key":%q,"meta":{"n":1}}`, key)
	}
	p.send(fmt.Sprintf(`[%q,%q,"pres:1","phx_join",%s]`, ref, ref, payload))
	p.want(fmt.Sprintf(`[%q,%q,"pres:1","phx_reply",{"status":"ok","response":{}}]`, ref, ref))
	var states []presences
	var own int
	for _, m := range p.messages(settled) {
		if m.event != "presence_state" {
			d := p.diff(m)
			p.wantCounts("joins", d.joins, fmt.Sprintf(`{%q:1}`, key))
			p.wantCounts("leaves", d.leaves, `{}`)
			own++
			continue
		}
		var state presences
		if err := json.Unmarshal(m.payload, &state); err != nil || m.joinRef != ref || m.ref != nil || m.topic != "pres:1" {
			t.Fatalf("got %+v %s (%v), want a push", m, m.payload, err)
		}
		states = append(states, state)
	}
	if len(states) != 1 || own > 1 {
		t.Fatalf("got %d presence_state and %d presence_diff, want one and at most one", len(states), own)
	}
	return states[0]
}

// does sends an event to pres:1 and returns the n diffs that follow beside its reply.
func (p *peer) does(ref, name, payload string, n int) (diffs []diff) {
	p.t.Helper()
	p.send(fmt.Sprintf(`["1",%q,"pres:1",%q,%s]`, ref, name, payload))
	replied := 0
	for _, f := range p.gatherFrom(1+n, settled) {
		if f.is(fmt.Sprintf(`["1",%q,"pres:1","phx_reply",{"status":"ok","response":{}}]`, ref)) {
			replied++
			continue
		}
		diffs = append(diffs, p.diff(p.message(f)))
	}
	if replied != 1 || len(diffs) != n {
		p.t.Fatalf("%s: got %d replies and %d diffs, want one and %d", name, replied, len(diffs), n)
	}
	return diffs
}

// wantMeta compares one meta with what it has to hold, beside refs.
func wantMeta(t *testing.T, got map[string]any, n float64, ref, previous string) {
	t.Helper()
	want := map[string]any{"n": n, "phx_ref": ref}
	if previous != "" {
		want["phx_ref_prev"] = previous
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("meta is %v, want %v", got, want)
	}
}

func TestCheck102_StateFollowsTheReplyAndHasTheJoiner(t *testing.T) {
	state := appear(t, check(t).v2(t), "1", "alice")
	if len(state) != 1 {
		t.Errorf("state is %v, want alice alone", state)
	}
	wantMeta(t, state.only(t, "alice"), 1, state.ref(t, "alice"), "")
}

func TestCheck103_OthersHearOfTheJoiner(t *testing.T) {
	s := check(t)
	a, b := s.v2(t), s.v2(t)
	appear(t, a, "1", "alice")
	state := appear(t, b, "1", "bob")
	b.wantCounts("state", state, `{"alice":1,"bob":1}`)
	joins := a.wantDiff(`{"bob":1}`, `{}`).joins
	wantMeta(t, joins.only(t, "bob"), 1, state.ref(t, "bob"), "")
	a.nothing()
}

func TestCheck104_EveryDiffHasBothHalves(t *testing.T) {
	s := check(t)
	watcher, a := s.v2(t), s.v2(t)
	appear(t, watcher, "1", "")
	appear(t, a, "1", "alice")
	a.does("2", "update", `{"n":2}`, 1)
	a.does("3", "untrack", `{}`, 1)
	a.does("4", "track_again", `{"n":3}`, 1)
	a.cut()
	// Each of these fails unless the payload has exactly both keys.
	watcher.wantDiff(`{"alice":1}`, `{}`)
	watcher.wantDiff(`{"alice":1}`, `{"alice":1}`)
	watcher.wantDiff(`{}`, `{"alice":1}`)
	watcher.wantDiff(`{"alice":1}`, `{}`)
	watcher.wantDiff(`{}`, `{"alice":1}`)
	watcher.nothing()
}

// updated returns a socket whose alice went from {"n":1} to {"n":2}, and both
// refs.
func updated(t *testing.T, s *site) (a *peer, before, after string) {
	t.Helper()
	a = s.v2(t)
	before = appear(t, a, "1", "alice").ref(t, "alice")
	diffs := a.does("2", "update", `{"n":2}`, 1)
	a.wantCounts("joins", diffs[0].joins, `{"alice":1}`)
	a.wantCounts("leaves", diffs[0].leaves, `{"alice":1}`)
	after = diffs[0].joins.ref(t, "alice")
	if after == before {
		t.Errorf("phx_ref is %q before and after", after)
	}
	wantMeta(t, diffs[0].joins.only(t, "alice"), 2, after, before)
	wantMeta(t, diffs[0].leaves.only(t, "alice"), 1, before, "")
	return a, before, after
}

func TestCheck105_UpdateIsOneDiffThatNamesItsPredecessor(t *testing.T) {
	updated(t, check(t))
}

func TestCheck106_StateNamesThePredecessorToo(t *testing.T) {
	s := check(t)
	_, before, after := updated(t, s)
	state := appear(t, s.v2(t), "1", "carol")
	wantMeta(t, state.only(t, "alice"), 2, after, before)
}

func TestCheck107_LostConnectionLeavesAsItWasAnnounced(t *testing.T) {
	s := check(t)
	a, b := s.v2(t), s.v2(t)
	appear(t, a, "1", "alice")
	appear(t, b, "1", "bob")
	announced := a.wantDiff(`{"bob":1}`, `{}`).joins.ref(t, "bob")
	b.cut()
	leaves := a.wantDiff(`{}`, `{"bob":1}`).leaves
	wantMeta(t, leaves.only(t, "bob"), 1, announced, "")
	a.nothing()
}

func TestCheck108_SecondUntrackIsSilent(t *testing.T) {
	a := check(t).v2(t)
	ref := appear(t, a, "1", "alice").ref(t, "alice")
	diffs := a.does("2", "untrack", `{}`, 1)
	a.wantCounts("joins", diffs[0].joins, `{}`)
	wantMeta(t, diffs[0].leaves.only(t, "alice"), 1, ref, "")
	a.does("3", "untrack", `{}`, 0)
}

func TestCheck109_CrashAndLeaveEndPresenceOnce(t *testing.T) {
	s := check(t)
	for _, test := range []struct {
		send string
		want []string
	}{
		{`["1","2","pres:1","boom",{}]`, []string{`["1","1","pres:1","phx_error",{"reason":"channel_crash"}]`}},
		{`["1","2","pres:1","phx_leave",{}]`, []string{
			`["1","2","pres:1","phx_reply",{"status":"ok","response":{}}]`, `["1","1","pres:1","phx_close",{}]`,
		}},
	} {
		watcher, a := s.v2(t), s.v2(t)
		appear(t, watcher, "1", "")
		ref := appear(t, a, "1", "alice").ref(t, "alice")
		watcher.wantDiff(`{"alice":1}`, `{}`)
		a.send(test.send)
		a.only(test.want...)
		leaves := watcher.wantDiff(`{}`, `{"alice":1}`).leaves
		wantMeta(t, leaves.only(t, "alice"), 1, ref, "")
		for _, f := range watcher.gather(settled) {
			t.Errorf("after the diff came %v, want nothing", f)
		}
	}
}

func TestCheck110_EmptyTopicHasAnEmptyState(t *testing.T) {
	if state := appear(t, check(t).v2(t), "1", ""); state == nil || len(state) != 0 {
		t.Errorf("state is %v, want {}", state)
	}
}

func TestCheck111_RejoinHasAFreshStateAndANewRef(t *testing.T) {
	s := check(t)
	a := s.v2(t)
	before := appear(t, a, "1", "alice").ref(t, "alice")
	a.cut()
	s.log.wait(t, "msg=left", "topic=pres:1")
	state := appear(t, s.v2(t), "1", "alice")
	if after := state.ref(t, "alice"); after == before {
		t.Errorf("phx_ref is %q before and after", after)
	}
}
