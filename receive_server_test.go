package realtime_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// pair are two servers that share a broker: near publishes, and the clients are
// on far.
type pair struct {
	cluster    *realtimetest.Cluster
	near, far  *realtime.Server
	link, node *realtimetest.Node // of near, of far
}

func newPair(t *testing.T, pattern string, topic []realtime.TopicOption, opts ...realtime.Option) *pair {
	t.Helper()
	c := realtimetest.NewCluster()
	p := &pair{cluster: c, link: c.Node(), node: c.Node()}
	p.near = newServer(t, realtime.WithBroker(p.link))
	p.far = newServer(t, append(opts, realtime.WithBroker(p.node))...)
	for _, s := range []*realtime.Server{p.near, p.far} {
		s.Topic(pattern, topic...)
	}
	return p
}

// numbers publishes from to to on near.
func (p *pair) numbers(t *testing.T, topic string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		publish(t, p.near, topic, "n", n)
	}
}

func kept(size int, more ...realtime.TopicOption) []realtime.TopicOption {
	return append(more, realtime.History(size, 0))
}

func wantGap(t *testing.T, c *realtimetest.Client, topic, data string) {
	t.Helper()
	c.WantPush(topic, "gap", realtimetest.Exactly(json.RawMessage(data)))
}

func TestANodeThatWasCutOffRepairsItsMembersStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, "chat:{room}", kept(10))
		here, there := dial(t, p.near), dial(t, p.far)
		here.Join("chat:a")
		at := there.Join("chat:a")
		p.numbers(t, "chat:a", 1, 2)
		p.node.Cut()
		p.numbers(t, "chat:a", 3, 5)
		there.WantPush("chat:a", "n", 1)
		there.WantPush("chat:a", "n", 2)
		there.WantNothing()
		p.node.Heal()
		for n := 3; n <= 5; n++ {
			if m := there.WantPush("chat:a", "n", n); m.Offset != at.Offset+uint64(n) {
				t.Errorf("%d came at %d", n, m.Offset)
			}
		}
		publish(t, p.far, "chat:a", "n", 6)
		there.WantPush("chat:a", "n", 6)
		for n := 1; n <= 6; n++ {
			here.WantPush("chat:a", "n", n)
		}
	})
}

func TestAHoleIsToldToEveryProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, "room:{id}", kept(2))
		own := dial(t, p.far, realtimetest.WithProtocols("realtime.v1"))
		own.Join("room:1")
		v1, v2 := dialPhoenix(t, p.far, "vsn=1.0.0"), dialPhoenix(t, p.far, "vsn=2.0.0")
		v1.say(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}`, `{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}`)
		v2.say(phxJoin, phxJoined)
		p.node.Cut()
		p.numbers(t, "room:1", 1, 5)
		p.node.Heal()
		wantGap(t, own, "room:1", `{"dropped":3,"policy":"broker","from":1,"to":3}`)
		own.WantPush("room:1", "n", 4)
		own.WantPush("room:1", "n", 5)
		v1.want(`{"topic":"room:1","event":"gap","payload":{"dropped":3,"policy":"broker","from":1,"to":3},"ref":null}`)
		v2.want(`[null,null,"room:1","gap",{"dropped":3,"policy":"broker","from":1,"to":3}]`,
			`[null,null,"room:1","n",{"data":4}]`, `[null,null,"room:1","n",{"data":5}]`)
		p.cluster.LoseAll()
		reload := p.reload(t, "room:1", 0)
		wantGap(t, own, "room:1", reload)
		v2.want(`[null,null,"room:1","gap",` + reload + `]`)
		p.numbers(t, "room:1", 6, 6)
		if m := own.WantPush("room:1", "n", 6); m.Offset != 1 {
			t.Errorf("the first event of a new epoch came at %d, want 1", m.Offset)
		}
		v2.want(`[null,null,"room:1","n",{"data":6}]`)
	})
}

// reload is what members are told when a topic began anew.
func (p *pair) reload(t *testing.T, topic string, offset uint64) string {
	t.Helper()
	_, at, err := p.near.History(t.Context(), topic, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"dropped":null,"policy":"reload","epoch":%q,"offset":%d}`, at.Epoch, offset)
}

func TestAnOutageIsToldOnTopicsWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, "chat:{room}", nil)
		p.far.Topic("global")
		c, f := dial(t, p.far), dial(t, p.far, flat)
		c.Join("chat:a")
		f.Connected()
		p.node.Cut()
		p.numbers(t, "chat:a", 1, 3)
		publish(t, p.far, "chat:a", "n", "here") // local members keep talking
		c.WantPush("chat:a", "n", "here")
		p.node.Heal()
		wantGap(t, c, "chat:a", `{"dropped":null,"policy":"broker"}`)
		wantGap(t, c, "global", `{"dropped":null,"policy":"broker"}`)
		if got := f.Recv().Text; got != `{"type":"gap","dropped":null,"policy":"broker"}` {
			t.Errorf("got %s", got)
		}
		p.numbers(t, "chat:a", 4, 4)
		c.WantPush("chat:a", "n", 4)
	})
}

func TestNoPolicyDropsTheNewsOfAHole(t *testing.T) {
	latest := realtime.KeepLatest(func(_ string, data json.RawMessage) string { return string(data[len(data)-1:]) })
	for name, policy := range map[string]realtime.Policy{
		"drop_oldest": realtime.DropOldest, "drop_newest": realtime.DropNewest, "keep_latest": latest, "catch_up": realtime.CatchUp,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, "chat:{room}", kept(6, realtime.Overflow(policy)), realtime.WithQueue(4, 1<<20))
				c := dial(t, p.far)
				c.Join("chat:a")
				c.StopReading()
				next := 1
				for range 3 { // the queue is full when the news comes, and what follows drops
					p.numbers(t, "chat:a", next, next+9)
					synctest.Wait()
					p.node.Cut()
					p.numbers(t, "chat:a", next+10, next+19)
					p.node.Heal()
					next += 20
				}
				p.numbers(t, "chat:a", next, next+1)
				c.Resume()
				wantWhole(t, c, "chat:a", next+1)
			})
		})
	}
}

// wantWhole reads until the number last and checks that every event came once, in
// order, or is covered by a gap; numbers are offsets.
func wantWhole(t *testing.T, c *realtimetest.Client, topic string, last int) {
	t.Helper()
	next, told := 1, map[string]int{}
	for next <= last {
		m := c.Recv()
		if m.Channel != topic {
			continue // every client is in global, too
		}
		if m.Type != "gap" {
			if int(m.Offset) != next {
				t.Fatalf("got %s, want %d", m, next)
			}
			next++
			continue
		}
		var g gapData
		if err := json.Unmarshal(m.Data, &g); err != nil || g.From != next || g.To < next || g.Dropped != g.To-g.From+1 {
			t.Fatalf("got %s (%v), want one from %d", m, err, next)
		}
		told[g.Policy]++
		next = g.To + 1
	}
	if len(told) == 0 {
		t.Error("no gap came")
	}
}

func TestEveryMemberReloadsWhenATopicBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, "chat:{room}", kept(100), realtime.WithQueue(4, 1<<20))
		lively, behind := dial(t, p.far), dial(t, p.far)
		lively.Join("chat:a")
		behind.Join("chat:a")
		behind.StopReading()
		for n := range 30 {
			p.numbers(t, "chat:a", n+1, n+1)
			lively.WantPush("chat:a", "n", n+1)
		}
		p.cluster.LoseAll()
		wantGap(t, lively, "chat:a", p.reload(t, "chat:a", 0))
		for n := range 30 {
			p.numbers(t, "chat:a", 101+n, 101+n)
			lively.WantPush("chat:a", "n", 101+n)
		}
		behind.Resume()
		m, seen := behind.Recv(), 0
		for ; m.Type != "gap"; m = behind.Recv() {
			if seen++; int(m.Offset) != seen || string(m.Data) != fmt.Sprint(seen) {
				t.Fatalf("got %s of the old epoch, want %d", m, seen)
			}
		}
		if want := p.reload(t, "chat:a", 0); string(m.Data) != want || seen == 30 {
			t.Errorf("after %d events came %s, want %s", seen, m, want)
		}
		for n := 1; n <= 30; n++ {
			if m := behind.WantPush("chat:a", "n", 100+n); int(m.Offset) != n {
				t.Errorf("got %s, want offset %d", m, n)
			}
		}
	})
}

func TestANodeThatMissedANewEpochSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, "chat:{room}", kept(3))
		c := dial(t, p.far)
		old := c.Join("chat:a")
		p.numbers(t, "chat:a", 1, 2)
		c.WantPush("chat:a", "n", 1)
		c.WantPush("chat:a", "n", 2)
		p.node.Cut()
		p.cluster.LoseAll()
		p.numbers(t, "chat:a", 11, 15)
		p.node.Heal()
		wantGap(t, c, "chat:a", p.reload(t, "chat:a", 2))
		for n := 13; n <= 15; n++ {
			c.WantPush("chat:a", "n", n)
		}
		again := dial(t, p.far).Rejoin("chat:a", realtime.Position{Epoch: old.Epoch, Offset: 2})
		if again.Recovery != realtime.RecoveryReload || again.Offset != 5 || again.Epoch == old.Epoch {
			t.Errorf("joined at %+v, want to reload at 5 of another epoch", again)
		}
	})
}

// A hook of KeepLatest is asked on each node, where the queues are.
func TestEventsOfOtherNodesHaveTheirKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := map[*realtime.Server]int{}
		c := realtimetest.NewCluster()
		near, far := newServer(t, realtime.WithBroker(c.Node())), newServer(t, realtime.WithBroker(c.Node()), realtime.WithQueue(5, 1<<20))
		for _, s := range []*realtime.Server{near, far} {
			s.Topic("prices", realtime.Overflow(realtime.KeepLatest(func(_ string, data json.RawMessage) string {
				asked[s]++
				return strings.SplitN(string(data), ":", 2)[0]
			})))
		}
		client, other := dial(t, far), dial(t, far)
		client.Join("prices")
		other.Join("prices")
		client.StopReading()
		for n := range 20 {
			publish(t, near, "prices", "p", json.RawMessage(fmt.Sprintf(`"%c:%d"`, 'a'+n%4, n)))
		}
		synctest.Wait()
		if asked[near] != 20 || asked[far] != 20 {
			t.Errorf("asked %d and %d times for the keys of 20 events, want once on each node", asked[near], asked[far])
		}
		client.Resume()
		var newest []string
		for m := client.Recv(); ; m = client.Recv() {
			if m.Type == "p" {
				newest = append(newest, string(m.Data))
			}
			if string(m.Data) == `"d:19"` {
				break
			}
		}
		if got := strings.Join(newest[len(newest)-4:], " "); got != `"a:16" "b:17" "c:18" "d:19"` {
			t.Errorf("the last events are %s, want the newest of each key", got)
		}
	})
}

func TestWhoCannotEnterGlobalInAnOutageComesBackLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, "global", kept(10))
		p.node.Cut()
		dial(t, p.far).WantClosed(realtime.ReasonOverloaded)
	})
}
