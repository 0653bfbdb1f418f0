package realtime

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"
)

// opcode is the kind of a WebSocket frame (RFC 6455 section 5.2).
type opcode byte

const (
	frameNone   opcode = 0x0 // on the wire a continuation; from a codec "nothing to send"
	frameText   opcode = 0x1
	frameBinary opcode = 0x2
	frameClose  opcode = 0x8
	framePing   opcode = 0x9
	framePong   opcode = 0xA
)

func (o opcode) isControl() bool { return o&0x8 != 0 }

// The bits of a frame's first two bytes (RFC 6455 section 5.2).
const (
	bitFin    = 0x80
	bitRSV1   = 0x40 // the message is compressed (RFC 7692 section 6)
	bitsRSV23 = 0x30
	bitsOp    = 0x0f
	bitMask   = 0x80
	bitsLen   = 0x7f

	len16 = 126 // the length is in the next 2 bytes
	len64 = 127 // the length is in the next 8 bytes
)

const (
	maxControlPayload = 125 // RFC 6455 section 5.5
	maxCloseReason    = maxControlPayload - 2
)

// closeNoStatus stands for a close frame without a code. It is never on the
// wire (RFC 6455 section 7.4.1).
const closeNoStatus = 1005

// protocolError is a violation of RFC 6455 or RFC 7692 by the peer; the string
// says which. It holds nothing that the peer sent.
type protocolError string

func (e protocolError) Error() string { return "realtime: websocket: " + string(e) }

// errMessageTooLarge is returned for a message over the limit.
var errMessageTooLarge = errors.New("realtime: websocket: message over the limit")

// pingFrame is the ping that all connections share. It has no payload, so that
// the pong has none either and costs the reader nothing. It must not be changed.
var pingFrame = appendHeader(nil, framePing, false, 0)

// appendHeader appends the header of a server's frame, final and not masked,
// with n bytes of payload to follow. rsv1 marks a compressed message.
func appendHeader(dst []byte, op opcode, rsv1 bool, n int) []byte {
	first := bitFin | byte(op)
	if rsv1 {
		first |= bitRSV1
	}
	switch {
	case n < len16:
		return append(dst, first, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, first, len16), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, first, len64), uint64(n))
	}
}

// closePayload returns the payload of a close frame: the code and as much of
// reason as the frame holds, cut between two characters. It is empty for code
// 1005, what [parseClose] gives for an empty one, and for 0.
func closePayload(code int, reason string) []byte {
	if code == 0 || code == closeNoStatus {
		return nil
	}
	reason = cutReason(strings.ToValidUTF8(reason, "\uFFFD"))
	payload := make([]byte, 0, 2+len(reason))
	payload = binary.BigEndian.AppendUint16(payload, uint16(code))
	return append(payload, reason...)
}

func cutReason(reason string) string {
	if len(reason) <= maxCloseReason {
		return reason
	}
	end := maxCloseReason
	for !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}

// parseClose returns the code and the reason of a close frame that the reader
// has accepted: 1005 and "" if the payload is empty.
func parseClose(payload []byte) (code int, reason string) {
	if len(payload) < 2 {
		return closeNoStatus, ""
	}
	return int(binary.BigEndian.Uint16(payload)), string(payload[2:])
}

// checkClose returns what is wrong with the payload of a close frame (RFC 6455
// sections 5.5.1 and 7.4), nil if nothing is.
func checkClose(payload []byte) error {
	switch {
	case len(payload) == 0:
		return nil
	case len(payload) == 1:
		return protocolError("close frame with half a code")
	case !validCloseCode(int(binary.BigEndian.Uint16(payload))):
		return protocolError("close code that must not be sent")
	case !utf8.Valid(payload[2:]):
		return protocolError("close reason is not UTF-8")
	}
	return nil
}

// validCloseCode reports whether code may stand in a close frame: the codes
// registered at IANA, those of libraries (3000–3999) and of applications
// (4000–4999).
func validCloseCode(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	default:
		return code >= 3000 && code <= 4999
	}
}
