package realtime

import (
	"bytes"
	"encoding/json"
)

// flatCodec is the protocol realtime.flat: the object is the event, and its
// fields other than "type" are the data (envelope.md section 8).
//
// Everything is on "global". Since a client can name no other channel,
// subscribe, unsubscribe, history and answer have no meaning here: they are
// events like any other, which a host may handle. The same goes for fields named
// channel, data and ref: they are data. For the same reason outcomes of joins and
// leaves have no form here, and an event shows neither offset nor ask.
type flatCodec struct{}

// flatRef stands for the refs that this protocol lacks: its clients get every
// reply and error, so the dispatcher must see a ref, and encode ignores it.
const flatRef = "flat"

func (flatCodec) protocol() string { return "realtime.flat" }

func (flatCodec) slot() int { return 1 }

func (flatCodec) answers() bool { return false }

// decode implements codec by envelope.md section 8. Of fields with the same key
// the last one is kept.
func (flatCodec) decode(payload []byte, binary bool) (inbound, *Error) {
	if err := checkText(payload, binary); err != nil {
		return inbound{}, err
	}
	var event []byte
	kept := make([]flatField, 0, fewFields)
	fields := scanObject(payload, maxNesting)
	for fields.next() {
		if string(fields.key) == "type" {
			event = fields.value
		} else {
			kept = append(kept, flatField{fields.key, fields.raw()})
		}
	}
	if !fields.complete() {
		return inbound{}, errNotObject()
	}
	name, err := decodeName("type", event, maxEventBytes)
	if err != nil {
		return inbound{}, err
	}
	in := inbound{op: globalOp(name), topic: globalTopic, event: name, ref: flatRef}
	if in.op == opPing {
		kept = onlyTimestamp(kept)
	}
	in.data = joinFields(lastOfEach(kept), len(payload))
	return in, nil
}

// flatField is a field of a message: its key, decoded, and the whole of it as it
// stands in the message.
type flatField struct{ key, raw []byte }

// onlyTimestamp returns what a pong repeats: "a ping without a timestamp gets
// {"type":"pong"}", whatever else was in it.
func onlyTimestamp(fields []flatField) []flatField {
	only := fields[:0]
	for _, f := range fields {
		if string(f.key) == "timestamp" {
			only = append(only, f)
		}
	}
	return only
}

// fewFields is how many fields are compared each with each. Beyond it a map
// keeps a message of thousands of fields from costing their square.
const fewFields = 8

// lastOfEach returns the fields whose key does not come again, in order. It
// writes into the slice it is given.
func lastOfEach(fields []flatField) []flatField {
	if len(fields) > fewFields {
		return lastOfMany(fields)
	}
	last := fields[:0]
	for i, f := range fields {
		again := false
		for _, later := range fields[i+1:] {
			again = again || bytes.Equal(f.key, later.key)
		}
		if !again {
			last = append(last, f)
		}
	}
	return last
}

func lastOfMany(fields []flatField) []flatField {
	at := make(map[string]int, len(fields))
	for i, f := range fields {
		at[string(f.key)] = i
	}
	last := fields[:0]
	for i, f := range fields {
		if at[string(f.key)] == i {
			last = append(last, f)
		}
	}
	return last
}

// joinFields returns the object that holds the fields. size is an upper bound of
// its length.
func joinFields(fields []flatField, size int) json.RawMessage {
	object := append(make([]byte, 0, size), '{')
	for i, f := range fields {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(object, f.raw...)
	}
	return append(object, '}')
}

// encode implements codec by envelope.md section 8. It allocates only if dst is
// too short or a key of the data holds an escape.
func (flatCodec) encode(dst []byte, m *outbound) ([]byte, opcode) {
	switch m.kind {
	case kindJoined, kindRefused, kindLeft:
		return dst, frameNone
	case kindReply:
		return appendFlatReply(dst, m.data)
	}
	_, event := envelopeNames(m)
	dst = append(dst, `{"type":`...)
	dst = appendQuoted(dst, event)
	switch m.kind {
	case kindError:
		dst = append(dst, ',')
		dst = appendErrorFields(dst, m.err)
	case kindGap:
		dst = append(dst, ',')
		dst = appendGapFields(dst, m.gap)
	case kindClosing:
		dst = append(dst, ',')
		dst = appendClosingFields(dst, m.closing)
	default:
		dst = appendFlatData(dst, m.data)
	}
	return append(dst, '}'), frameText
}

// appendFlatReply appends the object that a handler returned, its own type
// first. There is no message if it returned none.
func appendFlatReply(dst []byte, response json.RawMessage) ([]byte, opcode) {
	if trimmed := bytes.TrimSpace(response); len(trimmed) == 0 || isNull(trimmed) {
		return dst, frameNone
	}
	dst = append(dst, `{"type":`...)
	if own := flatType(response); own != nil {
		dst = append(dst, own...)
	} else {
		dst = append(dst, `"reply"`...)
	}
	dst = appendFlatData(dst, response)
	return append(dst, '}'), frameText
}

// flatType returns the type in the data as it stands there, nil unless it is a
// string.
func flatType(data json.RawMessage) []byte {
	var own []byte
	fields := scanObject(data, maxHostNesting)
	for fields.next() {
		if string(fields.key) == "type" {
			own = fields.value
		}
	}
	if !fields.complete() || !isString(own) {
		return nil
	}
	return own
}

// appendFlatData appends the fields of the data, each after a comma, without any
// "type": that of the message beats it. Data that is not an object becomes one
// field.
func appendFlatData(dst []byte, data json.RawMessage) []byte {
	before := len(dst)
	fields := scanObject(data, maxHostNesting)
	for fields.next() {
		if string(fields.key) != "type" {
			dst = append(dst, ',')
			dst = append(dst, fields.raw()...)
		}
	}
	if !fields.complete() {
		dst = append(dst[:before], `,"data":`...)
		dst = appendJSON(dst, data)
	}
	return dst
}
