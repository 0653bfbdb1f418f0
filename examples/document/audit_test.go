package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

// audit holds the stream that one connection gets against what a Fluid client
// checks (section 1 of the specification).
type audit struct {
	tb       *testing.T
	messages map[int64]json.RawMessage // by sequence number
	head     int64                     // the last that came live
	msn      int64
	csn      map[string]int64
	writers  map[string]bool
	asked    bool  // for messages again
	since    int64 // the writers are those at this number; before it they are not known
}

// message is one of the stream.
type message struct {
	ClientID                *string
	SequenceNumber          int64
	MinimumSequenceNumber   int64
	ClientSequenceNumber    int64
	ReferenceSequenceNumber int64
	Type                    string
	Contents                json.RawMessage
	Data                    *string
}

// complete has what every message has to have: nil is what is absent. A key that is
// null is not.
type complete struct {
	ClientID, Contents                            json.RawMessage
	SequenceNumber, MinimumSequenceNumber         *int64
	ClientSequenceNumber, ReferenceSequenceNumber *int64
	Timestamp                                     *int64
	Type, Data                                    *string
}

// newAudit checks what a connection begins with.
func newAudit(t *testing.T, h *hello, lastSeen int64) *audit {
	t.Helper()
	a := &audit{
		tb: t, messages: map[int64]json.RawMessage{}, head: lastSeen,
		csn: map[string]int64{}, writers: map[string]bool{},
	}
	for i, text := range h.InitialMessages {
		m := a.decode(text)
		if i == 0 && m.SequenceNumber > 1 {
			a.head, a.since = m.SequenceNumber-1, h.CheckpointSequenceNumber
		}
		a.take(m, text)
	}
	last := h.CheckpointSequenceNumber
	if h.Mode == "write" {
		last--
	}
	if lastSeen > 0 && lastSeen <= last {
		// These come again, with the member's own join.
		a.head, a.msn, a.csn = lastSeen, 0, map[string]int64{}
	} else if a.head != last && last > 0 {
		t.Fatalf("initialMessages end at %d, want %d", a.head, last)
	}
	a.since = h.CheckpointSequenceNumber
	a.writers = map[string]bool{}
	for _, one := range h.InitialClients {
		a.writers[one.ClientID] = one.Mode == "write"
	}
	return a
}

// live checks messages of an op event.
func (a *audit) live(texts []json.RawMessage) {
	a.tb.Helper()
	for _, text := range texts {
		m := a.decode(text)
		if known, ok := a.messages[m.SequenceNumber]; ok && (a.asked || m.SequenceNumber > a.head) {
			if !bytes.Equal(known, text) {
				a.tb.Fatalf("message %d came as %s and as %s", m.SequenceNumber, known, text)
			}
			if m.SequenceNumber <= a.head {
				continue
			}
		}
		a.take(m, text)
	}
}

func (a *audit) decode(text json.RawMessage) (m message) {
	a.tb.Helper()
	var w complete
	if err := json.Unmarshal(text, &w); err != nil {
		a.tb.Fatalf("message %s: %v", text, err)
	}
	if w.ClientID == nil || w.Contents == nil || w.SequenceNumber == nil || w.MinimumSequenceNumber == nil ||
		w.ClientSequenceNumber == nil || w.ReferenceSequenceNumber == nil || w.Timestamp == nil || w.Type == nil {
		a.tb.Fatalf("message %s lacks a field", text)
	}
	if err := json.Unmarshal(w.ClientID, &m.ClientID); err != nil {
		a.tb.Fatalf("message %s: %v", text, err)
	}
	m.SequenceNumber, m.MinimumSequenceNumber = *w.SequenceNumber, *w.MinimumSequenceNumber
	m.ClientSequenceNumber, m.ReferenceSequenceNumber = *w.ClientSequenceNumber, *w.ReferenceSequenceNumber
	m.Type, m.Contents, m.Data = *w.Type, w.Contents, w.Data
	return m
}

// take is about the next message.
func (a *audit) take(m message, text json.RawMessage) {
	a.tb.Helper()
	if m.SequenceNumber != a.head+1 {
		a.tb.Fatalf("message %s came after %d", text, a.head)
	}
	if m.MinimumSequenceNumber < a.msn || m.MinimumSequenceNumber > m.SequenceNumber {
		a.tb.Fatalf("message %s: MSN after %d", text, a.msn)
	}
	a.head, a.msn, a.messages[m.SequenceNumber] = m.SequenceNumber, m.MinimumSequenceNumber, text
	if m.ClientID == nil {
		a.system(m, text)
		return
	}
	id := *m.ClientID
	if m.MinimumSequenceNumber >= m.SequenceNumber || m.ReferenceSequenceNumber >= m.SequenceNumber {
		a.tb.Fatalf("message %s of a client: MSN and RSN have to be lower than its number", text)
	}
	if m.ClientSequenceNumber <= a.csn[id] {
		a.tb.Fatalf("message %s: CSN after %d", text, a.csn[id])
	}
	if !a.writers[id] && m.SequenceNumber >= a.since {
		a.tb.Fatalf("message %s of a client that is not there", text)
	}
	a.csn[id] = m.ClientSequenceNumber
}

func (a *audit) system(m message, text json.RawMessage) {
	a.tb.Helper()
	if m.ClientSequenceNumber != -1 || m.ReferenceSequenceNumber != m.SequenceNumber-1 {
		a.tb.Fatalf("message %s of the server: want CSN -1, and RSN one less than its number", text)
	}
	if m.Type == "noop" {
		return
	}
	if m.Data == nil || differs(*m.Data, string(m.Contents)) != "" {
		a.tb.Fatalf("message %s: want the contents as text in data", text)
	}
	switch {
	case m.SequenceNumber < a.since:
	case m.Type == "join":
		var who struct{ ClientID string }
		if err := json.Unmarshal(m.Contents, &who); err != nil {
			a.tb.Fatalf("message %s: %v", text, err)
		}
		a.writers[who.ClientID] = true
	case m.Type == "leave":
		var id string
		if err := json.Unmarshal(m.Contents, &id); err != nil {
			a.tb.Fatalf("message %s: %v", text, err)
		}
		if !a.writers[id] {
			a.tb.Fatalf("message %s: who leaves is not there", text)
		}
		delete(a.writers, id)
	}
}
