package realtime_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestMemoryLogIsAnOpLog(t *testing.T) {
	realtimetest.OpLog(t, realtime.NewMemoryLog)
}

// logFeed appends one message after the other to one document.
type logFeed struct {
	*testing.T
	log  realtime.OpLog
	id   realtime.DocumentID
	next int64
}

func newLogFeed(t *testing.T) *logFeed {
	return &logFeed{T: t, log: realtime.NewMemoryLog(), id: realtime.DocumentID{Tenant: "acme", Document: "doc1"}, next: 1}
}

func (f *logFeed) append(m realtime.SequencedMessage) {
	f.Helper()
	m.SequenceNumber = f.next
	f.next++
	if err := f.log.Append(f.Context(), f.id, []realtime.SequencedMessage{m}); err != nil {
		f.Fatal(err)
	}
}

// fill appends ops up to the number last.
func (f *logFeed) fill(last int64) {
	f.Helper()
	for f.next <= last {
		f.append(realtime.SequencedMessage{ClientID: "a", Type: "op", JSON: json.RawMessage(`{}`)})
	}
}

// summary has a summary that covers everything up to covered acknowledged.
func (f *logFeed) summary(covered int64) {
	f.Helper()
	f.append(realtime.SequencedMessage{ClientID: "a", Type: "summarize", ReferenceSequenceNumber: covered, JSON: json.RawMessage(`{}`)})
	answer := fmt.Sprintf(`{"handle":"h","summaryProposal":{"summarySequenceNumber":%d}}`, f.next-1)
	text, _ := json.Marshal(map[string]string{"data": answer})
	f.append(realtime.SequencedMessage{Type: "summaryAck", JSON: text})
}

// wantKept checks that what is kept runs from first to the newest message.
func (f *logFeed) wantKept(first int64) {
	f.Helper()
	at := int64(0)
	for {
		page, err := f.log.Read(f.Context(), f.id, at, -1, 2000)
		if err != nil {
			f.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		if at == 0 && page[0].SequenceNumber != first {
			f.Errorf("at %d the oldest message is %d, want %d", f.next-1, page[0].SequenceNumber, first)
		}
		at = page[len(page)-1].SequenceNumber
	}
	if at != f.next-1 {
		f.Errorf("the newest message is %d, want %d", at, f.next-1)
	}
}

func TestMemoryLogDropsWhatNobodyCanAskFor(t *testing.T) {
	f := newLogFeed(t)
	f.fill(3000)
	f.wantKept(1) // no summary
	f.summary(2500)
	f.fill(5000)
	f.wantKept(1) // a client may still have loaded from the start
	f.summary(4900)
	f.wantKept(2501) // the last but one summary reaches to 2500
	f.fill(5500)
	f.summary(5400)
	f.wantKept(4503) // the newest 1,000, although the last but one reaches to 4900
	f.fill(5899)
	f.wantKept(4900)
	f.fill(7000)
	f.wantKept(4901)
}

func TestMemoryLogKeepsNoMoreThanIsAsked(t *testing.T) {
	f := newLogFeed(t)
	f.fill(5000)
	if err := f.log.Trim(t.Context(), f.id, 4500); err != nil {
		t.Fatal(err)
	}
	f.wantKept(4500)
	f.fill(6200)
	f.wantKept(4500)
	if err := f.log.Trim(t.Context(), f.id, 1<<40); err != nil {
		t.Fatal(err)
	}
	if page, err := f.log.Read(t.Context(), f.id, 0, -1, 10); err != nil || len(page) != 0 {
		t.Errorf("%d messages are left (error %v), want none", len(page), err)
	}
	f.fill(6300)
	f.wantKept(6201)
}
