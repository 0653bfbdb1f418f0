package realtime_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

func TestPhoenixPolls(t *testing.T) { // phoenix.md appendix A
	synctest.Test(t, func(t *testing.T) {
		s, room := phxServer(t)
		room.Handle("bytes", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			return map[string]int{"bytes": len(m.Binary)}, nil
		})
		var shake realtime.Handshake
		p := newPoller(t, s.Phoenix(realtime.LongPoll(), realtime.Connect(func(_ context.Context, h realtime.Handshake) (*realtime.Identity, error) {
			shake = h
			return &realtime.Identity{Session: "user_sockets:7"}, nil
		})))
		p.url = "/socket/longpoll?user_id=7&token=apps&vsn=2.0.0"
		p.header.Set("X-Phoenix-AuthToken", "1234")
		r := httptest.NewRequest(http.MethodGet, p.url, nil)
		r.Header = p.header
		w := httptest.NewRecorder()
		a := p.do(w, w, r)
		if a.Status != 410 || shake.Token != "1234" || shake.Param("token") != "apps" || shake.Param("user_id") != "7" {
			t.Fatalf("the first poll got %+v with %q and %v, want 410, the token and the params", a, shake.Token, shake.Params)
		}
		p.token = *a.Token
		push := append([]byte{0, 1, 2, 6, 5}, "111room:1bytes\x01\x02\x03"...)
		if got := p.post("application/x-ndjson", phxJoin+"\n"+`["1","2","room:1","echo",{"a":1}]`+"\n"+base64.StdEncoding.EncodeToString(push)); got != 200 {
			t.Errorf("a POST got %d, want 200", got)
		}
		synctest.Wait()
		want := []string{phxJoined, phxReply("2", `{"a":1}`), `["1","11","room:1","phx_reply",{"status":"ok","response":{"bytes":3}}]`}
		if a := p.poll(); a.Status != 200 || !slices.Equal(a.Messages, want) {
			t.Errorf("a poll got %+v, want %v", a, want)
		}
		publish(t, s, "room:1", "blob", realtime.Binary("x")) // which cannot be polled
		publish(t, s, "room:1", "news", nil)
		p.wantMessage(`[null,null,"room:1","news",{}]`)
		if n := s.Disconnect(realtime.Target{Session: "user_sockets:7"}, nil); n != 1 {
			t.Errorf("%d disconnected, want 1", n)
		}
		for _, want := range []int{500, 410} {
			synctest.Wait() // for the connection's end
			if a := p.poll(); a.Status != want {
				t.Errorf("a poll after the end got %+v, want %d", a, want)
			}
		}
	})
}

func TestPhoenixPollsAreRefusedLikeHandshakes(t *testing.T) { // phoenix.md appendix A, 1.3
	s := newServer(t)
	connect := realtime.Connect(func(_ context.Context, h realtime.Handshake) (*realtime.Identity, error) {
		if h.Param("reject") != "" {
			return nil, realtime.ReasonRateLimited
		}
		return &realtime.Identity{}, nil
	})
	for _, url := range []string{"/socket/longpoll?vsn=3.0.0", "/socket/longpoll?vsn=2.0.0&reject=true"} {
		p := newPoller(t, s.Phoenix(realtime.LongPoll(), connect))
		p.url = url
		if a := p.poll(); a.Status != 403 || a.Token != nil {
			t.Errorf("%s: got %+v, want 403", url, a)
		}
	}
	w := httptest.NewRecorder()
	s.Phoenix(connect).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/socket/longpoll?vsn=2.0.0", nil))
	if w.Code != 404 || w.Body.String() != "404 page not found\n" {
		t.Errorf("without LongPoll: HTTP %d, %q, want a plain 404", w.Code, w.Body)
	}
}

func TestAnIdleTimeoutShortensPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoller(t, newServer(t).Phoenix(realtime.LongPoll(), realtime.IdleTimeout(2*time.Second)))
		p.poll()
		for range 10 {
			if a := p.poll(); a.Status != 204 {
				t.Fatalf("a poll got %+v, want 204", a)
			}
		}
	})
}
