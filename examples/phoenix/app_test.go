package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/seed-58bc6ac1/realtime/examples/internal/web"
)

// everywhere returns a client of each kind, all of them in topic. The refs of the
// Phoenix clients are "1"; key is a presence key for each, "" for none.
func everywhere(t *testing.T, s *site, topic string, keys bool) map[string]*peer {
	t.Helper()
	payload := func(key string) string {
		if !keys {
			return `{}`
		}
		return fmt.Sprintf(`{"key":%q,"meta":{"n":1}}`, key)
	}
	v1, v2 := s.v1(t), s.v2(t)
	native := s.dial(t, "/ws", &websocket.DialOptions{Subprotocols: []string{"realtime.v1"}})
	flat := s.dial(t, "/flat", &websocket.DialOptions{Subprotocols: []string{"realtime.flat"}})
	v1.send(fmt.Sprintf(`{"topic":%q,"event":"phx_join","payload":%s,"ref":"1"}`, topic, payload("vera")))
	v2.send(fmt.Sprintf(`["1","1",%q,"phx_join",%s]`, topic, payload("victor")))
	native.send(fmt.Sprintf(`{"channel":%q,"type":"subscribe","data":{"params":%s},"ref":"1"}`, topic, payload("nina")))
	enter := map[string]any{}
	if err := json.Unmarshal([]byte(payload("fred")), &enter); err != nil {
		t.Fatal(err)
	}
	enter["type"], enter["topic"] = "enter", topic
	text, err := json.Marshal(enter)
	if err != nil {
		t.Fatal(err)
	}
	flat.send(string(text))
	peers := map[string]*peer{"phoenix.v1": v1, "phoenix.v2": v2, "realtime.v1": native, "realtime.flat": flat}
	for name, answer := range map[string]string{
		"phoenix.v1": "phx_reply", "phoenix.v2": "phx_reply", "realtime.v1": "subscription_success", "realtime.flat": "entered",
	} {
		peers[name].until(answer)
	}
	return peers
}

// until reads up to a frame that holds the word, and returns it. What came before is
// kept in passed.
func (p *peer) until(word string) string {
	p.t.Helper()
	for {
		f := p.next()
		if strings.Contains(f.String(), `"`+word+`"`) {
			return f.String()
		}
		p.passed = append(p.passed, f)
	}
}

func TestOnePublishReachesEveryProtocol(t *testing.T) {
	s := check(t)
	peers := everywhere(t, s, "room:1", false)
	s.post(t, "/admin/broadcast?topic=room:1&event=shout", `{"m":1}`)
	for name, want := range map[string]string{
		"phoenix.v1":    `{"topic":"room:1","event":"shout","payload":{"m":1},"ref":null}`,
		"phoenix.v2":    shouted,
		"realtime.v1":   `{"channel":"room:1","type":"shout","data":{"m":1}}`,
		"realtime.flat": `{"type":"shout","m":1}`,
	} {
		if got := peers[name].until("shout"); !(frame{bytes: []byte(got)}).is(want) {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		peers[name].nothing()
	}
	peers["realtime.flat"].send(`{"type":"say","topic":"room:1","event":"shout","payload":{"m":2}}`)
	for name, p := range peers {
		if got := p.until("shout"); !strings.Contains(got, `"m":2`) {
			t.Errorf("%s: got %s, want what the flat client said", name, got)
		}
	}
}

func TestPresenceShowsEveryProtocolToEachOther(t *testing.T) {
	s := check(t)
	peers := everywhere(t, s, "pres:1", true)
	for name, p := range peers {
		seen := map[string]bool{}
		// A flat client enters a topic with an event, whose answer may be behind the
		// topic's first push.
		for _, f := range append(p.passed, p.gather(settled)...) {
			for _, key := range []string{"vera", "victor", "nina", "fred"} {
				seen[key] = seen[key] || strings.Contains(f.String(), `"`+key+`"`)
			}
		}
		if len(seen) != 4 || !seen["vera"] || !seen["victor"] || !seen["nina"] || !seen["fred"] {
			t.Errorf("%s saw %v, want all four", name, seen)
		}
	}
	peers["realtime.v1"].cut()
	for _, name := range []string{"phoenix.v1", "phoenix.v2", "realtime.flat"} {
		if got := peers[name].until("nina"); !strings.Contains(got, `"presence_diff"`) || !strings.Contains(got, `"joins":{}`) {
			t.Errorf("%s: got %s, want a presence_diff without joins", name, got)
		}
	}
}

func TestFlatClientEntersOnlyWhatItMay(t *testing.T) {
	flat := check(t).dial(t, "/flat", &websocket.DialOptions{Subprotocols: []string{"realtime.flat"}})
	flat.until("connected")
	for _, text := range []string{
		`{"type":"enter","topic":"global"}`, `{"type":"enter","topic":"food:1"}`, `{"type":"enter","topic":7}`,
		`{"type":"say","topic":"room:1","event":"shout"}`, `{"type":"say","topic":"global","event":"shout"}`,
	} {
		flat.send(text)
		if got := flat.next().String(); !strings.Contains(got, `"type":"error"`) {
			t.Errorf("%s: got %s, want an error", text, got)
		}
	}
}

func TestStateCountsConnectionsAndChannels(t *testing.T) {
	s := check(t)
	a, _ := s.joined(t), s.v1(t)
	a.send(`["7","7","room:2","phx_join",{}]`)
	a.want(`["7","7","room:2","phx_reply",{"status":"ok","response":{}}]`)
	var got state
	s.get(t, "/admin/state", &got)
	if got.Connections != 2 || got.Channels != 2 || got.Goroutines < 2 || len(got.Members) != 2 ||
		got.Members["room:1"] != 1 || got.Members["room:2"] != 1 {
		t.Errorf("got %+v, want two connections and two channels", got)
	}
}

func TestConnectsAreTheLatestOnly(t *testing.T) {
	var c connects
	for n := range maxConnects + 5 {
		c.add(connectCall{Token: fmt.Sprint(n)})
	}
	got := c.all()
	if len(got) != maxConnects || got[0].Token != "5" || got[maxConnects-1].Token != fmt.Sprint(maxConnects+4) {
		t.Errorf("got %d from %q to %q, want the last %d", len(got), got[0].Token, got[len(got)-1].Token, maxConnects)
	}
}

func TestAdminHandlerRefusesWhatMakesNoSense(t *testing.T) {
	s := check(t)
	foreign := http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}
	for _, test := range []struct {
		method, path, body string
		header             http.Header
		want               int
	}{
		{"POST", "/admin/broadcast?topic=room:1&event=shout", `{}`, foreign, http.StatusForbidden},
		{"POST", "/admin/drain", ``, foreign, http.StatusForbidden},
		{"POST", "/admin/broadcast?topic=room:1", `{}`, nil, http.StatusBadRequest},
		{"POST", "/admin/broadcast?topic=room:1&event=shout", `{`, nil, http.StatusBadRequest},
		{"POST", "/admin/broadcast?topic=nope:1&event=shout", `{}`, nil, http.StatusNotFound},
		{"POST", "/admin/broadcast?topic=room:1&event=shout", `"` + strings.Repeat("x", maxMessage) + `"`, nil, http.StatusRequestEntityTooLarge},
		{"POST", "/admin/disconnect", ``, nil, http.StatusBadRequest},
		{"GET", "/admin/drain", ``, nil, http.StatusMethodNotAllowed},
		{"GET", "/admin/nothing", ``, nil, http.StatusNotFound},
	} {
		if got, body, _ := request(t, test.method, s.base+test.path, test.body, test.header); got != test.want {
			t.Errorf("%s %s %.20s: got %d %s, want %d", test.method, test.path, test.body, got, body, test.want)
		}
	}
}

func TestBytesAreBroadcastFromOutside(t *testing.T) {
	s := check(t)
	p := s.joined(t)
	status, body, _ := request(t, http.MethodPost, s.base+"/admin/broadcast?topic=room:1&event=binb", "\x07",
		http.Header{"Content-Type": {"application/octet-stream"}})
	if status != http.StatusNoContent {
		t.Fatalf("got %d %s, want 204", status, body)
	}
	p.only("02 06 04 72 6f 6f 6d 3a 31 62 69 6e 62 07")
}

func TestPageOfTheProgramItselfMayConnect(t *testing.T) {
	s := check(t)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]int{
		s.base:                      http.StatusSwitchingProtocols,
		"http://localhost:" + port:  http.StatusSwitchingProtocols,
		"http://localhost:1":        http.StatusForbidden,
		"http://localhost.evil.com": http.StatusForbidden,
	} {
		if got, _ := s.handshake(t, "vsn=2.0.0", "Origin", origin); got != want {
			t.Errorf("%s: got %d, want %d", origin, got, want)
		}
	}
}

func TestOriginsOfTheFlagAreAdded(t *testing.T) {
	s := check(t, "-origins", "https://app.example.net, //dev.example.net:5173")
	for origin, want := range map[string]int{
		"https://app.example.net":     http.StatusSwitchingProtocols,
		"http://dev.example.net:5173": http.StatusSwitchingProtocols,
		"http://example.com":          http.StatusSwitchingProtocols,
		"http://app.example.net":      http.StatusForbidden,
	} {
		if got, _ := s.handshake(t, "vsn=2.0.0", "Origin", origin); got != want {
			t.Errorf("%s: got %d, want %d", origin, got, want)
		}
	}
}

func TestOwnOriginsAreEveryNameOfTheLoopback(t *testing.T) {
	for _, test := range []struct {
		ip   string
		want []string
	}{
		{"127.0.0.1", []string{"//127.0.0.1:80", "//[::1]:80", "//localhost:80"}},
		{"::", []string{"//127.0.0.1:80", "//[::1]:80", "//localhost:80"}},
		{"192.0.2.1", []string{"//192.0.2.1:80"}},
	} {
		if got := ownOrigins(&net.TCPAddr{IP: net.ParseIP(test.ip), Port: 80}); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.ip, got, test.want)
		}
	}
}

func TestLongPollingIsServedOnlyIfAsked(t *testing.T) {
	off, on := check(t), start(t, "-longpoll")
	if status, body, _ := request(t, http.MethodGet, off.base+"/socket/longpoll?vsn=2.0.0", "", nil); status != http.StatusNotFound || json.Valid([]byte(body)) {
		t.Errorf("off: got %d %s, want 404 and no JSON", status, body)
	}
	status, body, _ := request(t, http.MethodGet, on.base+"/socket/longpoll?vsn=2.0.0", "", nil)
	var answer struct {
		Status int
		Token  string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || answer.Status != http.StatusGone || answer.Token == "" {
		t.Errorf("on: got %d %s (%v), want a new session", status, body, err)
	}
}

func TestPageLoadsUnderItsPolicy(t *testing.T) {
	s := check(t)
	for path, kind := range map[string]string{
		"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css", "/phoenix/phoenix.mjs": "text/javascript",
	} {
		status, _, header := request(t, http.MethodGet, s.base+path, "", nil)
		if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), kind) {
			t.Errorf("GET %s: got %d %s, want 200 %s", path, status, header.Get("Content-Type"), kind)
		}
		if got := header.Get("Content-Security-Policy"); got != web.Policy {
			t.Errorf("GET %s: policy is %q, want %q", path, got, web.Policy)
		}
	}
}

func TestPageNeverTurnsTextIntoMarkup(t *testing.T) {
	for _, path := range []string{"page/index.html", "page/app.js"} {
		text, err := pageFiles.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, door := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"} {
			if strings.Contains(string(text), door) {
				t.Errorf("%s uses %s", path, door)
			}
		}
	}
}

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-origins", "not an origin"}, {"-idle-timeout", "-1s"}, {"extra"}, {"-nonsense"}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), io.Discard, io.Discard)
		if err == nil || ctx.Err() != nil {
			t.Errorf("%v: got %v, want an error at once", args, err)
		}
		cancel()
	}
}
