package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// historyServer keeps ten events for a minute.
func historyServer(t *testing.T, opts ...realtime.TopicOption) *realtime.Server {
	t.Helper()
	s := newServer(t)
	s.Topic("log:{name}", append([]realtime.TopicOption{realtime.History(10, time.Minute)}, opts...)...)
	return s
}

func publishNumbers(t *testing.T, s *realtime.Server, topic string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		publish(t, s, topic, "n", n)
	}
}

// wantNumbers wants events whose offset is their number.
func wantNumbers(t *testing.T, c *realtimetest.Client, topic string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if m := c.WantPush(topic, "n", n); m.Offset != uint64(n) {
			t.Fatalf("event %d has offset %d", n, m.Offset)
		}
	}
}

func TestAPositionIsGivenAtSubscribeTime(t *testing.T) { // envelope.md section 4
	synctest.Test(t, func(t *testing.T) {
		s := historyServer(t)
		early := dial(t, s)
		if got := early.Join("log:a"); got.Epoch == "" || got.Offset != 0 || got.Recovery != realtime.RecoveryFresh {
			t.Errorf("got %+v, want an epoch, 0 and fresh", got)
		}
		publishNumbers(t, s, "log:a", 1, 3)
		late := dial(t, s)
		if got := late.Join("log:a"); got.Offset != 3 {
			t.Errorf("got %+v, want offset 3", got)
		}
		publishNumbers(t, s, "log:a", 4, 4)
		wantNumbers(t, early, "log:a", 1, 4)
		wantNumbers(t, late, "log:a", 4, 4)
	})
}

func TestRecoveryOutcomes(t *testing.T) { // envelope.md section 4, S2.14
	for name, c := range map[string]struct {
		before, after int // events published until the client goes, and until it is back
		age           time.Duration
		offer         func(p realtime.Position) realtime.Position
		want          realtime.Recovery
		replayed      bool
	}{
		"nothing missed":       {before: 3, after: 3, want: realtime.RecoveryComplete},
		"some missed":          {before: 3, after: 7, want: realtime.RecoveryReplayed, replayed: true},
		"never saw one":        {before: 0, after: 4, want: realtime.RecoveryReplayed, replayed: true},
		"as many as are kept":  {before: 3, after: 13, want: realtime.RecoveryReplayed, replayed: true},
		"one more":             {before: 3, after: 14, want: realtime.RecoveryReload},
		"too old":              {before: 3, after: 5, age: 2 * time.Minute, want: realtime.RecoveryReload},
		"nothing, but old":     {before: 3, after: 3, age: 2 * time.Minute, want: realtime.RecoveryComplete},
		"another epoch":        {before: 3, after: 5, offer: func(p realtime.Position) realtime.Position { p.Epoch = "x"; return p }, want: realtime.RecoveryReload},
		"ahead of the channel": {before: 3, after: 5, offer: func(p realtime.Position) realtime.Position { p.Offset = 9; return p }, want: realtime.RecoveryReload},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := historyServer(t)
				gone := dial(t, s)
				from := realtime.Position{Epoch: gone.Join("log:a").Epoch, Offset: uint64(c.before)}
				publishNumbers(t, s, "log:a", 1, c.before)
				wantNumbers(t, gone, "log:a", 1, c.before)
				gone.Cut()
				publishNumbers(t, s, "log:a", c.before+1, c.after)
				time.Sleep(c.age)
				if c.offer != nil {
					from = c.offer(from)
				}
				back := dial(t, s)
				if got := back.Rejoin("log:a", from); got.Recovery != c.want || got.Offset != uint64(c.after) {
					t.Errorf("got %+v, want %s at %d", got, c.want, c.after)
				}
				publishNumbers(t, s, "log:a", c.after+1, c.after+2)
				first := c.after + 1
				if c.replayed {
					first = c.before + 1
				}
				wantNumbers(t, back, "log:a", first, c.after+2)
				back.WantNothing()
			})
		})
	}
}

func TestATopicWithoutHistoryReloads(t *testing.T) { // envelope.md section 4
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		got := dial(t, s).Rejoin("chat:a", realtime.Position{Epoch: "e", Offset: 3})
		if got.Recovery != realtime.RecoveryReload || got.Epoch != "" || got.Offset != 0 {
			t.Errorf("got %+v, want reload without a position", got)
		}
	})
}

// TestRecoveryHasNoHoleAndNothingTwice has clients come back again and again
// while a publisher does not stop (envelope.md sections 4 and 9).
func TestRecoveryHasNoHoleAndNothingTwice(t *testing.T) {
	const total = 2000
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("log:{name}", realtime.History(total, 0))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := 1; n <= total; n++ {
				if err := s.Publish(context.Background(), "log:a", "n", n); err != nil {
					t.Errorf("publish: %v", err)
				}
				if n%10 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
		var at realtime.Position
		for at.Offset < total {
			c := realtimetest.Dial(t, s)
			var joined realtimetest.Joined
			if at.Epoch == "" {
				joined = c.Join("log:a")
				at = realtime.Position{Epoch: joined.Epoch, Offset: joined.Offset}
			} else if joined = c.Rejoin("log:a", at); joined.Recovery == realtime.RecoveryReload {
				t.Fatalf("back at %d: got reload", at.Offset)
			}
			for range min(37, total-int(at.Offset)) {
				m := c.WantPush("log:a", "n", at.Offset+1)
				if m.Offset != at.Offset+1 {
					t.Fatalf("offset %d follows %d", m.Offset, at.Offset)
				}
				at.Offset++
			}
			c.Cut()
			time.Sleep(3 * time.Millisecond)
		}
		<-done
		check(t, s)
	})
}

func TestHistoryIsPaged(t *testing.T) { // envelope.md section 3
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("log:{name}", realtime.History(150, 0))
		c := dial(t, s)
		epoch := c.Join("log:a").Epoch
		publish(t, s, "log:a", "first", raw(`{"b": 1.0,  "a":"\u0041"}`))
		for n := 2; n <= 200; n++ {
			publish(t, s, "log:a", "n", n)
		}
		for range 200 {
			c.Recv()
		}
		for ask, want := range map[string]struct{ first, count int }{
			`null`:                      {51, 100},
			`{}`:                        {51, 100},
			`{"limit":1000}`:            {51, 100},
			`{"from":10,"limit":3}`:     {51, 3},
			`{"from":60,"limit":3}`:     {61, 3},
			`{"from":198}`:              {199, 2},
			`{"from":200}`:              {0, 0},
			`{"from":4503599627370496}`: {0, 0},
			`{"limit":1}`:               {51, 1},
		} {
			m := c.WantReply(c.Push("log:a", "history", raw(ask)), "ok", nil)
			var reply struct {
				Response struct {
					Epoch  string
					Offset uint64
					Events []struct {
						Type   string
						Data   json.RawMessage
						Offset int
					}
				}
			}
			if err := json.Unmarshal(m.Data, &reply); err != nil {
				t.Fatal(err)
			}
			page := reply.Response
			if page.Epoch != epoch || page.Offset != 200 || len(page.Events) != want.count {
				t.Errorf("%s: epoch %q, offset %d, %d events; want %q, 200, %d", ask, page.Epoch, page.Offset, len(page.Events), epoch, want.count)
			}
			for i, e := range page.Events {
				if e.Offset != want.first+i || string(e.Data) != fmt.Sprint(e.Offset) || e.Type != "n" {
					t.Fatalf("%s: event %d is %+v, want %d", ask, i, e, want.first+i)
				}
			}
		}
		for _, bad := range []string{`7`, `{"limit":0}`, `{"limit":-1}`, `{"from":-1}`, `{"from":"1"}`, `{"from":1.5}`} {
			c.WantError(c.Push("log:a", "history", raw(bad)), "invalid_data")
		}
	})
}

func TestHistoryKeepsTheBytes(t *testing.T) { // envelope.md sections 2 and 3
	synctest.Test(t, func(t *testing.T) {
		s := historyServer(t)
		c := dial(t, s)
		c.Join("log:a")
		const data = `{"b": 1.0,  "a":"\u0041"}`
		publish(t, s, "log:a", "x", raw(data))
		want := `{"type":"x","data":` + data + `,"offset":1}`
		if m := c.WantReply(c.Push("log:a", "history", nil), "ok", nil); !strings.Contains(m.Text, want) {
			t.Errorf("got %s, want %s in it", m, want)
		}
		events, newest, err := s.History(context.Background(), "log:a", 0, 10)
		if err != nil || len(events) != 1 || string(events[0].Data) != data || newest.Offset != 1 {
			t.Errorf("the host got %v, %v, %v, want the event at 1", events, newest, err)
		}
		if _, _, err := s.History(context.Background(), "nope", 0, 10); err == nil {
			t.Error("an unknown topic has a history")
		}
	})
}
