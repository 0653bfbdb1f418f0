package realtime

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxRefBytes bounds a ref (envelope.md section 2).
const maxRefBytes = 64

// maxOffset is the first offset that a JavaScript number cannot tell from its
// neighbour, and so the first that no topic ever has (envelope.md section 2).
const maxOffset = 1 << 53

// envelopeCodec is the protocol realtime.v1: one JSON object per text message,
// {"channel":…,"type":…,"data":…,"ref":…}.
//
// An outbound message without a topic goes out on "global", so that the error
// for an undecodable message needs no special case.
type envelopeCodec struct{}

func (envelopeCodec) protocol() string { return "realtime.v1" }

func (envelopeCodec) slot() int { return 0 }

func (envelopeCodec) answers() bool { return true }

// decode implements codec by envelope.md sections 2 and 3.
func (envelopeCodec) decode(payload []byte, binary bool) (inbound, *Error) {
	if err := checkText(payload, binary); err != nil {
		return inbound{}, err
	}
	var channel, event, data, ref []byte
	fields := scanObject(payload, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "channel":
			channel = fields.value
		case "type":
			event = fields.value
		case "data":
			data = fields.value
		case "ref":
			ref = fields.value
		}
	}
	if !fields.complete() {
		return inbound{}, errNotObject()
	}
	// The values are looked at only now, because a later duplicate could have
	// taken the place of a bad one.
	in := inbound{topic: globalTopic, data: data}
	var err *Error
	if channel != nil && !isNull(channel) {
		if in.topic, err = decodeName("channel", channel, maxTopicBytes); err != nil {
			return inbound{}, err
		}
	}
	if in.event, err = decodeName("type", event, maxEventBytes); err != nil {
		return inbound{}, err
	}
	if in.ref, err = decodeRef(ref); err != nil {
		return inbound{}, err
	}
	if data == nil {
		in.data = json.RawMessage("null")
	}
	in.op = envelopeOp(in.topic, in.event)
	if in.op == opJoin {
		return decodeJoin(in)
	}
	return in, nil
}

// envelopeOp says what a type means on a channel (envelope.md section 3).
func envelopeOp(topic, event string) op {
	switch event {
	case "ping", "auth":
		if topic == globalTopic {
			return globalOp(event)
		}
	case "subscribe":
		return opJoin
	case "unsubscribe":
		return opLeave
	case "history":
		return opPage
	case "answer":
		return opAnswer
	}
	return opEvent
}

// globalOp says what the types mean that have a meaning on "global" alone.
func globalOp(event string) op {
	switch event {
	case "ping":
		return opPing
	case "auth":
		return opAuth
	}
	return opEvent
}

// checkText refuses what cannot be a message of a text protocol.
func checkText(payload []byte, binary bool) *Error {
	if binary {
		return invalidMessage("A message must be text, not binary")
	}
	if !utf8.Valid(payload) {
		return invalidMessage("A message must be UTF-8")
	}
	return nil
}

func errNotObject() *Error {
	return invalidMessage(fmt.Sprintf("A message must be one JSON object, nested at most %d levels deep", maxNesting))
}

func invalidMessage(text string) *Error {
	return &Error{Code: string(ReasonInvalidMessage), Text: text, Retry: RetryNever}
}

// decodeName returns the name of a channel or an event, field being what the
// client calls it. A nil value is a missing one.
func decodeName(field string, value []byte, most int) (string, *Error) {
	if !isString(value) {
		return "", invalidMessage(field + " must be a string")
	}
	name, whole := unquote(value)
	if !whole || !isName(name, most) {
		return "", invalidMessage(fmt.Sprintf("%s must be 1 to %d bytes of text without control characters", field, most))
	}
	return name, nil
}

// decodeRef returns the ref, "" for one that is missing or null.
func decodeRef(value []byte) (string, *Error) {
	if value == nil || isNull(value) {
		return "", nil
	}
	if !isString(value) {
		return "", invalidMessage("ref must be a string")
	}
	ref, whole := unquote(value)
	if !whole || len(ref) > maxRefBytes {
		return "", invalidMessage(fmt.Sprintf("ref must be at most %d bytes of text", maxRefBytes))
	}
	return ref, nil
}

// decodeJoin takes the data of a subscribe apart: data becomes the params. An
// error leaves in as it was, so that it can be answered.
func decodeJoin(in inbound) (inbound, *Error) {
	if isNull(in.data) {
		return in, nil
	}
	var params, position []byte
	fields := scanObject(in.data, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "params":
			params = fields.value
		case "recover":
			position = fields.value
		}
	}
	if !fields.complete() {
		return in, invalidJoin("data must be an object or null")
	}
	if params == nil {
		params = []byte("null")
	}
	if params[0] != '{' && !isNull(params) {
		return in, invalidJoin("params must be an object or null")
	}
	if position != nil && !isNull(position) {
		from, ok := decodePosition(position)
		if !ok {
			return in, invalidJoin("recover must hold an epoch, which is a string, and an offset, which is a whole number from 0 to 2^53-1")
		}
		in.recover = from
	}
	in.data = params
	return in, nil
}

func invalidJoin(text string) *Error {
	return &Error{Code: CodeInvalidData, Text: "subscribe: " + text, Retry: RetryNever}
}

// decodePosition returns the position in {"epoch":"…","offset":41}. It wants the
// offset as JavaScript writes it: digits only.
func decodePosition(value []byte) (*Position, bool) {
	var epoch, offset []byte
	fields := scanObject(value, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "epoch":
			epoch = fields.value
		case "offset":
			offset = fields.value
		}
	}
	if !fields.complete() || !isString(epoch) {
		return nil, false
	}
	text, whole := unquote(epoch)
	count, err := strconv.ParseUint(string(offset), 10, 64)
	if !whole || err != nil || count >= maxOffset {
		return nil, false
	}
	return &Position{Epoch: text, Offset: count}, true
}

// encode implements codec by envelope.md sections 4 to 6. It allocates only if
// dst is too short.
func (envelopeCodec) encode(dst []byte, m *outbound) ([]byte, opcode) {
	topic, event := envelopeNames(m)
	dst = append(dst, `{"channel":`...)
	dst = appendQuoted(dst, topic)
	dst = append(dst, `,"type":`...)
	dst = appendQuoted(dst, event)
	dst = append(dst, `,"data":`...)
	dst = appendEnvelopeData(dst, m)
	if m.ref != "" {
		dst = append(dst, `,"ref":`...)
		dst = appendQuoted(dst, m.ref)
	}
	if m.offset != 0 {
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, m.offset, 10)
	}
	if m.ask != "" {
		dst = append(dst, `,"ask":`...)
		dst = appendQuoted(dst, m.ask)
	}
	return append(dst, '}'), frameText
}

// envelopeNames returns the channel and the type of a message, by the table of
// envelope.md section 5: what is about a connection or a membership is on
// "global", what belongs to a channel's stream on the channel.
func envelopeNames(m *outbound) (topic, event string) {
	topic = m.topic
	switch m.kind {
	case kindEvent:
		event = m.event
	case kindReply:
		event = "reply"
	case kindError:
		event = "error"
	case kindGap:
		event = "gap"
	case kindPong:
		topic, event = globalTopic, "pong"
	case kindConnected:
		topic, event = globalTopic, "connected"
	case kindAuthenticated:
		topic, event = globalTopic, "auth_success"
	case kindJoined:
		topic, event = globalTopic, "subscription_success"
	case kindRefused:
		topic, event = globalTopic, "subscription_error"
	case kindLeft:
		topic, event = globalTopic, "unsubscribed"
	case kindClosing:
		topic, event = globalTopic, "closing"
	}
	if topic == "" {
		topic = globalTopic
	}
	return topic, event
}

func appendEnvelopeData(dst []byte, m *outbound) []byte {
	switch m.kind {
	case kindReply:
		dst = append(dst, `{"status":"ok","response":`...)
		dst = appendJSON(dst, m.data)
	case kindError:
		dst = append(dst, '{')
		dst = appendErrorFields(dst, m.err)
	case kindJoined:
		dst = append(dst, `{"channel":`...)
		dst = appendQuoted(dst, m.topic)
		dst = appendJoinedFields(dst, m)
	case kindRefused:
		dst = append(dst, `{"channel":`...)
		dst = appendQuoted(dst, m.topic)
		dst = append(dst, ',')
		dst = appendErrorFields(dst, m.err)
	case kindLeft:
		dst = append(dst, `{"channel":`...)
		dst = appendQuoted(dst, m.topic)
		dst = append(dst, ',')
		dst = appendLeftFields(dst, m.err)
	case kindGap:
		dst = append(dst, '{')
		dst = appendGapFields(dst, m.gap)
	case kindClosing:
		dst = append(dst, '{')
		dst = appendClosingFields(dst, m.closing)
	default:
		return appendJSON(dst, m.data)
	}
	return append(dst, '}')
}

// appendJSON appends JSON of the host or of a client as it stands.
func appendJSON(dst []byte, text json.RawMessage) []byte {
	if len(text) == 0 {
		return append(dst, "null"...)
	}
	return append(dst, text...)
}

// appendErrorFields and its like append the fields of a message's data, without
// the braces: realtime.flat has them beside the type.
func appendErrorFields(dst []byte, e *Error) []byte {
	dst = append(dst, `"code":`...)
	dst = appendQuoted(dst, e.Code)
	dst = append(dst, `,"error":`...)
	dst = appendQuoted(dst, e.Text)
	dst = appendRetry(dst, e.Retry)
	if e.RetryAfter > 0 {
		dst = append(dst, `,"retry_after_ms":`...)
		dst = strconv.AppendInt(dst, wholeMilliseconds(e.RetryAfter), 10)
	}
	if details := errorDetails(e); details != nil {
		dst = append(dst, `,"data":`...)
		dst = append(dst, details...)
	}
	return dst
}

// errorDetails returns the error's data as JSON, nil if it has none, or none that
// can be JSON.
func errorDetails(e *Error) json.RawMessage {
	if e.Data == nil {
		return nil
	}
	details, err := encode(e.Data)
	if err != nil || isNull(details) {
		return nil
	}
	return details
}

func appendRetry(dst []byte, retry Retry) []byte {
	if retry == "" {
		retry = RetryNever
	}
	dst = append(dst, `,"retry":`...)
	return appendQuoted(dst, string(retry))
}

// wholeMilliseconds rounds up, so that a client that waits this long has waited
// long enough.
func wholeMilliseconds(d time.Duration) int64 {
	ms := d.Milliseconds()
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}

func appendLeftFields(dst []byte, e *Error) []byte {
	if e == nil {
		return append(dst, `"code":"client"`...)
	}
	return appendErrorFields(dst, e)
}

func appendJoinedFields(dst []byte, m *outbound) []byte {
	if at := m.joined.position; at != nil {
		dst = append(dst, `,"epoch":`...)
		dst = appendQuoted(dst, at.Epoch)
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, at.Offset, 10)
	}
	dst = append(dst, `,"recovery":`...)
	dst = appendQuoted(dst, string(m.joined.recovery))
	dst = append(dst, `,"response":`...)
	return appendJSON(dst, m.data)
}

func appendGapFields(dst []byte, g *gap) []byte {
	dst = append(dst, `"dropped":`...)
	if g.unknown {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendUint(dst, g.dropped, 10)
	}
	dst = append(dst, `,"policy":`...)
	dst = appendQuoted(dst, g.policy)
	if g.from != 0 {
		dst = append(dst, `,"from":`...)
		dst = strconv.AppendUint(dst, g.from, 10)
	}
	if g.to != 0 {
		dst = append(dst, `,"to":`...)
		dst = strconv.AppendUint(dst, g.to, 10)
	}
	if g.epoch != "" {
		dst = append(dst, `,"epoch":`...)
		dst = appendQuoted(dst, g.epoch)
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, g.offset, 10)
	}
	return dst
}

func appendClosingFields(dst []byte, c *closing) []byte {
	dst = append(dst, `"code":`...)
	dst = strconv.AppendInt(dst, int64(c.code), 10)
	dst = append(dst, `,"reason":`...)
	dst = appendQuoted(dst, string(c.reason))
	dst = append(dst, `,"error":`...)
	dst = appendQuoted(dst, c.text)
	dst = appendRetry(dst, c.retry)
	if c.retry == RetryNow || c.retry == RetryBackoff {
		dst = append(dst, `,"min_delay_ms":`...)
		dst = strconv.AppendInt(dst, c.minDelayMS, 10)
		dst = append(dst, `,"jitter_ms":`...)
		dst = strconv.AppendInt(dst, c.jitterMS, 10)
	}
	return dst
}
