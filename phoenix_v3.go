package realtime

import (
	"encoding/json"
	"strings"
)

// phoenixV3 is the protocol of document sockets with vsn=3.0.0 (document.md section
// 13): the array of phoenixV2 in MessagePack, each message a frame of bytes. Inside
// the server its payloads are JSON, as everybody's.
type phoenixV3 struct{}

func (phoenixV3) protocol() string { return "phoenix.v3.msgpack" }

func (phoenixV3) slot() int { return 5 }

func (phoenixV3) answers() bool { return false }

// decode implements codec. The data never aliases payload; a payload of bytes does.
func (phoenixV3) decode(payload []byte, binary bool) (inbound, *Error) {
	if !binary {
		return inbound{}, errNotPacked("text")
	}
	u := unpacker{in: payload, out: make([]byte, 0, len(payload)+len(payload)/4+16)}
	n := u.array()
	var ends [5]int
	var bytes []byte
	for i := 0; i < n && u.fault == ""; i++ {
		found := u.payload(maxNesting - 1)
		switch {
		case i == len(ends)-1:
			bytes = found
		case i < len(ends) && found != nil:
			u.fail("bytes for a string")
		}
		if i < len(ends) {
			ends[i] = len(u.out)
		}
	}
	switch {
	case u.fault != "":
		return inbound{}, errNotPacked(u.fault)
	case n < len(ends) || len(u.in) > 0:
		return inbound{}, errNotPacked("something else")
	}
	cut := func(i int) []byte { return u.out[ends[i-1]:ends[i]:ends[i]] }
	f := phoenixFields{joinRef: u.out[:ends[0]], ref: cut(1), topic: cut(2), event: cut(3), payload: cut(4)}
	in, err := f.message()
	if in.data != nil {
		in.binary = bytes
	}
	return in, err
}

func errNotPacked(found string) *Error {
	return invalidMessage("A message must be bytes, one MessagePack array of five elements; found " + found)
}

// encode implements codec. It allocates as phoenixV2 does, and for what appendPacked
// says.
func (phoenixV3) encode(dst []byte, m *outbound) ([]byte, opcode) {
	head, ok := phoenixHeadOf(m)
	if !ok && m.kind != kindEvent { // an event of bytes is no text, but can be packed
		return dst, frameNone
	}
	packed := append(dst, packedArray|5)
	packed = appendPackedRef(packed, head.joinRef)
	packed = appendPackedRef(packed, head.ref)
	packed = appendPackedText(packed, strings.ToValidUTF8(head.topic, "\uFFFD"))
	packed = appendPackedText(packed, strings.ToValidUTF8(head.event, "\uFFFD"))
	if packed, ok = appendPackedPayload(packed, m); !ok {
		return dst, frameNone
	}
	return packed, frameBinary
}

// appendPackedRef appends a ref, the JSON text of a number or a string, or "".
func appendPackedRef(dst []byte, ref string) []byte {
	if ref == "" || ref == noRef {
		return append(dst, packedNil)
	}
	if ref[0] == '"' && strings.IndexByte(ref, '\\') < 0 {
		return appendPackedText(dst, ref[1:len(ref)-1])
	}
	dst, _ = appendPackedScalar(dst, []byte(ref), 0)
	return dst
}

// appendPackedPayload is appendPhoenixPayload in MessagePack, where bytes have a
// place. It reports false if the data is not what it should be.
func appendPackedPayload(dst []byte, m *outbound) ([]byte, bool) {
	switch m.kind {
	case kindEvent:
		return appendPackedData(dst, m, true)
	case kindReply, kindJoined:
		dst = appendPackedText(append(dst, packedMap|2), "status")
		dst = appendPackedText(dst, strings.ToValidUTF8(phoenixStatus(m), "\uFFFD"))
		return appendPackedData(appendPackedText(dst, "response"), m, false)
	}
	// What is left is small: it is packed behind its text, and then takes its place.
	at := len(dst)
	dst = appendPhoenixPayload(dst, m)
	text := dst[at:]
	packed, ok := appendPacked(dst, text)
	return packed[:at+copy(packed[at:], packed[at+len(text):])], ok
}

// appendPackedData appends the data of an event, which appendObject has as JSON, or
// of a reply, as appendResponse.
func appendPackedData(dst []byte, m *outbound, object bool) ([]byte, bool) {
	at := skipSpace(m.data, 0)
	switch {
	case m.binary:
		return appendPackedBinary(dst, m.data[at:])
	case at == len(m.data), m.data[at] == 'n':
		return append(dst, packedMap), true
	case object && m.data[at] != '{':
		dst = appendPackedText(append(dst, packedMap|1), "data")
	}
	return appendPacked(dst, m.data)
}

// appendPackedBinary appends the bytes that data is the base64 string of, null being
// none.
func appendPackedBinary(dst []byte, data json.RawMessage) ([]byte, bool) {
	switch {
	case len(data) == 0, isNull(data), string(data) == `""`:
		return append(dst, packedBin8, 0), true
	case !isString(data) || len(data)%4 != 2:
		return dst, false
	}
	return appendPackedBase64(dst, data[1], data[2:len(data)-1])
}
