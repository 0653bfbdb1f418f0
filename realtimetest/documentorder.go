package realtimetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// DocumentOrder tests what every [realtime.DocumentOrder] must do, each part as a
// sub-test with two nodes of one backend from open, and documents that no other run has
// used. What one node does may take ten seconds to arrive at the other.
func DocumentOrder(t *testing.T, open func() (a, b realtime.DocumentOrder)) {
	for name, test := range map[string]func(*orderTest){
		"a document nobody has touched is empty":        (*orderTest).startsEmpty,
		"messages are those of the protocol":            (*orderTest).writesMessages,
		"numbers are those of the worked example":       (*orderTest).numbers,
		"what gets no number is refused for its reason": (*orderTest).refuses,
		"a submission ends at its first refusal":        (*orderTest).stopsAtRefusal,
		"noops are absorbed and consolidated":           (*orderTest).absorbs,
		"without summaries there is an end":             (*orderTest).wantsSummaries,
		"a summary has one answer":                      (*orderTest).answersOnce,
		"idle writers leave":                            (*orderTest).expels,
		"the dead are buried once":                      (*orderTest).buries,
		"who joins sees all that are there":             (*orderTest).showsClients,
		"readers have no messages":                      (*orderTest).hasReaders,
		"signals have their place":                      (*orderTest).placesSignals,
		"a step is told before it returns":              (*orderTest).tellsFirst,
		"numbers are dense under concurrent writers":    (*orderTest).isDense,
		"attending starts right after its state":        (*orderTest).startsExactly,
		"nothing is told after stop":                    (*orderTest).stops,
		"read returns pages of the same bytes":          (*orderTest).reads,
		"a newcomer catches up with thousands":          (*orderTest).catchesUp,
		"a node that starts later has everything":       func(t *orderTest) { t.restarts(open) },
		"documents do not mix":                          (*orderTest).separates,
		"a context that has ended stops everything":     (*orderTest).obeysContext,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open()
			test(&orderTest{T: t, a: a, b: b, id: newDocument(), now: time.UnixMilli(1_700_000_000_000)})
		})
	}
}

func newDocument() realtime.DocumentID {
	return realtime.DocumentID{Tenant: "t" + rand.Text(), Document: "a:'\"\\ü"}
}

// orderTest is one part of the suite.
type orderTest struct {
	*testing.T
	a, b realtime.DocumentOrder
	id   realtime.DocumentID
	now  time.Time // of the next step
}

// take takes a step on a node, which is named "a" or "b".
func (t *orderTest) take(node string, step *realtime.DocumentStep) *realtime.DocumentOutcome {
	t.Helper()
	o := t.a
	if node == "b" {
		o = t.b
	}
	step.Node, step.Now = node, t.now
	out, err := o.Take(t.Context(), t.id, step)
	if err != nil {
		t.Fatalf("Take(%+v): %v", step, err)
	}
	return out
}

// tailText is a tail whose text between its type and its timestamp is rest.
func tailText(kind, rest string) realtime.DocumentTail {
	return realtime.DocumentTail{Type: kind, Text: fmt.Appendf(nil, `,"type":%s,%s,"timestamp":`, quote(kind), rest)}
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// serverTail is the tail of a message of the server.
func serverTail(kind, contents string) realtime.DocumentTail {
	return tailText(kind, `"contents":`+contents+`,"data":`+quote(contents))
}

func joinContents(client string) string { return `{"clientId":` + quote(client) + `,"detail":{}}` }

func joinStep(client string, writer bool) *realtime.DocumentStep {
	return &realtime.DocumentStep{
		Kind: realtime.StepJoin, Client: client, Writer: writer, Summaries: strings.HasPrefix(client, "S"), Object: []byte(`{"of":` + quote(client) + `}`),
		Join: serverTail("join", joinContents(client)), Leave: serverTail("leave", quote(client)),
		Came: []byte("came " + client), Went: []byte("went " + client),
	}
}

func clientStep(kind realtime.StepKind, client string) *realtime.DocumentStep {
	return &realtime.DocumentStep{Kind: kind, Client: client}
}

func opOf(csn, rsn int64) realtime.DocumentOp {
	return realtime.DocumentOp{DocumentTail: tailText("op", fmt.Sprintf(`"contents":"op %d \u00e4\\"`, csn)), CSN: csn, RSN: rsn}
}

func noopOf(csn, rsn int64, null bool) realtime.DocumentOp {
	return realtime.DocumentOp{DocumentTail: tailText("noop", `"contents":null`), CSN: csn, RSN: rsn, Null: null}
}

func summarizeOf(csn, rsn int64) realtime.DocumentOp {
	return realtime.DocumentOp{DocumentTail: tailText("summarize", `"contents":{}`), CSN: csn, RSN: rsn,
		Refusal: [3][]byte{[]byte(`,"type":"summaryNack","contents":{"of":`), []byte(`},"data":"{\"of\":`), []byte(`}","timestamp":`)}}
}

func opsStep(client string, ops ...realtime.DocumentOp) *realtime.DocumentStep {
	return &realtime.DocumentStep{Kind: realtime.StepOps, Client: client, Ops: ops}
}

func noopStep() *realtime.DocumentStep {
	return &realtime.DocumentStep{Kind: realtime.StepNoop, Noop: tailText("noop", `"contents":null`)}
}

func ackStep(sn, covered int64, handle string) *realtime.DocumentStep {
	contents := fmt.Sprintf(`{"handle":%q,"summaryProposal":{"summarySequenceNumber":%d}}`, handle, sn)
	return &realtime.DocumentStep{Kind: realtime.StepAnswer, Answers: sn, Answer: serverTail("summaryAck", contents),
		Ack: realtime.SummaryMark{Handle: handle, SequenceNumber: sn, Covered: covered}}
}

func nackStep(sn int64) *realtime.DocumentStep {
	contents := fmt.Sprintf(`{"summaryProposal":{"summarySequenceNumber":%d}}`, sn)
	return &realtime.DocumentStep{Kind: realtime.StepAnswer, Answers: sn, Answer: serverTail("summaryNack", contents)}
}

func idleStep(timeout, period time.Duration) *realtime.DocumentStep {
	return &realtime.DocumentStep{Kind: realtime.StepIdle, Timeout: timeout, Period: period}
}

func buryStep(nodes ...string) *realtime.DocumentStep {
	return &realtime.DocumentStep{Kind: realtime.StepBury, Nodes: nodes}
}

func signalStep(client, text string) *realtime.DocumentStep {
	return &realtime.DocumentStep{Kind: realtime.StepSignal, Client: client, Signal: []byte(text)}
}

// jsonOf is the text that a message has to have.
func jsonOf(m realtime.SequencedMessage, tail realtime.DocumentTail) string {
	client := "null"
	if m.ClientID != "" {
		client = quote(m.ClientID)
	}
	return fmt.Sprintf(`{"clientId":%s,"sequenceNumber":%d,"minimumSequenceNumber":%d,"clientSequenceNumber":%d,"referenceSequenceNumber":%d%s%d}`,
		client, m.SequenceNumber, m.MinimumSequenceNumber, m.ClientSequenceNumber, m.ReferenceSequenceNumber, tail.Text, m.Timestamp)
}

// want checks the only message of an outcome; its type and text are those of tail.
func (t *orderTest) want(out *realtime.DocumentOutcome, client string, sn, msn, csn, rsn int64, tail realtime.DocumentTail) {
	t.Helper()
	want := realtime.SequencedMessage{SequenceNumber: sn, MinimumSequenceNumber: msn, ClientID: client, ClientSequenceNumber: csn,
		ReferenceSequenceNumber: rsn, Type: tail.Type, Timestamp: t.now.UnixMilli()}
	want.JSON = json.RawMessage(jsonOf(want, tail))
	if len(out.Messages) != 1 || out.Refusal != nil {
		t.Fatalf("got %v and the refusal %+v, want one message", out.Messages, out.Refusal)
	}
	t.wantMessages(out.Messages, []realtime.SequencedMessage{want})
	if out.SequenceNumber != sn {
		t.Errorf("the outcome says the document is at %d, want %d", out.SequenceNumber, sn)
	}
}

func (t *orderTest) wantMessages(got, want []realtime.SequencedMessage) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got the messages %v, want %v", numbers(got), numbers(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("got\n%+v %s, want\n%+v %s", got[i], got[i].JSON, want[i], want[i].JSON)
		}
	}
}

// nothing checks that a step had no message.
func (t *orderTest) nothing(out *realtime.DocumentOutcome) {
	t.Helper()
	if len(out.Messages) > 0 || out.Refusal != nil {
		t.Errorf("got the messages %v and the refusal %+v, want neither", out.Messages, out.Refusal)
	}
}

// ear attends a document on one node.
type ear struct {
	t        *orderTest
	standing *realtime.DocumentStanding
	stop     func()
	heard    chan struct{}

	inside atomic.Int32 // calls of tell under way

	mu      sync.Mutex // guards the following
	news    []*realtime.DocumentNews
	stopped bool
	since   bool // one was told since
}

func (t *orderTest) attend(o realtime.DocumentOrder) *ear {
	t.Helper()
	e := &ear{t: t, heard: make(chan struct{}, 1)}
	standing, stop, err := o.Attend(t.Context(), t.id, e.tell)
	if err != nil {
		t.Fatalf("Attend: %v", err)
	}
	e.standing, e.stop = standing, sync.OnceFunc(stop)
	t.Cleanup(e.stop)
	return e
}

func (e *ear) tell(n *realtime.DocumentNews) {
	if e.inside.Add(1) != 1 {
		e.t.Errorf("tell was called while it ran")
	}
	defer e.inside.Add(-1)
	runtime.Gosched() // lets a second call show itself
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped && e.since { // the first one may have been under way
		e.t.Errorf("told %+v after stop", n)
	}
	e.since = e.stopped
	e.news = append(e.news, n)
	select {
	case e.heard <- struct{}{}:
	default:
	}
}

func (e *ear) all() []*realtime.DocumentNews {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.news)
}

// want waits until enough says so of all that was told, and returns that.
func (e *ear) want(what string, enough func([]*realtime.DocumentNews) bool) []*realtime.DocumentNews {
	e.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		got := e.all()
		if enough(got) {
			return got
		}
		select {
		case <-e.heard:
		case <-late.C:
			e.t.Fatalf("no %s within %v; told %d news", what, patience, len(got))
		}
	}
}

// until waits for the message with a number, and returns all that were told: without a
// gap, and right after the state at which they began.
func (e *ear) until(sn int64) []realtime.SequencedMessage {
	e.t.Helper()
	got := messagesOf(e.want(fmt.Sprintf("message %d", sn), func(n []*realtime.DocumentNews) bool {
		all := messagesOf(n)
		return sn <= e.standing.SequenceNumber || len(all) > 0 && all[len(all)-1].SequenceNumber >= sn
	}))
	for i, m := range got {
		if want := e.standing.SequenceNumber + 1 + int64(i); m.SequenceNumber != want {
			e.t.Fatalf("told message %d, want %d", m.SequenceNumber, want)
		}
	}
	return got
}

func messagesOf(news []*realtime.DocumentNews) (all []realtime.SequencedMessage) {
	for _, n := range news {
		all = append(all, n.Messages...)
	}
	return all
}

// line is one news as a line of text, without who took the step.
func line(n *realtime.DocumentNews) string {
	var b strings.Builder
	for _, m := range n.Messages {
		fmt.Fprintf(&b, "%s ", m.JSON)
	}
	fmt.Fprintf(&b, "joined %q left %q signal %q of %q lost %v", n.Joined, n.Left, n.Signal, n.From, n.Lost)
	return b.String()
}

func lines(news []*realtime.DocumentNews) (all []string) {
	for _, n := range news {
		all = append(all, line(n))
	}
	return all
}

// wantSame waits until e was told as much as other, and wants it to be the same, each
// step taken by one of them.
func (e *ear) wantSame(other *ear) {
	e.t.Helper()
	first := other.all()
	second := e.want("news that the other node has", func(n []*realtime.DocumentNews) bool { return len(n) >= len(first) })
	for i := range first {
		if line(first[i]) != line(second[i]) {
			e.t.Fatalf("news %d is for one node\n%s\nand for the other\n%s", i, line(first[i]), line(second[i]))
		}
		if first[i].Taken == second[i].Taken {
			e.t.Errorf("news %d was taken by both or none: %s", i, line(first[i]))
		}
	}
	if len(second) > len(first) {
		e.t.Errorf("one node was told %d news, the other %d", len(first), len(second))
	}
}

func (t *orderTest) startsEmpty() {
	got := t.attend(t.a).standing
	if got.SequenceNumber != 0 || got.MSN != 0 || len(got.Clients) != 0 || len(got.Open) != 0 || got.Summaries != [2]realtime.SummaryMark{} {
		t.Errorf("a new document stands at %+v, want nothing", got)
	}
	if page, err := t.b.Read(t.Context(), t.id, 0, -1, 10); err != nil || len(page) != 0 {
		t.Errorf("Read returned %v and the error %v, want neither", page, err)
	}
	t.nothing(t.take("a", noopStep()))
	t.nothing(t.take("a", idleStep(time.Second, time.Second)))
	t.nothing(t.take("a", buryStep("b")))
	t.nothing(t.take("a", nackStep(1)))
	t.nothing(t.take("a", clientStep(realtime.StepLeave, "nobody")))
	if out := t.take("a", clientStep(realtime.StepRefer, "nobody")); out.Counts || out.Absorbed || out.SequenceNumber != 0 {
		t.Errorf("a reference of nobody: %+v, want it not to count", out)
	}
}

func (t *orderTest) writesMessages() {
	ear := t.attend(t.b)
	name := "S\"/\\\u00e4"
	join := joinStep(name, true)
	t.want(t.take("a", join), "", 1, 0, -1, 0, join.Join)
	t.now = t.now.Add(1500 * time.Microsecond)
	one := opOf(1, 1)
	t.want(t.take("b", opsStep(name, one)), name, 2, 1, 1, 1, one.DocumentTail)
	own := realtime.DocumentOp{DocumentTail: tailText("a 'type' \u00e4", `"contents":{"n":1.50e+300},"metadata":[]`), CSN: 2, RSN: -1}
	t.want(t.take("a", opsStep(name, own)), name, 3, 2, 2, 2, own.DocumentTail)
	ask := summarizeOf(3, 3)
	t.want(t.take("a", opsStep(name, ask)), name, 4, 3, 3, 3, ask.DocumentTail)
	ack := ackStep(4, 3, "h")
	t.want(t.take("b", ack), "", 5, 3, -1, 4, ack.Answer)
	t.take("a", &realtime.DocumentStep{Kind: realtime.StepRefer, Client: name, RSN: 5})
	t.want(t.take("b", noopStep()), "", 6, 5, -1, 5, noopStep().Noop)
	t.want(t.take("b", clientStep(realtime.StepLeave, name)), "", 7, 7, -1, 6, join.Leave)
	for i, m := range ear.until(7) {
		if !json.Valid(m.JSON) {
			t.Errorf("message %d is no JSON: %s", i+1, m.JSON)
		}
	}
}

// numbers is the table in section 5.3 of document.md.
func (t *orderTest) numbers() {
	a, b, c, d := joinStep("A", true), joinStep("B", true), joinStep("C", true), joinStep("D", true)
	t.want(t.take("a", a), "", 1, 0, -1, 0, a.Join)
	t.want(t.take("b", b), "", 2, 0, -1, 1, b.Join)
	t.want(t.take("a", opsStep("A", opOf(1, 2))), "A", 3, 0, 1, 2, opOf(1, 2).DocumentTail)
	t.want(t.take("b", opsStep("B", opOf(1, 3))), "B", 4, 2, 1, 3, opOf(1, 3).DocumentTail)
	t.want(t.take("a", opsStep("A", opOf(2, 4))), "A", 5, 3, 2, 4, opOf(2, 4).DocumentTail)
	t.want(t.take("a", c), "", 6, 3, -1, 5, c.Join)
	t.want(t.take("b", clientStep(realtime.StepLeave, "B")), "", 7, 3, -1, 6, b.Leave)
	t.wantRefusal(opsStep("C", opOf(1, 2)), 0, realtime.DocumentRefusal{Code: 400, Type: "BadRequestError", Message: "Refseq 2 < 3", Reason: "rsn_below_msn"})
	t.want(t.take("a", clientStep(realtime.StepLeave, "C")), "", 8, 4, -1, 7, c.Leave)
	t.want(t.take("a", clientStep(realtime.StepLeave, "A")), "", 9, 9, -1, 8, a.Leave)
	t.want(t.take("a", d), "", 10, 9, -1, 9, d.Join)
}

func (t *orderTest) wantRefusal(step *realtime.DocumentStep, at int, want realtime.DocumentRefusal) *realtime.DocumentOutcome {
	t.Helper()
	out := t.take("b", step)
	if out.Refusal == nil || *out.Refusal != want || out.Refused != at {
		t.Errorf("got the refusal %+v of op %d, want %+v of %d", out.Refusal, out.Refused, want, at)
	}
	return out
}

func bad(reason, message string) realtime.DocumentRefusal {
	return realtime.DocumentRefusal{Code: 400, Type: "BadRequestError", Reason: reason, Message: message}
}

func (t *orderTest) refuses() {
	t.take("a", joinStep("A", true))
	t.take("b", joinStep("S", true))
	ear := t.attend(t.a)
	t.wantRefusal(opsStep("nobody", opOf(1, 1)), 0, bad("nonexistent_client", "Nonexistent client"))
	t.take("b", joinStep("reader", false))
	t.wantRefusal(opsStep("reader", opOf(1, 1)), 0, bad("nonexistent_client", "Nonexistent client"))
	t.wantRefusal(opsStep("A", opOf(2, 1)), 0, bad("gap", "Gap detected in incoming op"))
	for _, kind := range []string{"join", "leave", "noClient", "control", "summaryAck", "summaryNack"} {
		op := opOf(1, 1)
		op.Type = kind
		t.wantRefusal(opsStep("A", op), 0, bad("op_not_allowed", "Op not allowed"))
	}
	t.wantRefusal(opsStep("A", opOf(1, 3)), 0, bad("invalid_rsn", "Invalid RSN: current SN is 2, received 3"))
	t.wantRefusal(opsStep("A", opOf(1, 1<<53-1)), 0, bad("invalid_rsn", "Invalid RSN: current SN is 2, received 9007199254740991"))
	t.wantRefusal(opsStep("A", summarizeOf(1, 1)), 0, realtime.DocumentRefusal{Code: 403, Type: "InvalidScopeError", Reason: "summary_scope",
		Message: "Client A does not have summary permission"})
	flawed := summarizeOf(1, 1)
	flawed.Flaw = "what is 'wrong' with it"
	t.wantRefusal(opsStep("S", flawed), 0, bad("malformed", flawed.Flaw))
	t.take("a", opsStep("A", opOf(1, 2)))
	t.take("a", opsStep("S", opOf(1, 2)))
	t.wantRefusal(opsStep("A", opOf(2, 1)), 0, bad("rsn_below_msn", "Refseq 1 < 2"))
	t.wantRefusal(opsStep("A", opOf(3, 4)), 0, bad("nonexistent_client", "Nonexistent client"))
	if out := t.take("a", &realtime.DocumentStep{Kind: realtime.StepRefer, Client: "A", RSN: 4}); out.Counts {
		t.Errorf("a reference of a client that is barred counts")
	}
	t.take("a", clientStep(realtime.StepLeave, "A"))
	t.wantRefusal(opsStep("A", opOf(3, 4)), 0, bad("nonexistent_client", "Nonexistent client"))
	if got := ear.until(5); len(got) != 3 {
		t.Errorf("told %d messages, want two ops and a leave: %v", len(got), got)
	}
}

func (t *orderTest) stopsAtRefusal() {
	ear := t.attend(t.a)
	t.take("a", joinStep("A", true))
	out := t.wantRefusal(opsStep("A", opOf(1, 1), opOf(2, 1), opOf(4, 1), opOf(3, 1)), 2, bad("gap", "Gap detected in incoming op"))
	if !slices.Equal(numbers(out.Messages), []int64{2, 3}) || out.SequenceNumber != 3 || out.MinimumSequenceNumber != 1 {
		t.Errorf("the outcome is %+v, want the messages 2 and 3", out)
	}
	out = t.take("a", opsStep("A", opOf(1, 1), opOf(2, 1), opOf(3, 1), opOf(3, 1), opOf(4, 1)))
	if !slices.Equal(numbers(out.Messages), []int64{4, 5}) || out.Refusal != nil {
		t.Errorf("the outcome is %+v, want the messages 4 and 5 without what is known", out)
	}
	t.nothing(t.take("b", opsStep("A", opOf(4, 1))))
	t.nothing(t.take("b", opsStep("A")))
	ear.until(5)
	if got := len(ear.all()); got != 3 {
		t.Errorf("told %d news, want the join and two submissions", got)
	}
}

func (t *orderTest) absorbs() {
	t.take("a", joinStep("A", true))
	t.take("b", joinStep("B", true))
	out := t.take("a", opsStep("A", noopOf(1, 2, false)))
	if t.nothing(out); !out.Absorbed || out.MinimumSequenceNumber != 0 {
		t.Errorf("the outcome is %+v, want a noop absorbed", out)
	}
	t.nothing(t.take("a", noopStep()))
	if out = t.take("b", opsStep("B", noopOf(1, 2, true))); !out.Absorbed || out.MinimumSequenceNumber != 2 || len(out.Messages) > 0 {
		t.Errorf("the outcome is %+v, want a noop absorbed, and the MSN 2", out)
	}
	t.want(t.take("b", noopStep()), "", 3, 2, -1, 2, noopStep().Noop)
	t.nothing(t.take("a", noopStep()))
	t.take("a", opsStep("A", noopOf(2, 3, true)))
	t.want(t.take("b", opsStep("B", noopOf(2, 3, false))), "B", 4, 3, 2, 3, noopOf(2, 3, false).DocumentTail)
	if out = t.take("a", opsStep("A", opOf(3, 4), noopOf(4, 4, true))); len(out.Messages) != 1 || !out.Absorbed {
		t.Errorf("the outcome is %+v, want a message, and then a noop absorbed", out)
	}
	if out = t.take("a", opsStep("A", noopOf(5, 4, true), opOf(6, 4))); len(out.Messages) != 1 || out.Absorbed {
		t.Errorf("the outcome is %+v, want a message, which tells what the noop before did", out)
	}
	refer := &realtime.DocumentStep{Kind: realtime.StepRefer, Client: "B", RSN: 5}
	if out = t.take("b", refer); !out.Counts || !out.Absorbed || out.MinimumSequenceNumber != 4 {
		t.Errorf("the outcome is %+v, want a reference that counts", out)
	}
	refer.RSN = 7
	if out = t.take("b", refer); out.Counts || out.Absorbed {
		t.Errorf("the outcome is %+v, want that no reference to the future counts", out)
	}
	if refer.RSN = 1; !t.take("b", refer).Counts {
		t.Errorf("a reference to the past does not count")
	}
	t.want(t.take("a", noopStep()), "", 7, 4, -1, 6, noopStep().Noop)
}

func (t *orderTest) wantsSummaries() {
	t.take("a", joinStep("A", true))
	t.take("a", joinStep("S", true))
	bounded := func(client string, csn int64) *realtime.DocumentStep {
		step := opsStep(client, opOf(csn, 0))
		step.MaxUnsummarized = 3
		return step
	}
	t.take("a", bounded("A", 1))
	t.take("a", bounded("A", 2))
	refusal := realtime.DocumentRefusal{Code: 429, Type: "ThrottlingError", Reason: "throttled", RetryAfter: 10,
		Message: "Submit a summary before inserting additional operations"}
	t.wantRefusal(bounded("A", 3), 0, refusal)
	t.take("a", opsStep("S", summarizeOf(1, 0)))
	t.take("a", ackStep(5, 0, "h"))
	t.take("a", bounded("A", 3))
	t.take("a", bounded("A", 4))
	t.take("b", bounded("A", 5))
	t.wantRefusal(bounded("A", 6), 0, refusal)
	t.take("b", bounded("S", 2))
	t.take("b", opsStep("A", opOf(6, 0)))
}

func (t *orderTest) answersOnce() {
	ear := t.attend(t.b)
	t.take("a", joinStep("S", true))
	for csn := int64(1); csn < 5; csn++ {
		t.take("a", opsStep("S", summarizeOf(csn, csn)))
	}
	t.nothing(t.take("a", ackStep(1, 0, "no summary")))
	t.nothing(t.take("a", ackStep(9, 0, "the future")))
	t.want(t.take("b", ackStep(3, 2, "one")), "", 6, 4, -1, 5, ackStep(3, 2, "one").Answer)
	t.nothing(t.take("a", nackStep(3)))
	t.want(t.take("a", nackStep(2)), "", 7, 4, -1, 6, nackStep(2).Answer)
	t.nothing(t.take("a", ackStep(2, 1, "late")))
	t.want(t.take("a", ackStep(5, 4, "two")), "", 8, 4, -1, 7, ackStep(5, 4, "two").Answer)
	ear.until(8)
	standing := t.attend(t.b).standing
	want := [2]realtime.SummaryMark{{Handle: "two", SequenceNumber: 5, Covered: 4}, {Handle: "one", SequenceNumber: 3, Covered: 2}}
	if standing.Summaries != want {
		t.Errorf("the summaries are %+v, want %+v", standing.Summaries, want)
	}
}

func (t *orderTest) expels() {
	ear := t.attend(t.a)
	t.take("a", joinStep("C", true))
	t.take("b", joinStep("B", true))
	t.take("b", joinStep("A", true))
	t.take("b", joinStep("reader", false))
	const timeout, period = time.Minute, 30 * time.Second
	look := func(node string, after time.Duration) *realtime.DocumentOutcome {
		t.Helper()
		t.now = t.now.Add(after)
		return t.take(node, idleStep(timeout, period))
	}
	t.nothing(look("a", 0))
	t.take("a", opsStep("A", opOf(1, 3)))
	t.nothing(look("b", period-time.Millisecond)) // too soon, it does not count
	t.nothing(look("a", time.Millisecond))
	t.nothing(look("b", period))
	t.nothing(look("a", timeout-2*time.Millisecond-period))
	out := look("b", 2*time.Millisecond)
	t.wantTypes(out, "leave", "leave")
	if !strings.Contains(string(out.Messages[0].JSON), `"contents":"B"`) || !strings.Contains(string(out.Messages[1].JSON), `"contents":"C"`) {
		t.Errorf("the leaves are %s and %s, want those of B and C in this order", out.Messages[0].JSON, out.Messages[1].JSON)
	}
	t.nothing(look("a", time.Hour))
	t.nothing(look("a", time.Hour))
	t.nothing(t.take("a", clientStep(realtime.StepLeave, "B")))
	t.wantRefusal(opsStep("B", opOf(1, 4)), 0, bad("nonexistent_client", "Nonexistent client"))
	ear.until(6)
	news := ear.all()
	if got, want := lines(news[len(news)-2:]), []string{"B", "C"}; !strings.Contains(got[0], want[0]) || news[len(news)-2].Left != "B" ||
		news[len(news)-1].Left != "C" || string(news[len(news)-1].Signal) != "went C" {
		t.Errorf("told %v, want the leaves of B and C one by one, with their signals", got)
	}
	t.take("b", joinStep("D", true))
	t.take("a", opsStep("A", opOf(2, 7)))
	t.nothing(look("a", time.Hour))
	t.nothing(look("b", timeout-time.Millisecond))
	t.nothing(look("a", 2*time.Millisecond)) // D's time is over, but it is too soon
	t.wantTypes(look("a", period), "leave")
}

func (t *orderTest) wantTypes(out *realtime.DocumentOutcome, want ...string) {
	t.Helper()
	var got []string
	for _, m := range out.Messages {
		got = append(got, m.Type)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got messages of the types %v, want %v", got, want)
	}
}

func (t *orderTest) buries() {
	ear := t.attend(t.a)
	t.take("b", joinStep("Z", true))
	t.take("a", joinStep("S1", true))
	t.take("b", joinStep("S2", true))
	t.take("b", joinStep("reader", false))
	t.take("a", opsStep("S1", summarizeOf(1, 1)))
	t.take("b", opsStep("S2", summarizeOf(1, 1)))
	t.nothing(t.take("a", buryStep()))
	t.nothing(t.take("a", buryStep("c")))
	t.wantTypes(t.take("a", buryStep("c", "b")), "leave", "leave", "summaryNack")
	t.nothing(t.take("a", buryStep("b")))
	t.nothing(t.take("a", clientStep(realtime.StepLeave, "Z")))
	t.nothing(t.take("a", clientStep(realtime.StepLeave, "reader")))
	t.nothing(t.take("a", ackStep(5, 1, "late")))
	ear.until(8)
	news := ear.all()
	var left []string
	for _, n := range news[len(news)-4:] {
		left = append(left, n.Left+" "+string(n.Signal))
	}
	if want := []string{"Z went Z", "S2 went S2", "reader went reader", " "}; !slices.Equal(left, want) {
		t.Errorf("told that %q left, want %q", left, want)
	}
	refusal := news[len(news)-1].Messages[0]
	if want := `"type":"summaryNack","contents":{"of":5},"data":"{\"of\":5}","timestamp":`; !strings.Contains(string(refusal.JSON), want) {
		t.Errorf("the summary is refused by %s, want %s", refusal.JSON, want)
	}
	t.wantTypes(t.take("b", ackStep(4, 1, "h")), "summaryAck")
	if got := clientsOf(t.attend(t.b).standing); !slices.Equal(got, []string{"S1 a write"}) {
		t.Errorf("there are %q, want S1 alone", got)
	}
	t.take("b", joinStep("B", true)) // it has come back
	t.wantTypes(t.take("a", buryStep("b")), "leave")
}

func clientsOf(s *realtime.DocumentStanding) (all []string) {
	for _, c := range s.Clients {
		all = append(all, c.ID+" "+c.Node+" "+c.Mode)
	}
	return all
}

func (t *orderTest) showsClients() {
	t.take("a", joinStep("B", true))
	t.take("b", joinStep("C", false))
	t.take("a", opsStep("B", opOf(1, 1)))
	t.take("a", joinStep("D", true))
	t.take("a", clientStep(realtime.StepLeave, "D"))
	got := t.take("b", joinStep("A", true)).Standing
	if got == nil {
		t.Fatalf("a join has no standing")
	}
	if want := []string{"B a write", "C b read", "A b write"}; !slices.Equal(clientsOf(got), want) {
		t.Errorf("there are %q, want %q", clientsOf(got), want)
	}
	for _, c := range got.Clients {
		if want := `{"of":` + quote(c.ID) + `}`; string(c.Object) != want {
			t.Errorf("%s is described as %s, want %s", c.ID, c.Object, want)
		}
	}
	if got.SequenceNumber != 5 || got.MinimumSequenceNumber != 1 || got.MSN != 1 || !slices.Equal(got.Open, []string{"B", "A"}) || got.Epoch == "" {
		t.Errorf("the standing is %+v", got)
	}
	t.take("b", &realtime.DocumentStep{Kind: realtime.StepRefer, Client: "B", RSN: 5})
	t.take("b", &realtime.DocumentStep{Kind: realtime.StepRefer, Client: "A", RSN: 5})
	if other := t.attend(t.a).standing; other.MinimumSequenceNumber != 1 || other.MSN != 5 || other.Epoch != got.Epoch {
		t.Errorf("the standing is %+v, want the MSN 5 that no message has told", other)
	}
}

func (t *orderTest) hasReaders() {
	ear := t.attend(t.b)
	out := t.take("a", joinStep("R", false))
	if t.nothing(out); out.Standing == nil || !slices.Equal(clientsOf(out.Standing), []string{"R a read"}) || out.SequenceNumber != 0 {
		t.Errorf("the outcome is %+v", out)
	}
	t.nothing(t.take("a", clientStep(realtime.StepLeave, "R")))
	silent := joinStep("Q", false)
	silent.Came, silent.Went = nil, nil
	t.take("a", silent)
	t.take("a", clientStep(realtime.StepLeave, "Q"))
	t.nothing(t.take("a", clientStep(realtime.StepLeave, "Q")))
	got := lines(ear.want("four news", func(n []*realtime.DocumentNews) bool { return len(n) >= 4 }))
	want := []string{`joined "R" left "" signal "came R" of "" lost <nil>`, `joined "" left "R" signal "went R" of "" lost <nil>`,
		`joined "Q" left "" signal "" of "" lost <nil>`, `joined "" left "Q" signal "" of "" lost <nil>`}
	if !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if ear.all()[2].Signal != nil {
		t.Errorf("the signal of a silent coming is not nil")
	}
}

func (t *orderTest) placesSignals() {
	one, other := t.attend(t.a), t.attend(t.b)
	t.take("a", joinStep("A", true))
	for csn := int64(1); csn <= 20; csn++ {
		t.take("a", opsStep("A", opOf(csn, 1)))
		t.nothing(t.take([]string{"a", "b"}[csn%2], signalStep("A", fmt.Sprintf("\x00after %d", csn+1))))
	}
	other.wantSame(one)
	last := int64(0)
	for _, n := range one.all() {
		if n.From != "" {
			if want := fmt.Sprintf("\x00after %d", last); string(n.Signal) != want || n.From != "A" {
				t.Errorf("after message %d came the signal %q of %q, want %q", last, n.Signal, n.From, want)
			}
		}
		if len(n.Messages) > 0 {
			last = n.Messages[len(n.Messages)-1].SequenceNumber
		}
	}
	if len(one.all()) != 41 {
		t.Errorf("told %d news, want 41", len(one.all()))
	}
}

func (t *orderTest) tellsFirst() {
	ear := t.attend(t.a)
	t.take("a", joinStep("A", true))
	for csn := int64(1); csn <= 50; csn++ {
		t.take("b", signalStep("B", "what the other node does may come between"))
		out := t.take("a", opsStep("A", opOf(csn, 1)))
		told := messagesOf(ear.all())
		if len(told) == 0 || told[len(told)-1].SequenceNumber < out.SequenceNumber {
			t.Fatalf("message %d was not told when Take returned", out.SequenceNumber)
		}
		t.take("a", signalStep("A", "mine"))
		if all := ear.all(); string(all[len(all)-1].Signal) != "mine" || !all[len(all)-1].Taken {
			t.Fatalf("a signal was not told when Take returned")
		}
	}
}

func (t *orderTest) isDense() {
	one, other := t.attend(t.a), t.attend(t.b)
	const writers, each = 8, 50
	for w := range writers {
		t.take([]string{"a", "b"}[w%2], joinStep(fmt.Sprint(w), true))
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			o, node := t.a, "a"
			if w%2 == 1 {
				o, node = t.b, "b"
			}
			for csn := int64(1); csn <= each; csn += 2 {
				step := opsStep(fmt.Sprint(w), opOf(csn, writers), opOf(csn+1, writers))
				step.Node = node
				out, err := o.Take(t.Context(), t.id, step)
				if err != nil || len(out.Messages) != 2 || out.Messages[1].SequenceNumber != out.Messages[0].SequenceNumber+1 {
					t.Errorf("Take: %+v, %v", out, err)
					return
				}
			}
		})
	}
	all.Wait()
	got := one.until(writers + writers*each)
	t.wantMessages(other.until(writers+writers*each), got)
	other.wantSame(one)
	csns := map[string]int64{}
	for _, m := range got[writers:] {
		if csns[m.ClientID]++; m.ClientSequenceNumber != csns[m.ClientID] {
			t.Errorf("CSN %d of %s, want %d", m.ClientSequenceNumber, m.ClientID, csns[m.ClientID])
		}
	}
}

// load has a writer of node b go on until stopped.
func (t *orderTest) load() (stop func()) {
	t.take("b", joinStep("W", true))
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for csn := int64(1); ctx.Err() == nil; csn++ {
			step := opsStep("W", opOf(csn, 1))
			step.Node = "b"
			if _, err := t.b.Take(t.Context(), t.id, step); err != nil {
				t.Errorf("Take: %v", err)
				return
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

func (t *orderTest) startsExactly() {
	stop := t.load()
	defer stop()
	for range 20 {
		e := t.attend(t.a)
		e.until(e.standing.SequenceNumber + 5)
		e.stop()
	}
}

func (t *orderTest) stops() {
	stop := t.load()
	defer stop()
	for range 20 {
		e := t.attend(t.a)
		e.until(e.standing.SequenceNumber + 1)
		e.stop()
		e.mu.Lock()
		e.stopped = true
		e.mu.Unlock()
	}
	e := t.attend(t.a)
	e.until(e.standing.SequenceNumber + 5)
}

func (t *orderTest) readAll(o realtime.DocumentOrder) (all []realtime.SequencedMessage) {
	t.Helper()
	for after := int64(0); ; after = all[len(all)-1].SequenceNumber {
		page, err := o.Read(t.Context(), t.id, after, -1, 1000)
		if err != nil {
			t.Fatalf("Read: %v", err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

func (t *orderTest) reads() {
	ear := t.attend(t.a)
	t.take("a", joinStep("A", true))
	for csn := int64(1); csn < 30; csn++ {
		t.take("a", opsStep("A", opOf(csn, 1)))
	}
	told := ear.until(30)
	for _, o := range []realtime.DocumentOrder{t.a, t.b} {
		t.wantMessages(t.readAll(o), told)
	}
	for _, c := range []struct {
		after, to   int64
		limit       int
		first, last int64
	}{
		{0, -1, 100, 1, 30}, {-5, -1, 100, 1, 30}, {0, -1, 3, 1, 3}, {3, -1, 3, 4, 6}, {0, 5, 100, 1, 5}, {4, 5, 100, 5, 5}, {29, -1, 1, 30, 30},
		{0, 1000, 100, 1, 30}, {10, 20, 5, 11, 15}, {30, -1, 10, 1, 0}, {31, -1, 10, 1, 0}, {5, 5, 10, 1, 0}, {6, 5, 10, 1, 0}, {0, 0, 10, 1, 0},
		{0, -1, 0, 1, 0}, {0, -1, -1, 1, 0},
	} {
		got, err := t.b.Read(t.Context(), t.id, c.after, c.to, c.limit)
		if err != nil || !slices.Equal(numbers(got), numbers(ops(c.first, c.last))) {
			t.Errorf("Read(%d, %d, %d) returned %v and %v, want %v", c.after, c.to, c.limit, numbers(got), err, numbers(ops(c.first, c.last)))
		}
	}
}

func (t *orderTest) catchesUp() {
	t.take("a", joinStep("A", true))
	const pages, page = 100, 100
	for p := range int64(pages) {
		var all []realtime.DocumentOp
		for i := range int64(page) {
			all = append(all, opOf(p*page+i+1, p*page+1))
		}
		if out := t.take("a", opsStep("A", all...)); len(out.Messages) != page {
			t.Fatalf("%d messages of %d got a number: %+v", len(out.Messages), page, out.Refusal)
		}
	}
	if e := t.attend(t.b); e.standing.SequenceNumber != pages*page+1 {
		t.Errorf("the document stands at %d, want %d", e.standing.SequenceNumber, pages*page+1)
	}
	got := t.readAll(t.b)
	if len(got) != pages*page+1 {
		t.Fatalf("read %d messages, want %d", len(got), pages*page+1)
	}
	for i, m := range got {
		if m.SequenceNumber != int64(i)+1 || i > 0 && string(m.JSON) != jsonOf(m, opOf(int64(i), 0).DocumentTail) {
			t.Fatalf("message %d is %s", i+1, m.JSON)
		}
	}
}

// restarts looks at a document with nodes that were not there when it was written. What
// open returns may be another backend: then there is nothing to see.
func (t *orderTest) restarts(open func() (a, b realtime.DocumentOrder)) {
	t.take("a", joinStep("S", true))
	t.take("b", joinStep("R", false))
	t.take("a", opsStep("S", opOf(1, 1), summarizeOf(2, 1)))
	t.take("a", &realtime.DocumentStep{Kind: realtime.StepRefer, Client: "S", RSN: 3})
	before, all := t.attend(t.a).standing, t.readAll(t.a)
	c, d := open()
	t.a, t.b = c, d
	ear := t.attend(d)
	if ear.standing.SequenceNumber == 0 {
		t.Skip("a backend of its own")
	}
	if !reflect.DeepEqual(ear.standing, before) {
		t.Errorf("the document stands at %+v, want %+v", ear.standing, before)
	}
	t.wantMessages(t.readAll(c), all)
	t.want(t.take("a", opsStep("S", opOf(3, 3))), "S", 4, 3, 3, 3, opOf(3, 0).DocumentTail)
	t.wantTypes(t.take("a", buryStep("a", "b")), "leave", "summaryNack")
	ear.until(6)
}

func (t *orderTest) separates() {
	first := t.attend(t.a)
	t.take("a", joinStep("A", true))
	t.id.Document += "2"
	t.want(t.take("a", joinStep("A", true)), "", 1, 0, -1, 0, joinStep("A", true).Join)
	t.take("b", buryStep("a"))
	t.id.Tenant += "2"
	t.want(t.take("b", joinStep("A", true)), "", 1, 0, -1, 0, joinStep("A", true).Join)
	if got := len(first.until(1)); got != 1 || len(first.all()) != 1 {
		t.Errorf("told %d messages, want those of the own document", got)
	}
}

func (t *orderTest) obeysContext() {
	t.take("a", joinStep("A", true))
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := t.a.Take(ended, t.id, opsStep("A", opOf(1, 1))); !errors.Is(err, context.Canceled) {
		t.Errorf("Take: error %v, want %v", err, context.Canceled)
	}
	if _, _, err := t.a.Attend(ended, t.id, func(*realtime.DocumentNews) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Attend: error %v, want %v", err, context.Canceled)
	}
	if _, err := t.a.Read(ended, t.id, 0, -1, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: error %v, want %v", err, context.Canceled)
	}
	t.want(t.take("a", opsStep("A", opOf(1, 1))), "A", 2, 1, 1, 1, opOf(1, 1).DocumentTail)
}
