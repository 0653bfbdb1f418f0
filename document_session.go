package realtime

import (
	"time"
)

// unavailable is the nack when nothing can be stored.
func unavailable(msn int64) *nack {
	return &nack{sequenceNumber: msn, refusal: refusal{code: 429, kind: throttlingError,
		message: "Document temporarily unavailable", reason: "unavailable", retryAfter: 5}}
}

// leave ends p's part in the document, however often it is called.
func (s *Session) leave(p *participant) {
	s.enter(func() {
		if p.gone {
			return
		}
		s.removeLocked(p)
		if !p.departed {
			s.order.departLocked(p.id)
		}
	})
}

// removeLocked forgets a participant.
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

// pauseLocked starts the consolidation timer if it does not run.
func (s *Session) pauseLocked(now time.Time) {
	if s.noopDue.IsZero() {
		s.noopDue = now.Add(s.noopTime)
		s.planLocked(now)
	}
}

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
	if !s.owedDue.IsZero() {
		sooner(s.owedDue)
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
		s.order.dueLocked(now)
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

// page returns the next messages for a participant that asks for them, at most
// limit, and none at the end.
func (s *Session) page(after, to int64, limit int) ([]SequencedMessage, error) {
	s.mu.Lock()
	page, ok := s.readLocked(after, to, limit)
	s.mu.Unlock()
	if ok {
		return page, nil
	}
	return s.order.read(s.ctx, after, to, limit)
}
