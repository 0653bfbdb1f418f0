package realtime_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

var flat = realtimetest.WithProtocols("realtime.flat")

func TestFlatTicketSystem(t *testing.T) { // envelope.md section 8, S4.1, S4.2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		p := s.Topic("global")
		p.Handle("user_response", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			var q struct {
				Session string `json:"session_id"`
			}
			if err := m.Decode(&q); err != nil {
				return nil, err
			}
			return map[string]any{"type": "ack", "session_id": q.Session, "status": "received"}, nil
		})
		p.Handle("plain", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
			return map[string]int{"a": 1}, nil
		})
		p.Handle("number", func(context.Context, *realtime.Client, realtime.Message) (any, error) { return 7, nil })
		p.Handle("silent", func(context.Context, *realtime.Client, realtime.Message) (any, error) { return nil, nil })
		c, envelope := dial(t, s, flat), dial(t, s)
		for _, x := range []struct{ send, want string }{
			{`{"type":"ping","timestamp":1}`, `{"type":"pong","timestamp":1}`},
			{`{"type":"ping"}`, `{"type":"pong"}`},
			{`{"type":"user_response","session_id":"s1","response":"yes"}`, `{"type":"ack","session_id":"s1","status":"received"}`},
			{`{"type":"user_response","session_id":7}`, ``},
			{`{"type":"plain"}`, `{"type":"reply","a":1}`},
			{`{"type":"number"}`, `{"type":"reply","data":7}`},
			{`{"type":"nobody handles this"}`, ``},
			{`{"type":"subscribe","channel":"chat:a"}`, ``}, // there is global alone
			{`nonsense`, ``},
		} {
			c.Send(x.send)
			m := c.Recv()
			if x.want == "" && m.Type != "error" || x.want != "" && m.Text != x.want {
				t.Errorf("%s: got %s, want %s", x.send, m, x.want)
			}
		}
		c.Send(`{"type":"silent"}`)
		c.WantNothing()

		publish(t, s, "global", "ticket_created", raw(`{"ticket_id": "t1","type":"x"}`))
		if got, want := c.Recv().Text, `{"type":"ticket_created","ticket_id": "t1"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		envelope.WantPush("global", "ticket_created", map[string]string{"ticket_id": "t1", "type": "x"})
		publish(t, s, "global", "count", 3)
		if got, want := c.Recv().Text, `{"type":"count","data":3}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestFlatClosesAndAuthenticates(t *testing.T) { // envelope.md section 8: sections 1, 2, 6 and 7 hold
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		c := dial(t, s, flat)
		c.Push("", "auth", map[string]string{"token": "u1"})
		if got := c.Connected(); got.Channel != "global" {
			t.Errorf("got %s", got)
		}
		c.WantPush("global", "auth_success", realtimetest.Exactly(map[string]any{"type": "auth_success", "user": "u1", "expires_at": nil}))
		for range 5 {
			c.Send("nonsense")
		}
		for range 5 {
			c.WantPush("global", "error", map[string]string{"code": "invalid_message"})
		}
		if told := c.WantClosed(realtime.ReasonInvalidMessage); told.Code != 4005 {
			t.Errorf("closing is %+v, want 4005", told)
		}
	})
}

func TestAFlatClientIsToldAGap(t *testing.T) { // envelope.md section 8
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(5, 1<<20))
		s.Topic("global", realtime.Overflow(realtime.DropOldest))
		c := dial(t, s, flat)
		c.Connected()
		stall(t, s, c, "global", 20)
		c.Resume()
		c.WantPush("global", "n", map[string]int{"data": 1})
		m := c.Recv()
		if m.Type != "gap" {
			t.Fatalf("got %s, want a gap", m)
		}
		if err := realtimetest.Exactly(map[string]any{"type": "gap", "dropped": 14, "policy": "drop_oldest"})(m.Data); err != nil {
			t.Error(err)
		}
		for n := 16; n <= 20; n++ {
			c.WantPush("global", "n", map[string]int{"data": n})
		}
	})
}
