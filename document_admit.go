package realtime

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// errTooManyClients refuses a connect_document.
var errTooManyClients = errors.New("realtime: too many clients in the document")

// initialLocked returns after which message the initialMessages of a begin, which end
// with sn: the client may have loaded the last but one acknowledged summary.
func (s *Session) initialLocked(a *admission, sn int64) int64 {
	if a.lastSeen > sn {
		a.lastSeen = -1
	}
	after := max(s.summaries[1].Covered, a.lastSeen)
	if bound := sn - int64(s.initial); s.initial > 0 && bound > after {
		s.node.log.Warn("realtime: document has more messages than a client gets", "tenant", s.id.Tenant, "document", s.id.Document,
			"messages", sn-after, "limit", s.initial)
		after = bound
	}
	return after
}

// readAll returns the messages after one number and up to another, as far as the log
// reaches back.
func (s *Session) readAll(after, to int64) (all []SequencedMessage, err error) {
	for after < to {
		page, err := s.order.read(s.ctx, after, to, 1000)
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
	for i, c := range a.clients {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(append(b, `{"clientId":`...), c.ID), fmt.Sprintf(`,"mode":%q,"client":`, c.Mode)...)
		b = append(append(b, c.Object...), '}')
	}
	b = appendMessages(append(b, `],"initialMessages":`...), initial)
	b = append(append(b, `,"initialSignals":[],"supportedVersions":["^0.1.0","^1.0.0"],"supportedFeatures":`...), a.features...)
	b = fmt.Appendf(b, `,"version":%q,"checkpointSequenceNumber":%d,"timestamp":%d`, a.version, a.sn, now.UnixMilli())
	if last := s.summaries[0]; last.Handle != "" {
		b = appendQuoted(append(b, `,"summaryContext":{"handle":`...), last.Handle)
		b = fmt.Appendf(b, `,"sequenceNumber":%d}`, last.SequenceNumber)
	}
	return append(b, '}')
}

// presentLocked returns who the others believe to be here, in the order of arrival.
func (s *Session) presentLocked() (clients []DocumentClient) {
	all := slices.DeleteFunc(slices.Clone(s.participants), func(p *participant) bool { return p.departed })
	slices.SortFunc(all, func(a, b *participant) int { return cmp.Compare(a.order, b.order) })
	for _, p := range all {
		clients = append(clients, DocumentClient{ID: p.id, Mode: p.mode, Object: p.object})
	}
	return clients
}
