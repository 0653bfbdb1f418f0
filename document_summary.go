package realtime

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
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

// interruptedText is for summaries that a crash or a restart came between.
const interruptedText = "The session ended before the summary was decided"

// unanswered returns the numbers of the summarize ops after a number that have no
// answer in the log. A client that comes to summarize waits minutes for each of them.
func (s *Session) unanswered(ctx context.Context, after int64) (open []int64, err error) {
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
// The next session refuses what this one owes.
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
