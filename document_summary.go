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
		r, kind, contents := s.conclusion(r, "", errNoSummaries)
		s.order.answerLocked(r, kind, contents)
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
	r, kind, contents := s.conclusion(r, handle, err)
	if crash != nil {
		kind, contents = typeSummaryNack, nackContents(r.SequenceNumber, 500, interruptedText, 0)
	}
	over := s.enter(func() {
		s.hooks--
		if crash != nil {
			s.lost = crash
			return
		}
		s.order.answerLocked(r, kind, contents)
	})
	if over != nil {
		s.order.forsake(r, kind, contents)
	}
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

// conclusion is the message with which a summarize op is answered. Its handle is that
// of the acknowledged summary.
func (s *Session) conclusion(r SummaryRequest, handle string, err error) (answered SummaryRequest, kind string, contents []byte) {
	if err == nil && handle == "" {
		err = errors.New("realtime: OnSummary returned neither a handle nor an error")
	}
	if err == nil {
		r.Handle = handle
		return r, typeSummaryAck, ackContents(handle, r.SequenceNumber)
	}
	e := clientError(err)
	if e.Code == string(ReasonInternal) {
		s.node.log.Error("realtime: OnSummary", "tenant", s.id.Tenant, "document", s.id.Document, "error", err)
	}
	return r, typeSummaryNack, nackContents(r.SequenceNumber, 400, e.Text, int((e.RetryAfter+time.Second-1)/time.Second))
}
