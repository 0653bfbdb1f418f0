package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The checks of the handshake. docs/protocols.md says what each number is about.

// heartbeats are one heartbeat and its answer in each version.
const (
	beatV1   = `{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}`
	beatenV1 = `{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}`
	beatV2   = `[null,"9","phoenix","heartbeat",{}]`
	beatenV2 = `[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]`
)

func TestCheck001_SocketOpensInSilence(t *testing.T) {
	check(t).socket(t, "vsn=2.0.0").nothing()
}

func TestCheck002_VersionOneIsTheDefault(t *testing.T) {
	p := check(t).socket(t, "")
	p.send(beatV1)
	p.only(beatenV1)
}

func TestCheck003_VersionOneMayBeNamed(t *testing.T) {
	p := check(t).socket(t, "vsn=1.0.0")
	p.send(beatV1)
	p.only(beatenV1)
}

func TestCheck004_AnyPatchOfAVersionIsThatVersion(t *testing.T) {
	s := check(t)
	one, two := s.socket(t, "vsn=1.0.7"), s.socket(t, "vsn=2.0.9")
	one.send(beatV1)
	two.send(beatV2)
	one.only(beatenV1)
	two.only(beatenV2)
}

func TestCheck005_UnknownMajorVersionNeverReachesConnect(t *testing.T) {
	s := check(t)
	if status, body := s.handshake(t, "vsn=123.1.1"); status != http.StatusForbidden || body != "" {
		t.Errorf("got %d %q, want 403 and no body", status, body)
	}
	var calls []connectCall
	if s.get(t, "/admin/connects", &calls); len(calls) != 0 {
		t.Errorf("connect was called: %v", calls)
	}
}

func TestCheck006_UnknownMinorVersionIsForbidden(t *testing.T) {
	if status, body := check(t).handshake(t, "vsn=2.1.0"); status != http.StatusForbidden || body != "" {
		t.Errorf("got %d %q, want 403 and no body", status, body)
	}
}

func TestCheck007_WhatIsNoVersionIsForbidden(t *testing.T) {
	s := check(t)
	for _, vsn := range []string{"2", "2.0", "abc"} {
		if status, body := s.handshake(t, "vsn="+vsn); status != http.StatusForbidden || body != "" {
			t.Errorf("%s: got %d %q, want 403 and no body", vsn, status, body)
		}
	}
}

func TestCheck008_RefusalIsForbiddenWithoutABody(t *testing.T) {
	if status, body := check(t).handshake(t, "reject=true&vsn=2.0.0"); status != http.StatusForbidden || body != "" {
		t.Errorf("got %d %q, want 403 and no body", status, body)
	}
}

func TestCheck009_RefusalWithAReasonIsWrittenByTheApplication(t *testing.T) {
	status, body := check(t).handshake(t, "ratelimit=true&vsn=2.0.0")
	if status != http.StatusTooManyRequests || body != "Too many requests" {
		t.Errorf(`got %d %q, want 429 "Too many requests"`, status, body)
	}
}

func TestCheck010_PostIsABadRequest(t *testing.T) {
	s := check(t)
	status, body, _ := request(t, http.MethodPost, s.base+"/socket/websocket?vsn=2.0.0", "", nil)
	if status != http.StatusBadRequest || body != "" {
		t.Errorf("got %d %q, want 400 and no body", status, body)
	}
}

func TestCheck011_PlainGetIsToldOfTheConnectionHeader(t *testing.T) {
	s := check(t)
	status, body, _ := request(t, http.MethodGet, s.base+"/socket/websocket?vsn=2.0.0", "", nil)
	if status != http.StatusBadRequest || !strings.Contains(strings.ToLower(body), "connection") {
		t.Errorf("got %d %q, want 400 and a word on the connection header", status, body)
	}
}

func TestCheck012_BasePathIsNoSocket(t *testing.T) {
	s := check(t)
	if status, _, _ := request(t, http.MethodGet, s.base+"/socket?vsn=2.0.0", "", upgrades()); status != http.StatusNotFound {
		t.Errorf("got %d, want 404", status)
	}
}

func TestCheck013_NoOriginConnects(t *testing.T) {
	if status, _ := check(t).handshake(t, "vsn=2.0.0"); status != http.StatusSwitchingProtocols {
		t.Errorf("got %d, want 101", status)
	}
}

func TestCheck014_ListedHostConnectsWithAnySchemeAndPort(t *testing.T) {
	s := check(t)
	for _, origin := range []string{"https://example.com", "http://example.com:8080"} {
		if status, _ := s.handshake(t, "vsn=2.0.0", "Origin", origin); status != http.StatusSwitchingProtocols {
			t.Errorf("%s: got %d, want 101", origin, status)
		}
	}
}

func wantForbidden(t *testing.T, query string, origins ...string) {
	t.Helper()
	s := check(t)
	for _, origin := range origins {
		if status, body := s.handshake(t, query, "Origin", origin); status != http.StatusForbidden || body != "" {
			t.Errorf("%s: got %d %q, want 403 and no body", origin, status, body)
		}
	}
}

func TestCheck015_OtherOriginIsForbidden(t *testing.T) {
	wantForbidden(t, "vsn=2.0.0", "http://notallowed.com")
}

func TestCheck016_SubdomainIsForbidden(t *testing.T) {
	wantForbidden(t, "vsn=2.0.0", "http://sub.example.com")
}

func TestCheck017_OriginWithoutAHostIsForbidden(t *testing.T) {
	wantForbidden(t, "vsn=2.0.0", "null", "file://")
}

func TestCheck018_OriginIsCheckedBeforeConnect(t *testing.T) {
	wantForbidden(t, "ratelimit=true&vsn=2.0.0", "http://notallowed.com")
}

// lastConnect returns what the latest call of connect was given.
func lastConnect(t *testing.T, s *site) connectCall {
	t.Helper()
	var calls []connectCall
	if s.get(t, "/admin/connects", &calls); len(calls) == 0 {
		t.Fatal("connect was not called")
	}
	return calls[len(calls)-1]
}

func TestCheck019_ConnectSeesTheParameters(t *testing.T) {
	s := check(t)
	s.socket(t, "user_id=7&o%5Bx%5D=y&vsn=2.0.0")
	got := lastConnect(t, s).Params
	nested, _ := got["o"].(map[string]any)
	if got["user_id"] != "7" || got["vsn"] != "2.0.0" || nested["x"] != "y" && got["o[x]"] != "y" {
		t.Errorf("got %v, want user_id, vsn and o[x]", got)
	}
}

// wantToken opens a socket that offers subprotocols, and compares what was
// answered and what connect saw.
func wantToken(t *testing.T, offer, echo []string, token string) {
	t.Helper()
	s := check(t)
	header := upgrades()
	if offer != nil {
		header["Sec-Websocket-Protocol"] = offer
	}
	status, _, answered := request(t, http.MethodGet, s.base+"/socket/websocket?vsn=2.0.0", "", header)
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("got %d, want 101", status)
	}
	if got := answered.Values("Sec-WebSocket-Protocol"); !slices.Equal(got, echo) {
		t.Errorf("echoed %q, want %q", got, echo)
	}
	if got := lastConnect(t, s).Token; got != token {
		t.Errorf("connect got token %q, want %q", got, token)
	}
}

func TestCheck020_TokenComesAsASubprotocol(t *testing.T) {
	wantToken(t, []string{"phoenix, base64url.bearer.phx.MTIzNA"}, []string{"phoenix"}, "1234")
}

func TestCheck021_TokenMayComeFirst(t *testing.T) {
	wantToken(t, []string{"base64url.bearer.phx.MTIzNA,phoenix"}, []string{"phoenix"}, "1234")
}

func TestCheck022_ProtocolAloneIsEchoedWithoutAToken(t *testing.T) {
	wantToken(t, []string{"phoenix"}, []string{"phoenix"}, "")
}

func TestCheck023_NothingOfferedIsNothingEchoed(t *testing.T) {
	wantToken(t, nil, nil, "")
}

func TestCheck024_UnknownSubprotocolIsForbidden(t *testing.T) {
	status, body := check(t).handshake(t, "vsn=2.0.0", "Sec-WebSocket-Protocol", "mqtt")
	if status != http.StatusForbidden || body != "" {
		t.Errorf("got %d %q, want 403 and no body", status, body)
	}
}

func TestCheck025_UndecodableTokenIsRefused(t *testing.T) {
	status, _ := check(t).handshake(t, "vsn=2.0.0", "Sec-WebSocket-Protocol", "phoenix, base64url.bearer.phx.!!!")
	if status < 400 || status > 499 {
		t.Errorf("got %d, want 4xx", status)
	}
}
