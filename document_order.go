package realtime

import (
	"context"
	"encoding/json"
	"time"
)

// DocumentOrder gives the messages of documents their numbers on behalf of several
// nodes. A step of a document is decided, numbered, stored and told to all nodes in
// one go, so that any node may take any op, and none is in charge. The rules are
// those of Fluid's sequencer (docs/protocols.md, section 12), which a server that is
// alone applies itself; both give the same messages, byte for byte.
//
// Whoever writes one has it pass realtimetest.DocumentOrder.
type DocumentOrder interface {
	// Take takes one step. What comes of it has been told to this node's own Attend
	// when it returns, unless the error says that nothing happened. After
	// [ErrBrokerDown] the step was taken, or it was not. It blocks for a time that
	// the implementation bounds, at most until ctx ends.
	Take(ctx context.Context, id DocumentID, step *DocumentStep) (*DocumentOutcome, error)

	// Attend has tell called with what happens in a document after the returned
	// state, one call at a time, until stop has returned: messages in the order of
	// their numbers without a gap, each once, whatever node they come from. tell does
	// not call back, and stop is not called by it, since stop waits for it. Attend must
	// not be called by two at a time for one document.
	Attend(ctx context.Context, id DocumentID, tell func(*DocumentNews)) (_ *DocumentStanding, stop func(), _ error)

	// Read is that of [OpLog].
	Read(ctx context.Context, id DocumentID, after, to int64, limit int) ([]SequencedMessage, error)
}

// DocumentStep is one step of a document. What its kind does not name is zero.
type DocumentStep struct {
	Kind   StepKind
	Node   string    // who takes it
	Now    time.Time // zero: the time of the order's own clock
	Client string    // StepJoin, StepLeave, StepOps, StepRefer, StepSignal

	// StepJoin. No two have the same client, ever.
	Writer    bool   // it gets a join message, and may submit; else it only is there
	Summaries bool   // it may summarize
	Object    []byte // its description
	Join      DocumentTail
	Leave     DocumentTail // of the message of its end, whenever and whoever has it leave
	Came      []byte       // the data of the signal of its coming; nil for none
	Went      []byte       // of its end; nil for none

	// StepOps.
	Ops             []DocumentOp
	MaxUnsummarized int64 // 0 is no bound

	RSN int64 // StepRefer

	// StepNoop: the noop of the server, if there is news in it.
	Noop DocumentTail

	// StepIdle: writers that were silent for Timeout have to leave, in the order of
	// their ids. Of several calls within Period, by whatever nodes, the first does
	// something.
	Timeout, Period time.Duration

	// StepAnswer: the answer to the summarize op Answers, unless it has one.
	Answers int64
	Answer  DocumentTail
	Ack     SummaryMark // zero for a refusal

	// StepBury: the clients of Nodes leave, in the order of their coming, and then
	// their open summaries are refused.
	Nodes []string

	// StepSignal: told to all nodes, in its place among the messages.
	Signal []byte
}

// StepKind says what a step does.
type StepKind uint8

// The steps of a document.
const (
	StepJoin StepKind = iota + 1
	StepLeave
	StepOps
	StepRefer
	StepNoop
	StepIdle
	StepAnswer
	StepBury
	StepSignal
)

// DocumentTail is the text of a message from after its reference sequence number
// to before its timestamp: it begins with ,"type": and ends with "timestamp":. The
// whole message is
//
//	{"clientId":C,"sequenceNumber":S,"minimumSequenceNumber":M,"clientSequenceNumber":N,"referenceSequenceNumber":R TAIL T}
//
// without the spaces; C is a JSON string, or null for a message of the server.
type DocumentTail struct {
	Type string // of the message
	Text []byte
}

// DocumentOp is one op of a submission.
type DocumentOp struct {
	DocumentTail
	CSN, RSN int64
	Null     bool   // its contents is JSON's null
	Flaw     string // what is wrong with the contents of a summarize, for its nack

	// Of a summarize: the tail of the summaryNack that refuses it in the end if its
	// node dies, in three parts between which its own number stands: in the contents,
	// and in the data.
	Refusal [3][]byte
}

// DocumentOutcome is what came of a step.
type DocumentOutcome struct {
	SequenceNumber        int64 // of the document's newest message
	MinimumSequenceNumber int64 // as it is now, which the newest message may not tell yet

	Messages []SequencedMessage // numbered by this step
	Absorbed bool               // after the last of them a noop was absorbed, or StepRefer accepted
	Counts   bool               // StepRefer: it was accepted

	// Refusal, if not nil, is why the op Refused of a submission got no number; those
	// after it were not looked at.
	Refusal *DocumentRefusal
	Refused int

	Standing *DocumentStanding // StepJoin: right after it
}

// DocumentRefusal is the content of a nack (document.md section 5.5).
type DocumentRefusal struct {
	Code       int
	Type       string
	Message    string
	Reason     string
	RetryAfter int // seconds; 0: not told
}

// DocumentStanding is how a document stands.
type DocumentStanding struct {
	LogHead
	MSN     int64            // as it is now; that of the last message may be less
	Clients []DocumentClient // all that are there, in the order of their coming
}

// DocumentClient is one client that is connected, to whatever node.
type DocumentClient struct {
	ID     string
	Node   string
	Mode   string // "read" or "write"
	Object json.RawMessage
}

// DocumentNews is something that happened in a document. A step in which several
// clients leave is told in several parts: one for each of them, in the order of their
// leave messages, and then one for the rest.
type DocumentNews struct {
	Messages []SequencedMessage // of one step
	Taken    bool               // this node took the step
	Joined   string             // the client that came with it, a reader too; "" for none
	Left     string             // the client that left with it
	Signal   []byte             // as StepSignal gave it, or data of a signal of the server; nil for none
	From     string             // Signal: the client it is from, "" for the server

	// Lost, if not nil, is why nothing more will be told: messages are gone, or the
	// document is not the same any more.
	Lost error
}
