package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// byToken lets everybody in as the user that the token names, with a session.
func byToken() realtime.Option {
	return realtime.WithAuth(func(_ *http.Request, token string) (*realtime.Identity, error) {
		user, session, _ := strings.Cut(token, "/")
		return &realtime.Identity{User: user, Session: session}, nil
	})
}

// newPeople is newCrowd with users and rooms.
func newPeople(t *testing.T, n int, opts ...realtime.Option) *crowd {
	c := &crowd{t: t, cluster: realtimetest.NewCluster()}
	for range n {
		b := c.cluster.Node()
		s := realtimetest.NewServer(t, append([]realtime.Option{realtime.WithBroker(b), byToken()}, opts...)...)
		s.Topic("room:{n}")
		c.brokers, c.servers = append(c.brokers, b), append(c.servers, s)
	}
	synctest.Wait()
	return c
}

// enter connects a user to the node at i, and has it join a topic.
func (c *crowd) enter(i int, token, topic string) *realtimetest.Client {
	c.t.Helper()
	client := realtimetest.Dial(c.t, c.servers[i], realtimetest.WithToken(token))
	client.Join(topic)
	return client
}

func TestDisconnectReachesEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPeople(t, 3)
		var ann []*realtimetest.Client
		for i := range 3 {
			ann = append(ann, c.enter(i, "ann", "room:1"))
		}
		bob := c.enter(1, "bob", "room:1")
		if n := c.servers[0].Disconnect(realtime.Target{User: "ann"}, &realtime.Error{Text: "Banned", Retry: realtime.RetryBackoff, RetryAfter: 90 * time.Second}); n != 1 {
			t.Errorf("got %d, want the 1 on this node", n)
		}
		for i, client := range ann {
			told := client.WantClosed(realtime.ReasonDisconnected)
			if told.Error != "Banned" || told.Retry != realtime.RetryBackoff || told.MinMS < 90_000 {
				t.Errorf("on node %d: told %+v", i, told)
			}
		}
		bob.WantNothing()
		if n := c.servers[2].Disconnect(realtime.Target{}, nil); n != 0 {
			t.Errorf("a target of nobody: %d", n)
		}
		bob.WantNothing()
		c.servers[2].Disconnect(realtime.Target{Connection: connectionOf(c.servers[1], "room:1")}, nil)
		bob.WantClosed(realtime.ReasonDisconnected)
	})
}

func connectionOf(s *realtime.Server, topic string) string {
	for c := range s.Clients(topic) {
		return c.ID()
	}
	return ""
}

func TestPushReachesEveryNodeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPeople(t, 3)
		here, there := c.enter(0, "ann", "room:1"), c.enter(1, "ann", "room:1")
		elsewhere, bob := c.enter(2, "ann", "room:2"), c.enter(2, "bob", "room:1")
		for i := range 100 {
			if n, err := c.servers[0].Push(realtime.Target{User: "ann"}, "room:1", "ping", i); n != 1 || err != nil {
				t.Fatalf("got %d, %v", n, err)
			}
		}
		for i := range 100 {
			here.WantPush("room:1", "ping", i)
			there.WantPush("room:1", "ping", i)
		}
		elsewhere.WantNothing()
		bob.WantNothing()
		if _, err := c.servers[0].Push(realtime.Target{User: "ann"}, "room:1", "ping", strings.Repeat("x", 1<<20)); err == nil {
			t.Error("a push that is too long for other nodes: no error")
		}
		if _, err := c.servers[0].Push(realtime.Target{User: "nobody"}, "room:1", "\x00", nil); err == nil {
			t.Error("a bad name: no error")
		}
	})
}

func TestMembersAndCountOfAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPeople(t, 3)
		want := map[realtime.Member]bool{}
		long := strings.Repeat("s", 1000) // so that an answer has several parts
		for i := range 120 {
			n := i % 3
			session := fmt.Sprintf("%d%s", i, long)
			c.enter(n, "ann/"+session, "room:1")
			want[realtime.Member{Node: c.servers[n].Node(), User: "ann", Session: session, Protocol: "realtime.v1"}] = true
		}
		for _, s := range c.servers {
			all, err := s.Members(t.Context(), "room:1")
			if err != nil || len(all) != 120 {
				t.Fatalf("got %d members, %v", len(all), err)
			}
			ids := map[string]bool{}
			for _, m := range all {
				ids[m.Connection] = true
				if m.Connection = ""; !want[m] {
					t.Errorf("a member that is none: %+v", m)
				}
			}
			if len(ids) != 120 {
				t.Errorf("%d connections, want 120", len(ids))
			}
			if n, err := s.Count(t.Context(), "room:1"); n != 120 || err != nil {
				t.Errorf("count: got %d, %v", n, err)
			}
			if n, err := s.Count(t.Context(), "room:2"); n != 0 || err != nil {
				t.Errorf("count of an empty topic: got %d, %v", n, err)
			}
			if _, err := s.Members(t.Context(), "what"); !errors.Is(err, realtime.ErrUnknownTopic) {
				t.Errorf("an unknown topic: got %v", err)
			}
		}
	})
}

func TestAskGathersTheAnswersOfAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPeople(t, 3)
		voter := func(i int, user string) {
			client := c.enter(i, user, "room:1")
			go func() {
				m := client.WantPush("room:1", "vote", nil)
				client.Send(fmt.Sprintf(`{"channel":"room:1","type":"answer","ref":%q,"data":{"by":%q}}`, m.Ask, user))
			}()
		}
		voter(0, "ann")
		voter(1, "bob")
		voter(2, "cid")
		goer := c.enter(2, "dan", "room:1")
		c.enter(1, "eve", "room:1") // never answers
		go func() {
			goer.WantPush("room:1", "vote", nil)
			goer.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		answers, err := c.servers[0].Ask(ctx, "room:1", "vote", nil)
		if err != nil {
			t.Error(err)
		}
		var got []string
		for _, a := range answers {
			if (a.Client != nil) != (a.Node == c.servers[0].Node()) || a.Connection == "" {
				t.Errorf("answer %+v", a)
			}
			at := slices.IndexFunc(c.servers, func(s *realtime.Server) bool { return s.Node() == a.Node })
			got = append(got, fmt.Sprint(at, a.User, string(a.Data), a.Err))
		}
		slices.Sort(got)
		want := []string{
			`0ann{"by":"ann"}<nil>`, `1bob{"by":"bob"}<nil>`, fmt.Sprint("1eve", context.DeadlineExceeded),
			`2cid{"by":"cid"}<nil>`, fmt.Sprint("2dan", realtime.ErrClosed)}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		for _, a := range answers {
			if a.User == "eve" && !errors.Is(a.Err, context.DeadlineExceeded) || a.User == "dan" && !errors.Is(a.Err, realtime.ErrClosed) {
				t.Errorf("%s: the error is %v", a.User, a.Err)
			}
		}
	})
}

func TestANodeThatDoesNotAnswerIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPeople(t, 3)
		for i := range 3 {
			c.enter(i, "ann", "room:1")
		}
		s, mute := c.servers[0], c.servers[2].Node()
		partial := func(n int, err error, want error) {
			t.Helper()
			var p *realtime.PartialError
			if !errors.As(err, &p) || n != 2 || !slices.Equal(p.Nodes, []string{mute}) || !errors.Is(err, want) {
				t.Errorf("got %d, %v; want 2 and %v of %s", n, err, want, mute)
			}
		}
		c.brokers[2].Hang()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n, err := s.Count(ctx, "room:1")
		partial(n, err, context.DeadlineExceeded)

		start := time.Now()
		n, err = s.Count(t.Context(), "room:1") // it has a bound of its own
		partial(n, err, context.DeadlineExceeded)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}

		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		all, err := s.Members(ctx, "room:1") // until the node is given up
		partial(len(all), err, err)
		if ctx.Err() != nil {
			t.Error("the end of the lease did not end the wait")
		}
		if n, err := s.Count(ctx, "room:1"); n != 2 || err != nil {
			t.Errorf("without it: got %d, %v", n, err)
		}
	})
}

func TestANodeThatIsCutOffSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPeople(t, 2)
		c.enter(0, "ann", "room:1")
		c.enter(1, "ann", "room:1")
		c.brokers[0].Cut()
		n, err := c.servers[0].Count(t.Context(), "room:1")
		if n != 1 || !errors.Is(err, realtime.ErrBrokerDown) || !strings.Contains(fmt.Sprint(err), c.servers[1].Node()) {
			t.Errorf("got %d, %v", n, err)
		}
		c.brokers[0].Heal()
		synctest.Wait()
		if n, err := c.servers[0].Count(t.Context(), "room:1"); n != 2 || err != nil {
			t.Errorf("healed: got %d, %v", n, err)
		}
		b := c.cluster.Node()
		b.Cut()
		alone := realtimetest.NewServer(t, realtime.WithBroker(b), byToken())
		synctest.Wait()
		var p *realtime.PartialError
		if _, err := alone.Count(t.Context(), "global"); !errors.As(err, &p) || len(p.Nodes) != 0 {
			t.Errorf("a node that has never heard another: got %v", err)
		}
	})
}

func TestAServerAloneIsNoNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := realtimetest.NewServer(t, byToken())
		s.Topic("room:{n}")
		client := realtimetest.Dial(t, s, realtimetest.WithToken("ann"))
		client.Join("room:1")
		all, err := s.Members(t.Context(), "room:1")
		if err != nil || len(all) != 1 || all[0].User != "ann" || all[0].Node != "" {
			t.Errorf("got %+v, %v", all, err)
		}
		if n, err := s.Count(t.Context(), "room:1"); n != 1 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		if s.Node() != "" || s.Nodes() != nil {
			t.Errorf("got %q, %q", s.Node(), s.Nodes())
		}
	})
}

func TestQuestionsOfOtherVersionsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPeople(t, 1)
		s, other, newer := c.servers[0], c.cluster.Node(), "NEWERNEWER12"
		say := func(kind byte, body string) {
			e := &realtime.Event{Topic: "\x00nodes", Name: "nodes", Data: realtime.NodeMail(newer, kind, []byte(body)), Time: time.Now()}
			if err := other.Publish(t.Context(), e, realtime.Retention{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		var told []string
		_, stop, err := other.Subscribe(t.Context(), "\x00node:"+newer, realtime.Retention{}, func(e *realtime.Event) {
			told = append(told, realtime.NodeMailKinds(e.Data))
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		say(4, "\x07\xe8\x07\xff?") // question 7, a second, of kind 255
		if want := []string{"5 07 00 02 this version does not know the question"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		_, _, _, before := s.MailCounts()
		for kind := byte(4); kind < 8; kind++ {
			say(kind, "")
			say(kind, "\x01")
			say(kind, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
		}
		if _, _, _, after := s.MailCounts(); after-before < 10 {
			t.Errorf("%v of 12 were refused", after-before)
		}
	})
}
