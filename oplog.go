package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrSequenceTaken is what [OpLog.Append] returns when the messages do not
// follow the newest one that the log has: somebody else has written, or the
// caller has lost count. Nothing was stored; [OpLog.Head] says where the log is.
var ErrSequenceTaken = errors.New("realtime: sequence number taken")

// OpLog keeps the sequenced messages of documents, each in a log of its own.
// [NewMemoryLog] makes the one that a server has by default; the modules boltlog
// and sqllog keep them in a file and in a database. Whoever writes another one
// has it pass realtimetest.OpLog.
//
// All methods may be called from any goroutine. A document needs no creation: one
// that nobody has written to has an empty log. A context that has ended before
// the call gives its error, and nothing is done.
//
// Messages are shared. What Append was given and what Read returns is changed by
// nobody, the bytes of their JSON included.
type OpLog interface {
	// Append stores messages, all or none. They are durable when it returns nil,
	// if the log is durable at all; it blocks that long. The numbers must run on
	// from the newest message without a gap, or it returns [ErrSequenceTaken]; of
	// several that append at the same time one wins.
	//
	// After another error the messages are stored, or they are not: a connection
	// may have broken while the database committed. Head tells, and a caller that
	// tries again is told ErrSequenceTaken if they are. No messages are no error.
	Append(ctx context.Context, id DocumentID, messages []SequencedMessage) error

	// Read returns messages with after < sequence number ≤ to, ascending without a
	// gap, limit of them at most; to < 0 is no bound, and limit < 1 gives none. It
	// begins with the oldest one kept, if that is later.
	//
	// It may return fewer than limit, but at least one if there is one: a page of
	// messages of a megabyte each is short. The end is an empty page.
	Read(ctx context.Context, id DocumentID, after, to int64, limit int) ([]SequencedMessage, error)

	// Head returns where the log stands. It knows of joins and summaries whose
	// messages were trimmed, too. The slice is the caller's.
	Head(ctx context.Context, id DocumentID) (LogHead, error)

	// Trim allows the log to drop the messages with numbers below below. The head
	// stays as it is, and no number is used again.
	Trim(ctx context.Context, id DocumentID, below int64) error
}

// DocumentID names one document. Both parts are compared byte by byte.
type DocumentID struct{ Tenant, Document string }

// SequencedMessage is one message of a document after it got its number
// (document.md sections 5.4 and 6).
type SequencedMessage struct {
	SequenceNumber          int64
	MinimumSequenceNumber   int64
	ClientID                string // "" for a message of the server, null on the wire
	ClientSequenceNumber    int64  // -1 for a message of the server
	ReferenceSequenceNumber int64
	Type                    string // "op", "join", …; of a client's message whatever it said
	Timestamp               int64  // milliseconds since 1970

	// JSON is the whole message. These bytes are stored, sent to the members and
	// answered to whoever asks later, and never encoded again: clients take a
	// difference for a document that was overwritten.
	JSON json.RawMessage
}

// LogHead is where the log of one document stands. That of a document without
// messages is zero.
type LogHead struct {
	SequenceNumber        int64          // of the newest message
	MinimumSequenceNumber int64          // of the same message
	Open                  []string       // client ids with a join and no leave, in the order of their joins
	Summaries             [2]SummaryMark // the last acknowledged summary, and the one before; zero for none
	Epoch                 string         // made with the first message: another one means another history
}

// SummaryMark is an acknowledged summary.
type SummaryMark struct {
	Handle         string
	SequenceNumber int64 // of the summarize message
	Covered        int64 // the last message that is part of the summary: the summarize message's RSN
}

// LogEffect is what one message changes in the head of its log, the numbers
// apart. It is for those who write an [OpLog].
type LogEffect struct {
	Joined string // this client is open from now on, "" for none
	Left   string // this one no longer

	// Summary was acknowledged, if its handle is not "". What it covers stands
	// in another message: the reference number of the one with its number, or 0
	// when that was trimmed.
	Summary SummaryMark
}

// Effect reads what m changes in the head of its log. Only messages of the
// server change something: a client's "join" is a word like any other. An error
// means that the JSON is not what the type asks for.
func (m SequencedMessage) Effect() (LogEffect, error) {
	if m.ClientID != "" {
		return LogEffect{}, nil
	}
	var effect LogEffect
	var err error
	switch m.Type {
	case "join":
		effect.Joined, err = m.joined()
	case "leave":
		effect.Left, err = m.left()
	case "summaryAck":
		effect.Summary, err = m.acknowledged()
	}
	if err != nil {
		return LogEffect{}, fmt.Errorf("realtime: %s message %d: %w", m.Type, m.SequenceNumber, err)
	}
	return effect, nil
}

func (m SequencedMessage) joined() (string, error) {
	var client struct{ ClientID string }
	err := m.unmarshalText(&client)
	if err == nil && client.ClientID == "" {
		err = errNoClient
	}
	return client.ClientID, err
}

func (m SequencedMessage) left() (id string, err error) {
	err = m.unmarshalText(&id)
	if err == nil && id == "" {
		err = errNoClient
	}
	return id, err
}

func (m SequencedMessage) acknowledged() (SummaryMark, error) {
	var ack struct {
		Handle          string
		SummaryProposal struct{ SummarySequenceNumber int64 }
	}
	err := m.unmarshalText(&ack)
	if err == nil && ack.Handle == "" {
		err = errors.New("no handle")
	}
	return SummaryMark{Handle: ack.Handle, SequenceNumber: ack.SummaryProposal.SummarySequenceNumber}, err
}

var errNoClient = errors.New("no client id")

// unmarshalText decodes "data", the string of JSON that messages of the server
// have.
func (m SequencedMessage) unmarshalText(v any) error {
	var message struct{ Data string }
	if err := json.Unmarshal(m.JSON, &message); err != nil {
		return err
	}
	return json.Unmarshal([]byte(message.Data), v)
}
