package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// faultyLog fails when it is told to.
type faultyLog struct {
	realtime.OpLog
	mu   sync.Mutex
	errs []error // of the next appends
}

func (l *faultyLog) fail(errs ...error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = errs
}

func (l *faultyLog) Append(ctx context.Context, id realtime.DocumentID, ms []realtime.SequencedMessage) error {
	l.mu.Lock()
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		l.mu.Unlock()
		return err
	}
	l.mu.Unlock()
	return l.OpLog.Append(ctx, id, ms)
}

// sessionEvents records what OnSession hears.
type sessionEvents struct {
	mu   sync.Mutex
	list []string
}

func (e *sessionEvents) hear(one realtime.SessionEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf("%s %s/%s", one.Kind, one.Tenant, one.Document))
}

func (e *sessionEvents) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.list, want) {
		t.Errorf("session events %q, want %q", e.list, want)
	}
}

// stored are the messages in the log.
func stored(t *testing.T, l realtime.OpLog) []docMessage {
	t.Helper()
	ms, err := l.Read(t.Context(), realtime.DocumentID{Tenant: "acme", Document: "doc1"}, 0, -1, 10000)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range ms {
		texts = append(texts, string(m.JSON))
	}
	return messagesOf(t, "["+strings.Join(texts, ",")+"]")
}

func TestDocumentCrashClosesItsChannelsAlone(t *testing.T) { // 9
	synctest.Test(t, func(t *testing.T) {
		var events sessionEvents
		log := realtime.NewMemoryLog()
		s, d := docServer(t, realtime.OnSession(events.hear), realtime.DocumentLog(log))
		a, b, idle := openDoc(t, s), openDoc(t, s), openDoc(t, s)
		a.connect(nil)
		b.connect(map[string]any{"mode": "read"})
		a.wantEvent("signal")
		other := &doc{phx: dialPhoenix(t, s, "vsn=2.0.0"), topic: "document:acme:doc2"}
		other.rejoin()
		change := map[string]any{"id": "doc2", "token": docToken(t, map[string]any{"documentId": "doc2"})}
		other.connect(change)
		native := dial(t, s)
		native.Join(docTopic)
		native.Push(docTopic, "connect_document", json.RawMessage(request(docToken(t, nil), map[string]any{"mode": "read"})))
		native.WantPush(docTopic, "connect_document_success", map[string]string{"mode": "read"})
		a.wantEvent("signal")
		b.wantEvent("signal")
		session, err := d.Session(t.Context(), "acme", "doc1")
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Do(func() { panic("boom") }); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("Do gave %v", err)
		}
		a.wantEvent("phx_close")
		b.wantEvent("phx_close")
		native.WantPush("global", "unsubscribed", map[string]string{"channel": docTopic})
		idle.quiet()
		other.submit(op(1, 1, `1`))
		other.wantOps()
		if err := session.Do(func() {}); !errors.Is(err, realtime.ErrSessionOver) {
			t.Errorf("Do gave %v, want ErrSessionOver", err)
		}
		events.want(t, "started acme/doc1", "started acme/doc2", "crashed acme/doc1")
		a.rejoin()
		f := a.connect(nil)
		wantSequence(t, f.messages(t, "initialMessages"), "join 1/0 leave 2/2")
		wantSequence(t, stored(t, log), "join 1/0 leave 2/2 join 3/2")
	})
}

func TestDocumentRestartLetsGhostsLeaveFirst(t *testing.T) { // 9
	synctest.Test(t, func(t *testing.T) {
		log := realtime.NewMemoryLog()
		id := realtime.DocumentID{Tenant: "acme", Document: "doc1"}
		ghosts := []realtime.SequencedMessage{}
		for i, client := range []string{"g1", "g2"} {
			text := fmt.Sprintf(`{"clientId":null,"sequenceNumber":%d,"minimumSequenceNumber":0,"clientSequenceNumber":-1,"referenceSequenceNumber":%d,"type":"join","contents":null,"data":"{\"clientId\":\"%s\"}","timestamp":1}`, i+1, i, client)
			ghosts = append(ghosts, realtime.SequencedMessage{SequenceNumber: int64(i + 1), ClientSequenceNumber: -1, ReferenceSequenceNumber: int64(i), Type: "join", Timestamp: 1, JSON: []byte(text)})
		}
		if err := log.Append(t.Context(), id, ghosts); err != nil {
			t.Fatal(err)
		}
		s, _ := docServer(t, realtime.DocumentLog(log))
		a := openDoc(t, s)
		a.connect(nil)
		wantSequence(t, stored(t, log), "join 1/0 join 2/0 leave 3/0 leave 4/4 join 5/4")
	})
}

func TestDocumentRestartRefusesSummariesWithoutAnAnswer(t *testing.T) { // 10
	synctest.Test(t, func(t *testing.T) {
		log := realtime.NewMemoryLog()
		asked := 0
		s, d := docServer(t, realtime.DocumentLog(log), realtime.OnSummary(func(ctx context.Context, _ realtime.SummaryRequest) (string, error) {
			if asked++; asked == 1 {
				return "h1", nil
			}
			<-ctx.Done()
			return "too late", nil
		}))
		a := openDoc(t, s)
		a.connect(nil)
		summarize := `{"type":"summarize","clientSequenceNumber":%d,"referenceSequenceNumber":1,"contents":{"handle":"h","head":"","message":"","parents":[]}}`
		a.submit(fmt.Sprintf(summarize, 1))
		wantSequence(t, a.wantOps(), "summarize 2/1")
		a.wantReply("ok", map[string]any{"sequenceNumber": 2})
		wantSequence(t, a.wantOps(), "summaryAck 3/1")
		a.submit(fmt.Sprintf(summarize, 2), op(3, 3, `1`)) // the host does not decide
		wantSequence(t, a.wantOps(), "summarize 4/1 op 5/3")
		for range 2 { // the second time there is nothing left to refuse
			session, err := d.Session(t.Context(), "acme", "doc1")
			if err != nil {
				t.Fatal(err)
			}
			_ = session.Do(func() { panic("boom") })
			synctest.Wait()
		}
		if _, err := d.Session(t.Context(), "acme", "doc1"); err != nil {
			t.Fatal(err)
		}
		all := stored(t, log)
		wantSequence(t, all, "join 1/0 summarize 2/1 summaryAck 3/1 summarize 4/1 op 5/3 leave 6/6 summaryNack 7/7")
		want := `{"summaryProposal":{"summarySequenceNumber":4},"code":500,"message":"The session ended before the summary was decided"}`
		if got := all[6].Data; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestDocumentStoreThatFailsCountsNothing(t *testing.T) { // 5.4
	synctest.Test(t, func(t *testing.T) {
		log := &faultyLog{OpLog: realtime.NewMemoryLog()}
		s, _ := docServer(t, realtime.DocumentLog(log))
		a := openDoc(t, s)
		a.connect(nil)
		log.fail(errors.New("disk"))
		a.submit(op(1, 1, `1`), op(2, 1, `2`))
		f := a.wantNack(429, "unavailable", "Document temporarily unavailable")
		if f.data["content"].(map[string]any)["retryAfter"] != 5.0 {
			t.Errorf("nack %s", f.text)
		}
		a.submit(op(1, 1, `1`))
		wantSequence(t, a.wantOps(), "op 2/1")
		a.wantReply("ok", map[string]any{"sequenceNumber": 2})

		// A leave that cannot be stored is stored later, a connect waits.
		b := openDoc(t, s)
		log.fail(errors.New("disk"), errors.New("disk"))
		b.connect(nil)
		a.wantOps()
		a.wantEvent("signal")
		log.fail(errors.New("disk"), errors.New("disk"))
		b.Cut()
		a.quiet()
		time.Sleep(3 * time.Second)
		wantSequence(t, a.wantOps(), "leave 4/1")
		a.wantEvent("signal")
		a.quiet()

		// A log that another has written to is not written to any more.
		log.fail(fmt.Errorf("sql: %w", realtime.ErrSequenceTaken))
		a.submit(op(2, 1, `1`))
		a.wantEvent("nack")
		a.wantEvent("phx_close")
		a.rejoin()
		a.connect(nil)
		wantSequence(t, stored(t, log), "join 1/0 op 2/1 join 3/1 leave 4/1 leave 5/5 join 6/5")
	})
}

func TestDocumentNoopsAreConsolidated(t *testing.T) { // 7.1, 7.2, 7.3
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t, realtime.NoMembershipSignals())
		a, b := openDoc(t, s), openDoc(t, s)
		a.connect(nil)
		b.connect(nil)
		a.wantOps()
		noop := func(c *doc, csn, rsn int, contents string) {
			c.submit(fmt.Sprintf(`{"type":"noop","clientSequenceNumber":%d,"referenceSequenceNumber":%d%s}`, csn, rsn, contents))
		}
		noop(a, 1, 2, `,"contents":null`)
		a.wantReply("ok", map[string]any{"sequenceNumber": 2})
		time.Sleep(time.Second)
		a.quiet() // B holds the MSN
		start := time.Now()
		noop(b, 1, 2, `,"contents":null`)
		b.wantReply("ok", map[string]any{"sequenceNumber": 2})
		ms := b.wantOps()
		wantSequence(t, ms, "noop 3/2")
		if after := time.Since(start); ms[0].ClientID != nil || after < 250*time.Millisecond || after > 400*time.Millisecond {
			t.Errorf("noop %s after %v", ms[0].text, after)
		}
		a.wantOps()
		noop(a, 2, 3, ``)
		a.wantReply("ok", map[string]any{"sequenceNumber": 3})
		noop(b, 2, 3, ``) // raises the MSN, at once
		ms = b.wantOps()
		if wantSequence(t, ms, "noop 4/3"); *ms[0].ClientID != b.id {
			t.Errorf("noop %s", ms[0].text)
		}
		b.wantReply("ok", map[string]any{"sequenceNumber": 4})
		a.wantOps()
		for _, c := range []*doc{a, b} {
			c.push("noop", fmt.Sprintf(`{"clientId":%q,"referenceSequenceNumber":1000000}`, c.id))
			c.wantReply("error", map[string]any{"reason": "invalid_rsn"})
			c.push("noop", fmt.Sprintf(`{"clientId":%q,"referenceSequenceNumber":4}`, c.id))
			c.wantReply("ok", map[string]any{})
		}
		wantSequence(t, a.wantOps(), "noop 5/4")
	})
}

// A message stops the timer; a noop behind it in the same submission starts it again.
func TestDocumentNoopBehindAnOpIsConsolidated(t *testing.T) { // 7.2, 7.3
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t, realtime.NoMembershipSignals())
		a, b := openDoc(t, s), openDoc(t, s)
		a.connect(nil)
		b.connect(nil)
		a.wantOps()
		a.submit(op(1, 2, `"x"`), `{"type":"noop","clientSequenceNumber":2,"referenceSequenceNumber":3,"contents":null}`)
		a.wantOps()
		time.Sleep(time.Second)
		b.submit(op(1, 2, `"y"`), `{"type":"noop","clientSequenceNumber":2,"referenceSequenceNumber":3,"contents":null}`)
		a.wantReply("ok", map[string]any{"sequenceNumber": 3})
		wantSequence(t, a.wantOps(), "op 4/2")
		wantSequence(t, a.wantOps(), "noop 5/3")
	})
}

func TestDocumentExpelsIdleWriters(t *testing.T) { // 7.5
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t, realtime.ClientTimeout(time.Second))
		a, b := openDoc(t, s), openDoc(t, s)
		a.connect(nil)
		b.connect(nil)
		a.wantOps()
		a.wantEvent("signal")
		time.Sleep(50 * time.Second)
		a.quiet()
		a.submit(op(1, 2, `1`))
		a.wantOps()
		a.wantReply("ok", map[string]any{"sequenceNumber": 3})
		wantSequence(t, b.wantOps(), "op 3/0")
		time.Sleep(2 * time.Second)
		for _, c := range []*doc{a, b} {
			if ms := c.wantOps(); ms[0].Data != fmt.Sprintf("%q", b.id) {
				t.Errorf("got %s, want the leave of B", ms[0].text)
			}
			c.wantEvent("signal")
		}
		b.submit(op(1, 3, `1`))
		b.wantNack(400, "nonexistent_client", "Nonexistent client")
		b.push("phx_leave", `{}`)
		a.quiet()
	})
}

func TestDocumentChannelsEndInTime(t *testing.T) { // 2.3, 4.5
	synctest.Test(t, func(t *testing.T) {
		s, d := docServer(t, realtime.ConnectTime(5*time.Second))
		idle, a, b := openDoc(t, s), openDoc(t, s), openDoc(t, s)
		a.connect(map[string]any{"token": docToken(t, map[string]any{"exp": time.Now().Add(50 * time.Second).Unix()})})
		b.connect(map[string]any{"mode": "read"})
		start := time.Now()
		idle.wantEvent("phx_close")
		if after := time.Since(start); after < 5*time.Second || after > 6*time.Second {
			t.Errorf("closed after %v", after)
		}
		a.wantEvent("signal")
		for time.Since(start) < 40*time.Second { // the heartbeats of the clients
			time.Sleep(20 * time.Second)
			for _, c := range []*doc{a, b} {
				c.say(`[null,"h","phoenix","heartbeat",{}]`, `[null,"h","phoenix","phx_reply",{"status":"ok","response":{}}]`)
			}
		}
		a.wantEvent("phx_close")
		b.wantOps()
		synctest.Wait()
		if n := d.DisconnectTenant("acme"); n != 1 {
			t.Errorf("disconnected %d", n)
		}
		b.wantEvent("signal")
		b.wantEvent("phx_close")
	})
}

func TestDocumentSessionStopsWhenNobodyIsLeft(t *testing.T) { // 9
	synctest.Test(t, func(t *testing.T) {
		var events sessionEvents
		s, d := docServer(t, realtime.OnSession(events.hear), realtime.SessionTime(10*time.Second))
		a := openDoc(t, s)
		a.connect(nil)
		time.Sleep(30 * time.Second)
		events.want(t, "started acme/doc1")
		a.push("phx_leave", `{}`)
		time.Sleep(11 * time.Second)
		events.want(t, "started acme/doc1", "stopped acme/doc1")
		for range d.Sessions() {
			t.Error("a session runs")
		}
		a.want(fmt.Sprintf(`[%q,"%d",%q,"phx_reply",{"status":"ok","response":{}}]`, a.joinRef, a.ref, a.topic))
		a.wantEvent("phx_close")
		a.rejoin()
		f := a.connect(nil)
		wantSequence(t, f.messages(t, "initialMessages"), "join 1/0 leave 2/2")
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		events.want(t, "started acme/doc1", "stopped acme/doc1", "started acme/doc1", "stopped acme/doc1")
	})
}

func TestDocumentShutdownStoresTheLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := realtime.NewMemoryLog()
		s, _ := docServer(t, realtime.DocumentLog(log))
		for range 3 {
			openDoc(t, s).connect(nil)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		ms := stored(t, log)
		if len(ms) != 6 || ms[5].Type != "leave" || ms[5].MinimumSequenceNumber != 6 {
			t.Errorf("stored %s", numbers(ms))
		}
	})
}

func TestDocumentSlowClientCatchesUpFromTheLog(t *testing.T) { // DESIGN section 5
	synctest.Test(t, func(t *testing.T) {
		log := realtime.NewMemoryLog()
		s := newServer(t, realtime.WithQueue(8, 4<<10))
		s.Documents("document:{tenant}:{document}", realtime.DocumentTenants(acme(t)), realtime.DocumentLog(log), realtime.HistoryLimit(20))
		a, slow := openDoc(t, s), openDoc(t, s)
		a.connect(nil)
		slow.connect(map[string]any{"mode": "read"})
		a.wantEvent("signal")
		slow.StopReading()
		const n = 200
		for i := range n {
			time.Sleep(10 * time.Millisecond) // within the rate
			a.submit(op(i+1, 1, `"0123456789012345678901234567890123456789"`))
			a.wantOps()
			a.wantReply("ok", map[string]any{"sequenceNumber": i + 2})
			if i%100 == 50 {
				a.push("submitSignal", fmt.Sprintf(`{"clientId":%q,"contentBatches":["after %d"]}`, a.id, i+2))
				a.wantReply("ok", map[string]any{})
			}
		}
		slow.Resume()
		var got []docMessage
		for len(got) < n {
			f := slow.next()
			if f.event == "signal" {
				if want := fmt.Sprintf("after %d", got[len(got)-1].SequenceNumber); f.data["content"] != want {
					t.Errorf("signal %v, want %s", f.data["content"], want)
				}
				continue
			}
			got = append(got, f.messages(t, "op")...)
		}
		for i, m := range stored(t, log)[1:] {
			if m.text != got[i].text {
				t.Fatalf("message %d: got %s, want %s", i, got[i].text, m.text)
			}
		}
		a.submit(op(n+1, 1, `"live"`))
		wantSequence(t, slow.wantOps(), fmt.Sprintf("op %d/1", n+2))
	})
}

func TestDocumentSummaries(t *testing.T) { // 10, 3.4, 3.7
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s, _ := docServer(t, realtime.NoMembershipSignals(), realtime.OnSummary(func(_ context.Context, r realtime.SummaryRequest) (string, error) {
			<-release
			if r.Message == "no" {
				return "", realtime.Reject("not this one")
			}
			if r.Head != "h0" || r.Parents[0] != "p" || !r.ProtocolTree || r.Tenant != "acme" || r.Document != "doc1" {
				t.Errorf("asked %+v", r)
			}
			return "commit-" + r.Handle, nil
		}))
		a := openDoc(t, s)
		if f := a.connect(nil); f.data["summaryContext"] != nil {
			t.Errorf("success %s", f.text)
		}
		summarize := func(csn, rsn int, contents string) {
			a.submit(fmt.Sprintf(`{"type":"summarize","clientSequenceNumber":%d,"referenceSequenceNumber":%d,"contents":%s}`, csn, rsn, contents))
		}
		object := `{"handle":"h1","head":"h0","message":"m","parents":["p"],"details":{"includesProtocolTree":true}}`
		text, _ := json.Marshal(object)
		summarize(1, 1, `{}`)
		a.wantNack(400, "malformed", "Invalid summarize op: missing fields: handle, head, message, parents")
		summarize(1, 1, string(text))
		wantSequence(t, a.wantOps(), "summarize 2/1")
		a.wantReply("ok", map[string]any{"sequenceNumber": 2})
		a.submit(op(2, 2, `1`)) // the session does not wait for the host
		wantSequence(t, a.wantOps(), "op 3/2")
		a.wantReply("ok", map[string]any{"sequenceNumber": 3})
		release <- struct{}{}
		ms := a.wantOps()
		if wantSequence(t, ms, "summaryAck 4/2"); ms[0].Data != `{"handle":"commit-h1","summaryProposal":{"summarySequenceNumber":2}}` || string(ms[0].Contents) != ms[0].Data {
			t.Errorf("got %s", ms[0].text)
		}
		summarize(3, 4, strings.Replace(object, `"m"`, `"no"`, 1))
		a.wantOps()
		a.wantReply("ok", map[string]any{"sequenceNumber": 5})
		release <- struct{}{}
		ms = a.wantOps()
		if wantSequence(t, ms, "summaryNack 6/4"); ms[0].Data != `{"summaryProposal":{"summarySequenceNumber":5},"code":400,"message":"not this one"}` {
			t.Errorf("got %s", ms[0].text)
		}
		b := openDoc(t, s)
		f := b.connect(map[string]any{"mode": "read"})
		if c := f.data["summaryContext"].(map[string]any); c["handle"] != "commit-h1" || c["sequenceNumber"] != 2.0 {
			t.Errorf("context %v", c)
		}
		if ms := f.messages(t, "initialMessages"); len(ms) != 6 {
			t.Errorf("one summary: got %s", numbers(ms))
		}
		summarize(4, 6, object)
		a.wantOps()
		a.wantReply("ok", map[string]any{"sequenceNumber": 7})
		release <- struct{}{}
		a.wantOps()
		late := openDoc(t, s)
		wantSequence(t, late.connect(map[string]any{"mode": "read"}).messages(t, "initialMessages"),
			"summarize 2/1 op 3/2 summaryAck 4/2 summarize 5/4 summaryNack 6/4 summarize 7/6 summaryAck 8/6")
	})
}

func TestDocumentWithoutASummaryHookRefusesThem(t *testing.T) { // 10
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t)
		a := openDoc(t, s)
		a.connect(nil)
		a.submit(`{"type":"summarize","clientSequenceNumber":1,"referenceSequenceNumber":1,"contents":{"handle":"h","head":"","message":"","parents":[]}}`)
		a.wantOps()
		ms := a.wantOps()
		if ms[0].Data != `{"summaryProposal":{"summarySequenceNumber":2},"code":400,"message":"summaries are not kept here"}` {
			t.Errorf("got %s", ms[0].text)
		}
	})
}

func TestDocumentClientsAreDescribedByTheirTokens(t *testing.T) { // 3.5, 3.6, 3.8
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t)
		a := openDoc(t, s)
		a.connect(nil)
		b := openDoc(t, s)
		f := b.connect(map[string]any{"versions": []string{"^1.0.0"}, "supportedFeatures": map[string]bool{"submit_signals_v2": false, "other": true}})
		joinData := struct {
			ClientID string
			Detail   json.RawMessage
		}{}
		ms := a.wantOps()
		if err := json.Unmarshal([]byte(ms[0].Data), &joinData); err != nil {
			t.Fatal(err)
		}
		var signal struct {
			Content struct{ Client json.RawMessage }
		}
		if err := json.Unmarshal([]byte(a.wantEvent("signal").data["content"].(string)), &signal); err != nil {
			t.Fatal(err)
		}
		var told struct {
			Version           string
			SupportedFeatures json.RawMessage
			Claims            map[string]any
			InitialClients    []struct {
				ClientID, Mode string
				Client         json.RawMessage
			}
		}
		if err := json.Unmarshal([]byte(f.text), &told); err != nil {
			t.Fatal(err)
		}
		if len(told.InitialClients) != 2 || told.InitialClients[0].ClientID != a.id || told.InitialClients[1].ClientID != b.id || told.InitialClients[1].Mode != "write" {
			t.Fatalf("clients %+v", told.InitialClients)
		}
		want := string(told.InitialClients[1].Client)
		if string(joinData.Detail) != want || string(signal.Content.Client) != want || !strings.Contains(string(ms[0].Contents), want) {
			t.Errorf("three descriptions: %s, %s, %s", want, joinData.Detail, signal.Content.Client)
		}
		if !strings.HasPrefix(want, `{"details":{"capabilities":{"interactive":true}},"mode":"write","permission":[],"scopes":["doc:read","doc:write","summary:write"],"user":{"id":"u1","name":"User One"},"timestamp":`) {
			t.Errorf("described as %s", want)
		}
		if told.Version != "1.0.0" || string(told.SupportedFeatures) != `{"submit_signals_v2":false}` || told.Claims["ver"] != "1.0" {
			t.Errorf("success %s", f.text)
		}
	})
}

func TestDocumentsOverTheEnvelope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t)
		c := dial(t, s)
		c.Join(docTopic)
		ref := c.Push(docTopic, "connect_document", json.RawMessage(request(docToken(t, nil), map[string]any{"token": "x"})))
		c.WantPush(docTopic, "connect_document_error", map[string]any{"reason": "invalid_token"})
		c.WantError(ref, "invalid_token")
		ref = c.Push(docTopic, "connect_document", json.RawMessage(request(docToken(t, nil), nil)))
		var told struct{ ClientID string }
		if err := json.Unmarshal(c.WantPush(docTopic, "connect_document_success", map[string]any{"mode": "write"}).Data, &told); err != nil {
			t.Fatal(err)
		}
		c.WantPush(docTopic, "op", map[string]any{"documentId": "doc1"})
		c.WantReply(ref, "ok", map[string]string{"clientId": told.ClientID})
		ref = c.Push(docTopic, "submitOp", json.RawMessage(fmt.Sprintf(`{"clientId":%q,"messageBatches":[[%s]]}`, told.ClientID, op(1, 1, `1`))))
		c.WantPush(docTopic, "op", map[string]any{"op": []any{map[string]any{"sequenceNumber": 2}}})
		c.WantReply(ref, "ok", map[string]int{"sequenceNumber": 2})
	})
}

func TestDocumentLimits(t *testing.T) { // 5.5, 3.3
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t, realtime.MaxDocumentClients(2), realtime.OpRate(1, 2), realtime.MaxUnsummarized(3), realtime.DowngradeToRead(), realtime.NoMembershipSignals())
		a, b, c := openDoc(t, s), openDoc(t, s), openDoc(t, s)
		a.connect(map[string]any{"token": docToken(t, map[string]any{"scopes": []string{"doc:read", "doc:write"}})})
		f := b.connect(map[string]any{"mode": "read", "token": docToken(t, map[string]any{"scopes": []string{"doc:read"}})})
		if f.data["mode"] != "read" {
			t.Errorf("success %s", f.text)
		}
		c.push("connect_document", request(docToken(t, nil), nil))
		if f := c.wantEvent("connect_document_error"); f.data["code"] != 429.0 || f.data["reason"] != "too_many_clients" {
			t.Errorf("got %s", f.text)
		}
		a.submit(op(1, 1, `1`), op(2, 1, `2`))
		a.wantOps()
		a.wantReply("ok", map[string]any{"sequenceNumber": 3})
		a.submit(op(3, 1, `3`), op(4, 1, `4`))
		f = a.wantNack(429, "throttled", "Too many operations")
		if f.data["content"].(map[string]any)["retryAfter"] != 2.0 {
			t.Errorf("nack %s", f.text)
		}
		time.Sleep(2 * time.Second)
		a.submit(op(3, 1, `3`), op(4, 1, `4`))
		a.wantOps()
		a.wantNack(429, "throttled", "Submit a summary before inserting additional operations")
	})
}

func TestDocumentOnOpSeesWhatIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		s, _ := docServer(t, realtime.OnOp(func(tenant, document string, ops []realtime.SequencedMessage) {
			for _, m := range ops {
				if seen = append(seen, m.Type); string(m.JSON) == "" || tenant+document != "acmedoc1" {
					t.Errorf("saw %+v of %s/%s", m, tenant, document)
				}
			}
			if len(ops) == 2 {
				panic("the host's")
			}
		}))
		a := openDoc(t, s)
		a.connect(nil)
		a.submit(op(1, 1, `1`))
		a.wantOps()
		a.wantReply("ok", map[string]any{"sequenceNumber": 2})
		a.submit(op(2, 1, `1`), op(3, 1, `1`))
		a.wantOps()
		a.wantEvent("phx_close")
		a.rejoin()
		a.connect(nil)
		if got := strings.Join(seen, " "); got != "join op op op leave join" {
			t.Errorf("the host saw %s", got)
		}
	})
}

func TestDocumentsStartedTogetherHaveOneSession(t *testing.T) { // 9
	synctest.Test(t, func(t *testing.T) {
		var events sessionEvents
		log := realtime.NewMemoryLog()
		s, d := docServer(t, realtime.DocumentLog(log), realtime.OnSession(events.hear))
		var all []*doc
		for range 8 {
			c := openDoc(t, s)
			c.push("connect_document", request(docToken(t, nil), nil))
			all = append(all, c)
		}
		for _, c := range all {
			c.id = c.wantEvent("connect_document_success").data["clientId"].(string)
		}
		events.want(t, "started acme/doc1")
		n := 0
		for id, session := range d.Sessions() {
			if n++; id != session.Document() || session.State().Clients != 8 {
				t.Errorf("session of %v has %+v", id, session.State())
			}
		}
		if n != 1 || len(stored(t, log)) != 8 {
			t.Errorf("%d sessions, stored %s", n, numbers(stored(t, log)))
		}
		// All submit at once: everybody sees one order.
		synctest.Wait()
		for i := range 20 {
			for _, c := range all {
				c.submit(op(i+1, 8, `1`))
			}
			time.Sleep(10 * time.Millisecond)
		}
		want := stored(t, log)
		if len(want) != 8+8*20 {
			t.Fatalf("stored %d messages", len(want))
		}
		for _, c := range all {
			var got []docMessage
			for last := int64(0); last < int64(len(want)); {
				if f := c.next(); f.event == "op" {
					got = append(got, f.messages(t, "op")...)
					last = got[len(got)-1].SequenceNumber
				}
			}
			for i, m := range got {
				if w := want[len(want)-len(got)+i]; m.text != w.text {
					t.Fatalf("got %s, want %s", m.text, w.text)
				}
			}
		}
	})
}

// brokenLog has no head for a time.
type brokenLog struct {
	realtime.OpLog
	until atomic.Int64 // in nanoseconds
}

func (l *brokenLog) breakFor(d time.Duration) { l.until.Store(time.Now().Add(d).UnixNano()) }

func (l *brokenLog) Head(ctx context.Context, id realtime.DocumentID) (realtime.LogHead, error) {
	if time.Now().UnixNano() < l.until.Load() {
		return realtime.LogHead{}, errors.New("not yet")
	}
	return l.OpLog.Head(ctx, id)
}

func TestDocumentConnectWaitsForASessionButNotForEver(t *testing.T) { // 3.3
	synctest.Test(t, func(t *testing.T) {
		log := &brokenLog{OpLog: realtime.NewMemoryLog()}
		log.breakFor(3 * time.Second)
		s, _ := docServer(t, realtime.DocumentLog(log))
		a := openDoc(t, s)
		start := time.Now()
		a.connect(nil)
		if after := time.Since(start); after < 3*time.Second || after > 4*time.Second {
			t.Errorf("connected after %v", after)
		}
		b := &doc{phx: dialPhoenix(t, s, "vsn=2.0.0"), topic: "document:acme:doc2"}
		b.rejoin()
		log.breakFor(time.Minute)
		change := map[string]any{"id": "doc2", "token": docToken(t, map[string]any{"documentId": "doc2"})}
		b.push("connect_document", request("", change))
		if f := b.wantEvent("connect_document_error"); f.data["code"] != 500.0 || f.data["reason"] != "session_failed" {
			t.Errorf("got %s", f.text)
		}
		b.wantReply("error", map[string]any{"reason": "session_failed", "code": 500, "message": "Failed to start document session"})
		log.breakFor(0)
		b.connect(change)
	})
}

func TestDocumentClientThatHoldsTooManySignalsIsClosed(t *testing.T) { // 9
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(4, 1<<20))
		s.Documents("document:{tenant}:{document}", realtime.DocumentTenants(acme(t)), realtime.NoMembershipSignals())
		a, slow := openDoc(t, s), openDoc(t, s)
		a.connect(nil)
		slow.connect(nil)
		a.wantOps()
		slow.StopReading()
		var left docFrame
		for range 40 {
			time.Sleep(20 * time.Millisecond) // within the rate
			a.push("submitSignal", fmt.Sprintf(`{"clientId":%q,"contentBatches":["x"]}`, a.id))
			if left = a.next(); left.event == "op" {
				break
			}
		}
		slow.Resume()
		if left.event != "op" || !strings.Contains(left.text, slow.id) || !strings.Contains(left.text, `"leave"`) {
			t.Errorf("got %s", left.text)
		}
	})
}

func TestDocumentsPanicOnMistakes(t *testing.T) {
	tenants := realtime.NewTenants()
	for pattern, opts := range map[string][]realtime.DocumentOption{
		"document:{tenant}:{document}":    {},
		"document:{tenant}":               {realtime.DocumentTenants(tenants)},
		"{kind}:{tenant}:{document}":      {realtime.DocumentTenants(tenants)},
		"document:{tenant}:{document...}": {realtime.DocumentTenants(tenants)},
		"document:{t}:{d}":                {realtime.DocumentTenants(tenants), realtime.MaxOps(0)},
		"document:{t}:{x}":                {realtime.DocumentTenants(tenants), realtime.OpRate(-1, 1)},
		"document:{t}:{y}":                {realtime.DocumentTenants(tenants), realtime.NoopTime(0)},
		"document:{t}:{z}":                {realtime.DocumentTenants(nil)},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", pattern)
				}
			}()
			newServer(t).Documents(pattern, opts...)
		}()
	}
}
