package realtime

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
