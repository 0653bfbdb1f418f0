package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
	"github.com/seed-58bc6ac1/realtime/redis"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// TestPlainEventsDoNotWaitForASubscription has the connection for messages made again
// and again: a copy that cannot come is not waited for.
func TestPlainEventsDoNotWaitForASubscription(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b := open(t, s.URL(), redis.Timeout(patience))
	w := watching(t, b)
	l := listen(t, b, "plain", realtime.Retention{})
	for i := range 300 { // so that it takes a moment until all stand
		listen(t, b, fmt.Sprint("other", i), realtime.Retention{})
	}
	n := 0
	for range 20 {
		if _, err := s.CLI("CLIENT", "KILL", "TYPE", "pubsub"); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			start := time.Now()
			if err := publish(b, "plain", fmt.Sprint(n), realtime.Retention{}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > patience/2 {
				t.Fatalf("event %d took %v", n, took)
			}
			n++
		}
	}
	w.await(t, realtime.BrokerHealthy)
	got := map[string]int{}
	for _, e := range l.until("all", func(got []*realtime.Event) bool { return countEvents(got) >= n }) {
		if e.Gap == nil {
			got[e.Name]++
		}
	}
	for i := range n {
		if got[fmt.Sprint(i)] != 1 {
			t.Errorf("event %d came %d times", i, got[fmt.Sprint(i)])
		}
	}
}

func countEvents(got []*realtime.Event) (n int) {
	for _, e := range got {
		if e.Gap == nil {
			n++
		}
	}
	return n
}

// TestGarbageOnOurChannels has a stranger publish on the channels of all kinds of
// topics, of servers that go on.
func TestGarbageOnOurChannels(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	seats := []*seat{newSeat(t, s), newSeat(t, s)}
	here, there := realtimetest.Dial(t, seats[0].server), realtimetest.Dial(t, seats[1].server)
	for _, c := range []*realtimetest.Client{here, there} {
		c.Join("kept:a")
		c.Join("plain:a")
	}
	publishUntil(t, seats[0].broker, "kept:a", "first", kept)
	stranger := newClient(t, s.Addr)
	epoch, err := s.CLI("HGET", "realtime:{p0}:m:kept:a", "e")
	if err != nil {
		t.Fatal(err)
	}
	id := "0123456789abcdef"
	for _, text := range []string{"", "?", "h", "g", "gg", "p", "p" + id, "p" + id + "\x01\xff\xff\xff\xff", "h" + epoch, "h" + epoch + " 1 ",
		"h" + epoch + " 2 " + id + id + "?", "h" + epoch + " 18446744073709551615 " + id + id, "hother 7 " + id + id, "h  1 " + id + id} {
		for _, topic := range []string{"kept:a", "plain:a", "global", "\x00nodes"} {
			if err := stranger.Do(context.Background(), stranger.B().Publish().Channel("realtime:{p0}:c:"+topic).Message(text).Build()).Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var k talk
	k.mustPublish(t, seats[0], "kept:a", "end")
	k.mustPublish(t, seats[1], "plain:a", "end")
	for _, c := range []*realtimetest.Client{here, there} {
		for ended := map[string]bool{}; len(ended) < 2; {
			switch m := c.Recv(); {
			case string(m.Data) == `"end"`:
				ended[m.Channel] = true
			case strings.Contains(string(m.Data), `"reload"`): // a forged number: the end may be before it
				k.mustPublish(t, seats[0], "kept:a", "end")
			}
		}
	}
}
