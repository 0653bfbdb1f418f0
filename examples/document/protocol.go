package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-58bc6ac1/realtime"
)

// The blobs of a .protocol tree.
const (
	blobAttributes = "attributes"
	blobMembers    = "quorumMembers"
	blobProposals  = "quorumProposals"
	blobValues     = "quorumValues"
)

// protocol is what every client of a document agrees on at one sequence number:
// who may write, and which values were accepted. It advances message by message,
// as the clients' own copies do.
type protocol struct {
	at        attributes
	members   []pair // client id, quorumMember; in the order of joining
	proposals []proposal
	values    []pair // key, quorumValue
}

type attributes struct {
	MinimumSequenceNumber int64 `json:"minimumSequenceNumber"`
	SequenceNumber        int64 `json:"sequenceNumber"`
}

type quorumMember struct {
	Client         json.RawMessage `json:"client"`
	SequenceNumber int64           `json:"sequenceNumber"`
}

// proposal is a value that is accepted once every client has seen it.
type proposal struct {
	SequenceNumber int64           `json:"sequenceNumber"`
	Key            string          `json:"key"`
	Value          json.RawMessage `json:"value"`
}

type quorumValue struct {
	Key                    string          `json:"key"`
	Value                  json.RawMessage `json:"value"`
	ApprovalSequenceNumber int64           `json:"approvalSequenceNumber"`
	CommitSequenceNumber   int64           `json:"commitSequenceNumber"`
	SequenceNumber         int64           `json:"sequenceNumber"`
}

// pair is [key, value] in JSON.
type pair struct {
	key   string
	value json.RawMessage
}

func (p pair) MarshalJSON() ([]byte, error) { return json.Marshal([]any{p.key, p.value}) }

func (p *pair) UnmarshalJSON(text []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	if len(parts) != 2 {
		return errors.New("want [key, value]")
	}
	p.value = parts[1]
	return json.Unmarshal(parts[0], &p.key)
}

// MarshalJSON writes [sequence number, proposal, []], in which the last is a list
// that no client uses any more.
func (p proposal) MarshalJSON() ([]byte, error) {
	type plain proposal
	return json.Marshal([]any{p.SequenceNumber, plain(p), []string{}})
}

func (p *proposal) UnmarshalJSON(text []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	if len(parts) < 2 {
		return errors.New("want [sequence number, proposal, …]")
	}
	type plain proposal
	return json.Unmarshal(parts[1], (*plain)(p))
}

// protocol reads the blobs of a .protocol tree. Those that are not there are empty.
func (r repo) protocol(entries []entry) (*protocol, error) {
	p := new(protocol)
	for name, to := range map[string]any{
		blobAttributes: &p.at, blobMembers: &p.members, blobProposals: &p.proposals, blobValues: &p.values,
	} {
		e, ok := entryNamed(entries, name)
		if !ok {
			continue
		}
		content, err := r.blob(e.SHA)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := json.Unmarshal(content, to); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return p, nil
}

// objects returns the blobs of a .protocol tree, and last the tree.
func (p *protocol) objects() []object {
	blobs := []struct {
		name  string
		value any
	}{
		{blobAttributes, p.at},
		{blobMembers, orEmpty(p.members)},
		{blobProposals, orEmpty(p.proposals)},
		{blobValues, orEmpty(p.values)},
	}
	var all []object
	var entries []entry
	for _, b := range blobs {
		o := newBlob(mustJSON(b.value))
		all, entries = append(all, o), append(entries, o.in(b.name))
	}
	return append(all, newTree(entries))
}

// apply advances p by the document's next message. An error names a message that
// cannot be, such as one after a gap.
func (p *protocol) apply(m realtime.SequencedMessage) error {
	if m.SequenceNumber != p.at.SequenceNumber+1 {
		return fmt.Errorf("message %d after %d", m.SequenceNumber, p.at.SequenceNumber)
	}
	var err error
	switch {
	case m.Type == "join" && m.ClientID == "":
		err = p.join(m)
	case m.Type == "leave" && m.ClientID == "":
		err = p.leave(m)
	case m.Type == "propose":
		err = p.propose(m)
	}
	if err != nil {
		return fmt.Errorf("message %d: %w", m.SequenceNumber, err)
	}
	p.at = attributes{m.MinimumSequenceNumber, m.SequenceNumber}
	p.accept()
	return nil
}

func (p *protocol) join(m realtime.SequencedMessage) error {
	var joined struct {
		ClientID string          `json:"clientId"`
		Detail   json.RawMessage `json:"detail"`
	}
	if err := systemData(m, &joined); err != nil {
		return err
	}
	value := mustJSON(quorumMember{joined.Detail, m.SequenceNumber})
	p.members = append(p.members, pair{joined.ClientID, value})
	return nil
}

func (p *protocol) leave(m realtime.SequencedMessage) error {
	var left string
	if err := systemData(m, &left); err != nil {
		return err
	}
	p.members = slices.DeleteFunc(p.members, func(member pair) bool { return member.key == left })
	return nil
}

// systemData decodes the data of a system message: JSON in a string.
func systemData(m realtime.SequencedMessage, to any) error {
	var text struct{ Data string }
	if err := json.Unmarshal(m.JSON, &text); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text.Data), to)
}

// propose remembers a proposal. Nothing checks a client's contents before, so what
// is no proposal is left out, as clients do that read it.
func (p *protocol) propose(m realtime.SequencedMessage) error {
	var op struct{ Contents json.RawMessage }
	if err := json.Unmarshal(m.JSON, &op); err != nil {
		return err
	}
	var inner string
	if json.Unmarshal(op.Contents, &inner) == nil {
		op.Contents = []byte(inner)
	}
	var of struct {
		Key   *string
		Value json.RawMessage
	}
	if json.Unmarshal(op.Contents, &of) != nil || of.Key == nil {
		return nil
	}
	if of.Value == nil {
		of.Value = json.RawMessage("null")
	}
	p.proposals = append(p.proposals, proposal{m.SequenceNumber, *of.Key, of.Value})
	return nil
}

// accept turns the proposals that every client has seen into values, in the order
// in which they were made.
func (p *protocol) accept() {
	p.proposals = slices.DeleteFunc(p.proposals, func(seen proposal) bool {
		if seen.SequenceNumber > p.at.MinimumSequenceNumber {
			return false
		}
		// -1 is what clients write in a place that has lost its meaning.
		p.set(seen.Key, mustJSON(quorumValue{seen.Key, seen.Value, p.at.SequenceNumber, -1, seen.SequenceNumber}))
		return true
	})
}

func (p *protocol) set(key string, value json.RawMessage) {
	if at := slices.IndexFunc(p.values, func(v pair) bool { return v.key == key }); at >= 0 {
		p.values[at].value = bytes.Clone(value)
		return
	}
	p.values = append(p.values, pair{key, value})
}
