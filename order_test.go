package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// TestEveryClientSeesTheSameOrder has publishers race on one topic, with members
// of both protocols (envelope.md section 9).
func TestEveryClientSeesTheSameOrder(t *testing.T) {
	for name, opts := range map[string][]realtime.TopicOption{"without history": nil, "with history": {realtime.History(1000, 0)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const publishers, each = 5, 40
				s := newServer(t)
				s.Topic("global", opts...)
				clients := []*realtimetest.Client{dial(t, s), dial(t, s), dial(t, s, realtimetest.WithProtocols("realtime.flat"))}
				var all sync.WaitGroup
				for p := range publishers {
					all.Go(func() {
						for n := range each {
							if err := s.Publish(context.Background(), "global", "e", map[string]string{"id": fmt.Sprintf("%d/%02d", p, n)}); err != nil {
								t.Errorf("publish: %v", err)
							}
						}
					})
				}
				all.Wait()
				var order []string
				for i, c := range clients {
					last := map[byte]string{}
					for n := range publishers * each {
						var e struct{ ID string }
						if err := json.Unmarshal(c.Recv().Data, &e); err != nil {
							t.Fatal(err)
						}
						if e.ID <= last[e.ID[0]] {
							t.Fatalf("client %d: %s came after %s", i, e.ID, last[e.ID[0]])
						}
						last[e.ID[0]] = e.ID
						if i == 0 {
							order = append(order, e.ID)
						} else if e.ID != order[n] {
							t.Fatalf("client %d: event %d is %s, and %s to the first", i, n, e.ID, order[n])
						}
					}
				}
			})
		})
	}
}

// TestMembershipsSurviveAStorm has clients come, join, leave, be thrown out and
// be cut at the same time; the bookkeeping must be right at the end, and a topic
// must be alive for whoever comes then.
func TestMembershipsSurviveAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, noRate)
		s.Topic("chat:{room}", realtime.History(50, time.Minute)).Handle("say", func(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			return nil, s.Publish(ctx, m.Topic, "said", m.Data)
		})
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				for n := range 8 {
					c := realtimetest.Dial(t, s)
					for k := range 6 {
						room := fmt.Sprintf("chat:%d", (i+k)%3)
						for _, event := range []string{"subscribe", "say", "unsubscribe", "say", "subscribe"}[:1+(i+k+n)%5] {
							c.Push(room, event, nil)
						}
					}
					switch n % 4 {
					case 0:
						c.Cut()
					case 1:
						c.Close()
					case 2:
						c.HalfOpen()
					case 3:
						for client := range s.Clients("chat:1") {
							client.Unsubscribe("chat:1", nil)
						}
						c.Cut()
					}
				}
			})
		}
		all.Wait()
		check(t, s)
		time.Sleep(2 * time.Minute) // the half-open ones are found
		check(t, s)
		if n := openConnections(t, s); n != 0 {
			t.Errorf("%d connections are left, want none", n)
		}
		c := dial(t, s)
		for room := range 3 {
			topic := fmt.Sprintf("chat:%d", room)
			c.Join(topic)
			publish(t, s, topic, "said", "hello")
			c.WantPush(topic, "said", "hello")
		}
	})
}

// TestARefreshMeetsBusyChannels has a refresh overtake and be overtaken by joins.
func TestARefreshMeetsBusyChannels(t *testing.T) { // envelope.md section 3
	synctest.Test(t, func(t *testing.T) {
		s := claimServer(t)
		c := dial(t, s, realtimetest.WithToken("u1/a,b,c"))
		c.Push("chat:a", "subscribe", nil)
		c.Push("global", "auth", map[string]string{"token": "u1/b"})
		c.Push("chat:c", "subscribe", nil)
		synctest.Wait()
		check(t, s)
		for client := range s.Clients("global") {
			for _, topic := range client.Topics() {
				if topic != "global" && topic != "chat:b" {
					t.Errorf("the client is in %s, which its token does not allow any more", topic)
				}
			}
		}
	})
}
