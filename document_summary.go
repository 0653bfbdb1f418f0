package realtime

import (
	"errors"
	"runtime/debug"
	"time"
)

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
