package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// TestDocumentsInCommonPassTheSameTests runs the tests of documents once more, with a
// server that has its documents ordered by its broker.
func TestDocumentsInCommonPassTheSameTests(t *testing.T) {
	if sharedDocuments() || testing.Short() {
		t.Skip("once is enough")
	}
	again := exec.Command(os.Args[0], "-test.run=^TestDocument", "-test.count=1")
	again.Env = append(os.Environ(), "REALTIME_SHARED_DOCUMENTS=1")
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// sharedDocuments is true in the process of that test.
func sharedDocuments() bool { return os.Getenv("REALTIME_SHARED_DOCUMENTS") != "" }

// docCrowd is several nodes with the same documents.
type docCrowd struct {
	*crowd
	tenants   *realtime.Tenants
	documents []*realtime.Documents
}

func newDocCrowd(t *testing.T, n int, opts ...realtime.DocumentOption) *docCrowd {
	c := &docCrowd{crowd: &crowd{t: t, cluster: realtimetest.NewCluster()}, tenants: acme(t)}
	for range n {
		c.join(opts...)
	}
	synctest.Wait()
	return c
}

func (c *docCrowd) join(opts ...realtime.DocumentOption) *realtime.Server {
	s := c.add(realtime.WithNodeTTL(5 * time.Second))
	c.documents = append(c.documents, s.Documents("document:{tenant}:{document}",
		append([]realtime.DocumentOption{realtime.DocumentTenants(c.tenants)}, opts...)...))
	return s
}

// ids are the clients that a success tells of.
func ids(f docFrame) (all []string) {
	for _, one := range f.data["initialClients"].([]any) {
		all = append(all, one.(map[string]any)["clientId"].(string))
	}
	return all
}

// skipSignal reads the signal that somebody has come or gone.
func (c *doc) skipSignal(kind string) {
	c.t.Helper()
	if f := c.wantEvent("signal"); f.data["clientId"] != nil || !strings.Contains(f.data["content"].(string), `"type":"`+kind+`"`) {
		c.t.Errorf("signal %s, want that of a %s", f.text, kind)
	}
}

func TestDocumentIsEditedOnTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2)
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		if first := ids(a.connect(nil)); !slices.Equal(first, []string{a.id}) {
			t.Errorf("a sees %v", first)
		}
		f := b.connect(nil)
		if got := ids(f); !slices.Equal(got, []string{a.id, b.id}) {
			t.Errorf("b sees %v, want a and itself", got)
		}
		wantSequence(t, f.messages(t, "initialMessages"), "join 1/0")
		wantSequence(t, a.wantOps(), "join 2/0")
		a.skipSignal("join")
		texts := [2][]string{}
		for n := 1; n <= 20; n++ {
			from := []*doc{a, b}[n%2]
			from.submit(op((n+1)/2, n, `{"n":1.50}`))
			for i, to := range []*doc{a, b} {
				for _, m := range to.wantOps() {
					texts[i] = append(texts[i], m.text)
				}
			}
			from.wantReply("ok", map[string]any{"sequenceNumber": n + 2})
		}
		if !slices.Equal(texts[0], texts[1]) || len(texts[0]) != 20 {
			t.Errorf("a got\n%s\nb got\n%s", strings.Join(texts[0], "\n"), strings.Join(texts[1], "\n"))
		}
		late := openDoc(t, c.servers[1])
		f = late.connect(map[string]any{"mode": "read"})
		var seen []string
		for _, m := range f.messages(t, "initialMessages")[2:] {
			seen = append(seen, m.text)
		}
		if !slices.Equal(seen, texts[0]) {
			t.Errorf("a late reader got %v, want the same bytes", seen)
		}
		a.skipSignal("join")
		a.push("phx_leave", `{}`)
		b.skipSignal("join")
		wantSequence(t, b.wantOps(), "leave 23/19")
		b.skipSignal("leave")
	})
}

func TestDocumentSignalsReachOtherNodes(t *testing.T) { // 8
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2)
		a, b, d := openDoc(t, c.servers[0]), openDoc(t, c.servers[1]), openDoc(t, c.servers[1])
		a.connect(map[string]any{"mode": "read"})
		b.connect(map[string]any{"mode": "read"})
		a.skipSignal("join")
		d.connect(map[string]any{"mode": "read"})
		a.skipSignal("join")
		b.skipSignal("join")
		a.push("submitSignal", fmt.Sprintf(`{"clientId":%q,"contentBatches":[[{"content":"to all"},{"content":"to b","targetClientId":%q},`+
			`{"content":"not to b","ignoredClients":[%q]},{"content":"to none","targetedClients":[]},{"content":{"a":[1.0]},"targetedClients":[%q,%q]}]]}`,
			a.id, b.id, b.id, b.id, a.id))
		a.wantReply("ok", map[string]any{})
		for _, want := range []struct {
			to      *doc
			content string
		}{{b, `"to all"`}, {b, `"to b"`}, {b, `{"a":[1.0]}`}, {d, `"to all"`}, {d, `"not to b"`}} {
			if f := want.to.wantEvent("signal"); f.text != fmt.Sprintf(`{"clientId":%q,"content":%s}`, a.id, want.content) {
				t.Errorf("signal %s, want %s", f.text, want.content)
			}
		}
		b.push("phx_leave", `{}`)
		a.skipSignal("leave")
		d.skipSignal("leave")
	})
}

// kill ends a node without a word.
func (c *docCrowd) kill(i int) { c.brokers[i].Cut() }

func TestDocumentClientsOfADeadNodeLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 3)
		a, b, d := openDoc(t, c.servers[0]), openDoc(t, c.servers[1]), openDoc(t, c.servers[2])
		b.connect(nil)
		d.connect(map[string]any{"mode": "read"})
		a.connect(nil)
		c.kill(1)
		start := time.Now()
		wantSequence(t, a.wantOps(), "leave 3/0")
		a.skipSignal("leave")
		if took := time.Since(start); took > 8*time.Second || took < 3*time.Second {
			t.Errorf("the leave came after %v, want about the TTL", took)
		}
		c.kill(2)
		a.skipSignal("leave")
		e := openDoc(t, c.servers[0])
		if got := ids(e.connect(nil)); !slices.Equal(got, []string{a.id, e.id}) {
			t.Errorf("there are %v, want a and e", got)
		}
		// The node was not dead. It finds that the others gave it up, and its clients
		// begin anew.
		c.brokers[1].Heal()
		synctest.Wait()
		time.Sleep(10 * time.Second)
		for {
			if f := b.next(); f.event == "phx_close" {
				break
			}
		}
		b.rejoin()
		if got := ids(b.connect(nil)); !slices.Equal(got, []string{a.id, e.id, b.id}) {
			t.Errorf("there are %v, want a, e and b", got)
		}
	})
}

func TestDocumentClientsOfADrainedNodeLeaveAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2)
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(nil)
		wantSequence(t, a.wantOps(), "join 2/0")
		a.skipSignal("join")
		start := time.Now()
		go c.servers[1].Shutdown(t.Context())
		wantSequence(t, a.wantOps(), "leave 3/0")
		a.skipSignal("leave")
		if took := time.Since(start); took > time.Second {
			t.Errorf("the leave came after %v", took)
		}
	})
}

func TestDocumentOutlivesAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2)
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(nil)
		a.submit(op(1, 1, `"x"`))
		synctest.Wait()
		c.kill(0)
		c.kill(1)
		synctest.Wait()
		d := openDoc(t, c.join())
		f := d.connect(nil)
		wantSequence(t, f.messages(t, "initialMessages"), "join 1/0 join 2/0 op 3/0")
		start := time.Now()
		ms := d.wantOps()
		d.skipSignal("leave")
		ms = append(ms, d.wantOps()...)
		d.skipSignal("leave")
		wantSequence(t, ms, "leave 5/0 leave 6/0")
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the ghosts left after %v", took)
		}
	})
}

func TestDocumentSurvivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2)
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(nil)
		wantSequence(t, a.wantOps(), "join 2/0")
		a.skipSignal("join")

		c.brokers[0].Cut()
		a.submit(op(1, 2, `"lost"`))
		a.wantNack(429, "unavailable", "temporarily unavailable")
		b.submit(op(1, 2, `"while a was away"`))
		wantSequence(t, b.wantOps(), "op 3/0")
		b.wantReply("ok", map[string]any{"sequenceNumber": 3})
		c.brokers[0].LoseAnswers(true)
		a.submit(op(1, 2, `"taken"`))
		a.wantNack(429, "unavailable", "temporarily unavailable")
		wantSequence(t, b.wantOps(), "op 4/2")
		c.brokers[0].LoseAnswers(false)
		a.submit(op(1, 2, `"taken"`))
		a.wantNack(429, "unavailable", "temporarily unavailable")
		c.brokers[0].Heal()
		wantSequence(t, append(a.wantOps(), a.wantOps()...), "op 3/0 op 4/2")
		a.submit(op(1, 2, `"taken"`), op(2, 4, `"next"`)) // the first is a duplicate
		wantSequence(t, a.wantOps(), "op 5/2")
		a.wantReply("ok", map[string]any{"sequenceNumber": 5})
		wantSequence(t, b.wantOps(), "op 5/2")

		c.brokers[0].Cut() // a leave is owed
		a.push("phx_leave", `{}`)
		a.wantReply("ok", map[string]any{})
		time.Sleep(2500 * time.Millisecond)
		c.brokers[0].Heal()
		wantSequence(t, b.wantOps(), "leave 6/2")
		b.skipSignal("leave")
	})
}

// TestDocumentJoinThatWasLostLeaves: a join that was taken without an answer is
// followed by a leave, and the client gets in under another name.
func TestDocumentJoinThatWasLostLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2)
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		b.connect(nil)
		a.connect(map[string]any{"mode": "read"}) // the session runs
		d := openDoc(t, c.servers[0])
		b.skipSignal("join")
		c.brokers[0].LoseAnswers(true)
		c.brokers[0].Cut()
		d.push("connect_document", request(docToken(t, nil), nil))
		wantSequence(t, b.wantOps(), "join 2/0")
		b.skipSignal("join")
		c.brokers[0].LoseAnswers(false)
		c.brokers[0].Heal()
		f := d.wantEvent("connect_document_success")
		if got := ids(f); got[len(got)-1] != f.data["clientId"] || got[0] != b.id {
			t.Errorf("there are %v, want b first and %v last", got, f.data["clientId"])
		}
		time.Sleep(5 * time.Second)
		e := openDoc(t, c.servers[1])
		if got := ids(e.connect(nil)); len(got) != 4 {
			t.Errorf("there are %v, want a, b, d and e", got)
		}
	})
}

func TestDocumentTenantIsDisconnectedEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2)
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(map[string]any{"mode": "read"})
		a.skipSignal("join")
		c.documents[0].DisconnectTenant("beta")
		if n := c.documents[1].DisconnectTenant("acme"); n != 1 {
			t.Errorf("%d channels closed on the node itself, want 1", n)
		}
		for _, c := range []*doc{a, b} {
			for f := c.next(); f.event != "phx_close"; f = c.next() {
			}
		}
	})
}

func TestDocumentSummariesOverNodes(t *testing.T) { // 10
	synctest.Test(t, func(t *testing.T) {
		asked, end := 0, make(chan struct{})
		defer close(end)
		summarize := realtime.OnSummary(func(_ context.Context, r realtime.SummaryRequest) (string, error) {
			if asked++; r.Handle == "slow" {
				<-end
			}
			return "of " + r.Handle, nil
		})
		c := newDocCrowd(t, 2, summarize)
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(nil)
		wantSequence(t, a.wantOps(), "join 2/0")
		a.skipSignal("join")
		summary := func(csn int, handle string) string {
			return fmt.Sprintf(`{"type":"summarize","clientSequenceNumber":%d,"referenceSequenceNumber":2,"contents":{"handle":%q,"head":"","message":"","parents":[]}}`, csn, handle)
		}
		b.submit(summary(1, "h"))
		wantSequence(t, a.wantOps(), "summarize 3/0")
		wantSequence(t, a.wantOps(), "summaryAck 4/0")
		if asked != 1 {
			t.Errorf("the hosts were asked %d times, want the one that took the op", asked)
		}
		if f := openDoc(t, c.servers[0]).connect(nil); f.data["summaryContext"].(map[string]any)["handle"] != "of h" {
			t.Errorf("success %s, want the summary", f.text)
		}
		wantSequence(t, a.wantOps(), "join 5/0")
		a.skipSignal("join")
		b.submit(summary(2, "slow"))
		wantSequence(t, a.wantOps(), "summarize 6/0")
		c.kill(1)
		wantSequence(t, a.wantOps(), "leave 7/0")
		a.skipSignal("leave")
		ms := a.wantOps()
		wantSequence(t, ms, "summaryNack 8/0")
		if want := `"data":"{\"summaryProposal\":{\"summarySequenceNumber\":6},\"code\":500,`; !strings.Contains(ms[0].text, want) {
			t.Errorf("refused by %s", ms[0].text)
		}
	})
}

func TestDocumentIdleWritersOfAllNodesLeave(t *testing.T) { // 7.5, 7.3
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2, realtime.ClientTimeout(5*time.Second))
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(nil)
		wantSequence(t, a.wantOps(), "join 2/0")
		a.skipSignal("join")
		a.submit(op(1, 2, `"x"`))
		wantSequence(t, a.wantOps(), "op 3/0")
		a.wantReply("ok", map[string]any{"sequenceNumber": 3})
		wantSequence(t, b.wantOps(), "op 3/0")
		start := time.Now()
		wantSequence(t, b.wantOps(), "leave 4/2")
		b.skipSignal("leave")
		wantSequence(t, a.wantOps(), "leave 4/2")
		a.skipSignal("leave")
		if took := time.Since(start); took < 5*time.Second || took > 8*time.Second {
			t.Errorf("expelled after %v, want about 5s", took)
		}
		b.submit(op(1, 3, `"late"`))
		b.wantNack(400, "nonexistent_client", "Nonexistent client")
		a.push("noop", fmt.Sprintf(`{"clientId":%q,"referenceSequenceNumber":4}`, a.id))
		a.wantReply("ok", map[string]any{})
		wantSequence(t, b.wantOps(), "noop 5/4")
	})
}

func TestDocumentOnOpIsCalledOnceInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		c := newDocCrowd(t, 2, realtime.SessionTime(time.Second), realtime.OnOp(func(_, _ string, ops []realtime.SequencedMessage) {
			for _, m := range ops {
				d.add("%s %d", m.Type, m.SequenceNumber)
			}
		}))
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(nil)
		b.submit(op(1, 2, `"x"`))
		b.wantOps()
		b.push("phx_leave", `{}`)
		synctest.Wait()
		a.push("phx_leave", `{}`)
		synctest.Wait()
		time.Sleep(5 * time.Second)
		d.want(t, "join 1", "join 2", "op 3", "leave 4", "leave 5")
	})
}

func TestDocumentsWantABrokerThatOrdersThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := struct{ realtime.SharedBroker }{realtimetest.NewCluster().Node()}
		s := newServer(t, realtime.WithBroker(plain))
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, "DocumentLog") || !strings.Contains(text, "WithBroker") {
					t.Errorf("got %s, want the options that help", text)
				}
			}()
			s.Documents("document:{tenant}:{document}", realtime.DocumentTenants(acme(t)))
		}()
		s.Documents("paper:{tenant}:{document}", realtime.DocumentTenants(acme(t)), realtime.DocumentLog(realtime.NewMemoryLog()))
	})
}

// subscriptions counts those to topics of documents.
type subscriptions struct {
	*realtimetest.Node
	documents atomic.Int64
}

func (s *subscriptions) Subscribe(ctx context.Context, topic string, keep realtime.Retention, deliver func(*realtime.Event)) (*realtime.Position, func(), error) {
	if strings.HasPrefix(topic, "document:") {
		s.documents.Add(1)
	}
	return s.Node.Subscribe(ctx, topic, keep, deliver)
}

func TestDocumentTopicsNeedNoSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &subscriptions{Node: realtimetest.NewCluster().Node()}
		s := newServer(t, realtime.WithBroker(broker))
		s.Documents("document:{tenant}:{document}", realtime.DocumentTenants(acme(t)))
		openDoc(t, s).connect(nil)
		if n := broker.documents.Load(); n != 0 {
			t.Errorf("%d subscriptions", n)
		}
		if err := s.Publish(t.Context(), docTopic, "op", 1); err == nil {
			t.Error("an event was published to the members of a document, whom it does not reach")
		}
	})
}

func TestDocumentCountsTheClientsOfAllNodes(t *testing.T) { // MaxDocumentClients
	synctest.Test(t, func(t *testing.T) {
		c := newDocCrowd(t, 2, realtime.MaxDocumentClients(2), realtime.NoMembershipSignals())
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(map[string]any{"mode": "read"})
		for _, s := range c.servers {
			d := openDoc(t, s)
			d.push("connect_document", request(docToken(t, nil), nil))
			if f := d.wantEvent("connect_document_error"); f.data["code"] != 429.0 || f.data["reason"] != "too_many_clients" {
				t.Errorf("got %s", f.text)
			}
		}
		b.push("phx_leave", `{}`)
		synctest.Wait()
		openDoc(t, c.servers[0]).connect(nil)
	})
}

// forgetful is a broker whose order of documents can lose them.
type forgetful struct {
	*realtimetest.Node
	order forgetfulOrder
}

type forgetfulOrder struct {
	realtime.DocumentOrder
	tell func(*realtime.DocumentNews) // of the last Attend
}

func (f *forgetful) Documents() realtime.DocumentOrder { return &f.order }

func (o *forgetfulOrder) Attend(ctx context.Context, id realtime.DocumentID, tell func(*realtime.DocumentNews)) (*realtime.DocumentStanding, func(), error) {
	o.tell = tell
	return o.DocumentOrder.Attend(ctx, id, tell)
}

func TestDocumentThatIsLostEndsItsSession(t *testing.T) { // DocumentNews.Lost
	synctest.Test(t, func(t *testing.T) {
		var d diary
		node := realtimetest.NewCluster().Node()
		broker := &forgetful{Node: node, order: forgetfulOrder{DocumentOrder: node.Documents()}}
		s := newServer(t, realtime.WithBroker(broker))
		s.Documents("document:{tenant}:{document}", realtime.DocumentTenants(acme(t)), realtime.OnSession(func(e realtime.SessionEvent) {
			d.add("%s %t", e.Kind, e.Err != nil)
		}))
		a := openDoc(t, s)
		a.connect(nil)
		broker.order.tell(&realtime.DocumentNews{Lost: errors.New("flushed")})
		a.wantEvent("phx_close")
		a.rejoin()
		f := a.connect(nil)
		wantSequence(t, f.messages(t, "initialMessages"), "join 1/0 leave 2/2")
		d.want(t, "started false", "crashed true", "started false")
	})
}

// A hook that ignores its context holds up a shutdown for as long as that may take, and
// little more; what it was asked is refused.
func TestDocumentShutdownDoesNotWaitForASummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		defer close(end)
		c := newDocCrowd(t, 2, realtime.OnSummary(func(context.Context, realtime.SummaryRequest) (string, error) {
			<-end
			return "", nil
		}), realtime.NoMembershipSignals())
		a, b := openDoc(t, c.servers[0]), openDoc(t, c.servers[1])
		a.connect(nil)
		b.connect(nil)
		wantSequence(t, a.wantOps(), "join 2/0")
		b.submit(`{"type":"summarize","clientSequenceNumber":1,"referenceSequenceNumber":2,"contents":{"handle":"h","head":"","message":"","parents":[]}}`)
		wantSequence(t, a.wantOps(), "summarize 3/0")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		if err := c.servers[1].Shutdown(ctx); err == nil {
			t.Error("a shutdown that left a hook behind was no error")
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("the shutdown took %v", took)
		}
		wantSequence(t, a.wantOps(), "leave 4/0")
		wantSequence(t, a.wantOps(), "summaryNack 5/0")
	})
}
