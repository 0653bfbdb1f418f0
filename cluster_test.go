package realtime_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// crowd is several servers on one cluster, in a bubble.
type crowd struct {
	t       *testing.T
	cluster *realtimetest.Cluster
	brokers []*realtimetest.Node
	servers []*realtime.Server
}

func newCrowd(t *testing.T, n int, opts ...realtime.Option) *crowd {
	c := &crowd{t: t, cluster: realtimetest.NewCluster()}
	for range n {
		c.add(opts...)
	}
	synctest.Wait()
	return c
}

func (c *crowd) add(opts ...realtime.Option) *realtime.Server {
	b := c.cluster.Node()
	s := realtimetest.NewServer(c.t, append([]realtime.Option{realtime.WithBroker(b), realtime.Anonymous()}, opts...)...)
	c.brokers, c.servers = append(c.brokers, b), append(c.servers, s)
	return s
}

// see fails the test unless every server of some sees exactly the others of them.
func (c *crowd) see(some ...*realtime.Server) {
	c.t.Helper()
	for _, s := range some {
		var want []string
		for _, other := range some {
			if other != s {
				want = append(want, other.NodeID())
			}
		}
		slices.Sort(want)
		if got := s.OtherNodes(); !slices.Equal(got, want) {
			c.t.Errorf("node %s sees %q, want %q", s.NodeID(), got, want)
		}
	}
}

// diary writes down what happens at a node.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// want holds the diary against lines, and begins a new page.
func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("got %q, want %q", d.lines, lines)
	}
	d.lines = nil
}

func watched(s *realtime.Server) *diary {
	d := new(diary)
	s.OnNode(func(node string, here bool) { d.add("%s %v", node, here) })
	s.OnReborn(func() { d.add("reborn") })
	return d
}

func TestNodesFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		c.see(c.servers...)
		a, b := c.servers[0], c.servers[1]
		seen := watched(a)
		late := c.add()
		synctest.Wait()
		c.see(c.servers...)
		seen.want(t, late.NodeID()+" true")
		time.Sleep(time.Hour)
		c.see(c.servers...)
		seen.want(t)
		if alive, known := a.Alive(b.NodeID()); !alive || !known {
			t.Errorf("a node that is there: got alive %v, known %v", alive, known)
		}
		if err := late.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		seen.want(t, late.NodeID()+" false")
		c.see(c.servers[:3]...)
		if alive, known := a.Alive(late.NodeID()); alive || !known {
			t.Errorf("a node that has left: got alive %v, known %v", alive, known)
		}
	})
}

func TestMessagesReachOneNodeOrAllOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		diaries := make([]*diary, 3)
		for i, s := range c.servers {
			d := new(diary)
			s.OnMail(200, func(from string, b []byte) {
				if from != c.servers[0].NodeID() {
					t.Errorf("from %q, want %q", from, c.servers[0].NodeID())
				}
				d.add("%s", b)
			})
			diaries[i] = d
		}
		for i := range 3 {
			c.servers[0].Mail("", 200, fmt.Appendf(nil, "all %d", i))
			c.servers[0].Mail(c.servers[2].NodeID(), 200, fmt.Appendf(nil, "third %d", i))
		}
		c.servers[0].Mail("", 200, make([]byte, 2<<20)) // too much
		c.servers[0].Mail("nobody", 200, nil)
		synctest.Wait()
		diaries[0].want(t)
		diaries[1].want(t, "all 0", "all 1", "all 2")
		diaries[2].want(t, "all 0", "third 0", "all 1", "third 1", "all 2", "third 2")
		if _, _, dropped, _ := c.servers[0].MailCounts(); dropped != 1 {
			t.Errorf("%v dropped, want 1", dropped)
		}
	})
}

func TestMessagesOfOtherVersionsAreCountedAndPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 1, realtime.WithLogger(slog.New(slog.DiscardHandler)))
		s, stranger := c.servers[0], c.cluster.Node()
		got := new(diary)
		s.OnMail(200, func(_ string, b []byte) { got.add("%s", b) })
		newer := "NEWERNEWER12"
		for _, data := range [][]byte{
			realtime.NodeMail(newer, 251, []byte("of a later version")),
			realtime.NodeMail(newer, 1, []byte{}), // a hello without anything
			[]byte(`"/////w=="`), []byte(`{}`), []byte(`null`), []byte(`"AQ=="`),
			realtime.NodeMail("not a name", 200, nil),
			realtime.NodeMail(newer, 200, []byte("read")),
		} {
			e := &realtime.Event{Topic: "\x00nodes", Name: "nodes", Data: data, Time: time.Now()}
			if err := stranger.Publish(t.Context(), e, realtime.Retention{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		got.want(t, "read")
		if _, _, _, refused := s.MailCounts(); refused != 7 {
			t.Errorf("%v refused, want 7", refused)
		}
	})
}

func TestANodeThatDiesIsGivenUpAfterItsTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3, realtime.WithNodeTTL(6*time.Second))
		seen := watched(c.servers[0])
		dead := c.servers[2].NodeID()
		c.brokers[2].Hang() // it knows nothing of it
		time.Sleep(5900 * time.Millisecond)
		seen.want(t)
		time.Sleep(2100 * time.Millisecond)
		seen.want(t, dead+" false")
		c.brokers[2].Heal()
		synctest.Wait()
		time.Sleep(6 * time.Second)
		c.see(c.servers...)
		seen.want(t, dead+".1 true")
	})
}

func TestANodeThatWasCutOffForLongIsReborn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		cut, id := c.servers[2], c.servers[2].NodeID()
		seen, mine := watched(c.servers[0]), watched(cut)
		c.brokers[2].Cut()
		if _, known := cut.Alive(c.servers[0].NodeID()); known {
			t.Error("a node that is cut off knows who is there")
		}
		time.Sleep(10 * time.Second)
		c.brokers[2].Heal()
		time.Sleep(10 * time.Second)
		seen.want(t)
		mine.want(t) // it was not for long
		c.brokers[2].Cut()
		time.Sleep(time.Minute)
		seen.want(t, id+" false")
		mine.want(t)
		c.brokers[2].Heal()
		synctest.Wait()
		mine.want(t, "reborn")
		seen.want(t, id+".1 true")
		if got := cut.NodeID(); got != id+".1" {
			t.Errorf("its name is %q, want %q", got, id+".1")
		}
		time.Sleep(time.Hour)
		c.see(c.servers...)
	})
}

func TestABrokerThatIsDownForAllCostsNoNodeItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		var seen []*diary
		for _, s := range c.servers {
			seen = append(seen, watched(s))
		}
		for _, b := range c.brokers {
			b.Cut()
		}
		time.Sleep(time.Hour)
		for i, b := range c.brokers {
			time.Sleep(time.Duration(i) * 2 * time.Second)
			b.Heal()
		}
		time.Sleep(time.Minute)
		for _, d := range seen {
			d.want(t)
		}
		c.see(c.servers...)
	})
}

func TestAServerStartsWithoutItsBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		b := c.cluster.Node()
		b.Hang()
		s := realtimetest.NewServer(t, realtime.WithBroker(b), realtime.Anonymous())
		time.Sleep(time.Minute)
		if got := s.OtherNodes(); len(got) != 0 {
			t.Errorf("sees %q", got)
		}
		b.Heal()
		time.Sleep(2 * time.Second)
		c.see(c.servers[0], c.servers[1], s)
	})
}

func TestAServerEndsWithoutItsBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		c.brokers[0].Hang()
		c.servers[0].Mail("", 200, nil)
		start := time.Now()
		if err := c.servers[0].Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		if n := c.brokers[0].Watchers(); n != 0 {
			t.Errorf("%d watchers are left", n)
		}
		c.brokers[0].Heal() // for the cleanup of subscriptions
	})
}
