package realtime

// submission is what the sequencer looks at in an op. The gate of section 5.2 has
// made sure that csn is at least 1 and rsn at least −1.
type submission struct {
	kind     string // its "type"
	csn, rsn int64
	null     bool   // its contents is JSON's null; a noop without contents has none
	flaw     string // what is wrong with the contents of a summarize, for its nack; else ""
}

// ticket is what a message gets of the sequencer. A system message has the csn −1,
// and the rsn is the number before its own.
type ticket struct{ sn, msn, rsn, csn int64 }

// ruling says what became of an op.
type ruling struct {
	fate    fate
	ticket  ticket   // of a sequenced op
	refusal *refusal // of a refused one
}

type fate uint8

const (
	opSequenced fate = iota // stored and sent to all, next op
	opDuplicate             // known already: nothing happens, next op
	opAbsorbed              // a noop that waits for consolidation (7.2): start the timer, next op
	opRefused               // a nack, and the rest of the submission is dropped
)

// refusal is the content of a nack.
type refusal struct {
	code       int
	kind       string // its "type"
	message    string
	reason     string
	retryAfter int // seconds; 0: not told
}

// The types of nacks, and what Fluid's clients then do.
const (
	badRequestError   = "BadRequestError"   // reconnect and resend
	invalidScopeError = "InvalidScopeError" // close the container for good
	throttlingError   = "ThrottlingError"   // wait for retryAfter and reconnect
)

// The types of messages that the sequencer and the session make or look at.
const (
	typeNoop        = "noop"
	typeJoin        = "join"
	typeLeave       = "leave"
	typeSummarize   = "summarize"
	typeSummaryAck  = "summaryAck"
	typeSummaryNack = "summaryNack"
)

// isServiceType reports whether messages of a type come from the service only. The
// server sends neither "noClient" nor "control": Fluid's own does.
func isServiceType(kind string) bool {
	switch kind {
	case typeJoin, typeLeave, typeSummaryAck, typeSummaryNack, "noClient", "control":
		return true
	}
	return false
}

func refuse(code int, kind, reason, message string) ruling {
	return ruling{fate: opRefused, refusal: &refusal{code: code, kind: kind, reason: reason, message: message}}
}
