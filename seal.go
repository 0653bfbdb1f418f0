package realtime

import "sync"

// deflateMin is the payload below which compression does not pay: the frame
// gets hardly smaller and costs more CPU than its bytes.
const deflateMin = 512

// maxHeader is the longest header of a server's frame.
const maxHeader = 10

// sealing holds messages while they are encoded: what is handed to an interface's
// method is on the heap, and so a caller's own would be garbage at once.
var sealing = sync.Pool{New: func() any { return new(outbound) }}

// seal encodes m into a frame, nil if the protocol has no such message.
func seal(c codec, m *outbound) *frame {
	size := maxHeader + 96 + len(m.topic) + len(m.event) + len(m.data)
	if m.kind == kindJoined {
		size += 64
	}
	buf := make([]byte, maxHeader, size)
	own := sealing.Get().(*outbound)
	*own = *m
	buf, op := c.encode(buf, own)
	*own = outbound{}
	sealing.Put(own)
	if op == frameNone {
		return nil
	}
	return &frame{wire: prefix(buf, op, false)}
}

// prefix puts the header right before the payload that starts at maxHeader.
func prefix(buf []byte, op opcode, rsv1 bool) []byte {
	var space [maxHeader]byte
	header := appendHeader(space[:0], op, rsv1, len(buf)-maxHeader)
	at := maxHeader - len(header)
	copy(buf[at:], header)
	return buf[at:]
}

// deflateFrame returns the compressed form of a whole data frame.
func deflateFrame(wire []byte) []byte {
	op, payload := opcode(wire[0]&0x0f), payloadOf(wire)
	buf := deflateMessage(make([]byte, maxHeader, maxHeader+len(payload)/2), payload)
	if len(buf)-maxHeader >= len(payload) {
		return wire
	}
	return prefix(buf, op, true)
}

// payloadOf returns the payload of a server's frame.
func payloadOf(wire []byte) []byte {
	switch wire[1] {
	case 126:
		return wire[4:]
	case 127:
		return wire[10:]
	}
	return wire[2:]
}

// closeFrame returns the frame that ends a connection.
func closeFrame(code int, text string) *frame {
	return controlFrame(frameClose, closePayload(code, text))
}

// pong returns the answer to a ping.
func pong(payload []byte) *frame { return controlFrame(framePong, payload) }

func controlFrame(op opcode, payload []byte) *frame {
	return &frame{wire: append(appendHeader(nil, op, false, len(payload)), payload...)}
}
