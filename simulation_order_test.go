package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// simOrder is a document at two nodes, which take their steps of an order in memory.
// The people are divided among them.
type simOrder struct {
	simHooks
	w       *world
	node    func() DocumentOrder
	nodes   [2]*simNode
	dead    []string // names of nodes whose clients have yet to leave
	leaving []string // their leave is not taken yet
	asked   []SequencedMessage
	cut     bool // the step is stored, but nobody knows
	born    int  // nodes so far
	now     time.Time
	noopAt  time.Time
	checkAt time.Time
}

// simNode is one node, until it dies.
type simNode struct {
	DocumentOrder
	name    string
	members []string
	stop    func()
}

func anOrder(w *world, h simHooks) simDocument {
	w.shared = true
	d := &simOrder{simHooks: h, w: w, now: w.now}
	d.node = newMemoryOrder(&simOpLog{OpLog: NewMemoryLog(), d: d})
	d.start()
	return d
}

var simID = DocumentID{"t", "d"}

func (d *simOrder) start() {
	for i := range d.nodes {
		d.born++
		n := &simNode{DocumentOrder: d.node(), name: strconv.Itoa(d.born)}
		_, stop, err := n.Attend(context.Background(), simID, func(news *DocumentNews) { d.told(n, news) })
		if err != nil {
			d.w.fail("Attend: %v", err)
		}
		n.stop = stop
		d.nodes[i] = n
	}
}

// at is the node of a person.
func (d *simOrder) at(id string) *simNode { return d.nodes[id[0]%2] }

// told gives messages to a node's members.
func (d *simOrder) told(n *simNode, news *DocumentNews) {
	if len(news.Messages) > 0 {
		d.noopAt = time.Time{}
		messages := d.stored(news.Messages)
		for _, id := range n.members {
			d.deliver(id, simEvent{messages: messages})
		}
	}
}

// stored returns what the log has of messages, which are those or the test fails.
func (d *simOrder) stored(messages []SequencedMessage) (all []simMessage) {
	for _, m := range messages {
		one := simMessage{}
		if m.SequenceNumber <= int64(len(d.w.log.messages)) {
			one = d.w.log.messages[m.SequenceNumber-1]
		}
		if one.sn != m.SequenceNumber || one.msn != m.MinimumSequenceNumber || one.kind != m.Type || one.csn != m.ClientSequenceNumber {
			d.w.fail("message %+v is stored as %s", m, one)
		}
		all = append(all, one)
	}
	return all
}

// simOpLog stores in the world's log first.
type simOpLog struct {
	OpLog
	d *simOrder
}

func (l *simOpLog) Append(ctx context.Context, id DocumentID, messages []SequencedMessage) error {
	switch err := l.d.store(simMessages(l.d.w, messages)); err {
	case nil:
	case errSimCut:
		l.d.cut = true
	default:
		return err
	}
	return l.OpLog.Append(ctx, id, messages)
}

// simMessages reads messages as a client does: from their text.
func simMessages(w *world, messages []SequencedMessage) (all []simMessage) {
	for _, m := range messages {
		var read struct {
			ClientID                                                                                        *string
			SequenceNumber, MinimumSequenceNumber, ClientSequenceNumber, ReferenceSequenceNumber, Timestamp int64
			Type                                                                                            string
			Contents                                                                                        json.RawMessage
		}
		effect, err := m.Effect()
		if err == nil {
			err = json.Unmarshal(m.JSON, &read)
		}
		if err != nil {
			w.fail("message %s: %v", m.JSON, err)
			continue
		}
		one := simMessage{ticket: ticket{read.SequenceNumber, read.MinimumSequenceNumber, read.ReferenceSequenceNumber, read.ClientSequenceNumber},
			kind: read.Type, subject: effect.Joined + effect.Left}
		if read.ClientID != nil {
			one.author = *read.ClientID
			one.what, _ = strconv.Atoi(string(read.Contents))
		}
		if one.ticket != (ticket{m.SequenceNumber, m.MinimumSequenceNumber, m.ReferenceSequenceNumber, m.ClientSequenceNumber}) ||
			one.author != m.ClientID || one.kind != m.Type || read.Timestamp != m.Timestamp || m.Timestamp != w.now.UnixMilli() {
			w.fail("message %s is not %+v", m.JSON, m)
		}
		all = append(all, one)
	}
	return all
}

func (d *simOrder) take(n *simNode, step *DocumentStep) (*DocumentOutcome, bool) {
	step.Node, step.Now = n.name, d.w.now
	out, err := n.Take(context.Background(), simID, step)
	if d.cut {
		d.cut = false
		d.crash()
		return nil, false
	}
	if err != nil {
		return nil, false
	}
	for _, m := range out.Messages {
		if m.Type == typeSummarize {
			d.asked = append(d.asked, m)
		}
	}
	if out.Absorbed && d.noopAt.IsZero() {
		d.noopAt = d.now.Add(simConsolidation)
	}
	return out, true
}

// up has those leave who have to.
func (d *simOrder) up() bool {
	if len(d.dead) > 0 {
		if _, ok := d.take(d.nodes[0], &DocumentStep{Kind: StepBury, Nodes: d.dead}); !ok {
			return false
		}
		d.dead = nil
	}
	for len(d.leaving) > 0 {
		id := d.leaving[0]
		if _, ok := d.take(d.at(id), &DocumentStep{Kind: StepLeave, Client: id}); !ok {
			return false
		}
		d.leaving = d.leaving[1:]
	}
	return true
}

func simTail(kind string, contents []byte) DocumentTail {
	return DocumentTail{kind, appendMessageTail(nil, kind, contents, contents, nil, nil)}
}

func (d *simOrder) connect(id string, after int64) bool {
	if !d.up() {
		return false
	}
	n := d.at(id)
	if _, ok := d.take(n, &DocumentStep{Kind: StepJoin, Client: id, Writer: true, Summaries: id[0] == 'A', Object: []byte(`{}`),
		Join: simTail(typeJoin, joinContents(id, []byte(`{}`))), Leave: simTail(typeLeave, leaveContents(id))}); !ok {
		return false
	}
	n.members = append(n.members, id)
	var rest []SequencedMessage
	for {
		page, err := n.Read(context.Background(), simID, after, -1, 1000)
		if err != nil || len(page) == 0 {
			break
		}
		rest, after = append(rest, page...), page[len(page)-1].SequenceNumber
	}
	d.deliver(id, simEvent{messages: d.stored(rest)})
	return true
}

func (d *simOrder) disconnect(id string) {
	n := d.at(id)
	n.members = slices.DeleteFunc(n.members, func(m string) bool { return m == id })
	d.leaving = append(d.leaving, id)
	d.up()
}

func (d *simOrder) submit(id string, ops []simOp) {
	step := &DocumentStep{Kind: StepOps, Client: id}
	for _, op := range ops {
		one := DocumentOp{CSN: op.csn, RSN: op.rsn, Null: op.null, Flaw: op.flaw}
		one.DocumentTail = DocumentTail{op.kind, appendMessageTail(nil, op.kind, fmt.Append(nil, op.what), nil, nil, nil)}
		one.Refusal = [3][]byte{[]byte(`,"type":"summaryNack","contents":`), []byte(`,"data":`), []byte(`,"timestamp":`)}
		step.Ops = append(step.Ops, one)
	}
	out, ok := d.take(d.at(id), step)
	switch {
	case !ok && slices.Contains(d.at(id).members, id):
		d.deliver(id, simEvent{nack: &refusal{code: 429, kind: throttlingError, reason: "unavailable", retryAfter: 5}})
	case ok && out.Refusal != nil:
		d.deliver(id, simEvent{nack: &refusal{code: out.Refusal.Code, kind: out.Refusal.Type, reason: out.Refusal.Reason,
			message: out.Refusal.Message, retryAfter: out.Refusal.RetryAfter}})
	}
}

func (d *simOrder) refer(id string, rsn int64) {
	d.take(d.at(id), &DocumentStep{Kind: StepRefer, Client: id, RSN: rsn})
}

func (d *simOrder) answer() {
	if !d.up() || len(d.asked) == 0 {
		return
	}
	m := d.asked[0]
	if _, ok := d.take(d.nodes[1], &DocumentStep{Kind: StepAnswer, Answers: m.SequenceNumber,
		Answer: simTail(typeSummaryAck, ackContents("h", m.SequenceNumber)), Ack: SummaryMark{"h", m.SequenceNumber, m.ReferenceSequenceNumber}}); ok {
		d.asked = d.asked[1:]
	}
}

func (d *simOrder) tick(now time.Time) {
	d.now = now
	if d.up() && !d.noopAt.IsZero() && !now.Before(d.noopAt) {
		d.noopAt = time.Time{}
		if _, ok := d.take(d.nodes[0], &DocumentStep{Kind: StepNoop, Noop: DocumentTail{typeNoop, appendMessageTail(nil, typeNoop, nil, nil, nil, nil)}}); !ok {
			d.noopAt = now.Add(simConsolidation)
		}
	}
	if !now.Before(d.checkAt) && d.w.log.fails == 0 { // the model cannot undo a check
		d.checkAt = now.Add(simCheck)
		d.idle(now)
		d.take(d.nodes[1], &DocumentStep{Kind: StepIdle, Timeout: simTimeout, Period: simCheck})
		d.take(d.nodes[0], &DocumentStep{Kind: StepIdle, Timeout: simTimeout, Period: simCheck}) // too soon
	}
}

// crash ends both nodes.
func (d *simOrder) crash() {
	d.noopAt = time.Time{}
	old := d.nodes
	d.start()
	for _, n := range old {
		n.stop()
		d.dead = append(d.dead, n.name)
		for _, id := range n.members {
			d.deliver(id, simEvent{closed: true})
		}
	}
}

// TestEveryHistoryKeepsTheOrderOfTwoNodes is the simulation once more, through an order
// of documents that outlives the nodes.
func TestEveryHistoryKeepsTheOrderOfTwoNodes(t *testing.T) {
	s := simulation{document: anOrder}
	start := time.Now()
	first, end := simSeeds(t)
	if raceEnabled && os.Getenv("REALTIME_SEEDS") == "" {
		end = min(end, 1000) // ten times as slow
	}
	if failed := s.check(first, end); failed < end {
		t.Fatal(s.report(failed))
	}
	t.Logf("%d seeds in %v", end-first, time.Since(start).Round(time.Millisecond))
}
