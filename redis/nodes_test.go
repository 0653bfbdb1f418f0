package redis_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
	"github.com/seed-58bc6ac1/realtime/redis"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// nodeTTL is short, and still long for a machine that does much else.
const nodeTTL = 3 * time.Second

// town is some servers on one Redis, each behind a proxy of its own.
type town struct {
	t       *testing.T
	redis   *redistest.Server
	proxies []*redistest.Proxy
	servers []*realtime.Server
}

func newTown(t *testing.T, n int, opts ...realtime.Option) *town {
	w := &town{t: t, redis: redistest.Start(t)}
	for range n {
		p := redistest.StartProxy(t, w.redis.Addr)
		b, err := redis.Open("redis://"+p.Addr, quick...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		s := realtimetest.NewServer(t, append([]realtime.Option{realtime.WithBroker(b), realtime.WithNodeTTL(nodeTTL), realtime.WithQueue(10_000, 16<<20),
			realtime.WithAuth(func(_ *http.Request, token string) (*realtime.Identity, error) {
				return &realtime.Identity{User: token}, nil
			})}, opts...)...)
		s.Topic("room:{n}", realtime.Presence(realtime.PresenceTick(100*time.Millisecond), realtime.PresenceLimit(100_000),
			realtime.PresenceOf(func(c *realtime.Client, _ string) (string, any) { return c.User(), nil })))
		w.proxies, w.servers = append(w.proxies, p), append(w.servers, s)
	}
	w.until("the nodes know each other", func() bool {
		return !slices.ContainsFunc(w.servers, func(s *realtime.Server) bool { return len(s.Nodes()) != n })
	})
	return w
}

func (w *town) until(what string, f func() bool) {
	w.t.Helper()
	for start := time.Now(); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > patience {
			w.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// enter has a user join a room on a node.
func (w *town) enter(node int, user, room string) *realtimetest.Client {
	w.t.Helper()
	c := realtimetest.Dial(w.t, w.servers[node], realtimetest.WithToken(user))
	c.Join(room)
	return c
}

// wantPeople waits until a client knows exactly these.
func (w *town) wantPeople(c *realtimetest.Client, room string, users ...string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%q in %s; known are %q", users, room, keysOf(c.Presence(room))), func() bool {
		return slices.Equal(keysOf(c.Presence(room)), users)
	})
}

func keysOf(people map[string][]json.RawMessage) (keys []string) {
	for k := range people {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestNodesOverRedisHaveOneListOfWhoIsThere(t *testing.T) {
	w := newTown(t, 3)
	ada, bob := w.enter(0, "ada", "room:1"), w.enter(1, "bob", "room:1")
	mux := http.NewServeMux()
	mux.Handle("/socket/", w.servers[2].Phoenix(realtime.Connect(func(context.Context, realtime.Handshake) (*realtime.Identity, error) {
		return &realtime.Identity{User: "phoebe"}, nil
	})))
	phx := realtimetest.Dial(t, mux, realtimetest.WithURL("/socket/websocket?vsn=2.0.0"))
	phx.Send(`["1","1","room:1","phx_join",{}]`)
	w.wantPeople(ada, "room:1", "ada", "bob", "phoebe")
	w.wantPeople(bob, "room:1", "ada", "bob", "phoebe")
	state := phx.Recv().Text
	for !strings.Contains(state, "presence_state") {
		state = phx.Recv().Text
	}
	for _, user := range []string{"ada", "bob", "phoebe"} {
		if !strings.Contains(state, `"`+user+`":{"metas":[{"phx_ref":"`) {
			t.Errorf("the first state is %s, want %s in it", state, user)
		}
	}
	if got, err := w.servers[2].Presence(t.Context(), "room:1"); err != nil || len(got) != 3 {
		t.Errorf("got %v, %v", got, err)
	}
	phx.Close()
	w.wantPeople(ada, "room:1", "ada", "bob")
	if got, err := w.servers[2].Presence(t.Context(), "room:1"); err != nil || len(got) != 2 { // asks
		t.Errorf("got %v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	if err := w.servers[1].Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	w.wantPeople(ada, "room:1", "ada")
	if d := time.Since(began); d > nodeTTL {
		t.Errorf("bob was gone %v after the shutdown began", d)
	}
}

func TestGhostsOfANodeThatIsCutOffFromRedisAreGoneAndBack(t *testing.T) {
	w := newTown(t, 3)
	ada, bob, cid := w.enter(0, "ada", "room:1"), w.enter(1, "bob", "room:1"), w.enter(2, "cid", "room:1")
	for _, c := range []*realtimetest.Client{ada, bob, cid} {
		w.wantPeople(c, "room:1", "ada", "bob", "cid")
	}
	was, began := w.servers[1].Node(), time.Now()
	w.proxies[1].Cut()
	w.wantPeople(ada, "room:1", "ada", "cid")
	w.wantPeople(cid, "room:1", "ada", "cid")
	if d := time.Since(began); d > 3*nodeTTL {
		t.Errorf("the ghost was there for %v", d)
	}
	w.wantPeople(bob, "room:1", "ada", "bob", "cid")
	w.proxies[1].Heal()
	for _, c := range []*realtimetest.Client{ada, bob, cid} {
		w.wantPeople(c, "room:1", "ada", "bob", "cid")
	}
	w.until("the node has another name", func() bool { return w.servers[1].Node() != was })
}

// What happens to Redis itself is nobody's leave: no list changes, then or later.
func TestNoListFlapsWhenRedisIsFlushedOrStartedAgain(t *testing.T) {
	w := newTown(t, 2)
	ada, bob := w.enter(0, "ada", "room:1"), w.enter(1, "bob", "room:1")
	w.wantPeople(ada, "room:1", "ada", "bob")
	w.wantPeople(bob, "room:1", "ada", "bob")
	ada.WantPresence("room:1", "ada", "bob") // takes what has come out of the inbox
	bob.WantPresence("room:1", "ada", "bob")
	if err := w.redis.Flush(); err != nil {
		t.Fatal(err)
	}
	w.redis.Kill()
	down := func() bool {
		_, err := w.servers[0].Count(t.Context(), "room:1")
		return errors.Is(err, realtime.ErrBrokerDown)
	}
	w.until("the node notices", down)
	if err := w.redis.RestartEmpty(); err != nil {
		t.Fatal(err)
	}
	eve := w.enter(0, "eve", "room:1")
	w.wantPeople(bob, "room:1", "ada", "bob", "eve")
	end := time.Now().Add(2 * nodeTTL)
	for _, c := range []*realtimetest.Client{ada, bob} {
		for ref := ""; ; {
			if time.Now().After(end) && ref == "" {
				ref = c.Push("room:1", "nothing", nil)
			}
			if ref == "" {
				time.Sleep(time.Until(end))
				continue
			}
			m := c.Recv()
			if m.Ref == ref {
				break
			}
			if m.Type == "presence_state" || m.Type == "presence_diff" && !strings.HasSuffix(string(m.Data), `"leaves":{}}`) || strings.Contains(string(m.Data), `"ada"`) || strings.Contains(string(m.Data), `"bob"`) {
				t.Errorf("got %s %s, want eve alone", m.Type, m.Data)
			}
		}
	}
	w.wantPeople(eve, "room:1", "ada", "bob", "eve")
}

func TestNodesOverRedisReachEachOthersClients(t *testing.T) {
	w := newTown(t, 2, realtime.WithRateLimit(realtime.PerUser(1, 50)))
	ada, bob := w.enter(0, "ada", "room:1"), w.enter(1, "bob", "room:1")
	go func() {
		bob.WantPresence("room:1", "ada", "bob")
		m := bob.WantPush("room:1", "vote", nil)
		bob.Send(fmt.Sprintf(`{"channel":"room:1","type":"answer","ref":%q,"data":7}`, m.Ask))
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	answers, err := w.servers[0].Ask(ctx, "room:1", "vote", nil)
	if err != nil || !slices.ContainsFunc(answers, func(a realtime.Answer) bool {
		return a.User == "bob" && a.Node == w.servers[1].Node() && string(a.Data) == "7"
	}) {
		t.Errorf("got %+v, %v", answers, err)
	}
	if all, err := w.servers[0].Members(t.Context(), "room:1"); err != nil || len(all) != 2 {
		t.Errorf("members: %+v, %v", all, err)
	}
	if n, err := w.servers[1].Count(t.Context(), "room:1"); err != nil || n != 2 {
		t.Errorf("count: %d, %v", n, err)
	}
	ticket, err := w.servers[0].Ticket(t.Context(), &realtime.Identity{User: "tom"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	realtimetest.Dial(t, w.servers[1], realtimetest.WithURL("/?ticket="+ticket)).Join("room:1")
	w.wantPeople(ada, "room:1", "ada", "bob", "tom")
	realtimetest.Dial(t, w.servers[0], realtimetest.WithURL("/?ticket="+ticket)).WantClosed(realtime.ReasonTokenInvalid)
	w.servers[0].Disconnect(realtime.Target{User: "bob"}, nil)
	bob.WantClosed(realtime.ReasonDisconnected)
	w.wantPeople(ada, "room:1", "ada", "tom")
}

// TestBigListsAndManyTopicsOverRedis has a list of a megabyte asked for by another node, and
// a hundred topics joined at once on both.
func TestBigListsAndManyTopicsOverRedis(t *testing.T) {
	w := newTown(t, 2, realtime.WithRateLimit(realtime.PerConnection(1000, 1000)))
	const clients, keys = 20, 16 // of 3 KB each: a state has ten parts
	for n := range clients {
		w.enter(0, fmt.Sprint("u", n), "room:big")
	}
	for c := range w.servers[0].Clients("room:big") {
		for k := range keys - 1 {
			if err := c.Track("room:big", fmt.Sprint(c.User(), "/", k), map[string]string{"about": strings.Repeat("x", 3000)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.until("the other node is told of everybody", func() bool { // an answer may be lost on a busy machine
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		got, err := w.servers[1].Presence(ctx, "room:big")
		return err == nil && len(got) == clients*keys
	})
	began := time.Now()
	late := w.enter(1, "late", "room:big")
	first := len(late.Presence("room:big"))
	w.until("the newcomer knows everybody", func() bool { return len(late.Presence("room:big")) == clients*keys+1 })
	t.Logf("the newcomer knew %d after its join, and all %d after %v", first, clients*keys+1, time.Since(began))

	some := realtimetest.Dial(t, w.servers[0], realtimetest.WithToken("some"))
	other := realtimetest.Dial(t, w.servers[1], realtimetest.WithToken("other"))
	began = time.Now()
	for n := range 100 {
		some.Push(fmt.Sprint("room:", n), "subscribe", nil)
		other.Push(fmt.Sprint("room:", n), "subscribe", nil)
	}
	for n := range 100 {
		w.wantPeople(some, fmt.Sprint("room:", n), "other", "some")
		w.wantPeople(other, fmt.Sprint("room:", n), "other", "some")
	}
	t.Logf("100 topics took %v", time.Since(began))
}
