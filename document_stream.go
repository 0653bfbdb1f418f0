package realtime

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// ErrSessionOver is returned by a [Session] that has stopped or crashed: look it up
// again.
var ErrSessionOver = errors.New("realtime: the document's session is over")

// household is what all sessions of one [Documents] share.
type household struct {
	*documentRules
	node   *node
	topics *template // of the channels' names
	rules  *rules    // of the documents' streams
	count  *documentCounters
	debts  *debts         // nil unless several nodes order the documents
	forget func(*Session) // called when it is over, without a lock
}

// documentCounters are the metrics of documents, looked up once.
type documentCounters struct {
	ops, sessions, clients, crashes counter
	appends                         observer
}

func newDocumentCounters(m *metrics) *documentCounters {
	return &documentCounters{ops: m.sequenced, sessions: m.sessions, clients: m.docClients, crashes: m.crashes, appends: m.appends}
}

// ordering decides what happens in the document of a session, and has it numbered and
// stored: [ownOrder] in this process, [sharedOrder] together with other nodes. What
// comes of it is queued for the participants. Methods take the session's lock by
// themselves but for those that are called with it.
type ordering interface {
	// open finds out where the document stands, before anybody else knows the session.
	open(ctx context.Context) error

	// connect makes a.p a participant, and tells it and the others (document.md section
	// 3.9). After another error than errTooManyClients it may be called again.
	connect(a *admission) error

	// submit has ops numbered, and returns the document's number afterwards and the
	// nack, if there is one, which p has been told.
	submit(p *participant, ops []proposal) (sn int64, refused *nack, err error)

	refer(p *participant, rsn int64) bool
	signals(p *participant, all []signal) error

	// departLocked has everybody told that the client id has left.
	departLocked(id string)

	// answerLocked answers a summarize op. forsake does if the session is over.
	answerLocked(r SummaryRequest, kind string, contents []byte)
	forsake(r SummaryRequest, kind string, contents []byte)

	// dueLocked does what is due.
	dueLocked(now time.Time)

	// read is that of [OpLog].
	read(ctx context.Context, after, to int64, limit int) ([]SequencedMessage, error)

	// end gives back what it holds, without a lock, but maybe from within a call of
	// another one's: the session is over, with those participants left.
	end(left []*participant)
}

// Session is the one place on this node in which a document's ops pass. Unless several
// nodes have the document in common, they get their numbers here. It runs while
// clients are connected, and some time after; it is found or started by
// [Documents.Session]. Its methods may be called from any goroutine.
//
// What is queued for the clients is queued under one lock. Only a log of this process
// may be waited for under it.
type Session struct {
	*household
	id     DocumentID
	stream stream
	order  ordering
	ready  chan struct{} // closed when the session has started or failed to
	failed error         // set before ready is closed
	ctx    context.Context
	cancel context.CancelFunc
	entry  wheelEntry

	numbers [2]atomic.Int64 // for State: the SN and the MSN of the last message
	present atomic.Int64    // and how many participants there are

	mu           sync.Mutex // guards the following
	over         bool
	lost         error // why the session cannot go on, nil while it can
	sn, msn      int64 // of the newest message that was published here
	participants []*participant
	byID         map[string]*participant
	arrivals     uint64
	recent       recentMessages
	summaries    [2]SummaryMark // as in LogHead
	hooks        int            // summaries that the host looks at
	wakes        wakes
	published    time.Time      // when messages were queued last
	brisk        bool           // and they followed others closely
	slow         []*Client      // to be closed once the lock is gone
	ended        []*participant // and those whose channels are

	// When what is due; zero for not at all.
	next       time.Time // when the wheel will ask
	noopDue    time.Time // the consolidation timer (document.md section 7.3)
	idleDue    time.Time // the next look for idle writers
	owedDue    time.Time // leaves that could not be stored are tried again
	emptySince time.Time // there are no participants
}

// SessionState is how a session stands.
type SessionState struct {
	SequenceNumber        int64 // of the newest message
	MinimumSequenceNumber int64 // of the same message
	Clients               int   // connected to this node, writers and readers
}

// State returns how the session stands. It does not block.
func (s *Session) State() SessionState {
	return SessionState{s.numbers[0].Load(), s.numbers[1].Load(), int(s.present.Load())}
}

// Document returns which document the session is of.
func (s *Session) Document() DocumentID { return s.id }

// Do runs f inside the session: nothing else happens in it meanwhile, so f
// must not block, nor use the session. A panic in f is the session's crash, as any
// panic inside is: every channel of the document is closed, and who connects next
// starts it anew from the log. The error is then that panic, or [ErrSessionOver].
func (s *Session) Do(f func()) error { return s.enter(f) }

// enter runs f under the session's lock, and then has the queues written into which f
// has put something. A panic in f, or a log that others write to, ends the session.
func (s *Session) enter(f func()) (err error) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return ErrSessionOver
	}
	defer func() {
		if v := recover(); v != nil {
			s.lost = &panicked{value: v, stack: debug.Stack()}
		}
		s.over = s.over || s.lost != nil
		over, lost := s.over, s.lost
		woken, slow, ended, brisk := s.wakes, s.slow, s.ended, s.brisk
		s.wakes, s.slow, s.ended, s.brisk = wakes{}, nil, nil, false
		var left []*participant
		if over {
			left = s.clearLocked()
		}
		s.mu.Unlock()
		woken.flush(s.node.pool, brisk)
		for _, c := range slow {
			c.link.disconnect(ReasonSlowConsumer, nil, nil)
		}
		for _, p := range ended {
			p.end(errDocumentClosed)
		}
		if over {
			s.bury(left, lost)
			err = lost
		}
	}()
	f()
	return nil
}

// stop ends the session, and closes the channels that are left.
func (s *Session) stop() {
	s.enter(func() { s.over = true })
}

// abort ends a session that could not start.
func (s *Session) abort(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed, s.over = err, true
	s.cancel()
}

// running reports whether the session has started and is not over.
func (s *Session) running() bool {
	select {
	case <-s.ready:
		return s.failed == nil && s.ctx.Err() == nil
	default:
		return false
	}
}

// clearLocked forgets all participants, and returns those there were.
func (s *Session) clearLocked() []*participant {
	left := s.participants
	for _, p := range left {
		p.gone = true
	}
	s.participants, s.byID, s.recent = nil, nil, recentMessages{}
	s.present.Store(0)
	return left
}

// bury gives back what a session held that is over: lost says why it crashed, nil if
// it stopped. The channels of those who were left are closed.
func (s *Session) bury(left []*participant, lost error) {
	s.cancel()
	s.node.wheel.cancel(&s.entry)
	s.count.sessions.Add(-1)
	s.count.clients.Add(-float64(len(left)))
	s.forget(s)
	s.order.end(left)
	e := SessionEvent{Tenant: s.id.Tenant, Document: s.id.Document, Kind: SessionStopped, Err: lost}
	if lost != nil {
		e.Kind = SessionCrashed
		s.count.crashes.Add(1)
		attrs := []any{"tenant", s.id.Tenant, "document", s.id.Document, "clients", len(left), "error", lost}
		if p, ok := errors.AsType[*panicked](lost); ok {
			attrs = append(attrs, "stack", string(p.stack))
		}
		s.node.log.Error("realtime: document session crashed", attrs...)
	}
	for _, p := range left {
		p.end(errDocumentClosed)
	}
	s.tellHost(e)
}

func (s *Session) tellHost(e SessionEvent) {
	if s.event != nil {
		s.node.guard("OnSession", func() { s.event(e) })
	}
}

// briskTime is how soon messages follow others in a document that many write to. Workers
// then write to the clients, however few these are, while more messages come.
const briskTime = time.Millisecond

// publishLocked queues stored messages for every participant but except, and has the
// host see them.
func (s *Session) publishLocked(messages []SequencedMessage, except *participant) {
	s.queueLocked(messages, except)
	s.showLocked(messages)
}

// queueLocked queues stored messages for every participant but except.
func (s *Session) queueLocked(messages []SequencedMessage, except *participant) {
	now := time.Now()
	s.brisk, s.published = now.Sub(s.published) < briskTime, now
	s.recent.add(messages, s.history)
	last := &messages[len(messages)-1]
	s.noteLocked(last.SequenceNumber, last.MinimumSequenceNumber)
	s.noopDue = time.Time{} // every message stops the timer (document.md section 7.2)
	n := s.noticeOf(eventOp, opData(s.id.Document, messages))
	for _, p := range s.participants {
		if p != except {
			s.giveLocked(p, n, messages[0].SequenceNumber)
		}
	}
}

// showLocked counts messages, and has the host see them.
func (s *Session) showLocked(messages []SequencedMessage) {
	s.count.ops.Add(float64(len(messages)))
	if s.op != nil {
		s.op(s.id.Tenant, s.id.Document, messages)
	}
}

// noteLocked notes the numbers of the newest message.
func (s *Session) noteLocked(sn, msn int64) {
	s.sn, s.msn = sn, msn
	s.numbers[0].Store(sn)
	s.numbers[1].Store(msn)
}

func (s *Session) noticeOf(event string, data []byte) *notice {
	return &notice{outbound: outbound{kind: kindEvent, topic: s.stream.name, event: event, data: data}, stream: &s.stream}
}

// giveLocked queues an op event for one participant: n tells of the messages from
// first on.
func (s *Session) giveLocked(p *participant, n *notice, first int64) {
	if f := n.frame(p.client.enc); f != nil {
		s.wakes.add(p.client, p.giveLocked(f, first))
	}
}

// tellLocked queues an event that is not in the log for one participant.
func (s *Session) tellLocked(p *participant, n *notice) {
	f := n.frame(p.client.enc)
	if f == nil {
		return
	}
	res := p.tellLocked(f, s.sn)
	if res == pushSlow {
		s.slow = append(s.slow, p.client)
	}
	s.wakes.add(p.client, res)
}

// signalLocked queues an event for every participant but except.
func (s *Session) signalLocked(data []byte, except *participant) {
	n := s.noticeOf(eventSignal, data)
	for _, p := range s.participants {
		if p != except {
			s.tellLocked(p, n)
		}
	}
}

// nack tells p of a refusal, in its place among what p is told.
func (s *Session) nack(p *participant, n *nack) error {
	return s.enter(func() { s.nackLocked(p, n) })
}

func (s *Session) nackLocked(p *participant, n *nack) {
	if !p.gone {
		s.tellLocked(p, s.noticeOf(eventNack, n.data()))
	}
}

// readLocked returns messages after one number and up to another from memory, limit
// of them at most; ok is false if that does not reach back so far.
func (s *Session) readLocked(after, to int64, limit int) (messages []SequencedMessage, ok bool) {
	return s.recent.read(after, min(to, s.sn), limit)
}

// refillMessages is how many messages a participant that is behind gets at a time:
// beside what the log's page holds, it is all that it costs in memory.
const refillMessages = 32

// catching reads for one participant that is behind. It implements [source].
type catching struct {
	s *Session
	p *participant
}

// refill implements [source]. It reads no further than what was queued for the
// others, so that the stream goes on right behind.
func (c *catching) refill() (frames []*frame, more bool) {
	s, p := c.s, c.p
	s.mu.Lock()
	if p.gone || !p.behind {
		s.mu.Unlock()
		return nil, false
	}
	frames, to := p.nextLocked(s.sn)
	if len(frames) > 0 || !p.behind {
		s.mu.Unlock()
		return frames, p.behind
	}
	after := p.cursor
	page, ok := s.readLocked(after, to, refillMessages)
	s.mu.Unlock()
	var err error
	if !ok {
		page, err = s.order.read(s.ctx, after, to, refillMessages)
	}
	if err != nil || len(page) == 0 || page[0].SequenceNumber != after+1 {
		s.node.log.Error("realtime: document log", "tenant", s.id.Tenant, "document", s.id.Document, "conn", p.client.id,
			"error", err, "after", after, "messages", len(page))
		p.end(errDocumentClosed)
		return nil, false
	}
	return s.advance(p, page)
}

// advance moves p's cursor behind page, and returns what p gets for it.
func (s *Session) advance(p *participant, page []SequencedMessage) ([]*frame, bool) {
	n := s.noticeOf(eventOp, opData(s.id.Document, page))
	f := n.frame(p.client.enc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.gone {
		return nil, false
	}
	p.cursor = page[len(page)-1].SequenceNumber
	if f == nil {
		return nil, true
	}
	return []*frame{f}, true
}
