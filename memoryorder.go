package realtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// NewMemoryOrder returns an order of documents in memory, which forgets everything
// with its process. Each call of node is the part of one node in it: the nodes have
// the documents in common. It is for tests of what several nodes do, in one process.
func NewMemoryOrder() (node func() DocumentOrder) {
	return newMemoryOrder(NewMemoryLog())
}

func newMemoryOrder(log OpLog) (node func() DocumentOrder) {
	o := &memoryOrder{log: log, documents: map[DocumentID]*orderedDocument{}}
	return func() DocumentOrder { return &orderNode{o} }
}

type memoryOrder struct {
	log OpLog

	mu        sync.Mutex // guards the following
	documents map[DocumentID]*orderedDocument
}

// orderNode is what one node has of an order.
type orderNode struct{ *memoryOrder }

// orderedDocument is one document. All its steps are taken, and told, under its lock.
type orderedDocument struct {
	id  DocumentID
	log OpLog

	mu  sync.Mutex // guards the following
	seq *sequencer
	orderedState
	attending []*orderListener
}

// orderedState is what a document knows beside its numbers. The slices are replaced,
// never changed, so that a copy is as good as an undo.
type orderedState struct {
	clients []orderedClient
	open    []openSummary
	looked  time.Time // for idle writers
}

type orderedClient struct {
	DocumentClient
	leave DocumentTail
	went  []byte
}

// openSummary is a summarize message without an answer.
type openSummary struct {
	sn      int64
	node    string
	refusal [3][]byte
}

// orderListener is one Attend that has not stopped.
type orderListener struct {
	node *orderNode
	tell func(*DocumentNews)
}

func (o *memoryOrder) find(id DocumentID) *orderedDocument {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.documents[id]
	if d == nil {
		d = &orderedDocument{id: id, log: o.log, seq: newSequencer(0, 0)}
		o.documents[id] = d
	}
	return d
}

// Read implements [DocumentOrder].
func (o *memoryOrder) Read(ctx context.Context, id DocumentID, after, to int64, limit int) ([]SequencedMessage, error) {
	return o.log.Read(ctx, id, after, to, limit)
}

// Attend implements [DocumentOrder].
func (n *orderNode) Attend(ctx context.Context, id DocumentID, tell func(*DocumentNews)) (*DocumentStanding, func(), error) {
	d := n.find(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	standing, err := d.standingLocked(ctx)
	if err != nil {
		return nil, nil, err
	}
	one := &orderListener{n, tell}
	d.attending = append(d.attending, one)
	return standing, func() { d.stop(one) }, nil
}

func (d *orderedDocument) stop(one *orderListener) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attending = slices.DeleteFunc(d.attending, func(a *orderListener) bool { return a == one })
}

func (d *orderedDocument) standingLocked(ctx context.Context) (*DocumentStanding, error) {
	head, err := d.log.Head(ctx, d.id)
	if err != nil {
		return nil, fmt.Errorf("read head of the log: %w", err)
	}
	s := &DocumentStanding{LogHead: head, MSN: d.seq.msn}
	for _, c := range d.clients {
		s.Clients = append(s.Clients, c.DocumentClient)
	}
	return s, nil
}

// Take implements [DocumentOrder].
func (n *orderNode) Take(ctx context.Context, id DocumentID, step *DocumentStep) (*DocumentOutcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := n.find(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	t := &turn{orderedDocument: d, step: step, now: step.Now}
	if t.now.IsZero() {
		t.now = time.Now()
	}
	if err := t.take(ctx); err != nil {
		return nil, err
	}
	for _, news := range t.news {
		for _, a := range d.attending {
			one := *news
			one.Taken = a.node == n
			a.tell(&one)
		}
	}
	return &t.out, nil
}

// turn is one step of a document while it is taken.
type turn struct {
	*orderedDocument
	step *DocumentStep
	now  time.Time
	out  DocumentOutcome
	news []*DocumentNews
	undo []snapshot
}

// take decides and stores. After an error the document is what it was.
func (t *turn) take(ctx context.Context) error {
	before, rounds, checks := t.orderedState, t.seq.rounds, slices.Clone(t.seq.checks)
	err := t.decide()
	if err == nil && len(t.out.Messages) > 0 {
		err = t.log.Append(ctx, t.id, t.out.Messages)
	}
	if err != nil {
		t.orderedState, t.seq.rounds, t.seq.checks = before, rounds, checks
		for _, s := range slices.Backward(t.undo) {
			t.seq.restore(s)
		}
		return err
	}
	if t.step.Kind == StepAnswer && len(t.out.Messages) > 0 && t.step.Ack.Handle != "" {
		t.seq.summarized = t.step.Ack.SequenceNumber
	}
	t.out.SequenceNumber, t.out.MinimumSequenceNumber = t.seq.sn, t.seq.msn
	if t.step.Kind == StepJoin {
		t.out.Standing, err = t.standingLocked(context.WithoutCancel(ctx))
	}
	return err
}

func (t *turn) decide() error {
	step := t.step
	switch step.Kind {
	case StepJoin:
		return t.join()
	case StepLeave:
		t.leave(func(c *orderedClient) bool { return c.ID == step.Client })
	case StepOps:
		t.submit()
	case StepRefer:
		t.save(step.Client)
		t.out.Counts = t.seq.refer(step.Client, step.RSN)
		t.out.Absorbed = t.out.Counts
	case StepNoop:
		t.save("")
		if ticket, ok := t.seq.noop(); ok {
			t.tell(DocumentNews{Messages: t.number("", ticket, step.Noop)})
		}
	case StepIdle:
		t.idle()
	case StepAnswer:
		t.answer()
	case StepBury:
		t.bury()
	case StepSignal:
		t.tell(DocumentNews{Signal: step.Signal, From: step.Client})
	default:
		return fmt.Errorf("realtime: no step of a document: %d", step.Kind)
	}
	return nil
}

// save remembers the sequencer before it does something for a client.
func (t *turn) save(client string) { t.undo = append(t.undo, t.seq.snapshot(client)) }

func (t *turn) tell(news DocumentNews) { t.news = append(t.news, &news) }

// number makes a message and returns it alone.
func (t *turn) number(client string, k ticket, tail DocumentTail) []SequencedMessage {
	m := SequencedMessage{SequenceNumber: k.sn, MinimumSequenceNumber: k.msn, ClientID: client, ClientSequenceNumber: k.csn,
		ReferenceSequenceNumber: k.rsn, Type: tail.Type, Timestamp: t.now.UnixMilli()}
	b := appendMessageHead(make([]byte, 0, 192+len(client)+len(tail.Text)), &m)
	b = strconv.AppendInt(append(b, tail.Text...), m.Timestamp, 10)
	m.JSON = append(b, '}')
	t.out.Messages = append(t.out.Messages, m)
	return []SequencedMessage{m}
}

var errClientTwice = errors.New("realtime: the client is in the document already")

func (t *turn) join() error {
	step := t.step
	if slices.ContainsFunc(t.clients, func(c orderedClient) bool { return c.ID == step.Client }) {
		return errClientTwice
	}
	c := orderedClient{DocumentClient{step.Client, step.Node, modeRead, step.Object}, step.Leave, step.Went}
	news := DocumentNews{Joined: step.Client, Signal: step.Came}
	if step.Writer {
		c.Mode = modeWrite
		t.save(step.Client)
		news.Messages = t.number("", t.seq.join(step.Client, step.Summaries), step.Join)
	}
	t.clients = append(slices.Clip(t.clients), c)
	t.tell(news)
	return nil
}

// leave has the clients leave for whom gone is true, in the order of their coming.
func (t *turn) leave(gone func(*orderedClient) bool) {
	var rest []orderedClient
	for _, c := range t.clients {
		if !gone(&c) {
			rest = append(rest, c)
			continue
		}
		news := DocumentNews{Left: c.ID, Signal: c.went}
		t.save(c.ID)
		if ticket, ok := t.seq.leave(c.ID); ok {
			news.Messages = t.number("", ticket, c.leave)
		}
		t.tell(news)
	}
	t.clients = rest
}

func (t *turn) submit() {
	step := t.step
	t.save(step.Client)
	t.seq.maxUnsummarized = step.MaxUnsummarized
	for i := range step.Ops {
		op := &step.Ops[i]
		r := t.seq.submit(step.Client, submission{kind: op.Type, csn: op.CSN, rsn: op.RSN, null: op.Null, flaw: op.Flaw})
		switch r.fate {
		case opRefused:
			t.out.Refused, t.out.Refusal = i, r.refusal.exported()
		case opAbsorbed:
			t.out.Absorbed = true
		case opSequenced:
			t.out.Absorbed = false
			t.number(step.Client, r.ticket, op.DocumentTail)
			if op.Type == typeSummarize {
				t.open = append(slices.Clip(t.open), openSummary{r.ticket.sn, step.Node, op.Refusal})
			}
		}
		if r.fate == opRefused {
			break
		}
	}
	if len(t.out.Messages) > 0 {
		t.tell(DocumentNews{Messages: t.out.Messages})
	}
}

func (r *refusal) exported() *DocumentRefusal {
	return &DocumentRefusal{Code: r.code, Type: r.kind, Message: r.message, Reason: r.reason, RetryAfter: r.retryAfter}
}

func (t *turn) idle() {
	if step := t.step; t.looked.IsZero() || !t.now.Before(t.looked.Add(step.Period)) {
		t.looked = t.now
		for _, id := range t.seq.idle(t.now, step.Timeout) {
			t.leave(func(c *orderedClient) bool { return c.ID == id })
		}
	}
}

func (t *turn) answer() {
	answered := func(s openSummary) bool { return s.sn == t.step.Answers }
	if !slices.ContainsFunc(t.open, answered) {
		return
	}
	t.open = slices.DeleteFunc(slices.Clone(t.open), answered)
	t.save("")
	t.tell(DocumentNews{Messages: t.number("", t.seq.answer(), t.step.Answer)})
}

func (t *turn) bury() {
	t.leave(func(c *orderedClient) bool { return slices.Contains(t.step.Nodes, c.Node) })
	var rest []openSummary
	var refused []SequencedMessage
	for _, s := range t.open {
		if !slices.Contains(t.step.Nodes, s.node) {
			rest = append(rest, s)
			continue
		}
		t.save("")
		refused = append(refused, t.number("", t.seq.answer(), s.tail())...)
	}
	if t.open = rest; len(refused) > 0 {
		t.tell(DocumentNews{Messages: refused})
	}
}

// tail is that of the message that refuses the summary.
func (s *openSummary) tail() DocumentTail {
	text, sn := slices.Clone(s.refusal[0]), s.sn
	text = append(strconv.AppendInt(text, sn, 10), s.refusal[1]...)
	return DocumentTail{typeSummaryNack, append(strconv.AppendInt(text, sn, 10), s.refusal[2]...)}
}
