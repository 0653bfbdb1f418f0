package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime/examples/internal/web"
)

func TestEveryWayToSendATokenConnects(t *testing.T) {
	base := start(t)
	token := tokenOf(t, base, "ada", "")
	header := http.Header{"Authorization": {"Bearer " + token}}
	for name, dialIt := range map[string]func(t *testing.T) *peer{
		"query":       func(t *testing.T) *peer { return dial(t, base, "/ws?token="+token, nil) },
		"header":      func(t *testing.T) *peer { return dial(t, base, "/ws", header) },
		"subprotocol": func(t *testing.T) *peer { return dial(t, base, "/ws", nil, "realtime.v1", "bearer."+token) },
		"first message": func(t *testing.T) *peer {
			p := dial(t, base, "/ws", nil)
			p.send("global", "auth", `{"token":"`+token+`"}`, "")
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := dialIt(t).want("connected").data(t)["user"]; got != "ada" {
				t.Errorf("user is %v, want ada", got)
			}
		})
	}
}

func TestMessageReachesEveryMemberAndItsSender(t *testing.T) {
	base := start(t)
	ada, bob := member(t, base, "ada"), member(t, base, "bob")
	ada.join("chat:lobby", `{}`)
	bob.join("chat:lobby", `{}`)
	ada.send("chat:lobby", "message", `{"text":"hi"}`, "")
	for _, p := range []*peer{ada, bob} {
		got := p.want("message")
		if string(got.Data) != `{"text":"hi"}` || got.Channel != "chat:lobby" || got.Offset != 1 {
			t.Errorf("got %s, want the message at offset 1", got.whole)
		}
	}
}

func TestEventsAreAnsweredAsTheirNamesSay(t *testing.T) {
	base := start(t)
	p := member(t, base, "ada")
	p.join("chat:lobby", `{}`)
	for _, test := range []struct{ event, data, kind, field, want string }{
		{"echo", `"back"`, "reply", "response", "back"},
		{"fail", `null`, "error", "code", "demo_failure"},
		{"boom", `null`, "error", "code", "internal"},
		{"nothing", `null`, "error", "code", "unknown_event"},
		{"echo", `"still here"`, "reply", "response", "still here"},
	} {
		p.send("chat:lobby", test.event, test.data, "r")
		got := p.want(test.kind)
		if got.Ref != "r" || got.data(t)[test.field] != test.want {
			t.Errorf("%s: got %s, want %s %q", test.event, got.whole, test.field, test.want)
		}
	}
}

func TestSleepingHandlerDelaysNoPing(t *testing.T) {
	base := start(t)
	p := member(t, base, "ada")
	p.join("chat:lobby", `{}`)
	sent := time.Now()
	p.send("chat:lobby", "sleep", `null`, "s")
	p.send("global", "ping", `{"timestamp":42}`, "")
	if got := p.want("pong").data(t)["timestamp"]; got != 42.0 {
		t.Errorf("timestamp is %v, want 42", got)
	}
	if took := time.Since(sent); took >= 2*time.Second {
		t.Errorf("the pong took %v, as long as the handler", took)
	}
	p.want("reply")
	if took := time.Since(sent); took < 2*time.Second {
		t.Errorf("sleep answered after %v, want 2s", took)
	}
}

func TestPrivateChannelIsOnlyForItsUser(t *testing.T) {
	base := start(t)
	p := member(t, base, "ada")
	p.join("private:ada", `{}`)
	p.send("private:bob", "subscribe", `{}`, "")
	if got := p.want("subscription_error").data(t)["code"]; got != "forbidden" {
		t.Errorf("code is %v, want forbidden", got)
	}
}

func TestReconnectReplaysWhatWasMissed(t *testing.T) {
	base := start(t)
	stays, goes := member(t, base, "stays"), member(t, base, "goes")
	stays.join("chat:lobby", `{}`)
	epoch := goes.join("chat:lobby", `{}`)["epoch"]
	_ = goes.conn.CloseNow()
	for n := 1; n <= 3; n++ {
		stays.send("chat:lobby", "message", fmt.Sprint(n), "")
	}
	for range 3 {
		stays.want("message")
	}
	back := member(t, base, "goes")
	joined := back.join("chat:lobby", fmt.Sprintf(`{"recover":{"epoch":%q,"offset":1}}`, epoch))
	if joined["recovery"] != "replayed" || joined["offset"] != 3.0 {
		t.Errorf("got %v, want replayed up to 3", joined)
	}
	for n := 2; n <= 3; n++ {
		if got := back.want("message"); string(got.Data) != fmt.Sprint(n) || got.Offset != uint64(n) {
			t.Errorf("got %s, want %d", got.whole, n)
		}
	}
}

func TestRefusalsAreSeenAsCloseCodes(t *testing.T) {
	for _, authCode := range []int{4001, 1008} {
		t.Run(fmt.Sprint("auth code ", authCode), func(t *testing.T) {
			base := start(t, "-auth-code", fmt.Sprint(authCode))
			dial(t, base, "/ws?token=nonsense", nil).wantClosed(authCode, "token_invalid")
			dial(t, base, "/ws?token="+tokenOf(t, base, "ada", "-1m"), nil).wantClosed(authCode, "token_expired")
			p := dial(t, base, "/ws", nil)
			p.send("chat:lobby", "subscribe", `{}`, "")
			p.wantClosed(authCode, "unauthenticated")
		})
	}
}

func TestOriginsAreTheListedOnesOnly(t *testing.T) {
	base := start(t, "-origins", "https://app.example.com, http://localhost:5173")
	path := "/ws?token=" + tokenOf(t, base, "ada", "")
	for _, origin := range []string{"https://app.example.com", "http://localhost:5173"} {
		dial(t, base, path, http.Header{"Origin": {origin}}).want("connected")
	}
	for _, origin := range []string{"http://app.example.com", "http://localhost:5174", "null", base} {
		dial(t, base, path, http.Header{"Origin": {origin}}).wantClosed(4003, "origin_not_allowed")
	}
}

func TestFloodEndsAfterSoftAnswers(t *testing.T) {
	base := start(t, "-rate", "5")
	p := member(t, base, "ada")
	// Burst, soft answers and one more; the rate adds a few while they are sent.
	for range 2*5 + 10 + 30 {
		p.raw(`{"type":"ping"}`)
	}
	p.wantClosed(4004, "rate_limited")
}

func TestGarbageEndsAtTheFifth(t *testing.T) {
	base := start(t)
	p := member(t, base, "ada")
	for range 5 {
		p.raw(`this is not JSON`)
	}
	p.wantClosed(4005, "invalid_message")
}

func TestFlatClientPingsChatsAndResponds(t *testing.T) {
	base := start(t)
	p := dial(t, base, "/flat?token="+tokenOf(t, base, "ada", ""), nil, "realtime.flat")
	p.want("connected")
	for _, test := range []struct{ send, kind, want string }{
		{`{"type":"ping"}`, "pong", `{"type":"pong"}`},
		{`{"type":"ping","timestamp":7}`, "pong", `{"type":"pong","timestamp":7}`},
		{`{"type":"message","text":"hi"}`, "message", `{"type":"message","text":"hi"}`},
		{`{"type":"user_response","session_id":"s1","response":"yes"}`, "ack", `{"type":"ack","session_id":"s1","status":"received"}`},
	} {
		p.raw(test.send)
		if got := p.want(test.kind).whole; got != test.want {
			t.Errorf("%s: got %s, want %s", test.send, got, test.want)
		}
	}
	p.raw(`{"type":"user_response"}`)
	if got := p.want("error").whole; !strings.Contains(got, "invalid_data") {
		t.Errorf("without a session: got %s, want invalid_data", got)
	}
}

func TestPublishReachesMembersAndNoForeignPageMayCallIt(t *testing.T) {
	base := start(t)
	p := member(t, base, "ada")
	p.join("chat:lobby", `{}`)
	foreign := http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}
	for _, test := range []struct {
		query, body string
		header      http.Header
		want        int
	}{
		{"?channel=chat:lobby&type=message", `{"from":"evil"}`, foreign, http.StatusForbidden},
		{"?channel=chat:lobby", `{}`, nil, http.StatusBadRequest},
		{"?channel=chat:lobby&type=message", `{`, nil, http.StatusBadRequest},
		{"?channel=chat:lobby&type=message", `"` + strings.Repeat("x", publishBytes) + `"`, nil, http.StatusRequestEntityTooLarge},
		{"?channel=chat:lobby&type=message", `{"from":"outside"}`, nil, http.StatusNoContent},
	} {
		if got, body, _ := request(t, http.MethodPost, base+"/publish"+test.query, test.body, test.header); got != test.want {
			t.Errorf("%s %.20s: got %d %s, want %d", test.query, test.body, got, body, test.want)
		}
	}
	if got := p.want("message"); string(got.Data) != `{"from":"outside"}` || got.Offset != 1 {
		t.Errorf("got %s, want only what was allowed", got.whole)
	}
}

func TestTokenRefusesWhatItCannotServe(t *testing.T) {
	base := start(t)
	for _, query := range []string{"", "?user=", "?user=" + strings.Repeat("x", maxUserBytes+1), "?user=a&ttl=soon", "?user=a&ttl=25h"} {
		if got, _, _ := get(t, base+"/token"+query); got != http.StatusBadRequest {
			t.Errorf("GET /token%s: got %d, want 400", query, got)
		}
	}
}

func TestHealthAndMetricsAnswer(t *testing.T) {
	base := start(t)
	member(t, base, "zarathustra")
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if got, body, _ := get(t, base+path); got != http.StatusOK {
			t.Errorf("GET %s: got %d %s, want 200", path, got, body)
		}
	}
	if _, body, _ := get(t, base+"/metrics"); !strings.Contains(body, "realtime_") || strings.Contains(body, "zarathustra") {
		t.Errorf("metrics have no series of ours, or name a user:\n%s", body)
	}
}

func TestPageLoadsUnderItsPolicy(t *testing.T) {
	base := start(t)
	for path, kind := range map[string]string{
		"/": "text/html", "/app.js": "text/javascript", "/link.js": "text/javascript",
		"/closes.js": "text/javascript", "/style.css": "text/css",
	} {
		status, _, header := get(t, base+path)
		if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), kind) {
			t.Errorf("GET %s: got %d %s, want 200 %s", path, status, header.Get("Content-Type"), kind)
		}
		if got := header.Get("Content-Security-Policy"); got != web.Policy {
			t.Errorf("GET %s: policy is %q, want %q", path, got, web.Policy)
		}
	}
}

func TestPageNeverTurnsTextIntoMarkup(t *testing.T) {
	err := fs.WalkDir(pageFiles, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := pageFiles.ReadFile(path)
		for _, door := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"} {
			if strings.Contains(string(text), door) {
				t.Errorf("%s uses %s", path, door)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestInterruptTellsClientsAndEndsWell(t *testing.T) {
	base, interrupt := launch(t)
	p := member(t, base, "ada")
	ended := make(chan error, 1)
	go func() { ended <- interrupt() }()
	p.wantClosed(1012, "shutdown")
	if err := <-ended; err != nil {
		t.Errorf("run returned %v, want nil", err)
	}
}

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-rate", "0"}, {"-origins", "not an origin"}, {"-auth-code", "99"}, {"extra"}, {"-nonsense"}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), io.Discard, io.Discard)
		if err == nil || ctx.Err() != nil {
			t.Errorf("%v: got %v, want an error at once", args, err)
		}
		cancel()
	}
}
