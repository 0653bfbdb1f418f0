package realtime

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Phoenix Channels (phoenix.md section 2) come in two text forms, with the same
// five fields: an object in V1, an array in V2, which has frames of bytes, too.
// Here is what the forms share.

// Events with a meaning of their own.
const (
	phoenixJoin      = "phx_join"
	phoenixLeave     = "phx_leave"
	phoenixReply     = "phx_reply"
	phoenixClose     = "phx_close"
	phoenixError     = "phx_error"
	phoenixHeartbeat = "heartbeat"
)

// phoenixTopic is that of heartbeats alone.
const phoenixTopic = "phoenix"

// codeInvalidUTF8 is the error of a text frame that is not UTF-8: it closes with
// 1007, everything else that cannot be decoded with 1011 (section 2.5).
const codeInvalidUTF8 = "invalid_utf8"

// codeCrash is the error of a join function that has panicked.
const codeCrash = "crash"

// noRef is the JSON text of a join_ref or ref that is not there.
const noRef = "null"

// maxPhoenixRef bounds refs in bytes: a frame of bytes can carry no longer one.
const maxPhoenixRef = 255

// phoenixFields are the fields of a message as they stand in its text.
type phoenixFields struct{ joinRef, ref, topic, event, payload []byte }

// message returns what the fields say.
func (f *phoenixFields) message() (inbound, *Error) {
	in := inbound{data: f.payload}
	var err *Error
	if in.joinRef, err = decodePhoenixRef("join_ref", f.joinRef); err != nil {
		return inbound{}, err
	}
	if in.ref, err = decodePhoenixRef("ref", f.ref); err != nil {
		return inbound{}, err
	}
	if in.topic, err = decodePhoenixName("topic", f.topic); err != nil {
		return inbound{}, err
	}
	if in.event, err = decodePhoenixName("event", f.event); err != nil {
		return inbound{}, err
	}
	err = settlePhoenix(&in)
	return in, err
}

// settlePhoenix sets the op, and refuses names that no topic or event can have:
// not fatally, because for Phoenix they are names like any other. Such a topic
// matches nothing, and an event on it is not looked at.
func settlePhoenix(in *inbound) *Error {
	in.op = phoenixOp(in.topic, in.event)
	if !isName(in.topic, maxTopicBytes) {
		return &Error{Code: CodeUnknownChannel, Text: "No topic has such a name", Retry: RetryNever}
	}
	if !isName(in.event, maxEventBytes) {
		return &Error{Code: CodeInvalidData, Retry: RetryNever,
			Text: fmt.Sprintf("event must be 1 to %d bytes of text without control characters", maxEventBytes)}
	}
	return nil
}

// phoenixOp says what an event means on a topic (sections 3.3 and 3.6).
func phoenixOp(topic, event string) op {
	switch {
	case event == phoenixJoin:
		return opJoin
	case event == phoenixLeave:
		return opLeave
	case event == phoenixHeartbeat && topic == phoenixTopic:
		return opPing
	}
	return opEvent
}

// decodePhoenixRef returns the JSON text of a ref, which is to be sent back as it
// came: only escapes are gone, so that equal refs are equal texts. A nil value is
// a missing one.
func decodePhoenixRef(field string, value []byte) (string, *Error) {
	switch {
	case value == nil, isNull(value):
		return noRef, nil
	case isString(value):
		if len(value) <= maxPhoenixRef+2 && !hasEscape(value) {
			return string(value), nil
		}
		if ref, whole := unquote(value); whole && len(ref) <= maxPhoenixRef {
			return string(appendQuoted(nil, ref)), nil
		}
	case isNumber(value) && len(value) <= maxPhoenixRef:
		return string(value), nil
	}
	return "", invalidMessage(fmt.Sprintf("%s must be null, a number or a string, of at most %d bytes", field, maxPhoenixRef))
}

// decodePhoenixName returns the name of a topic or an event, of any length.
func decodePhoenixName(field string, value []byte) (string, *Error) {
	if isString(value) {
		if name, whole := unquote(value); whole {
			return name, nil
		}
	}
	return "", invalidMessage(field + " must be a string")
}

// checkPhoenixText refuses text that is not UTF-8.
func checkPhoenixText(payload []byte) *Error {
	if !utf8.Valid(payload) {
		return &Error{Code: codeInvalidUTF8, Text: "Text must be UTF-8", Retry: RetryNever}
	}
	return nil
}

// phoenixHead is a message to a client without its payload. The refs are JSON
// texts, "" for null.
type phoenixHead struct{ joinRef, ref, topic, event string }

// phoenixHeadOf returns the head of m by the table of section 2.4, and false if
// there is no such message as text.
func phoenixHeadOf(m *outbound) (phoenixHead, bool) {
	switch m.kind {
	case kindEvent:
		return phoenixHead{joinRef: m.joinRef, topic: m.topic, event: m.event}, !m.binary
	case kindReply, kindJoined:
		return phoenixHead{m.joinRef, m.ref, m.topic, phoenixReply}, true
	case kindError, kindRefused:
		joinRef := m.joinRef
		if isUnmatched(m.err) {
			joinRef = ""
		}
		return phoenixHead{joinRef, m.ref, m.topic, phoenixReply}, m.ref != "" || m.kind == kindRefused
	case kindPong:
		return phoenixHead{ref: m.ref, topic: phoenixTopic, event: phoenixReply}, true
	case kindLeft:
		// Clients of V1 see no join_ref: they tell the end of an older join by the ref.
		if crashed(m.err) {
			return phoenixHead{m.joinRef, m.joinRef, m.topic, phoenixError}, true
		}
		return phoenixHead{m.joinRef, m.joinRef, m.topic, phoenixClose}, true
	case kindGap:
		return phoenixHead{topic: m.topic, event: "gap"}, true
	}
	return phoenixHead{}, false
}

// crashed reports whether a membership has ended for a fault of the server's, so
// that the client should join again.
func crashed(e *Error) bool { return e != nil && e.Code == string(ReasonInternal) }

// appendRef appends a ref, which is JSON already.
func appendRef(dst []byte, ref string) []byte {
	if ref == "" {
		ref = noRef
	}
	return append(dst, ref...)
}

// appendPhoenixPayload appends the payload of a message that phoenixHeadOf knows.
func appendPhoenixPayload(dst []byte, m *outbound) []byte {
	switch m.kind {
	case kindReply:
		return appendPhoenixReply(dst, m)
	case kindJoined:
		dst = append(dst, `{"status":"ok","response":`...)
		dst = appendResponse(dst, m)
	case kindPong:
		return append(dst, `{"status":"ok","response":{}}`...)
	case kindError, kindRefused:
		dst = append(dst, `{"status":"error","response":`...)
		dst = appendPhoenixError(dst, m.err)
	case kindLeft:
		if crashed(m.err) {
			return append(dst, `{"reason":"channel_crash"}`...)
		}
		return append(dst, "{}"...)
	case kindGap:
		dst = append(dst, '{')
		dst = appendGapFields(dst, m.gap)
	default:
		return appendObject(dst, m.data)
	}
	return append(dst, '}')
}

// appendPhoenixReply appends status and response. Bytes get here only if the
// client cannot take them.
func appendPhoenixReply(dst []byte, m *outbound) []byte {
	if m.binary {
		return append(dst, `{"status":"error","response":{"reason":"binary payload"}}`...)
	}
	dst = append(dst, `{"status":`...)
	dst = appendQuoted(dst, phoenixStatus(m))
	dst = append(dst, `,"response":`...)
	dst = appendResponse(dst, m)
	return append(dst, '}')
}

func phoenixStatus(m *outbound) string {
	if m.status == "" {
		return "ok"
	}
	return m.status
}

// appendResponse appends the response of a handler or a join function: anything
// but null, which clients do not expect. What should have been bytes is wrapped,
// for Supabase's clients want an object.
func appendResponse(dst []byte, m *outbound) []byte {
	at := skipSpace(m.data, 0)
	if m.binary || at == len(m.data) || m.data[at] == 'n' {
		return appendObject(dst, m.data)
	}
	return append(dst, m.data...)
}

// appendObject appends the data of an event, which has to be an object: what is
// not becomes a field of one.
func appendObject(dst []byte, data json.RawMessage) []byte {
	at := skipSpace(data, 0)
	switch {
	case at == len(data), data[at] == 'n':
		return append(dst, "{}"...)
	case data[at] == '{':
		return append(dst, data...)
	}
	dst = append(dst, `{"data":`...)
	dst = append(dst, data...)
	return append(dst, '}')
}

// appendPhoenixError appends the response that an error is.
func appendPhoenixError(dst []byte, e *Error) []byte {
	if details := errorDetails(e); details != nil {
		return append(dst, details...)
	}
	dst = append(dst, `{"reason":`...)
	if reason := phoenixReason(e); reason != "" {
		dst = appendQuoted(dst, reason)
		return append(dst, '}')
	}
	dst = appendQuoted(dst, e.Code)
	dst = append(dst, `,"message":`...)
	dst = appendQuoted(dst, e.Text)
	if e.RetryAfter > 0 {
		dst = append(dst, `,"retry_after_ms":`...)
		dst = strconv.AppendInt(dst, wholeMilliseconds(e.RetryAfter), 10)
	}
	return append(dst, '}')
}

// isUnmatched reports whether e says that there is no channel, joined or at all,
// which such an answer therefore does not name.
func isUnmatched(e *Error) bool {
	return e.Code == CodeUnknownChannel || e.Code == CodeNotSubscribed
}

// phoenixReason returns Phoenix's own words for an error (sections 3.4 to 3.7),
// "" where it has none.
func phoenixReason(e *Error) string {
	switch {
	case isUnmatched(e):
		return "unmatched topic"
	case e.Code == CodeUnknownEvent:
		return "unhandled event"
	case e.Code == CodeTooManyChannels:
		return "too many channels joined"
	case e.Code == CodeJoinTimeout:
		return "join timeout"
	case e.Code == codeCrash:
		return "join crashed"
	case e.Code == string(ReasonInternal) && e.Text == ReasonInternal.info().Text:
		return e.Code // of a plain Go error, about which there is nothing to say
	}
	return ""
}
