package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
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

// metaOf returns the one meta of key in a list as the server gives it.
func metaOf(t *testing.T, s *realtime.Server, topic, key string) (m struct {
	Ref  string `json:"phx_ref"`
	Prev string `json:"phx_ref_prev"`
	N    int
}) {
	t.Helper()
	metas := s.Presence(topic)[key]
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
