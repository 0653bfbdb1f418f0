package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// lossyNode is a node to which not everything comes that others publish.
type lossyNode struct {
	*documents

	mu     sync.Mutex // guards the following
	loses  func(text string) bool
	resets []func()
}

// lossyPlace is where a document is kept, for a lossyNode.
type lossyPlace struct {
	documentPlace
	node *lossyNode
}

func (p *lossyPlace) subscribe(ctx context.Context, channel string, onMessage func(string), onReset func()) (func(), error) {
	p.node.mu.Lock()
	p.node.resets = append(p.node.resets, onReset)
	p.node.mu.Unlock()
	return p.documentPlace.subscribe(ctx, channel, func(text string) {
		p.node.mu.Lock()
		loses := p.node.loses
		p.node.mu.Unlock()
		if loses == nil || !loses(text) {
			onMessage(text)
		}
	}, onReset)
}

func newLossyNode(t testing.TB, url string, opts ...Option) *lossyNode {
	t.Helper()
	b, err := Open(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	n := &lossyNode{documents: b.documents}
	n.place = func(name string) (documentPlace, error) {
		at, err := b.placeOf(name)
		return &lossyPlace{at, n}, err
	}
	return n
}

// losing has the notices lost for which loses is true.
func (n *lossyNode) losing(loses func(text string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loses = loses
}

// reset tells the feeds that the connection was lost, and is back.
func (n *lossyNode) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.resets {
		f()
	}
}

var _ realtime.DocumentOrder = (*lossyNode)(nil)

var testDocument = realtime.DocumentID{Tenant: "acme", Document: "doc"}

// testStep is a step of one kind, with all that a join needs.
func testStep(kind realtime.StepKind, client string) *realtime.DocumentStep {
	return &realtime.DocumentStep{Kind: kind, Client: client, Node: "n", Writer: true, Summaries: true, Object: []byte(`{}`),
		Join: serverTail("join", `{"clientId":`+quote(client)+`}`), Leave: serverTail("leave", quote(client)), Noop: testTail("noop", ""),
		Came: []byte("came " + client), Went: []byte("went " + client), Signal: []byte("signal of " + client)}
}

func testTail(kind, contents string) realtime.DocumentTail {
	return realtime.DocumentTail{Type: kind, Text: fmt.Appendf(nil, `,"type":%q,"contents":%q,"timestamp":`, kind, contents)}
}

// serverTail is that of a message of the server, whose contents stand in it twice.
func serverTail(kind, contents string) realtime.DocumentTail {
	return realtime.DocumentTail{Type: kind, Text: fmt.Appendf(nil, `,"type":%q,"contents":%s,"data":%s,"timestamp":`, kind, contents, quote(contents))}
}

func quote(s string) string { return string(appendQuoted(nil, s)) }

// testOps is a submission of n ops.
func testOps(client string, csn, rsn int64, n int) *realtime.DocumentStep {
	step := testStep(realtime.StepOps, client)
	for i := range n {
		step.Ops = append(step.Ops, realtime.DocumentOp{DocumentTail: testTail("op", strings.Repeat("x", 100)), CSN: csn + int64(i), RSN: rsn})
	}
	return step
}

func testSummarize(client string, csn, rsn int64) *realtime.DocumentStep {
	step := testOps(client, csn, rsn, 1)
	step.Ops[0].DocumentTail = testTail("summarize", "{}")
	step.Ops[0].Refusal = [3][]byte{[]byte(`,"type":"summaryNack","contents":{"of":`), []byte(`},"data":"{\"of\":`), []byte(`}","timestamp":`)}
	return step
}

func testAck(sn, covered int64) *realtime.DocumentStep {
	step := testStep(realtime.StepAnswer, "")
	handle := fmt.Sprint("handle ", sn)
	step.Answer = serverTail("summaryAck", fmt.Sprintf(`{"handle":%q,"summaryProposal":{"summarySequenceNumber":%d}}`, handle, sn))
	step.Answers, step.Ack = sn, realtime.SummaryMark{Handle: handle, SequenceNumber: sn, Covered: covered}
	return step
}

// take takes a step that has to work.
func take(t testing.TB, o realtime.DocumentOrder, step *realtime.DocumentStep) *realtime.DocumentOutcome {
	t.Helper()
	out, err := o.Take(t.Context(), testDocument, step)
	if err != nil {
		t.Fatalf("step %d of %q: %v", step.Kind, step.Client, err)
	}
	return out
}

// witness attends the document and keeps what it is told.
type witness struct {
	t        testing.TB
	standing *realtime.DocumentStanding

	mu   sync.Mutex // guards the following
	news []*realtime.DocumentNews
	more chan struct{} // closed at the next news
}

func attend(t testing.TB, o realtime.DocumentOrder) *witness {
	t.Helper()
	w := &witness{t: t, more: make(chan struct{})}
	standing, stop, err := o.Attend(t.Context(), testDocument, w.tell)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w.standing = standing
	return w
}

func (w *witness) tell(n *realtime.DocumentNews) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.news = append(w.news, n)
	close(w.more)
	w.more = make(chan struct{})
}

// until waits until enough is true of what was told, and returns that.
func (w *witness) until(what string, enough func(news []*realtime.DocumentNews) bool) []*realtime.DocumentNews {
	w.t.Helper()
	late := time.After(30 * time.Second)
	for {
		w.mu.Lock()
		news, more := slices.Clone(w.news), w.more
		w.mu.Unlock()
		if enough(news) {
			return news
		}
		select {
		case <-more:
		case <-late:
			w.t.Fatalf("no %s; %d news, the last %s", what, len(news), describe(news))
		}
	}
}

func describe(news []*realtime.DocumentNews) string {
	if len(news) == 0 {
		return "none"
	}
	return fmt.Sprintf("%+v", *news[len(news)-1])
}

// untilMessage waits for a message, and wants all from the standing on, each once.
func (w *witness) untilMessage(sn int64) []realtime.SequencedMessage {
	w.t.Helper()
	var all []realtime.SequencedMessage
	w.until(fmt.Sprint("message ", sn), func(news []*realtime.DocumentNews) bool {
		all = nil
		for _, n := range news {
			all = append(all, n.Messages...)
		}
		return len(all) > 0 && all[len(all)-1].SequenceNumber >= sn
	})
	for i, m := range all {
		if want := w.standing.SequenceNumber + 1 + int64(i); m.SequenceNumber != want {
			w.t.Fatalf("told message %d, want %d", m.SequenceNumber, want)
		}
	}
	return all
}

func (w *witness) untilLost() error {
	w.t.Helper()
	isLost := func(news []*realtime.DocumentNews) bool { return len(news) > 0 && news[len(news)-1].Lost != nil }
	news := w.until("end", isLost)
	return news[len(news)-1].Lost
}
