package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

const supabaseJoined = `["1","1","realtime:a","phx_reply",{"status":"ok","response":{}}]`

func supabaseJoin(config, token string) string {
	return fmt.Sprintf(`["1","1","realtime:a","phx_join",{"config":%s,"access_token":%q}]`, config, token)
}

func dialSupabase(t *testing.T, s *realtime.Server, config string) phx {
	t.Helper()
	c := dialPhoenix(t, s, "apikey=k&vsn=2.0.0")
	c.say(supabaseJoin(config, ""), supabaseJoined, `["1",null,"realtime:a","presence_state",{}]`)
	return c
}

func TestSupabaseBroadcasts(t *testing.T) { // phoenix.md sections 8.2 and 8.3
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Supabase("realtime:*")
		plain := dialSupabase(t, s, `{}`)
		loud := dialSupabase(t, s, `{"broadcast":{"ack":true,"self":"true"}}`)
		const message = `{"type":"broadcast","event":"cursor","payload":{"x":1}}`
		plain.Send(`["1","2","realtime:a","broadcast",` + message + `]`)
		loud.want(`[null,null,"realtime:a","broadcast",` + message + `]`)
		plain.quiet()
		loud.say(`["1","3","realtime:a","broadcast",`+message+`]`, `[null,null,"realtime:a","broadcast",`+message+`]`,
			`["1","3","realtime:a","phx_reply",{"status":"ok","response":{}}]`)
		plain.want(`[null,null,"realtime:a","broadcast",` + message + `]`)
		plain.Send(`["1","4","realtime:a","what is this",{}]`)
		plain.quiet()
	})
}

func TestSupabasePresence(t *testing.T) { // phoenix.md section 8.2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Supabase("realtime:*")
		c := dialSupabase(t, s, `{"presence":{"key":"alice","enabled":true}}`)
		track := func(what, payload string) {
			c.say(fmt.Sprintf(`["1","2","realtime:a","presence",{"type":"presence","event":%q,"payload":%s}]`, what, payload),
				`["1","2","realtime:a","phx_reply",{"status":"ok","response":{}}]`)
		}
		diff := func(want string) {
			t.Helper()
			if got := c.Recv().Text; !strings.Contains(got, `"presence_diff"`) || !strings.Contains(got, want) {
				t.Errorf("got %s, want a diff with %s", got, want)
			}
		}
		track("track", `{"n":1}`)
		diff(`"leaves":{}`)
		track("TRACK", `{"n":1}`) // the same again
		c.quiet()
		track("track", `{"n":2}`)
		diff(`"phx_ref_prev"`)
		track("untrack", `{}`)
		diff(`"joins":{}`)
	})
}

func TestSupabaseTokens(t *testing.T) { // phoenix.md section 8.2: access_token
	synctest.Test(t, func(t *testing.T) {
		s := realtimetest.NewServer(t, realtime.WithAuth(func(_ *http.Request, token string) (*realtime.Identity, error) {
			if token == "bad" {
				return nil, realtime.ReasonTokenInvalid
			}
			return &realtime.Identity{User: token}, nil
		}))
		joins := 0
		p := s.Supabase("realtime:*", realtime.Join(func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			joins++
			return json.RawMessage(`{}`), nil
		}))
		p.Handle("who", func(_ context.Context, c *realtime.Client, _ realtime.Message) (any, error) {
			return map[string]string{"user": c.User()}, nil
		})
		c := dialPhoenix(t, s, "apikey=k&vsn=2.0.0")
		c.say(supabaseJoin(`{}`, "bad"), `["1","1","realtime:a","phx_reply",{"status":"error","response":{"reason":"token_invalid","message":"The token is not valid"}}]`)
		c.say(supabaseJoin(`{}`, "u1"), supabaseJoined, `["1",null,"realtime:a","presence_state",{}]`)
		const who, u1 = `["1","2","realtime:a","who",{}]`, `["1","2","realtime:a","phx_reply",{"status":"ok","response":{"user":"u1"}}]`
		c.say(who, u1)
		c.Send(`["1","3","realtime:a","access_token",{"access_token":"u1"}]`)
		c.say(who, u1)
		if n, err := s.Push(realtime.Target{User: "u1"}, "realtime:a", "for you", nil); n != 1 || err != nil {
			t.Errorf("a push to the user reached %d connections, %v", n, err)
		}
		c.want(`["1",null,"realtime:a","for you",{}]`)
		c.say(`["1","4","realtime:a","access_token",{"access_token":"u2"}]`,
			`["1",null,"realtime:a","system",{"channel":"a","extension":"system","message":"The token is for another user","status":"error"}]`,
			`["1","1","realtime:a","phx_close",{}]`)
		if joins < 3 {
			t.Errorf("the join function was asked %d times, want again after each token", joins)
		}
	})
}
