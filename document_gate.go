package realtime

import (
	"encoding/json"
	"time"
)

func gateNack(code int, kind, reason, text string) *nack {
	return &nack{sequenceNumber: -1, refusal: refusal{code: code, kind: kind, reason: reason, message: text}}
}

// submissionOf reads the client's id and the array called name; ok is false if one of
// them is missing.
func submissionOf(data []byte, name string) (id string, batches json.RawMessage, ok bool) {
	named := false
	fields := scanObject(data, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "clientId":
			if named = isString(fields.value); named {
				id, _ = unquote(fields.value)
			}
		case name:
			batches = fields.value
		}
	}
	return id, batches, named && len(batches) > 0 && batches[0] == '['
}

// ignored is the answer to a push that no event answers.
func ignored(reason string) *Error {
	return &Error{Code: reason, Text: "Ignored", Retry: RetryNever, Data: map[string]string{"reason": reason}}
}

// allowance is what a rate leaves to one client.
type allowance struct {
	rule
	burst int
	full  time.Time // when it will be whole again
}

// take spends n, or as much as a whole allowance if that is less, and returns 0; or
// how long to wait before it can.
func (a *allowance) take(n int, now time.Time) time.Duration {
	if a.step == 0 {
		return 0
	}
	from := a.full
	if from.Before(now) {
		from = now
	}
	full := from.Add(time.Duration(min(n, a.burst)) * a.step)
	if over := full.Sub(now) - time.Duration(a.burst)*a.step; over > 0 {
		return over
	}
	a.full = full
	return 0
}
