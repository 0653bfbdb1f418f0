package main

import (
	"fmt"
	"strings"
	"testing"
)

// lobby returns a client of Supabase in realtime:lobby, joined with ref "6", and
// what presence told it on the way.
func lobby(t *testing.T, s *site, broadcast, key string) *peer {
	t.Helper()
	p := s.socket(t, "apikey=k&vsn=2.0.0")
	p.send(fmt.Sprintf(`["6","6","realtime:lobby","phx_join",{"config":{"broadcast":%s,"presence":{"key":%q,"enabled":true},
		"postgres_changes":[],"private":false},"access_token":"t"}]`, broadcast, key))
	p.want(lobbyOK("6"))
	if got := p.message(p.next()); got.event != "presence_state" || got.joinRef != "6" {
		t.Fatalf("got %+v, want the state", got)
	}
	return p
}

func lobbyOK(ref string) string {
	return fmt.Sprintf(`["6",%q,"realtime:lobby","phx_reply",{"status":"ok","response":{}}]`, ref)
}

const (
	lobbyCursor  = `{"type":"broadcast","event":"cursor","payload":{"x":1}}`
	lobbyDeliver = `[null,null,"realtime:lobby","broadcast",` + lobbyCursor + `]`
)

func TestSupabaseBroadcastFollowsTheFlagsOfItsSender(t *testing.T) {
	for _, test := range []struct {
		flags string
		want  []string
	}{
		{`{}`, nil},
		{`{"ack":false,"self":false}`, nil},
		{`{"ack":true}`, []string{lobbyOK("9")}},
		{`{"self":"true","ack":"false"}`, []string{lobbyDeliver}},
		{`{"self":true,"ack":true}`, []string{lobbyDeliver, lobbyOK("9")}},
	} {
		t.Run(test.flags, func(t *testing.T) {
			s := check(t)
			from, to := lobby(t, s, test.flags, "a"), lobby(t, s, `{}`, "b")
			from.send(`["6","9","realtime:lobby","broadcast",` + lobbyCursor + `]`)
			to.only(lobbyDeliver)
			from.only(test.want...)
		})
	}
}

func TestSupabaseBytesAreReadAsTextAndWrittenAsBytes(t *testing.T) {
	s := check(t)
	from, to, old := lobby(t, s, `{}`, "a"), lobby(t, s, `{}`, "b"), s.v1(t)
	old.send(`{"topic":"realtime:lobby","event":"phx_join","payload":{"config":{}},"ref":"1","join_ref":"1"}`)
	old.until("presence_state")
	const head = "01 01 0e 06 00 %s 36 39 7265616c74696d653a6c6f626279 637572736f72 7b2278223a317d"
	from.sendBytes("03" + fmt.Sprintf(head, "01"))
	to.want(lobbyDeliver)
	old.want(`{"topic":"realtime:lobby","event":"broadcast","payload":` + lobbyCursor + `,"ref":null}`)
	from.sendBytes("03" + fmt.Sprintf(head, "00"))
	to.only("04 0e 06 00 00 7265616c74696d653a6c6f626279 637572736f72 7b2278223a317d")
	old.nothing()
	from.nothing()
}

func TestSupabaseTracksOneMetaForEachClient(t *testing.T) {
	s := check(t)
	a, watcher := lobby(t, s, `{}`, "alice"), lobby(t, s, `{}`, "w")
	for n, test := range []struct {
		event, payload string
		joins, leaves  bool
	}{
		{"track", `{"n":1}`, true, false},
		{"track", `{"n":1}`, false, false},
		{"TRACK", `{"n":2}`, true, true},
		{"untrack", `{}`, false, true},
		{"untrack", `{}`, false, false},
		{"track", `{"n":2}`, true, false},
	} {
		ref := fmt.Sprint("r", n)
		a.send(fmt.Sprintf(`["6",%q,"realtime:lobby","presence",{"type":"presence","event":%q,"payload":%s}]`, ref, test.event, test.payload))
		replied := false
		for _, f := range a.gatherFrom(1, settled) {
			replied = replied || f.is(lobbyOK(ref))
		}
		if !replied {
			t.Errorf("%s %s: no reply", test.event, test.payload)
		}
		var got []string
		for _, f := range watcher.gather(silence / 10) {
			got = append(got, f.String())
		}
		if !test.joins && !test.leaves {
			if len(got) != 0 {
				t.Errorf("%s %s: got %v, want nothing", test.event, test.payload, got)
			}
			continue
		}
		if len(got) != 1 || strings.Contains(got[0], `"joins":{}`) == test.joins || strings.Contains(got[0], `"leaves":{}`) == test.leaves {
			t.Errorf("%s %s: got %v, want one diff with joins %t and leaves %t", test.event, test.payload, got, test.joins, test.leaves)
		}
	}
}

func TestSupabaseIgnoresWhatItDoesNotKnow(t *testing.T) {
	p := lobby(t, check(t), `{}`, "a")
	p.send(`["6","7","realtime:lobby","access_token",{"access_token":"fresh"}]`, `["6","8","realtime:lobby","whatever",{}]`)
	p.nothing()
	p.send(`["6","9","realtime:lobby","phx_leave",{}]`)
	p.only(lobbyOK("9"), `["6","6","realtime:lobby","phx_close",{}]`)
}

// A client names the event of the bytes that it sends. It must not close the
// channels of others, nor speak for presence.
func TestSupabaseBytesBearNoNameOfTheProtocol(t *testing.T) {
	s := check(t)
	from, plain := lobby(t, s, `{"ack":true}`, "a"), s.v2(t)
	plain.send(`["1","1","realtime:lobby","phx_join",{}]`)
	plain.until("presence_state")
	for _, event := range []string{"phx_close", "phx_error", "phx_reply", "presence_state", "presence_diff", "", strings.Repeat("e", 200)} {
		from.sendBytes(fmt.Sprintf("03 01 01 0e %02x 00 00 36 39 7265616c74696d653a6c6f626279 %x 01", len(event), event))
		if got := from.until("phx_reply"); !strings.Contains(got, `"invalid_data"`) {
			t.Errorf("%q: got %s, want invalid_data", event, got)
		}
	}
	plain.nothing()
}
