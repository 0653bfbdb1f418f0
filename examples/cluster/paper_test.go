package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
)

// paper is what all editors of one document have seen of it, held against each other.
type paper struct {
	name string

	mu      sync.Mutex // guards the following
	texts   map[int64][]byte
	ops     map[string]int64 // contents -> number
	newest  int64
	whole   int64           // the newest when all editors were last seen to have it
	present map[string]bool // clients that have joined and not left, at newest
	verdict
}

func newPaper(name string) *paper {
	return &paper{name: name, texts: map[int64][]byte{}, ops: map[string]int64{}, present: map[string]bool{}}
}

// message is one numbered message of a document.
type message struct {
	ClientID              *string
	SequenceNumber        int64
	MinimumSequenceNumber int64
	Type                  string
	Contents              json.RawMessage
	Data                  *string
}

// seen notes that somebody whose last number was head got a message. A second copy of
// what is known has to be the same, and is no step forward.
func (p *paper) seen(who string, head int64, text []byte) (m message, step bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.Unmarshal(text, &m); err != nil {
		p.wrong(&p.differing, 1, "%s: %s: %.200s: %v", who, p.name, text, err)
		return m, false
	}
	p.events++
	if known, ok := p.texts[m.SequenceNumber]; ok && !bytes.Equal(known, text) {
		p.wrong(&p.differing, 1, "%s: %s: %d is %.300s, and %.300s for others", who, p.name, m.SequenceNumber, text, known)
	}
	switch {
	case m.SequenceNumber <= head:
		return m, false
	case m.SequenceNumber > head+1:
		p.wrong(&p.losses, int(m.SequenceNumber-head-1), "%s: %s: %d after %d", who, p.name, m.SequenceNumber, head)
	}
	p.texts[m.SequenceNumber] = bytes.Clone(text)
	p.operationLocked(who, m)
	if m.SequenceNumber > p.newest {
		p.newest = m.SequenceNumber
		p.followLocked(m)
	}
	return m, true
}

// operationLocked finds ops that are in the document twice.
func (p *paper) operationLocked(who string, m message) {
	var contents string
	if m.Type != "op" || json.Unmarshal(m.Contents, &contents) != nil {
		return
	}
	if at, ok := p.ops[contents]; ok && at != m.SequenceNumber {
		p.wrong(&p.duplicates, 1, "%s: %s: %s is %d and %d", who, p.name, contents, at, m.SequenceNumber)
	}
	p.ops[contents] = m.SequenceNumber
}

// followLocked keeps who is connected.
func (p *paper) followLocked(m message) {
	if m.Data == nil {
		return
	}
	switch m.Type {
	case "join":
		var who struct{ ClientID string }
		_ = json.Unmarshal([]byte(*m.Data), &who)
		p.present[who.ClientID] = true
	case "leave":
		var id string
		_ = json.Unmarshal([]byte(*m.Data), &id)
		delete(p.present, id)
	}
}

// close holds what the editors made against what is in the document, and their ends
// against its end.
func (p *paper) close(editors []*editor) verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := int64(1); n <= p.newest; n++ {
		if p.texts[n] == nil {
			p.wrong(&p.losses, 1, "%s: nobody has %d", p.name, n)
		}
	}
	for _, e := range editors {
		if e.head < p.whole { // later ones are of those who left sooner
			p.wrong(&p.losses, int(p.whole-e.head), "%s: %s: ends at %d of %d", e.name, p.name, e.head, p.whole)
		}
		for n := range e.made {
			if op := fmt.Sprintf("%s %d", e.name, n+1); p.ops[op] == 0 {
				p.wrong(&p.losses, 1, "%s: %s is nowhere", p.name, op)
			}
		}
	}
	return p.verdict
}
