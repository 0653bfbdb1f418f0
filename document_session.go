package realtime

import (
	"context"
	"fmt"
	"time"
)

// open reads where the log stands, has those leave who have not before (document.md
// section 9), and refuses the summaries that nobody has answered.
func (s *Session) open(ctx context.Context) error {
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
	s.noteLocked()
	s.count.ops.Add(float64(len(rest)))
	if s.op != nil && len(rest) > 0 {
		s.op(s.id.Tenant, s.id.Document, rest)
	}
	s.emptySince = now
	s.planLocked(now)
	return nil
}

// unavailable is the nack when the log fails.
func (s *Session) unavailable() *nack {
	return &nack{sequenceNumber: s.seq.msn, refusal: refusal{code: 429, kind: throttlingError,
		message: "Document temporarily unavailable", reason: "unavailable", retryAfter: 5}}
}

// submit takes the ops of one submission through the sequencer, stores what has got
// a number and queues it for everybody, and returns the nack, if there is one, which
// p has been told. sn is the document's number afterwards.
func (s *Session) submit(p *participant, ops []proposal) (sn int64, refused *nack, err error) {
	err = s.enter(func() {
		if !p.gone {
			refused = s.submitLocked(p, ops)
		}
		sn = s.seq.sn
	})
	return sn, refused, err
}

func (s *Session) submitLocked(p *participant, ops []proposal) (refused *nack) {
	before, now := s.seq.snapshot(p.id), time.Now()
	var messages []SequencedMessage
	var summaries []SummaryRequest
	for i := range ops {
		op := &ops[i]
		r := s.seq.submit(p.id, op.submission())
		if r.fate == opRefused {
			refused = &nack{refusal: *r.refusal, operation: op.raw, sequenceNumber: s.seq.msn}
			break
		}
		switch r.fate {
		case opAbsorbed:
			s.pauseLocked(now)
		case opSequenced:
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
			refused, summaries = s.unavailable(), nil
		} else {
			s.publishLocked(messages, nil)
		}
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
func (s *Session) refer(p *participant, rsn int64) (ok bool) {
	s.enter(func() {
		if ok = !p.gone && s.seq.refer(p.id, rsn); ok {
			s.pauseLocked(time.Now())
		}
	})
	return ok
}

// leave ends p's part in the document, however often it is called.
func (s *Session) leave(p *participant) {
	s.enter(func() {
		if p.gone {
			return
		}
		s.removeLocked(p)
		if !p.departed {
			s.departLocked(p.id)
		}
	})
}

func (s *Session) removeLocked(p *participant) {
	end := len(s.participants) - 1
	s.participants[p.at] = s.participants[end]
	s.participants[p.at].at = p.at
	s.participants[end] = nil
	s.participants = s.participants[:end]
	delete(s.byID, p.id)
	p.gone, p.behind, p.held = true, false, nil
	s.present.Store(int64(end))
	s.count.clients.Add(-1)
	if end == 0 {
		s.emptySince = time.Now()
		s.planLocked(s.emptySince)
	}
}

// departLocked tells everybody that the client id has left. A leave that cannot be
// stored is owed: until then the writer stays in the sequencer's table.
func (s *Session) departLocked(id string) {
	before, now := s.seq.snapshot(id), time.Now()
	if t, ok := s.seq.leave(id); ok {
		messages := []SequencedMessage{systemMessage(t, typeLeave, leaveContents(id), now)}
		if s.storeLocked(messages) != nil {
			s.seq.restore(before)
			s.owed = append(s.owed, id)
			s.planLocked(now)
			return
		}
		s.publishLocked(messages, nil)
	}
	if !s.unannounced {
		s.signalLocked(leaveSignal(id), nil)
	}
}

// pauseLocked starts the consolidation timer if it does not run.
func (s *Session) pauseLocked(now time.Time) {
	if s.noopDue.IsZero() {
		s.noopDue = now.Add(s.noopTime)
		s.planLocked(now)
	}
}

// owedTime is when a leave that could not be stored is tried again.
const owedTime = time.Second

// idlePeriod is the time between two looks for idle writers (document.md section 7.5).
func (s *Session) idlePeriod() time.Duration {
	return min(30*time.Second, max(s.clientTimeout/10, wheelTick))
}

// planLocked makes an appointment for what is due next.
func (s *Session) planLocked(now time.Time) {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if !s.noopDue.IsZero() {
		sooner(s.noopDue)
	}
	if !s.idleDue.IsZero() {
		sooner(s.idleDue)
	}
	if len(s.owed) > 0 {
		sooner(now.Add(owedTime))
	}
	if len(s.participants) == 0 {
		sooner(s.emptySince.Add(s.sessionTime))
	}
	if at.IsZero() || !s.next.IsZero() && !at.Before(s.next) {
		return
	}
	s.next = at
	s.node.wheel.schedule(&s.entry, s, at)
}

// expire implements [expirer]. The wheel must not wait for the log.
func (s *Session) expire(time.Time) time.Time {
	s.node.spawn(s.tick)
	return time.Time{}
}

// tick does what is due.
func (s *Session) tick() {
	s.enter(func() {
		now := time.Now()
		s.next = time.Time{}
		s.payLocked()
		if !s.noopDue.IsZero() && !now.Before(s.noopDue) {
			s.consolidateLocked(now)
		}
		if !s.idleDue.IsZero() && !now.Before(s.idleDue) {
			s.expelLocked(now)
		}
		if len(s.participants) == 0 && s.hooks == 0 && !now.Before(s.emptySince.Add(s.sessionTime)) {
			s.over = true
			return
		}
		if len(s.participants) == 0 && s.hooks > 0 {
			s.emptySince = now
		}
		s.planLocked(now)
	})
}

// payLocked stores the leaves that are owed.
func (s *Session) payLocked() {
	owed := s.owed
	s.owed = nil
	for _, id := range owed {
		s.departLocked(id)
	}
}

// consolidateLocked sends a noop of the server if the MSN has risen since the last
// message (document.md section 7.3).
func (s *Session) consolidateLocked(now time.Time) {
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
func (s *Session) expelLocked(now time.Time) {
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

// page returns the next messages for a participant that asks for them, at most
// limit, and none at the end.
func (s *Session) page(after, to int64, limit int) ([]SequencedMessage, error) {
	s.mu.Lock()
	page, ok := s.readLocked(after, to, limit)
	s.mu.Unlock()
	if ok {
		return page, nil
	}
	return s.log.Read(s.ctx, s.id, after, to, limit)
}

// signals gives p's signals to those they are meant for.
func (s *Session) signals(p *participant, all []signal) error {
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
