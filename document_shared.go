package realtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// sharedOrder has a document ordered together with other nodes. It implements
// [ordering]. Steps are taken without the session's lock; what comes of them, here or at
// another node, is heard in its order, and queued under it.
type sharedOrder struct {
	*Session
	common DocumentOrder
	debts  *debts
	stop   func() // the hearing; set by open

	// Guarded by the session's lock.
	opened   bool
	early    []*DocumentNews         // heard before it was opened
	here     map[string]bool         // the clients of all nodes
	entering map[string]*participant // whose join is under way
}

// open implements [ordering].
func (s *sharedOrder) open(ctx context.Context) error {
	standing, stop, err := s.common.Attend(ctx, s.id, s.told)
	if err != nil {
		return fmt.Errorf("attend the document: %w", err)
	}
	s.stop = stop
	if err := s.begin(standing); err != nil {
		stop()
		return err
	}
	s.mourn(standing)
	return nil
}

func (s *sharedOrder) begin(standing *DocumentStanding) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID, s.here, s.entering = map[string]*participant{}, map[string]bool{}, map[string]*participant{}
	for _, c := range standing.Clients {
		s.here[c.ID] = true
	}
	s.summaries = standing.Summaries
	s.noteLocked(standing.SequenceNumber, standing.MinimumSequenceNumber)
	for _, news := range s.early {
		s.hearLocked(news)
	}
	s.opened, s.early = true, nil
	s.emptySince = time.Now()
	s.planLocked(s.emptySince)
	return s.lost
}

// mourn has the clients leave whose nodes are not there any more. Of those that cannot
// be known the registry hears in time.
func (s *sharedOrder) mourn(standing *DocumentStanding) {
	var dead []string
	for _, c := range standing.Clients {
		alive, known := s.node.cluster.alive(c.Node)
		if known && !alive && !slices.Contains(dead, c.Node) {
			dead = append(dead, c.Node)
		}
	}
	if len(dead) > 0 {
		s.debts.owe(s.id, &DocumentStep{Kind: StepBury, Nodes: dead})
	}
}

// take takes a step, on behalf of this node.
func (s *sharedOrder) take(step *DocumentStep) (*DocumentOutcome, error) {
	start := time.Now()
	ctx := newDeadline(s.ctx, appendTime)
	defer ctx.end()
	step.Node = s.node.cluster.id()
	out, err := s.common.Take(ctx, s.id, step)
	s.count.appends.Observe(time.Since(start).Seconds())
	if err == nil {
		return out, nil
	}
	err = fmt.Errorf("take a step of the document: %w", err)
	s.node.log.Log(s.ctx, brokerLevel(err), "realtime: document order", "tenant", s.id.Tenant, "document", s.id.Document, "error", err)
	return nil, err
}

// told is called with what happens, wherever it does.
func (s *sharedOrder) told(news *DocumentNews) {
	s.enter(func() {
		if !s.opened {
			s.early = append(s.early, news)
			return
		}
		s.hearLocked(news)
	})
}

var errDisorder = errors.New("realtime: the order of documents has told of messages out of their order")

func (s *sharedOrder) hearLocked(news *DocumentNews) {
	switch {
	case news.Lost != nil:
		s.lost = fmt.Errorf("the order of documents: %w", news.Lost)
		return
	case len(news.Messages) > 0 && news.Messages[0].SequenceNumber != s.sn+1:
		s.lost = fmt.Errorf("%w: %d after %d", errDisorder, news.Messages[0].SequenceNumber, s.sn)
		return
	}
	if len(news.Messages) > 0 {
		s.queueLocked(news.Messages, nil)
	}
	if news.Joined != "" {
		s.joinedLocked(news.Joined)
	}
	if news.Left != "" {
		s.leftLocked(news.Left)
	}
	if news.Signal != nil {
		s.relayLocked(news)
	}
	if news.Taken && len(news.Messages) > 0 {
		s.debts.seen(s.id, s.sn)
		s.showLocked(news.Messages)
	}
}

// joinedLocked begins what one of this node's clients gets: it is queued once the client
// has been welcomed.
func (s *sharedOrder) joinedLocked(id string) {
	s.here[id] = true
	if p := s.entering[id]; p != nil {
		delete(s.entering, id)
		p.behind, p.cursor = true, s.sn
		s.addLocked(p, time.Now())
	}
}

// leftLocked notes that a client has left. One of this node's that did not ask for it
// was expelled: a writer has seen its own leave, a reader has nothing to see.
func (s *sharedOrder) leftLocked(id string) {
	delete(s.here, id)
	if p := s.byID[id]; p != nil && !p.departed {
		p.departed = true
		if p.mode == modeRead {
			s.ended = append(s.ended, p)
		}
	}
}

// relayLocked gives signals to those they are meant for.
func (s *sharedOrder) relayLocked(news *DocumentNews) {
	if news.From == "" {
		s.signalLocked(news.Signal, s.byID[news.Joined])
		return
	}
	all, ok := parseSignals(news.Signal)
	if !ok {
		s.node.log.Error("realtime: signals of another node are none", "tenant", s.id.Tenant, "document", s.id.Document)
		return
	}
	for i := range all {
		n := s.noticeOf(eventSignal, signalData(news.From, all[i].content))
		for _, to := range s.participants {
			if to.id != news.From && all[i].isFor(to.id) {
				s.tellLocked(to, n)
			}
		}
	}
}

// connect implements [ordering]. An attempt that came to nothing may have been a join
// all the same: it is followed by a leave, and the next one has another client id.
func (s *sharedOrder) connect(a *admission) error {
	var full bool
	lost := s.enter(func() {
		if full = s.maxClients > 0 && len(s.here)+len(s.entering) >= s.maxClients; !full {
			s.entering[a.p.id] = a.p
		}
	})
	switch {
	case lost != nil:
		return lost
	case full:
		return errTooManyClients
	}
	out, err := s.take(s.joining(a))
	if err == nil {
		err = s.welcome(a, out)
	}
	if err != nil {
		s.retreat(a.p)
	}
	return err
}

func (s *sharedOrder) joining(a *admission) *DocumentStep {
	p := a.p
	step := &DocumentStep{Kind: StepJoin, Client: p.id, Writer: p.mode == modeWrite, Summaries: a.summaries, Object: p.object,
		Join: systemTail(typeJoin, joinContents(p.id, p.object)), Leave: systemTail(typeLeave, leaveContents(p.id))}
	if !s.unannounced {
		step.Came, step.Went = joinSignal(p.id, p.object), leaveSignal(p.id)
	}
	return step
}

// retreat undoes an attempt to connect.
func (s *sharedOrder) retreat(p *participant) {
	s.enter(func() {
		delete(s.entering, p.id)
		if s.byID[p.id] == p {
			s.removeLocked(p)
		}
	})
	s.debts.owe(s.id, &DocumentStep{Kind: StepLeave, Client: p.id})
	*p = participant{id: newClientID(), mode: p.mode, object: p.object, client: p.client, ch: p.ch, member: p.member}
}

// welcome tells a client whose join was taken that it is connected.
func (s *sharedOrder) welcome(a *admission, out *DocumentOutcome) error {
	before := out.SequenceNumber - int64(len(out.Messages))
	s.mu.Lock()
	if out.Standing.Summaries[0].SequenceNumber >= s.summaries[0].SequenceNumber {
		s.summaries = out.Standing.Summaries
	}
	after := s.initialLocked(a, before)
	initial, ok := s.readLocked(after, before, s.history)
	s.mu.Unlock()
	var err error
	if !ok || int64(len(initial)) < before-after {
		if initial, err = s.readAll(after, before); err != nil {
			return err
		}
	}
	a.clients, a.sn = out.Standing.Clients, out.SequenceNumber
	lost := s.enter(func() {
		if s.byID[a.p.id] != a.p {
			err = errors.New("realtime: the order of documents has taken a join without telling of it")
			return
		}
		s.receiveLocked(a, initial, out.Messages, before)
	})
	return cmp.Or(lost, err)
}

// receiveLocked queues for a client that its join was taken, and then what has happened
// since.
func (s *sharedOrder) receiveLocked(a *admission, initial, news []SequencedMessage, before int64) {
	p := a.p
	since, bytes := p.held, p.bytes
	p.behind, p.held, p.bytes = false, nil, 0
	s.welcomeLocked(a, initial, news, before, time.Now())
	if len(since) == 0 && s.sn == a.sn {
		return
	}
	if !p.behind {
		s.wakes.add(p.client, p.lagLocked(a.sn))
	}
	p.held, p.bytes = append(p.held, since...), p.bytes+bytes
}

// submit implements [ordering]. The messages have been heard when the step returns, so
// that the nack follows them.
func (s *sharedOrder) submit(p *participant, ops []proposal) (sn int64, refused *nack, err error) {
	gone := false
	if err := s.enter(func() { gone, sn = p.gone, s.sn }); err != nil || gone || len(ops) == 0 {
		return sn, nil, err
	}
	out, failed := s.take(s.submitting(p, ops))
	err = s.enter(func() {
		switch {
		case failed != nil:
			refused = unavailable(s.msn)
		case out.Refusal != nil:
			refused = &nack{refusal: out.Refusal.imported(), operation: ops[out.Refused].raw, sequenceNumber: out.MinimumSequenceNumber}
		}
		if out != nil {
			sn = out.SequenceNumber
			s.absorbedLocked(out)
		}
		if refused != nil && !p.gone {
			s.nackLocked(p, refused)
		}
	})
	for _, r := range s.proposed(p, ops, out) {
		s.propose(r, err)
	}
	return sn, refused, err
}

// propose has the host decide about a summary, unless the session is over. That there is
// no host to ask is told before the answer to the submission.
func (s *sharedOrder) propose(r SummaryRequest, over error) {
	if over == nil && s.summary != nil {
		over = s.enter(func() { s.considerLocked(r) })
	}
	switch {
	case over != nil:
		s.forsake(r, typeSummaryNack, nackContents(r.SequenceNumber, 500, interruptedText, 0))
	case s.summary == nil:
		r, kind, contents := s.conclusion(r, "", errNoSummaries)
		if _, err := s.take(answering(r, kind, contents)); err != nil {
			s.forsake(r, kind, contents)
		}
	}
}

func (s *sharedOrder) submitting(p *participant, ops []proposal) *DocumentStep {
	step := &DocumentStep{Kind: StepOps, Client: p.id, MaxUnsummarized: s.maxUnsummarized, Ops: make([]DocumentOp, len(ops))}
	for i := range ops {
		op := &ops[i]
		step.Ops[i] = DocumentOp{DocumentTail: op.tail(), CSN: op.csn, RSN: op.rsn, Null: isNull(op.contents), Flaw: op.flaw}
		if op.kind == typeSummarize {
			step.Ops[i].Refusal = interruptedTail()
		}
	}
	return step
}

func (r *DocumentRefusal) imported() refusal {
	return refusal{code: r.Code, kind: r.Type, message: r.Message, reason: r.Reason, retryAfter: r.RetryAfter}
}

// proposed are the summaries that an outcome has messages of.
func (s *sharedOrder) proposed(p *participant, ops []proposal, out *DocumentOutcome) (all []SummaryRequest) {
	if out == nil {
		return nil
	}
	for _, m := range out.Messages {
		if m.Type != typeSummarize {
			continue
		}
		i := slices.IndexFunc(ops, func(op proposal) bool { return op.csn == m.ClientSequenceNumber })
		all = append(all, s.summaryRequest(p, &ops[i], m))
	}
	return all
}

func (s *sharedOrder) absorbedLocked(out *DocumentOutcome) {
	if out.Absorbed && out.SequenceNumber >= s.sn {
		s.pauseLocked(time.Now())
	}
}

// refer implements [ordering].
func (s *sharedOrder) refer(p *participant, rsn int64) bool {
	out, err := s.take(&DocumentStep{Kind: StepRefer, Client: p.id, RSN: rsn})
	if err != nil {
		return false
	}
	s.enter(func() { s.absorbedLocked(out) })
	return out.Counts
}

// signals implements [ordering].
func (s *sharedOrder) signals(p *participant, all []signal) error {
	if len(all) == 0 {
		return nil
	}
	if _, err := s.take(&DocumentStep{Kind: StepSignal, Client: p.id, Signal: appendSignals(nil, all)}); err != nil {
		return ignored("unavailable")
	}
	return nil
}

// departLocked implements [ordering].
func (s *sharedOrder) departLocked(id string) {
	s.debts.owe(s.id, &DocumentStep{Kind: StepLeave, Client: id})
}

// answerLocked implements [ordering].
func (s *sharedOrder) answerLocked(r SummaryRequest, kind string, contents []byte) {
	s.forsake(r, kind, contents)
}

// forsake implements [ordering].
func (s *sharedOrder) forsake(r SummaryRequest, kind string, contents []byte) {
	s.debts.owe(s.id, answering(r, kind, contents))
}

func answering(r SummaryRequest, kind string, contents []byte) *DocumentStep {
	step := &DocumentStep{Kind: StepAnswer, Answers: r.SequenceNumber, Answer: systemTail(kind, contents)}
	if kind == typeSummaryAck {
		step.Ack = SummaryMark{r.Handle, r.SequenceNumber, r.ReferenceSequenceNumber}
	}
	return step
}

// dueLocked implements [ordering].
func (s *sharedOrder) dueLocked(now time.Time) {
	if !s.noopDue.IsZero() && !now.Before(s.noopDue) {
		s.noopDue = time.Time{}
		s.node.spawn(s.consolidate)
	}
	if !s.idleDue.IsZero() && !now.Before(s.idleDue) {
		s.idleDue = time.Time{}
		if slices.ContainsFunc(s.participants, func(p *participant) bool { return p.mode == modeWrite && !p.departed }) {
			s.idleDue = now.Add(s.idlePeriod())
			s.node.spawn(s.expel)
		}
	}
}

// consolidate has the order send a noop of the server if there is news in it.
func (s *sharedOrder) consolidate() {
	noop := DocumentTail{typeNoop, appendMessageTail(nil, typeNoop, nil, nil, nil, nil)}
	if _, err := s.take(&DocumentStep{Kind: StepNoop, Noop: noop}); err != nil {
		s.enter(func() {
			if now := time.Now(); s.noopDue.IsZero() {
				s.noopDue = now.Add(owedTime)
				s.planLocked(now)
			}
		})
	}
}

// expel has the order look for idle writers, unless another node has lately: some time
// is left for clocks and ways that differ.
func (s *sharedOrder) expel() {
	s.take(&DocumentStep{Kind: StepIdle, Timeout: s.clientTimeout, Period: s.idlePeriod() * 3 / 4})
}

// read implements [ordering].
func (s *sharedOrder) read(ctx context.Context, after, to int64, limit int) ([]SequencedMessage, error) {
	return s.common.Read(ctx, s.id, after, to, limit)
}

// end implements [ordering]. This may be within a call of told.
func (s *sharedOrder) end(left []*participant) {
	for _, p := range left {
		s.debts.owe(s.id, &DocumentStep{Kind: StepLeave, Client: p.id})
	}
	s.debts.later(s.stop)
}
