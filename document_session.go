package realtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// open reads where the log stands, and has those leave who have not before (document.md
// section 9).
func (s *Session) open(ctx context.Context) error {
	head, err := s.log.Head(ctx, s.id)
	if err != nil {
		return fmt.Errorf("read head of the log: %w", err)
	}
	s.seq = newSequencer(head.SequenceNumber, head.MinimumSequenceNumber, head.Open...)
	s.seq.maxUnsummarized, s.seq.summarized = s.maxUnsummarized, head.Summaries[0].SequenceNumber
	s.summaries, s.byID = head.Summaries, map[string]*participant{}
	now := time.Now()
	var leaves []SequencedMessage
	for _, id := range head.Open {
		if t, ok := s.seq.leave(id); ok {
			leaves = append(leaves, systemMessage(t, typeLeave, leaveContents(id), now))
		}
	}
	if len(leaves) > 0 {
		if err := s.log.Append(ctx, s.id, leaves); err != nil {
			return fmt.Errorf("store leaves of earlier clients: %w", err)
		}
	}
	s.recent.add(leaves, s.history)
	s.noteLocked()
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

// admission is a client that has passed all checks of connect_document.
type admission struct {
	p         *participant
	summaries bool // may summarize
	claims    []byte
	version   string
	features  []byte
	lastSeen  int64 // -1 for none
}

// errTooManyClients refuses a connect_document.
var errTooManyClients = errors.New("realtime: too many clients in the document")

// connect makes a.p a participant, and tells it and the others (document.md section
// 3.9). The error is [ErrSessionOver], errTooManyClients, or the log's.
func (s *Session) connect(a *admission) error {
	s.mu.Lock()
	over, after := s.over, int64(0)
	if !over {
		after = s.initialLocked(a)
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

// initialLocked returns after which message the initialMessages of a begin: the
// client may have loaded the last but one acknowledged summary.
func (s *Session) initialLocked(a *admission) int64 {
	if a.lastSeen > s.seq.sn {
		a.lastSeen = -1
	}
	after := max(s.summaries[1].Covered, a.lastSeen)
	if bound := s.seq.sn - int64(s.initial); s.initial > 0 && bound > after {
		s.node.log.Warn("realtime: document has more messages than a client gets", "tenant", s.id.Tenant, "document", s.id.Document,
			"messages", s.seq.sn-after, "limit", s.initial)
		after = bound
	}
	return after
}

// readAll returns the messages after one number and up to another, as far as the log
// reaches back.
func (s *Session) readAll(after, to int64) (all []SequencedMessage, err error) {
	for after < to {
		page, err := s.log.Read(s.ctx, s.id, after, to, 1000)
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		after = page[len(page)-1].SequenceNumber
	}
	return all, nil
}

// restLocked returns what has come after a number, of late.
func (s *Session) restLocked(after int64) ([]SequencedMessage, error) {
	rest, ok := s.readLocked(after, s.seq.sn, s.history)
	if !ok {
		return s.readAll(after, s.seq.sn)
	}
	return rest, nil
}

func (s *Session) admitLocked(a *admission, initial []SequencedMessage) error {
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
	s.welcomeLocked(a, initial, news, cursor, now)
	if len(news) > 0 {
		s.publishLocked(news, p)
	}
	if !s.unannounced {
		s.signalLocked(joinSignal(p.id, p.object), p)
	}
	return nil
}

func (s *Session) addLocked(p *participant, now time.Time) {
	p.source = &catching{s, p}
	p.at, p.order = len(s.participants), s.arrivals
	s.arrivals++
	s.participants = append(s.participants, p)
	s.byID[p.id] = p
	s.present.Store(int64(len(s.participants)))
	s.count.clients.Add(1)
	if p.mode == modeWrite && s.clientTimeout > 0 && s.idleDue.IsZero() {
		s.idleDue = now.Add(s.idlePeriod())
		s.planLocked(now)
	}
}

// welcomeLocked tells a new client that it is connected, and what it has yet to see:
// its own join, or all that came after what it has seen last.
func (s *Session) welcomeLocked(a *admission, initial, news []SequencedMessage, cursor int64, now time.Time) {
	p := a.p
	if a.lastSeen >= 0 {
		cursor, news = a.lastSeen, append(slices.Clip(initial), news...)
	}
	data := s.successData(a, initial, now)
	f := s.noticeOf(eventConnected, data).frame(p.client.enc)
	if f == nil {
		return
	}
	s.wakes.add(p.client, p.tellLocked(f, cursor))
	if len(news) > 0 {
		s.giveLocked(p, s.noticeOf(eventOp, opData(s.id.Document, news)), news[0].SequenceNumber)
	}
}

// successData is the data of connect_document_success (document.md section 3.4).
func (s *Session) successData(a *admission, initial []SequencedMessage, now time.Time) []byte {
	b := make([]byte, 0, 1024+len(a.claims)+bytesOf(initial))
	b = appendQuoted(append(b, `{"clientId":`...), a.p.id)
	b = append(append(b, `,"claims":`...), a.claims...)
	b = fmt.Appendf(b, `,"existing":true,"mode":%q,"maxMessageSize":%d,"serviceConfiguration":{"blockSize":65536,"maxMessageSize":%d},"initialClients":[`,
		a.p.mode, s.maxMessage, s.maxMessage)
	for i, p := range s.presentLocked() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(append(b, `{"clientId":`...), p.id), fmt.Sprintf(`,"mode":%q,"client":`, p.mode)...)
		b = append(append(b, p.object...), '}')
	}
	b = appendMessages(append(b, `],"initialMessages":`...), initial)
	b = append(append(b, `,"initialSignals":[],"supportedVersions":["^0.1.0","^1.0.0"],"supportedFeatures":`...), a.features...)
	b = fmt.Appendf(b, `,"version":%q,"checkpointSequenceNumber":%d,"timestamp":%d`, a.version, s.seq.sn, now.UnixMilli())
	if last := s.summaries[0]; last.Handle != "" {
		b = appendQuoted(append(b, `,"summaryContext":{"handle":`...), last.Handle)
		b = fmt.Appendf(b, `,"sequenceNumber":%d}`, last.SequenceNumber)
	}
	return append(b, '}')
}

// presentLocked returns who the others believe to be here, in the order of arrival.
func (s *Session) presentLocked() []*participant {
	all := slices.DeleteFunc(slices.Clone(s.participants), func(p *participant) bool { return p.departed })
	slices.SortFunc(all, func(a, b *participant) int { return cmp.Compare(a.order, b.order) })
	return all
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

// summaryRequest is what the host is asked about a sequenced summarize op.
func (s *Session) summaryRequest(p *participant, op *proposal, m SequencedMessage) SummaryRequest {
	r := op.summary
	r.Tenant, r.Document, r.ClientID = s.id.Tenant, s.id.Document, p.id
	r.SequenceNumber, r.MinimumSequenceNumber = m.SequenceNumber, m.MinimumSequenceNumber
	r.ReferenceSequenceNumber = m.ReferenceSequenceNumber
	return r
}

// considerLocked has the host decide about a summary, without waiting for it.
func (s *Session) considerLocked(r SummaryRequest) {
	if s.summary == nil {
		s.concludeLocked(r, "", errNoSummaries)
		return
	}
	s.hooks++
	if !s.node.spawn(func() { s.consider(r) }) {
		s.hooks--
	}
}

var errNoSummaries = &Error{Code: "no_summaries", Text: "summaries are not kept here"}

// consider asks the host, whose panic is the session's crash.
func (s *Session) consider(r SummaryRequest) {
	handle, err, crash := s.askHost(r)
	s.enter(func() {
		s.hooks--
		if crash != nil {
			s.lost = crash
			return
		}
		s.concludeLocked(r, handle, err)
	})
}

func (s *Session) askHost(r SummaryRequest) (handle string, err, crash error) {
	defer func() {
		if v := recover(); v != nil {
			crash = &panicked{value: v, stack: debug.Stack()}
		}
	}()
	handle, err = s.summary(s.ctx, r)
	return handle, err, nil
}

// concludeLocked answers a summarize op with a message of the server's. An answer that
// cannot be stored is lost: the client that summarizes waits for one, and tries again.
func (s *Session) concludeLocked(r SummaryRequest, handle string, err error) {
	kind, contents := typeSummaryAck, ackContents(handle, r.SequenceNumber)
	if err == nil && handle == "" {
		err = errors.New("realtime: OnSummary returned neither a handle nor an error")
	}
	if err != nil {
		e := clientError(err)
		if e.Code == string(ReasonInternal) {
			s.node.log.Error("realtime: OnSummary", "tenant", s.id.Tenant, "document", s.id.Document, "error", err)
		}
		kind, contents = typeSummaryNack, nackContents(r.SequenceNumber, 400, e.Text, int((e.RetryAfter+time.Second-1)/time.Second))
	}
	before, now := s.seq.snapshot(""), time.Now()
	messages := []SequencedMessage{systemMessage(s.seq.answer(), kind, contents, now)}
	if s.storeLocked(messages) != nil {
		s.seq.restore(before)
		return
	}
	if kind == typeSummaryAck {
		s.summaries = [2]SummaryMark{{handle, r.SequenceNumber, r.ReferenceSequenceNumber}, s.summaries[0]}
		s.seq.summarized = r.SequenceNumber
	}
	s.publishLocked(messages, nil)
}
