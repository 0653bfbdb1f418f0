package realtime

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestATokenIsGoodForItsKeyAndForFourteenDays(t *testing.T) { // phoenix.md appendix A
	key, id := newPollKey(), newPollID()
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	token := key.sign(id, made)
	flipped := []byte(token)
	flipped[3] ^= 1
	for _, c := range []struct {
		name  string
		key   pollKey
		token string
		after time.Duration
		want  bool
	}{
		{"fresh", key, token, 0, true},
		{"just in time", key, token, 14*24*time.Hour - time.Second, true},
		{"too old", key, token, 14 * 24 * time.Hour, false},
		{"another key", newPollKey(), token, 0, false},
		{"a changed id", key, string(flipped), 0, false},
		{"nothing", key, "", 0, false},
		{"cut", key, token[:len(token)-1], 0, false},
		{"longer", key, token + "A", 0, false},
		{"no base64url", key, token[:len(token)-1] + "=", 0, false},
		{"with a newline", key, token[:10] + "\n" + token[11:], 0, false},
		{"zeros", key, base64.RawURLEncoding.EncodeToString(make([]byte, pollBytes)), 0, false},
	} {
		got, ok := c.key.verify(c.token, made.Add(c.after))
		if ok != c.want || ok && got != id {
			t.Errorf("%s: got %x, %v, want %v", c.name, got, ok, c.want)
		}
	}
}

func FuzzPollToken(f *testing.F) {
	key, id, now := newPollKey(), newPollID(), time.Unix(1_700_000_000, 0)
	good := key.sign(id, now)
	f.Add(good)
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		if _, ok := key.verify(token, now); ok != (token == good) {
			t.Errorf("verify(%q) is %v", token, ok)
		}
	})
}

func TestTheTokenOfASessionIsTheHeaderOrTheLastParam(t *testing.T) { // phoenix.md appendix A, 1.2
	for _, c := range []struct{ url, header, want string }{
		{"/socket/longpoll?vsn=2.0.0", "", ""},
		{"/socket/longpoll?token=T", "", "T"},
		{"/socket/longpoll?token=jwt&vsn=2.0.0&token=T", "", "T"},
		{"/socket/longpoll?token=jwt&vsn=2.0.0", "T", "T"},
	} {
		r := httptest.NewRequest(http.MethodGet, c.url, nil)
		if c.header != "" {
			r.Header.Set("X-Phoenix-Longpoll-Token", c.header)
		}
		if got := pollToken(r); got != c.want {
			t.Errorf("%s with header %q: got %q, want %q", c.url, c.header, got, c.want)
		}
	}
}
