package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// town is several servers with one list for each room:{id} and desk:{id}, as
// presenceServer has them.
type town struct {
	*crowd
	opts  []realtime.PresenceOption
	hung  [3]bool
	lossy atomic.Bool  // publications about presence get lost
	late  atomic.Bool  // what was missed is delivered before the broker says that it is healthy
	subs  atomic.Int32 // subscriptions to presence
}

// townBroker is a node's broker that loses what it is told to, and counts.
type townBroker struct {
	*realtimetest.Node
	town *town
}

func (b townBroker) Publish(ctx context.Context, e *realtime.Event, keep realtime.Retention) error {
	if strings.HasPrefix(e.Topic, "\x00presence:") && b.town.lossy.Load() {
		return nil
	}
	return b.Node.Publish(ctx, e, keep)
}

func (b townBroker) Watch(f func(realtime.BrokerStatus)) (stop func()) {
	return b.Node.Watch(func(s realtime.BrokerStatus) {
		if b.town.late.Load() && s.State == realtime.BrokerHealthy {
			time.Sleep(100 * time.Millisecond)
		}
		f(s)
	})
}

func (b townBroker) Subscribe(ctx context.Context, topic string, keep realtime.Retention, deliver func(*realtime.Event)) (*realtime.Position, func(), error) {
	from, stop, err := b.Node.Subscribe(ctx, topic, keep, deliver)
	if err != nil || !strings.HasPrefix(topic, "\x00presence:") {
		return from, stop, err
	}
	b.town.subs.Add(1)
	return from, func() { b.town.subs.Add(-1); stop() }, nil
}

const nodeTTL = 3 * time.Second

func newTown(t *testing.T, n int, opts ...realtime.PresenceOption) *town {
	w := &town{crowd: &crowd{t: t, cluster: realtimetest.NewCluster()}, opts: opts}
	for range n {
		w.node()
	}
	time.Sleep(nodeTTL)
	return w
}

func (w *town) node() *realtime.Server {
	b := w.cluster.Node()
	s := userServer(w.t, realtime.WithBroker(townBroker{b, w}), realtime.WithNodeTTL(nodeTTL))
	w.brokers, w.servers = append(w.brokers, b), append(w.servers, s)
	s.Topic("room:{id}", realtime.Presence(append([]realtime.PresenceOption{
		realtime.PresenceOf(func(c *realtime.Client, _ string) (string, any) { return c.User(), nil }),
	}, w.opts...)...))
	tracks(s.Topic("desk:{id}", realtime.Presence(w.opts...)))
	return s
}

// enter has a user join room:1 on a node.
func (w *town) enter(node int, user string) *realtimetest.Client {
	w.t.Helper()
	c := dial(w.t, w.servers[node], as(user))
	c.Join("room:1")
	return c
}

// presenceEvents counts those that wait in the inbox and takes them out.
func presenceEvents(c *realtimetest.Client) (events []string) {
	for ref := c.Push("room:1", "nothing", nil); ; {
		m := c.Recv()
		switch {
		case m.Ref == ref:
			return events
		case strings.HasPrefix(m.Type, "presence"):
			events = append(events, m.Type+" "+string(m.Data))
		}
	}
}

func TestNodesHaveOneList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3)
		ada := w.enter(0, "ada")
		bob := w.enter(1, "bob") // the first one there, who is shown all at once
		adas := []any{object{"phx_ref": metaOf(t, w.servers[0], "room:1", "ada").Ref}}
		bobs := []any{object{"phx_ref": metaOf(t, w.servers[1], "room:1", "bob").Ref}}
		bob.WantPush("room:1", "presence_state", realtimetest.Exactly(people("ada", adas, "bob", bobs)))
		ada.WantPush("room:1", "presence_state", nil)
		ada.WantPush("room:1", "presence_diff", diff(people("bob", bobs), object{}))
		phx := dialPhoenix(t, w.servers[2], "vsn=2.0.0", realtime.Connect(func(context.Context, realtime.Handshake) (*realtime.Identity, error) {
			return &realtime.Identity{User: "phoebe"}, nil
		}))
		phx.Send(`["1","1","room:1","phx_join",{}]`)
		time.Sleep(tick)
		for _, s := range w.servers {
			if got := slices.Sorted(keysOf(whoIs(t, s, "room:1"))); len(got) != 3 {
				t.Errorf("present are %q, want three", got)
			}
		}
		for _, c := range []*realtimetest.Client{ada, bob} {
			c.WantPush("room:1", "presence_diff", nil)
		}
		again := w.enter(2, "ada")
		more := metasOf(t, w.servers[2], "room:1", "ada")
		for _, c := range []*realtimetest.Client{ada, bob} {
			c.WantPush("room:1", "presence_diff", diff(people("ada", more[1:]), object{}))
		}
		again.Cut()
		for _, c := range []*realtimetest.Client{ada, bob} {
			c.WantPush("room:1", "presence_diff", diff(object{}, people("ada", more[1:])))
		}
		ada.Close()
		bob.WantPush("room:1", "presence_diff", diff(object{}, people("ada", adas)))
		time.Sleep(20 * time.Second)
		bob.WantNothing()
		phx.wantPresence(`"presence_state" & "ada":{"metas":[%0]} & "bob":{"metas":[%1]} & "phoebe"`, adas, bobs)
		phx.wantPresence(`"presence_diff",{"joins":{"ada":{"metas":[%0]}},"leaves":{}}`, more[1:])
		phx.wantPresence(`"presence_diff",{"joins":{},"leaves":{"ada":{"metas":[%0]}}}`, more[1:])
		phx.wantPresence(`"presence_diff",{"joins":{},"leaves":{"ada":{"metas":[%0]}}}`, adas)
		phx.Close()
	})
}

// wantPresence reads messages until one has all parts of text, between which there is an
// &. %0 stands for the meta in the first list.
func (p phx) wantPresence(text string, metas ...[]any) {
	p.t.Helper()
	for i, m := range metas {
		b, _ := json.Marshal(m[0])
		text = strings.ReplaceAll(text, fmt.Sprint("%", i), string(b))
	}
	for found := false; !found; {
		got := p.Recv().Text
		found = !slices.ContainsFunc(strings.Split(text, " & "), func(part string) bool { return !strings.Contains(got, part) })
	}
}

func keysOf(m map[string][]json.RawMessage) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func metasOf(t *testing.T, s *realtime.Server, topic, key string) (metas []any) {
	t.Helper()
	for _, text := range whoIs(t, s, topic)[key] {
		var m any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		metas = append(metas, m)
	}
	return metas
}

// Updates on one node are one diff with both metas on each.
func TestUpdateIsOneDiffOnEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2)
		a, b := dial(t, w.servers[0], as("a")), dial(t, w.servers[1], as("b"))
		for _, c := range []*realtimetest.Client{a, b} {
			c.Join("desk:1")
			c.WantPush("desk:1", "presence_state", realtimetest.Exactly(object{}))
		}
		a.WantReply(a.Push("desk:1", "track", object{"key": "k", "meta": object{"n": 1}}), "ok", nil)
		first := object{"n": 1, "phx_ref": metaOf(t, w.servers[0], "desk:1", "k").Ref}
		for _, c := range []*realtimetest.Client{a, b} {
			c.WantPush("desk:1", "presence_diff", diff(people("k", []any{first}), object{}))
		}
		a.WantReply(a.Push("desk:1", "update", object{"key": "k", "meta": object{"n": 2}}), "ok", nil)
		second := object{"n": 2, "phx_ref": metaOf(t, w.servers[0], "desk:1", "k").Ref, "phx_ref_prev": first["phx_ref"]}
		for _, c := range []*realtimetest.Client{a, b} {
			c.WantPush("desk:1", "presence_diff", diff(people("k", []any{second}), people("k", []any{first})))
		}
	})
}

// A node that dies takes its people with it, once, within the TTL; nothing happens
// before.
func TestPeopleOfADeadNodeLeaveWithinTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3)
		ada, bob := w.enter(0, "ada"), w.enter(1, "bob")
		w.enter(2, "cleo")
		time.Sleep(tick)
		presenceEvents(ada)
		presenceEvents(bob)
		w.brokers[2].Cut()
		time.Sleep(nodeTTL + nodeTTL/3 + tick)
		for _, c := range []*realtimetest.Client{ada, bob} {
			c.WantPresence("room:1", "ada", "bob")
			if got := presenceEvents(c); len(got) != 0 {
				t.Errorf("got %q after the leave, want nothing", got)
			}
		}
		time.Sleep(time.Minute)
		w.brokers[2].Heal()
		time.Sleep(nodeTTL)
		for i, s := range w.servers {
			if got := whoIs(t, s, "room:1"); len(got) != 3 || len(got["cleo"]) != 1 {
				t.Errorf("node %d has %v after the cut, want each once", i, got)
			}
		}
		ada.WantPresence("room:1", "ada", "bob", "cleo")
		if n := len(ada.Presence("room:1")["cleo"]); n != 1 {
			t.Errorf("cleo has %d metas, want 1", n)
		}
		time.Sleep(time.Minute)
		if got := presenceEvents(ada); len(got) != 0 {
			t.Errorf("got %q later, want nothing", got)
		}
	})
}

// What happens on both sides of a short cut is told after it; who stays is not
// mentioned.
func TestShortOutageShowsNobodyLeave(t *testing.T) {
	t.Run("the broker says so first", func(t *testing.T) { shortOutage(t, false) })
	t.Run("the broker says so late", func(t *testing.T) { shortOutage(t, true) })
}

func shortOutage(t *testing.T, late bool) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2)
		w.late.Store(late)
		ada, bob := w.enter(0, "ada"), w.enter(1, "bob")
		old := w.enter(1, "old")
		time.Sleep(tick)
		presenceEvents(ada)
		presenceEvents(bob)
		w.brokers[0].Cut()
		w.enter(0, "new")
		old.Close()
		time.Sleep(nodeTTL / 2)
		w.brokers[0].Heal()
		time.Sleep(2 * tick)
		for i, s := range w.servers {
			if got := slices.Sorted(keysOf(whoIs(t, s, "room:1"))); !slices.Equal(got, []string{"ada", "bob", "new"}) {
				t.Errorf("node %d has %q", i, got)
			}
		}
		for _, c := range []*realtimetest.Client{ada, bob} {
			got := presenceEvents(c)
			if text := strings.Join(got, "\n"); strings.Contains(text, `"ada"`) || strings.Contains(text, `"bob"`) || len(got) != 2 {
				t.Errorf("got %s, want one diff for new and one for old", text)
			}
		}
	})
}

func TestShutdownOfANodeIsALeaveAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2)
		ada := w.enter(0, "ada")
		w.enter(1, "bob")
		time.Sleep(tick)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.servers[1].Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ada.WantPresence("room:1", "ada")
		if d := time.Since(began); d > tick {
			t.Errorf("bob was gone after %v, want a tick", d)
		}
		if _, err := w.servers[1].Presence(t.Context(), "room:1"); !errors.Is(err, realtime.ErrServerClosed) {
			t.Errorf("Presence after Shutdown: %v, want ErrServerClosed", err)
		}
	})
}

// The last change before a quiet time gets lost: the other node learns of it.
func TestLostLastChangeIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2)
		ada := w.enter(0, "ada")
		w.enter(1, "bob")
		time.Sleep(tick)
		ada.WantPresence("room:1", "ada", "bob")
		w.lossy.Store(true)
		w.enter(1, "cleo")
		time.Sleep(tick)
		w.lossy.Store(false)
		if n := len(whoIs(t, w.servers[0], "room:1")); n != 2 {
			t.Fatalf("%d are known, want the change to be lost", n)
		}
		time.Sleep(40 * time.Second)
		ada.WantPresence("room:1", "ada", "bob", "cleo")
	})
}

func TestServersWithoutMembersAskTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3)
		w.enter(0, "ada")
		w.enter(1, "bob")
		if got := slices.Sorted(keysOf(whoIs(t, w.servers[2], "room:1"))); !slices.Equal(got, []string{"ada", "bob"}) {
			t.Errorf("the third node is told of %q, want both", got)
		}
		if got := whoIs(t, w.servers[2], "room:2"); len(got) != 0 {
			t.Errorf("an empty topic has %v", got)
		}
		w.brokers[1].Cut()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ctx2, cancel2 := context.WithTimeout(t.Context(), time.Hour)
		defer cancel2()
		got, err := w.servers[2].Presence(ctx, "room:1")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), w.servers[1].NodeID()) || len(got["ada"]) != 1 {
			t.Errorf("with one node cut off: %v, %v; want ada, and the node's name", got, err)
		}
		got, err = w.servers[2].Presence(ctx2, "room:1") // ends when the node is given up
		var part *realtime.PartialError
		if !errors.As(err, &part) || !slices.Equal(part.Nodes, []string{w.servers[1].NodeID()}) || len(got) != 1 || ctx2.Err() != nil {
			t.Errorf("got %v, %v; want ada, and who has gone", got, err)
		}
		got, err = w.servers[2].Presence(t.Context(), "room:1")
		if err != nil || !reflect.DeepEqual(slices.Sorted(keysOf(got)), []string{"ada"}) {
			t.Errorf("got %v, %v; want ada", got, err)
		}
	})
}

func TestLimitCountsAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2, realtime.PresenceLimit(3))
		ada := w.enter(0, "ada")
		var more []*realtimetest.Client
		for i := range 3 {
			more = append(more, w.enter(1, fmt.Sprint("u", i)))
		}
		time.Sleep(tick)
		for _, c := range []*realtimetest.Client{ada, more[0]} {
			if got := presenceEvents(c); len(got) == 0 || got[len(got)-1] != `presence_count {"count":4}` {
				t.Errorf("got %q, want the count of all nodes in the end", got)
			}
		}
		more[1].Close()
		more[2].Close()
		ada.WantPresence("room:1", "ada", "u0")
	})
}

// Who comes, goes and comes on one node leaves nothing behind on the other.
func TestTopicThatEndsOnOneNodeIsGoneOnTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2)
		ada := w.enter(0, "ada")
		for range 5 {
			b := w.enter(1, "bob")
			time.Sleep(100 * time.Millisecond)
			b.Close()
			synctest.Wait()
		}
		time.Sleep(tick)
		ada.WantPresence("room:1", "ada")
		bob := w.enter(1, "bob")
		ada.WantPresence("room:1", "ada", "bob")
		bob.Close()
		ada.WantPresence("room:1", "ada")
		ada.Close()
		synctest.Wait()
		if n := w.subs.Load(); n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
	})
}

// What comes from another node in a form that nobody can read is counted, and harms
// nobody.
func TestGarbageFromAnotherNodeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2)
		ada := w.enter(0, "ada")
		w.enter(1, "bob")
		_, _, _, before := w.servers[0].MailCounts()
		for _, text := range []string{`"AAAA"`, `""`, `0`, `"` + strings.Repeat("A", 1<<20) + `"`, `{"a":1}`} {
			e := &realtime.Event{Topic: "\x00presence:room:1", Name: "presence", Data: raw(text)}
			if err := w.brokers[1].Publish(t.Context(), e, realtime.Retention{}); err != nil {
				t.Fatal(err)
			}
		}
		w.servers[1].Mail(w.servers[0].NodeID(), 33, []byte("\x06room:1garbage"))
		time.Sleep(tick)
		if _, _, _, after := w.servers[0].MailCounts(); after-before != 6 {
			t.Errorf("%v messages were refused, want 6", after-before)
		}
		ada.WantPresence("room:1", "ada", "bob")
	})
}

// A node that cannot be reached makes the first member of a topic wait, but not long.
func TestFirstMemberWaitsAMomentForANodeThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3)
		w.enter(1, "bob")
		w.brokers[2].Hang()
		began := time.Now()
		ada := w.enter(0, "ada")
		if d := time.Since(began); d != 250*time.Millisecond {
			t.Errorf("the join took %v, want 250ms", d)
		}
		ada.WantPresence("room:1", "ada", "bob")
		began = time.Now()
		w.enter(0, "eve")
		if d := time.Since(began); d != 0 {
			t.Errorf("the second join took %v, want no time", d)
		}
		w.brokers[2].Heal()
	})
}

// forge has all nodes hear something in the name of one of them.
func (w *town) forge(node int, kind byte) {
	e := &realtime.Event{Topic: "\x00nodes", Name: "nodes", Data: realtime.NodeMail(w.servers[node].NodeID(), kind, nil), Time: time.Now()}
	if err := w.brokers[1].Publish(w.t.Context(), e, realtime.Retention{}); err != nil {
		w.t.Fatal(err)
	}
}

func TestFirstMemberDoesNotWaitForWhoSaysGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3)
		w.brokers[2].Hang()
		time.AfterFunc(50*time.Millisecond, func() { w.forge(2, 2) })
		began := time.Now()
		w.enter(0, "ada")
		if d := time.Since(began); d != 50*time.Millisecond {
			t.Errorf("the join took %v, want 50ms", d)
		}
		w.brokers[2].Heal()
	})
}

// A node that others have given up without a reason, and that missed nothing itself,
// has its people back as soon as it learns of that.
func TestPeopleOfARebornNodeAreBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3)
		w.enter(0, "ada")
		bob := w.enter(1, "bob")
		bob.WantPresence("room:1", "ada", "bob")
		was := w.servers[0].NodeID()
		w.forge(0, 2)
		time.Sleep(nodeTTL/3 + 2*tick)
		if w.servers[0].NodeID() == was {
			t.Fatal("the node has kept its name")
		}
		if got := slices.Sorted(keysOf(whoIs(t, w.servers[1], "room:1"))); !slices.Equal(got, []string{"ada", "bob"}) {
			t.Errorf("present are %q, want both", got)
		}
		e := &realtime.Event{Topic: "\x00presence:room:1", Name: "presence", Data: realtime.PresencePost(was, "ghost"), Time: time.Now()}
		if err := w.brokers[2].Publish(t.Context(), e, realtime.Retention{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * tick)
		bob.WantPresence("room:1", "ada", "bob")
	})
}

// The goodbye of a topic gets lost: whoever was there is gone in the end.
func TestLostGoodbyeIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2)
		ada, bob := w.enter(0, "ada"), w.enter(1, "bob")
		ada.WantPresence("room:1", "ada", "bob")
		w.lossy.Store(true)
		bob.Close()
		time.Sleep(tick)
		w.lossy.Store(false)
		if n := len(whoIs(t, w.servers[0], "room:1")); n != 2 {
			t.Fatalf("%d are known, want the goodbye to be lost", n)
		}
		time.Sleep(3 * time.Minute)
		ada.WantPresence("room:1", "ada")
	})
}

// TestListsAgreeAfterAnyTrouble has people come and go on three nodes that are cut off,
// hang and are replaced, at random.
func TestListsAgreeAfterAnyTrouble(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) { trouble(t, rand.New(rand.NewPCG(seed, 3))) })
	}
}

func trouble(t *testing.T, rnd *rand.Rand) {
	w := newTown(t, 3)
	here := map[*realtimetest.Client]string{}
	for step := range 60 {
		node := rnd.IntN(3)
		switch op := rnd.IntN(10); {
		case op < 4:
			user := fmt.Sprint("u", rnd.IntN(5))
			if !w.hung[node] {
				here[w.enter(node, user)] = user
			}
		case op < 6:
			for c := range here {
				c.Cut()
				delete(here, c)
				break
			}
		case op == 6:
			w.brokers[node].Cut()
		case op == 7 && step%3 == 0:
			w.brokers[node].Hang()
			w.hung[node] = true
		default:
			w.brokers[node].Heal()
			w.hung[node] = false
		}
		time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
	}
	for _, b := range w.brokers {
		b.Heal()
	}
	time.Sleep(2 * time.Minute)
	want := map[string]int{}
	for _, user := range here {
		want[user]++
	}
	for i, s := range w.servers {
		if got := counts(whoIs(t, s, "room:1")); !reflect.DeepEqual(got, want) {
			t.Errorf("node %d has %v, want %v", i, got, want)
		}
	}
	for c := range here {
		if got := counts(c.Presence("room:1")); !reflect.DeepEqual(got, want) {
			t.Errorf("a client knows %v, want %v", got, want)
		}
	}
}

func counts(people map[string][]json.RawMessage) map[string]int {
	n := map[string]int{}
	for key, metas := range people {
		n[key] = len(metas)
	}
	return n
}
