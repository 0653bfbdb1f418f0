package realtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ownOrder numbers a document in this process, alone, and stores it in the log. It
// implements [ordering]. Everything happens under the session's lock, in this order:
// numbered, stored, queued for the clients.
type ownOrder struct {
	*Session
	seq  *sequencer // guarded by the session's lock, as is the following
	owed []string   // writers whose leave could not be stored yet
}

// read implements [ordering].
func (s *ownOrder) read(ctx context.Context, after, to int64, limit int) ([]SequencedMessage, error) {
	return s.log.Read(ctx, s.id, after, to, limit)
}

// end implements [ordering]: the next session has those leave who are left.
func (s *ownOrder) end([]*participant) {}

// forsake implements [ordering]: the next session refuses the summary.
func (s *ownOrder) forsake(SummaryRequest, string, []byte) {}

// open reads where the log stands, has those leave who have not before (document.md
// section 9), and refuses the summaries that nobody has answered.
func (s *ownOrder) open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	head, err := s.log.Head(ctx, s.id)
	if err != nil {
		return fmt.Errorf("read head of the log: %w", err)
	}
	s.seq = newSequencer(head.SequenceNumber, head.MinimumSequenceNumber, head.Open...)
	s.seq.maxUnsummarized, s.seq.summarized = s.maxUnsummarized, head.Summaries[0].SequenceNumber
	s.summaries, s.byID = head.Summaries, map[string]*participant{}
	now := time.Now()
	unanswered, err := s.unanswered(ctx, head.Summaries[0].SequenceNumber)
	if err != nil {
		return err
	}
	var rest []SequencedMessage
	for _, id := range head.Open {
		if t, ok := s.seq.leave(id); ok {
			rest = append(rest, systemMessage(t, typeLeave, leaveContents(id), now))
		}
	}
	for _, sn := range unanswered {
		rest = append(rest, systemMessage(s.seq.answer(), typeSummaryNack, nackContents(sn, 500, interruptedText, 0), now))
	}
	if len(rest) > 0 {
		if err := s.log.Append(ctx, s.id, rest); err != nil {
			return fmt.Errorf("store what earlier clients are owed: %w", err)
		}
	}
	s.recent.add(rest, s.history)
	s.noteLocked(s.seq.sn, s.seq.sent)
	if len(rest) > 0 {
		s.showLocked(rest)
	}
	s.emptySince = now
	s.planLocked(now)
	return nil
}

// unanswered returns the numbers of the summarize ops after a number that have no
// answer in the log. A client that comes to summarize waits minutes for each of them.
func (s *ownOrder) unanswered(ctx context.Context, after int64) (open []int64, err error) {
	for {
		page, err := s.log.Read(ctx, s.id, after, -1, 1000)
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		if len(page) == 0 {
			return open, nil
		}
		for _, m := range page {
			switch m.Type {
			case typeSummarize:
				open = append(open, m.SequenceNumber)
			case typeSummaryAck, typeSummaryNack:
				var answer struct {
					SummaryProposal struct{ SummarySequenceNumber int64 }
				}
				if err := m.unmarshalText(&answer); err != nil {
					return nil, fmt.Errorf("%s message %d: %w", m.Type, m.SequenceNumber, err)
				}
				sn := answer.SummaryProposal.SummarySequenceNumber
				open = slices.DeleteFunc(open, func(asked int64) bool { return asked == sn })
			}
		}
		after = page[len(page)-1].SequenceNumber
	}
}

// connect makes a.p a participant, and tells it and the others (document.md section
// 3.9). The error is [ErrSessionOver], errTooManyClients, or the log's.
func (s *ownOrder) connect(a *admission) error {
	s.mu.Lock()
	over, after := s.over, int64(0)
	if !over {
		after = s.initialLocked(a, s.sn)
	}
	newest := s.numbers[0].Load()
	s.mu.Unlock()
	if over {
		return ErrSessionOver
	}
	initial, err := s.readAll(after, newest)
	if err != nil {
		return err
	}
	lost := s.enter(func() {
		var rest []SequencedMessage
		if rest, err = s.restLocked(newest); err == nil {
			err = s.admitLocked(a, append(initial, rest...))
		}
	})
	return cmp.Or(lost, err)
}

// restLocked returns what has come after a number, of late.
func (s *ownOrder) restLocked(after int64) ([]SequencedMessage, error) {
	rest, ok := s.readLocked(after, s.seq.sn, s.history)
	if !ok {
		return s.readAll(after, s.seq.sn)
	}
	return rest, nil
}

func (s *ownOrder) admitLocked(a *admission, initial []SequencedMessage) error {
	if s.maxClients > 0 && len(s.participants) >= s.maxClients {
		return errTooManyClients
	}
	p, now := a.p, time.Now()
	cursor, news := s.seq.sn, []SequencedMessage(nil)
	if p.mode == modeWrite {
		before := s.seq.snapshot(p.id)
		t := s.seq.join(p.id, a.summaries)
		news = []SequencedMessage{systemMessage(t, typeJoin, joinContents(p.id, p.object), now)}
		if err := s.storeLocked(news); err != nil {
			s.seq.restore(before)
			return err
		}
	}
	s.addLocked(p, now)
	a.clients, a.sn = s.presentLocked(), s.seq.sn
	s.welcomeLocked(a, initial, news, cursor, now)
	if len(news) > 0 {
		s.publishLocked(news, p)
	}
	if !s.unannounced {
		s.signalLocked(joinSignal(p.id, p.object), p)
	}
	return nil
}

// submit takes the ops of one submission through the sequencer, stores what has got
// a number and queues it for everybody, and returns the nack, if there is one, which
// p has been told. sn is the document's number afterwards.
func (s *ownOrder) submit(p *participant, ops []proposal) (sn int64, refused *nack, err error) {
	err = s.enter(func() {
		if !p.gone {
			refused = s.submitLocked(p, ops)
		}
		sn = s.seq.sn
	})
	return sn, refused, err
}

func (s *ownOrder) submitLocked(p *participant, ops []proposal) (refused *nack) {
	before, now := s.seq.snapshot(p.id), time.Now()
	var messages []SequencedMessage
	var summaries []SummaryRequest
	absorbed := false // a noop, after the last of the messages
	for i := range ops {
		op := &ops[i]
		r := s.seq.submit(p.id, op.submission())
		if r.fate == opRefused {
			refused = &nack{refusal: *r.refusal, operation: op.raw, sequenceNumber: s.seq.msn}
			break
		}
		switch r.fate {
		case opAbsorbed:
			absorbed = true
		case opSequenced:
			absorbed = false
			m := op.message(p.id, r.ticket, now)
			messages = append(messages, m)
			if m.Type == typeSummarize {
				summaries = append(summaries, s.summaryRequest(p, op, m))
			}
		}
	}
	if len(messages) > 0 {
		if s.storeLocked(messages) != nil {
			s.seq.restore(before)
			refused, summaries, absorbed = unavailable(s.seq.msn), nil, false
		} else {
			s.publishLocked(messages, nil)
		}
	}
	if absorbed { // the messages before it have stopped the timer
		s.pauseLocked(now)
	}
	if refused != nil {
		s.nackLocked(p, refused)
	}
	for _, r := range summaries {
		s.considerLocked(r)
	}
	return refused
}

// refer takes the event noop.
func (s *ownOrder) refer(p *participant, rsn int64) (ok bool) {
	s.enter(func() {
		if ok = !p.gone && s.seq.refer(p.id, rsn); ok {
			s.pauseLocked(time.Now())
		}
	})
	return ok
}

// departLocked implements [ordering]. A leave that cannot be
// stored is owed: until then the writer stays in the sequencer's table.
func (s *ownOrder) departLocked(id string) {
	before, now := s.seq.snapshot(id), time.Now()
	if t, ok := s.seq.leave(id); ok {
		messages := []SequencedMessage{systemMessage(t, typeLeave, leaveContents(id), now)}
		if s.storeLocked(messages) != nil {
			s.seq.restore(before)
			s.owed, s.owedDue = append(s.owed, id), now.Add(owedTime)
			s.planLocked(now)
			return
		}
		s.publishLocked(messages, nil)
	}
	if !s.unannounced {
		s.signalLocked(leaveSignal(id), nil)
	}
}

// signals gives p's signals to those they are meant for.
func (s *ownOrder) signals(p *participant, all []signal) error {
	return s.enter(func() {
		for i := range all {
			if p.gone {
				return
			}
			n := s.noticeOf(eventSignal, signalData(p.id, all[i].content))
			for _, to := range s.participants {
				if to != p && all[i].isFor(to.id) {
					s.tellLocked(to, n)
				}
			}
		}
	})
}

// dueLocked implements [ordering].
func (s *ownOrder) dueLocked(now time.Time) {
	s.payLocked()
	if !s.noopDue.IsZero() && !now.Before(s.noopDue) {
		s.consolidateLocked(now)
	}
	if !s.idleDue.IsZero() && !now.Before(s.idleDue) {
		s.expelLocked(now)
	}
}

// payLocked stores the leaves that are owed.
func (s *ownOrder) payLocked() {
	owed := s.owed
	s.owed, s.owedDue = nil, time.Time{}
	for _, id := range owed {
		s.departLocked(id)
	}
}

// consolidateLocked sends a noop of the server if the MSN has risen since the last
// message (document.md section 7.3).
func (s *ownOrder) consolidateLocked(now time.Time) {
	s.noopDue = time.Time{}
	before := s.seq.snapshot("")
	t, ok := s.seq.noop()
	if !ok {
		return
	}
	messages := []SequencedMessage{systemMessage(t, typeNoop, nil, now)}
	if s.storeLocked(messages) != nil {
		s.seq.restore(before)
		s.noopDue = now.Add(owedTime)
		return
	}
	s.publishLocked(messages, nil)
}

// expelLocked has writers leave that have been silent for too long (document.md
// section 7.5). Their channels stay open: they see their own leave.
func (s *ownOrder) expelLocked(now time.Time) {
	s.idleDue = now.Add(s.idlePeriod())
	for _, id := range s.seq.idle(now, s.clientTimeout) {
		if p := s.byID[id]; p != nil {
			p.departed = true
			s.departLocked(id)
		}
	}
	if len(s.seq.rows) == 0 {
		s.idleDue = time.Time{}
	}
}

// storeLocked stores messages, which the sequencer has just numbered. After an error
// the caller restores the sequencer; [ErrSequenceTaken] ends the session, which has
// lost count.
func (s *ownOrder) storeLocked(messages []SequencedMessage) error {
	start := time.Now()
	ctx := newDeadline(s.ctx, appendTime)
	defer ctx.end()
	err := s.log.Append(ctx, s.id, messages)
	s.count.appends.Observe(time.Since(start).Seconds())
	if err == nil {
		return nil
	}
	err = fmt.Errorf("append to the log: %w", err)
	if errors.Is(err, ErrSequenceTaken) {
		s.lost = err
	}
	s.node.log.Error("realtime: document log", "tenant", s.id.Tenant, "document", s.id.Document, "error", err)
	return err
}

// answerLocked implements [ordering]. An answer that cannot be stored is lost: the client
// that summarizes waits for one, and tries again. The next session refuses what this
// one owes.
func (s *ownOrder) answerLocked(r SummaryRequest, kind string, contents []byte) {
	before, now := s.seq.snapshot(""), time.Now()
	messages := []SequencedMessage{systemMessage(s.seq.answer(), kind, contents, now)}
	if s.storeLocked(messages) != nil {
		s.seq.restore(before)
		return
	}
	if kind == typeSummaryAck {
		s.summaries = [2]SummaryMark{{r.Handle, r.SequenceNumber, r.ReferenceSequenceNumber}, s.summaries[0]}
		s.seq.summarized = r.SequenceNumber
	}
	s.publishLocked(messages, nil)
}
