package realtime

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

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
