package realtime

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// A frame of bytes starts with its kind and the sizes of the fields of its head,
// one byte each; the fields follow, and the rest is the payload (phoenix.md
// sections 2.3 and 8.3).
const (
	bytesPush         = 0 // both ways, but the server's has no ref
	bytesReply        = 1
	bytesBroadcast    = 2
	bytesUserPush     = 3 // Supabase, from the client
	bytesUserDelivery = 4 // Supabase, from the server
)

// What the payload of Supabase's frames is.
const (
	encodingBytes = 0
	encodingJSON  = 1
)

// maxHeadField is what one byte of size can say.
const maxHeadField = 255

// decodePhoenixBytes returns the message in a frame of bytes of V2.
func decodePhoenixBytes(frame []byte) (inbound, *Error) {
	if len(frame) > 0 {
		switch frame[0] {
		case bytesPush:
			return decodePush(frame)
		case bytesUserPush:
			return decodeUserPush(frame)
		}
	}
	return inbound{}, invalidMessage("A frame of bytes must be of kind 0 or 3")
}

// decodePush decodes kind 0: jr_len, ref_len, topic_len, event_len.
func decodePush(frame []byte) (inbound, *Error) {
	var f [4][]byte
	rest, ok := cutHead(f[:], frame, 1+len(f))
	if !ok {
		return inbound{}, errShortFrame()
	}
	in := bytesInbound(f[0], f[1], f[2])
	in.event, in.binary = string(f[3]), rest
	err := settlePhoenix(&in)
	return in, err
}

// decodeUserPush decodes kind 3: jr_len, ref_len, topic_len, uevent_len, meta_len,
// encoding. The message is the one that the client would have sent as text, with
// the metadata as "meta", where messages to clients have it. Of raw bytes the
// data says all but the payload.
func decodeUserPush(frame []byte) (inbound, *Error) {
	var f [5][]byte
	rest, ok := cutHead(f[:], frame, 2+len(f))
	if !ok {
		return inbound{}, errShortFrame()
	}
	event, meta, encoding := f[3], f[4], frame[1+len(f)]
	if len(meta) > 0 && (meta[0] != '{' || !isUserJSON(meta)) {
		return inbound{}, invalidMessage("The metadata must be a JSON object")
	}
	in := bytesInbound(f[0], f[1], f[2])
	in.event = "broadcast"
	switch {
	case encoding == encodingBytes:
		in.binary, rest = rest, nil
	case encoding != encodingJSON || !isUserJSON(rest):
		return inbound{}, invalidMessage("The payload must be bytes, encoding 0, or JSON, encoding 1")
	}
	in.data = userBroadcast(event, meta, rest)
	err := settlePhoenix(&in)
	return in, err
}

// isUserJSON reports whether text is one JSON value, which may be nested as deep
// as in a message of text, where the array and the payload are around it.
func isUserJSON(text []byte) bool {
	at := skipValue(text, 0, maxNesting-2)
	return at >= 0 && skipSpace(text, at) == len(text) && utf8.Valid(text)
}

// userBroadcast returns {"type":"broadcast","event":…,"payload":…,"meta":…}, the
// latter two only if there are any.
func userBroadcast(event, meta, payload []byte) json.RawMessage {
	data := make([]byte, 0, 64+len(event)+len(meta)+len(payload))
	data = append(data, `{"type":"broadcast","event":`...)
	data = appendQuoted(data, string(event))
	if len(payload) > 0 {
		data = append(data, `,"payload":`...)
		data = append(data, payload...)
	}
	if len(meta) > 0 {
		data = append(data, `,"meta":`...)
		data = append(data, meta...)
	}
	return append(data, '}')
}

// cutHead puts the fields of the head, which starts after start bytes, into
// fields, and returns the rest: never nil, capacity clipped.
func cutHead(fields [][]byte, frame []byte, start int) ([]byte, bool) {
	if len(frame) < start {
		return nil, false
	}
	rest := frame[start:len(frame):len(frame)]
	for i := range fields {
		size := int(frame[1+i])
		if len(rest) < size {
			return nil, false
		}
		fields[i], rest = rest[:size], rest[size:]
	}
	return rest, true
}

func errShortFrame() *Error {
	return invalidMessage("A frame of bytes must be as long as its head says")
}

func bytesInbound(joinRef, ref, topic []byte) inbound {
	return inbound{topic: string(topic), joinRef: refOfBytes(joinRef), ref: refOfBytes(ref), data: json.RawMessage("null")}
}

// refOfBytes returns the JSON text of a ref in a head, where an empty one is null.
func refOfBytes(ref []byte) string {
	if len(ref) == 0 {
		return noRef
	}
	var space [32]byte
	return string(appendQuoted(space[:0], string(ref)))
}

// bytesOfRef is the reverse of refOfBytes. A number stands in the head as its
// digits.
func bytesOfRef(ref string) string {
	switch {
	case ref == "" || ref == noRef:
		return ""
	case ref[0] != '"':
		return ref
	case strings.IndexByte(ref, '\\') >= 0:
		plain, _ := unquote([]byte(ref))
		return plain
	}
	return ref[1 : len(ref)-1]
}

// appendPhoenixBytes appends m as a frame of kind 0, 1 or 2. It reports false if m
// cannot be one; what it returns then is of no use, as below.
func appendPhoenixBytes(dst []byte, m *outbound) ([]byte, bool) {
	switch {
	case m.kind == kindEvent && m.joinRef == "":
		return appendBytes(dst, bytesBroadcast, m.data, m.topic, m.event)
	case m.kind == kindEvent:
		return appendBytes(dst, bytesPush, m.data, bytesOfRef(m.joinRef), m.topic, m.event)
	case m.kind == kindReply, m.kind == kindJoined:
		return appendBytes(dst, bytesReply, m.data, bytesOfRef(m.joinRef), bytesOfRef(m.ref), m.topic, phoenixStatus(m))
	}
	return dst, false
}

// appendBytes appends one frame: kind, sizes, fields, and the bytes that data is
// the base64 string of.
func appendBytes(dst []byte, kind byte, data json.RawMessage, fields ...string) ([]byte, bool) {
	frame := append(dst, kind)
	for _, f := range fields {
		if len(f) > maxHeadField {
			return dst, false
		}
		frame = append(frame, byte(len(f)))
	}
	for _, f := range fields {
		frame = append(frame, f...)
	}
	return appendDecoded(frame, data)
}

// appendSupabaseBytes appends an event as a frame of kind 4, without metadata.
// Kind 4 has no join_ref, so a push is one that only its client gets.
func appendSupabaseBytes(dst []byte, m *outbound) ([]byte, bool) {
	if len(m.topic) > maxHeadField || len(m.event) > maxHeadField {
		return dst, false
	}
	frame := append(dst, bytesUserDelivery, byte(len(m.topic)), byte(len(m.event)), 0, encodingBytes)
	frame = append(frame, m.topic...)
	frame = append(frame, m.event...)
	return appendDecoded(frame, m.data)
}

// appendDecoded appends the bytes that data is the base64 string of, null being
// none. It reports false if data is no such string.
func appendDecoded(dst []byte, data json.RawMessage) ([]byte, bool) {
	if len(data) == 0 || isNull(data) {
		return dst, true
	}
	if !isString(data) {
		return dst, false
	}
	frame, err := base64.StdEncoding.AppendDecode(dst, data[1:len(data)-1])
	return frame, err == nil
}
