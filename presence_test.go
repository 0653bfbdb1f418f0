package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// tick is longer than it takes until a change is told.
const tick = time.Second

// presenceServer has topics room:{id} whose members track themselves as their users,
// and desk:{id} with the events track, update and untrack, whose data is
// {"key":…,"meta":…}.
func presenceServer(t *testing.T, opts ...realtime.PresenceOption) *realtime.Server {
	t.Helper()
	s := userServer(t)
	s.Topic("room:{id}", realtime.Presence(append([]realtime.PresenceOption{
		realtime.PresenceOf(func(c *realtime.Client, _ string) (string, any) { return c.User(), nil }),
	}, opts...)...))
	tracks(s.Topic("desk:{id}", realtime.Presence(opts...)))
	return s
}

// tracks has the events of a topic call Track and its like.
func tracks(p *realtime.Pattern) {
	for event, call := range map[string]func(c *realtime.Client, topic, key string, meta any) error{
		"track":   (*realtime.Client).Track,
		"update":  (*realtime.Client).Retrack,
		"untrack": func(c *realtime.Client, topic, key string, _ any) error { return c.Untrack(topic, key) },
	} {
		p.Handle(event, func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			var in struct {
				Key  string
				Meta json.RawMessage
			}
			if err := m.Decode(&in); err != nil {
				return nil, err
			}
			err := call(c, m.Topic, in.Key, in.Meta)
			for want, code := range map[error]string{realtime.ErrTracked: "tracked", realtime.ErrNotTracked: "not_tracked"} {
				if errors.Is(err, want) {
					return nil, &realtime.Error{Code: code, Text: err.Error()}
				}
			}
			return nil, err
		})
	}
}

func as(user string) realtimetest.Option { return realtimetest.WithToken(user) }

// whoIs returns who is present in topic, as the server tells it.
func whoIs(t testing.TB, s *realtime.Server, topic string) map[string][]json.RawMessage {
	t.Helper()
	people, err := s.Presence(context.Background(), topic)
	if err != nil && !errors.Is(err, realtime.ErrServerClosed) {
		t.Fatal(err)
	}
	return people
}

// metaOf returns the one meta of key in a list as the server gives it.
func metaOf(t *testing.T, s *realtime.Server, topic, key string) (m struct {
	Ref  string `json:"phx_ref"`
	Prev string `json:"phx_ref_prev"`
	N    int
}) {
	t.Helper()
	metas := whoIs(t, s, topic)[key]
	if len(metas) != 1 {
		t.Fatalf("%q has %d metas, want 1", key, len(metas))
	}
	if err := json.Unmarshal(metas[0], &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// people is the data of a state, a half of a diff, as it is wanted: key to metas.
func people(pairs ...any) map[string]any {
	all := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i].(string)] = map[string]any{"metas": pairs[i+1]}
	}
	return all
}

func diff(joins, leaves map[string]any) func(json.RawMessage) error {
	return realtimetest.Exactly(map[string]any{"joins": joins, "leaves": leaves})
}

type object = map[string]any

func TestJoinerIsShownWhoIsThereAndTheOthersADiff(t *testing.T) { // phoenix.md 102 to 104
	synctest.Test(t, func(t *testing.T) {
		s := presenceServer(t)
		ada, bob := dial(t, s, as("ada")), dial(t, s, as("bob"))
		ada.Join("room:1")
		a := metaOf(t, s, "room:1", "ada")
		if len(a.Ref) != 16 {
			t.Errorf("phx_ref is %q, want 16 characters", a.Ref)
		}
		adas := []any{object{"phx_ref": a.Ref}}
		ada.WantPush("room:1", "presence_state", realtimetest.Exactly(people("ada", adas)))
		time.Sleep(tick)
		ada.WantNothing() // its state was the newest
		bob.Join("room:1")
		bobs := []any{object{"phx_ref": metaOf(t, s, "room:1", "bob").Ref}}
		bob.WantPush("room:1", "presence_state", realtimetest.Exactly(people("ada", adas, "bob", bobs)))
		ada.WantPush("room:1", "presence_diff", diff(people("bob", bobs), object{}))
		bob.Cut()
		ada.WantPush("room:1", "presence_diff", diff(object{}, people("bob", bobs))) // 107
		ada.Close()
	})
}

func TestUpdateIsOneDiffWithBothMetas(t *testing.T) { // 105, 106, 108, 110
	synctest.Test(t, func(t *testing.T) {
		s := presenceServer(t)
		a, b := dial(t, s, as("a")), dial(t, s, as("b"))
		a.Join("desk:1")
		a.WantPush("desk:1", "presence_state", realtimetest.Exactly(object{}))
		b.Join("desk:1")
		b.WantPush("desk:1", "presence_state", realtimetest.Exactly(object{}))
		a.WantReply(a.Push("desk:1", "track", object{"key": "alice", "meta": object{"n": 1, "phx_ref": "mine"}}), "ok", nil)
		first := object{"n": 1, "phx_ref": metaOf(t, s, "desk:1", "alice").Ref}
		for _, c := range []*realtimetest.Client{a, b} {
			c.WantPush("desk:1", "presence_diff", diff(people("alice", []any{first}), object{}))
		}
		a.WantReply(a.Push("desk:1", "update", object{"key": "alice", "meta": object{"n": 2}}), "ok", nil)
		second := object{"n": 2, "phx_ref": metaOf(t, s, "desk:1", "alice").Ref, "phx_ref_prev": first["phx_ref"]}
		for _, c := range []*realtimetest.Client{a, b} {
			c.WantPush("desk:1", "presence_diff", diff(people("alice", []any{second}), people("alice", []any{first})))
		}
		c := dial(t, s, as("c"))
		c.Join("desk:1")
		c.WantPush("desk:1", "presence_state", realtimetest.Exactly(people("alice", []any{second})))
		for range 2 {
			a.WantReply(a.Push("desk:1", "untrack", object{"key": "alice"}), "ok", nil)
		}
		for _, c := range []*realtimetest.Client{a, b, c} {
			c.WantPush("desk:1", "presence_diff", diff(object{}, people("alice", []any{second})))
		}
		time.Sleep(tick)
		b.WantNothing()
		b.WantError(b.Push("desk:1", "update", object{"key": "alice", "meta": object{}}), "not_tracked")
	})
}

func TestTabsAreOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := presenceServer(t)
		watcher := dial(t, s, as("watcher"))
		watcher.Join("room:1")
		first, second := dial(t, s, as("ada")), dial(t, s, as("ada"))
		first.Join("room:1")
		second.Join("room:1")
		watcher.WantPresence("room:1", "ada", "watcher")
		if n := len(watcher.Presence("room:1")["ada"]); n != 2 {
			t.Errorf("ada has %d metas, want one for each tab", n)
		}
		second.Close()
		time.Sleep(tick)
		watcher.WantPresence("room:1", "ada", "watcher")
		if n := len(watcher.Presence("room:1")["ada"]); n != 1 {
			t.Errorf("ada has %d metas, want that of the tab that is left", n)
		}
		first.Close()
		watcher.WantPresence("room:1", "watcher")
	})
}

func TestRejoinIsShownTheStateAnewUnderANewRef(t *testing.T) { // 111
	synctest.Test(t, func(t *testing.T) {
		s := presenceServer(t)
		a := dial(t, s, as("a"))
		a.Join("room:1")
		a.WantPresence("room:1", "a")
		before := metaOf(t, s, "room:1", "a").Ref
		a.Push("room:1", "unsubscribe", nil)
		a.Join("room:1")
		a.WantPush("room:1", "presence_state", nil)
		if after := metaOf(t, s, "room:1", "a").Ref; after == before {
			t.Errorf("phx_ref is %s again, want a new one", after)
		}
	})
}

// Every way on which a membership can end: the others are told once that it did.
func TestWhoeverIsGoneIsNotPresent(t *testing.T) { // 107, 109
	for name, end := range map[string]func(s *realtime.Server, c *realtimetest.Client){
		"unsubscribe":       func(_ *realtime.Server, c *realtimetest.Client) { c.Push("room:1", "unsubscribe", nil) },
		"close":             func(_ *realtime.Server, c *realtimetest.Client) { c.Close() },
		"lost socket":       func(_ *realtime.Server, c *realtimetest.Client) { c.Cut() },
		"silent socket":     func(_ *realtime.Server, c *realtimetest.Client) { c.HalfOpen() },
		"garbage":           func(_ *realtime.Server, c *realtimetest.Client) { c.Send(strings.Repeat("x", 1<<17)) },
		"Disconnect":        func(s *realtime.Server, _ *realtimetest.Client) { s.Disconnect(realtime.Target{User: "bob"}, nil) },
		"Client.Disconnect": func(s *realtime.Server, _ *realtimetest.Client) { bobOf(s).Disconnect(nil) },
		"Unsubscribe":       func(s *realtime.Server, _ *realtimetest.Client) { bobOf(s).Unsubscribe("room:1", nil) },
		"a refused refresh": func(_ *realtime.Server, c *realtimetest.Client) { c.Push("global", "auth", object{"token": "bob"}) },
		"a slow consumer": func(s *realtime.Server, c *realtimetest.Client) {
			bob := bobOf(s)
			c.StopReading()
			for range 600 {
				bob.Push("global", "flood", nil)
			}
			c.Cut()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := userServer(t)
				s.Topic("room:{id}", realtime.Presence(realtime.PresenceOf(nameOf)),
					realtime.Join(func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
						if m.Event == "auth" {
							return nil, realtime.Reject("not any more")
						}
						return nil, nil
					}))
				ada, bob := dial(t, s, as("ada")), dial(t, s, as("bob"))
				ada.Join("room:1")
				bob.Join("room:1")
				ada.WantPresence("room:1", "ada", "bob")
				time.Sleep(tick)
				ada.WantNothing()
				end(s, bob)
				if name == "silent socket" {
					time.Sleep(time.Minute)
				}
				m := ada.WantPush("room:1", "presence_diff", nil)
				if text := string(m.Data); !strings.HasPrefix(text, `{"joins":{},"leaves":{"bob":{"metas":[{`) {
					t.Errorf("the diff is %s, want bob to leave", text)
				}
				time.Sleep(tick)
				ada.WantNothing()
				if got := slices.Collect(maps.Keys(whoIs(t, s, "room:1"))); len(got) != 1 || got[0] != "ada" {
					t.Errorf("present are %q, want ada", got)
				}
				check(t, s)
			})
		})
	}
}

func nameOf(c *realtime.Client, _ string) (string, any) { return c.User(), nil }

func bobOf(s *realtime.Server) *realtime.Client {
	for c := range s.Clients("room:1") {
		if c.User() == "bob" {
			return c
		}
	}
	return nil
}

// What a join function tracks is there with the join or not at all.
func TestTrackInAJoinFunctionTakesEffectWithTheJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		var ending *realtimetest.Client
		s.Topic("room:{how}", realtime.Presence(), realtime.Join(func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			for _, want := range []error{nil, realtime.ErrTracked} {
				if err := c.Track(m.Topic, c.User(), object{"n": 1}); !errors.Is(err, want) {
					t.Errorf("Track: %v, want %v", err, want)
				}
			}
			if err := c.Track(m.Topic, "gone", nil); err != nil {
				t.Error(err)
			}
			if err := errors.Join(c.Untrack(m.Topic, "gone"), c.Retrack(m.Topic, c.User(), object{"n": 2})); err != nil {
				t.Error(err)
			}
			if err := c.Retrack(m.Topic, "gone", nil); !errors.Is(err, realtime.ErrNotTracked) {
				t.Errorf("Retrack: %v, want ErrNotTracked", err)
			}
			if n := len(whoIs(t, s, m.Topic)[c.User()]); n != 0 {
				t.Errorf("%d metas are present during the join, want none", n)
			}
			switch m.Param("how") {
			case "refused":
				if c.User() != "watcher" {
					return nil, realtime.Reject("no")
				}
			case "panics":
				if c.User() != "watcher" {
					panic("no")
				}
			case "ends":
				if c.User() != "watcher" {
					ending.Cut()
					<-ctx.Done()
				}
			}
			return nil, nil
		}))
		for _, how := range []string{"ok", "refused", "panics", "ends"} {
			topic := "room:" + how
			watcher, c := dial(t, s, as("watcher")), dial(t, s, as("ada"))
			watcher.Join(topic)
			watcher.WantPresence(topic, "watcher")
			time.Sleep(tick)
			watcher.WantNothing()
			ending = c
			ref := c.Push(topic, "subscribe", nil)
			if how == "ok" {
				c.WantReply(ref, "ok", nil)
				c.WantPush(topic, "presence_state", people("ada", []any{object{"n": 2}}))
				watcher.WantPush(topic, "presence_diff", object{"joins": people("ada", []any{object{"n": 2}})})
			}
			time.Sleep(tick)
			watcher.WantNothing()
			if n, want := len(whoIs(t, s, topic)), map[bool]int{true: 2, false: 1}[how == "ok"]; n != want {
				t.Errorf("%s: %d are present, want %d", topic, n, want)
			}
			check(t, s)
		}
	})
}

func TestErrorsOfTracking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		s.Topic("room:{id}", realtime.Presence())
		s.Topic("bare:{id}")
		a := dial(t, s, as("a"))
		a.Join("room:1")
		a.Join("bare:1")
		var c *realtime.Client
		for one := range s.Clients("room:1") {
			c = one
		}
		invalid := func(err error) bool {
			e, ok := errors.AsType[*realtime.Error](err)
			return ok && e.Code == realtime.CodeInvalidData
		}
		is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
		for name, tt := range map[string]struct {
			err error
			ok  func(error) bool
		}{
			"not joined":       {c.Track("room:2", "k", nil), is(realtime.ErrNotJoined)},
			"no such topic":    {c.Untrack("nowhere", "k"), is(realtime.ErrNotJoined)},
			"no presence":      {c.Track("bare:1", "k", nil), is(realtime.ErrNoPresence)},
			"an array":         {c.Track("room:1", "k", []int{1}), invalid},
			"null":             {c.Track("room:1", "k", raw("null")), invalid},
			"not JSON":         {c.Track("room:1", "k", raw("{")), func(err error) bool { return err != nil }},
			"no encoding":      {c.Track("room:1", "k", func() {}), func(err error) bool { return err != nil }},
			"too large":        {c.Track("room:1", "k", object{"a": strings.Repeat("x", 4096)}), invalid},
			"empty key":        {c.Track("room:1", "", nil), invalid},
			"long key":         {c.Track("room:1", strings.Repeat("k", 256), nil), invalid},
			"not UTF-8":        {c.Track("room:1", "\xff", nil), invalid},
			"retrack":          {c.Retrack("room:1", "k", nil), is(realtime.ErrNotTracked)},
			"untrack":          {c.Untrack("room:1", "k"), is(nil)},
			"no key is kept":   {c.Retrack("room:1", "", nil), invalid},
			"global without":   {c.Track("global", "k", nil), is(realtime.ErrNoPresence)},
			"an ordinary meta": {c.Track("room:1", "ok", struct{ A int }{1}), is(nil)},
		} {
			if !tt.ok(tt.err) {
				t.Errorf("%s: got %v", name, tt.err)
			}
		}
		for i := range 15 {
			if err := c.Track("room:1", fmt.Sprint("k", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Track("room:1", "one too many", nil); !invalid(err) {
			t.Errorf("the 17th key: %v, want invalid_data", err)
		}
		a.Cut()
		synctest.Wait()
		if err := c.Track("room:1", "k", nil); !errors.Is(err, realtime.ErrClosed) && !errors.Is(err, realtime.ErrNotJoined) {
			t.Errorf("after the end: %v, want ErrClosed", err)
		}
	})
}

func TestKeysArePlainText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := presenceServer(t)
		a := dial(t, s, as("a"))
		a.Join("desk:1")
		keys := []string{"__proto__", "constructor", `"},{"`, "\n", "joins", "  ", "ключ"}
		for _, key := range keys {
			a.WantReply(a.Push("desk:1", "track", object{"key": key, "meta": object{"__proto__": 1}}), "ok", nil)
		}
		a.WantPresence("desk:1", keys...)
		b := dial(t, s, as("b"))
		b.Join("desk:1")
		b.WantPresence("desk:1", keys...)
	})
}

func TestCrowdIsCountedUntilItShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := presenceServer(t, realtime.PresenceLimit(4))
		var cs []*realtimetest.Client
		for i := range 4 {
			c := dial(t, s, as(fmt.Sprint("u", i)))
			c.Join("room:1")
			cs = append(cs, c)
		}
		cs[0].WantPresence("room:1", "u0", "u1", "u2", "u3")
		time.Sleep(tick)
		cs[0].WantNothing()
		late := dial(t, s, as("late"))
		late.Join("room:1")
		for _, c := range []*realtimetest.Client{late, cs[0]} { // the fifth is told at once, the others at the tick
			c.WantPush("room:1", "presence_state", realtimetest.Exactly(object{}))
			c.WantPush("room:1", "presence_count", realtimetest.Exactly(object{"count": 5}))
		}
		later := dial(t, s, as("later"))
		later.Join("room:1")
		cs[0].WantPush("room:1", "presence_count", realtimetest.Exactly(object{"count": 6}))
		if n := len(whoIs(t, s, "room:1")); n != 6 {
			t.Errorf("the server lists %d, want 6", n)
		}
		later.Close()
		late.Close()
		cs[0].WantPush("room:1", "presence_count", realtimetest.Exactly(object{"count": 4}))
		time.Sleep(tick)
		cs[0].WantNothing() // 4 is not above the limit, but not far enough below it
		cs[3].Close()
		for _, c := range cs[:3] {
			c.WantPresence("room:1", "u0", "u1", "u2")
		}
		cs[2].Close()
		cs[0].WantPush("room:1", "presence_diff", nil)
		cs[0].WantPresence("room:1", "u0", "u1")
	})
}

func TestListThatQueuesHaveNoRoomForIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t, realtime.WithQueue(64, 8<<10))
		s.Topic("room:{id}", realtime.Presence(realtime.PresenceOf(func(c *realtime.Client, _ string) (string, any) {
			return c.User(), object{"about": strings.Repeat("x", 2100)}
		})))
		a, b := dial(t, s, as("a")), dial(t, s, as("b"))
		a.Join("room:1")
		a.WantPresence("room:1", "a")
		b.Join("room:1") // two metas are more than half of 8 KiB
		b.WantPush("room:1", "presence_state", realtimetest.Exactly(object{}))
		a.WantPush("room:1", "presence_state", realtimetest.Exactly(object{}))
		a.WantPush("room:1", "presence_count", realtimetest.Exactly(object{"count": 2}))
		b.Close()
		a.WantPresence("room:1", "a")
	})
}

func TestPresenceOfGlobalReachesEveryProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		s.Topic("global", realtime.Presence(realtime.PresenceOf(nameOf)))
		v1, flat := dial(t, s, as("v1")), dial(t, s, as("flat"), realtimetest.WithProtocols("realtime.flat"))
		v1.WantPresence("global", "v1", "flat")
		flat.WantPresence("global", "v1", "flat")
		v1.Cut()
		flat.WantPresence("global", "flat")
	})
}

func TestPresenceOfMayRefuseOrPassOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		s.Topic("room:{id}", realtime.Presence(realtime.PresenceOf(func(c *realtime.Client, _ string) (string, any) {
			switch c.User() {
			case "nobody":
				return "", nil
			case "bad":
				return "bad", "no object"
			case "panics":
				panic("no")
			}
			return c.User(), object{"n": 1}
		})), realtime.Join(func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			if c.User() == "exact" {
				return nil, c.Track(m.Topic, "exact", object{"n": 2})
			}
			return nil, nil
		}))
		a := dial(t, s, as("nobody"))
		a.Join("room:1")
		a.WantPush("room:1", "presence_state", realtimetest.Exactly(object{}))
		for user, code := range map[string]string{"bad": realtime.CodeInvalidData, "panics": string(realtime.ReasonInternal)} {
			c := dial(t, s, as(user))
			c.WantError(c.Push("room:1", "subscribe", nil), code)
		}
		dial(t, s, as("exact")).Join("room:1")
		if m := metaOf(t, s, "room:1", "exact"); m.N != 2 {
			t.Errorf("the meta says n %d, want what the join function tracked", m.N)
		}
		a.WantPresence("room:1", "exact")
	})
}

func TestPresenceOptionsRefuseNonsense(t *testing.T) {
	s := newServer(t)
	for name, o := range map[string]realtime.PresenceOption{
		"tick of 0":      realtime.PresenceTick(0),
		"tick of 10ms":   realtime.PresenceTick(10 * time.Millisecond),
		"tick of 1h":     realtime.PresenceTick(time.Hour),
		"negative limit": realtime.PresenceLimit(-1),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			s.Topic("room:"+strings.ReplaceAll(name, " ", "-"), realtime.Presence(o))
		}()
	}
}

// TestEveryClientSeesThePresentOnes has connections come, go, track and untrack at
// random, and holds what each has put together after the tick against the server's
// list.
func TestEveryClientSeesThePresentOnes(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { presenceRun(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func presenceRun(t *testing.T, rnd *rand.Rand) {
	limit := 5
	s := userServer(t, realtime.WithRateLimit(realtime.PerConnection(1e6, 1e6)))
	tracks(s.Topic("desk:{id}", realtime.Presence(realtime.PresenceLimit(limit), realtime.PresenceOf(
		func(c *realtime.Client, _ string) (string, any) {
			if c.User() < "e" {
				return c.User(), nil
			}
			return "", nil
		})), realtime.Overflow(realtime.DropOldest)))
	users := []string{"a", "b", "c", "d", "e", "f"}
	cs := make([]*realtimetest.Client, 7)
	joined := make([]bool, len(cs))
	for step := range 250 {
		i := rnd.IntN(len(cs))
		c := cs[i]
		switch op := rnd.IntN(12); {
		case c == nil:
			cs[i], joined[i] = realtimetest.Dial(t, s, as(users[rnd.IntN(len(users))])), false
		case op == 0:
			c.Cut()
			cs[i] = nil
		case !joined[i]:
			c.Join("desk:1")
			joined[i] = true
		case op == 1:
			c.Push("desk:1", "unsubscribe", nil)
			synctest.Wait()
			joined[i] = false
		case op < 8:
			c.Push("desk:1", []string{"track", "update", "untrack"}[rnd.IntN(3)],
				object{"key": users[rnd.IntN(len(users))], "meta": object{"step": step}})
		case op < 10:
			time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
		case op == 10:
			synctest.Wait()
		default:
			time.Sleep(tick)
			synctest.Wait()
			want := whoIs(t, s, "desk:1")
			for i, c := range cs {
				if c == nil || !joined[i] {
					continue
				}
				got := c.Presence("desk:1")
				if len(got) == 0 && len(want) > limit*3/4 {
					continue // counted only
				}
				if a, b := sortedPeople(got), sortedPeople(want); !reflect.DeepEqual(a, b) {
					t.Fatalf("step %d: a client sees\n%v, want\n%v", step, a, b)
				}
			}
			check(t, s)
		}
	}
}

func sortedPeople(all map[string][]json.RawMessage) map[string][]string {
	sorted := map[string][]string{}
	for key, metas := range all {
		for _, m := range metas {
			sorted[key] = append(sorted[key], string(m))
		}
		slices.Sort(sorted[key])
	}
	return sorted
}

// TestPresenceIsRightUnderConcurrentChanges is for the race detector, too: tracking,
// joins, ends and events of one topic at the same time, in real time.
func TestPresenceIsRightUnderConcurrentChanges(t *testing.T) {
	s := userServer(t, realtime.WithRateLimit(realtime.PerConnection(1e6, 1e6)))
	s.Topic("room:{id}", realtime.Presence(realtime.PresenceTick(100*time.Millisecond), realtime.PresenceOf(nameOf)))
	watcher := realtimetest.Dial(t, s, as("watcher"))
	watcher.Join("room:1")
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 8 {
				c := realtimetest.Dial(t, s, as(fmt.Sprint("u", i)))
				c.Push("room:1", "subscribe", nil)
				s.Publish(context.Background(), "room:1", "e", n)
				if n%2 == 0 {
					c.Cut()
				} else {
					c.Close()
				}
			}
		})
		all.Go(func() {
			for n := range 60 {
				for c := range s.Clients("room:1") {
					key := fmt.Sprint("k", i)
					if c.Track("room:1", key, object{"n": n}) != nil {
						c.Retrack("room:1", key, object{"n": n})
					}
					if n%3 == 0 || n == 59 {
						c.Untrack("room:1", key)
					}
				}
			}
		})
	}
	all.Wait()
	for c := range s.Clients("room:1") {
		for i := range 4 {
			c.Untrack("room:1", fmt.Sprint("k", i))
		}
	}
	watcher.WantPresence("room:1", "watcher")
	if got, want := sortedPeople(watcher.Presence("room:1")), sortedPeople(whoIs(t, s, "room:1")); !reflect.DeepEqual(got, want) {
		t.Errorf("the watcher sees %v, want %v", got, want)
	}
}
