package main

import (
	"fmt"
	"net/http"
	"testing"
)

// What docs/protocols.md says where Phoenix leaves a choice.

func TestEventWithoutAHandlerIsAnErrorThatEndsNothing(t *testing.T) {
	p := asks(t, "no_such_event", reply("1", "2", "error", `{"reason":"unhandled event"}`))
	p.send(event("1", "3", "ok", `{}`))
	p.only(ok("1", "3", `{}`))
}

func TestPayloadThatIsNoObjectBecomesOne(t *testing.T) {
	s := check(t)
	p := s.joined(t)
	for _, test := range []struct{ payload, want string }{
		{`null`, `{}`}, {`7`, `{"data":7}`}, {`"x"`, `{"data":"x"}`}, {`[1]`, `{"data":[1]}`}, {`{"m":1}`, `{"m":1}`},
	} {
		s.post(t, "/admin/broadcast?topic=room:1&event=shout", test.payload)
		p.want(fmt.Sprintf(`[null,null,"room:1","shout",%s]`, test.want))
	}
	p.nothing()
}

func TestVersionOneIsSpared(t *testing.T) {
	s := check(t)
	old, other := s.v1(t), s.joined(t)
	old.send(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}`)
	old.want(`{"topic":"room:1","event":"phx_reply","ref":"1","payload":{"status":"ok","response":{}}}`)
	other.send(event("1", "2", "bin_shout", `{}`))
	other.want("02 06 04 72 6f 6f 6d 3a 31 62 69 6e 62 07", ok("1", "2", `{}`))
	old.nothing()
	old.send(`{"topic":"room:1","event":"bin","payload":{},"ref":"3","join_ref":"1"}`)
	old.only(`{"topic":"room:1","event":"phx_reply","ref":"3","payload":{"status":"error","response":{"reason":"binary payload"}}}`)
}

func TestErrorForTheClientIsShownAsItsCodeAndText(t *testing.T) {
	p := check(t).v2(t)
	p.send(`["1","1","pres:1","phx_join",{"key":7}]`)
	m := p.message(p.next())
	got, _ := parsed(string(m.payload)).(map[string]any)
	response, _ := got["response"].(map[string]any)
	if got["status"] != "error" || response["reason"] != "invalid_data" || response["message"] == "" {
		t.Errorf("got %v, want the reason invalid_data and a message", got)
	}
	p.send(`["2","2","pres:1","phx_join",{}]`)
	p.want(`["2","2","pres:1","phx_reply",{"status":"ok","response":{}}]`)
}

func TestNewcomersDuringADrainAreUnavailable(t *testing.T) {
	s := check(t)
	s.post(t, "/admin/drain", "")
	status, _, header := request(t, http.MethodGet, s.base+"/socket/websocket?vsn=2.0.0", "", upgrades())
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("got %d %v, want 503 with Retry-After", status, header)
	}
	if status, body, _ := request(t, http.MethodPost, s.base+"/admin/broadcast?topic=room:1&event=shout", `{}`, nil); status != http.StatusServiceUnavailable {
		t.Errorf("a broadcast got %d %s, want 503", status, body)
	}
}
