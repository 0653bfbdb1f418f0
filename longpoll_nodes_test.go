package realtime_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// roundRobin is a balancer that knows nothing of sessions.
type roundRobin struct {
	nodes []http.Handler
	next  atomic.Uint32
}

func (b *roundRobin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.nodes[int(b.next.Add(1))%len(b.nodes)].ServeHTTP(w, r)
}

// pollPair is two nodes behind a balancer, and a client that has begun a session.
func pollPair(t *testing.T, most ...int64) (*pair, *poller) {
	t.Helper()
	p := newPair(t, "chat:{room}", kept(10))
	var b roundRobin
	for _, s := range []*realtime.Server{p.near, p.far} {
		b.nodes = append(b.nodes, s.Polls())
	}
	synctest.Wait() // until they know each other
	c := newPoller(t, &b)
	c.begin()
	return p, c
}

func TestAnyNodeTakesTheRequestsOfAPollingClient(t *testing.T) { // phoenix.md appendix A
	synctest.Test(t, func(t *testing.T) {
		p, c := pollPair(t)
		c.join("chat:a")
		for n := range 6 {
			publish(t, p.near, "chat:a", "n", n)
			c.wantMessage(`"type":"n","data":` + string(rune('0'+n)))
			c.send(`{"channel":"chat:a","type":"subscribe","ref":"again"}`)
			c.wantMessage("already")
		}
		start := time.Now()
		for range 2 { // one of them through the other node
			if a := c.poll(); a.Status != 204 || a.Token == nil || *a.Token != c.token {
				t.Errorf("a poll got %+v, want 204 and the token", a)
			}
		}
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("two polls without news took %v, want 20 s", took)
		}
	})
}

// TestAPollThatIsGivenUpTakesNothing: what comes after the client has gone waits for
// its next poll.
func TestAPollThatIsGivenUpTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := pollPair(t)
		c.join("chat:a")
		for n := range 2 { // once through each node
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			c.h.ServeHTTP(httptest.NewRecorder(), c.request(http.MethodGet, "", "").WithContext(ctx))
			synctest.Wait()
			publish(t, p.near, "chat:a", "n", n)
			c.wantMessage(`"type":"n"`)
		}
	})
}

func TestWhatAnotherNodeCannotTakeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := pollPair(t)
		foreign, long := 0, 0
		for range 2 {
			c.header.Set("Origin", "https://evil.example")
			if c.post("", "{}") == http.StatusForbidden {
				foreign++
			}
		}
		c.header.Del("Origin")
		for range 2 {
			if c.post("application/x-ndjson", strings.Repeat(`{"channel":"global","type":"ping"}`+"\n", 1<<15)) == http.StatusRequestEntityTooLarge {
				long++
			}
		}
		if foreign != 2 || long != 1 {
			t.Errorf("%d of 2 from a foreign page are refused and %d of 1 that is too long for another node", foreign, long)
		}
		for _, end := range []func(){func() { p.node.Cut() }, func() {}} {
			end()
			if a, b := c.post("", "{}"), c.post("", "{}"); a == b {
				t.Errorf("both nodes answer %d, want one of them not to reach the other", a)
			}
		}
	})
}

func TestASessionEndsWithItsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := pollPair(t)
		c.join("chat:a")
		mine := p.near
		if len(members(p.near, "chat:a")) == 0 {
			mine = p.far
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		go mine.Shutdown(ctx)
		synctest.Wait()
		seen := map[int]bool{}
		for range 4 {
			a := c.poll()
			seen[a.Status] = true
			if a.Status == 410 {
				break // another session has begun
			}
		}
		if !seen[410] {
			t.Errorf("the polls got %v, want 410 and a new session in the end", seen)
		}
	})
}

func members(s *realtime.Server, topic string) (all []*realtime.Client) {
	for c := range s.Clients(topic) {
		all = append(all, c)
	}
	return all
}
