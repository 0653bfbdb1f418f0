package realtime

import "fmt"

// phoenixV2 is the protocol of Phoenix clients with vsn=2.0.0: one JSON array per
// message, [join_ref,ref,topic,event,payload], and frames of bytes.
type phoenixV2 struct{}

func (phoenixV2) protocol() string { return "phoenix.v2" }

func (phoenixV2) slot() int { return 3 }

func (phoenixV2) answers() bool { return false }

// decode implements codec by phoenix.md sections 2.1, 2.3 and 8.3.
func (phoenixV2) decode(payload []byte, binary bool) (inbound, *Error) {
	return decodePhoenixV2(payload, binary)
}

// encode implements codec by phoenix.md sections 2.1 and 2.3. It allocates only
// if dst is too short or an error has data.
func (phoenixV2) encode(dst []byte, m *outbound) ([]byte, opcode) {
	if m.binary {
		if frame, ok := appendPhoenixBytes(dst, m); ok {
			return frame, frameBinary
		}
	}
	return appendPhoenixV2(dst, m)
}

// supabaseV2 is phoenixV2 as Supabase's clients speak it: of the frames of bytes
// they know only their own (phoenix.md section 8.3).
type supabaseV2 struct{}

func (supabaseV2) protocol() string { return "supabase.v2" }

func (supabaseV2) slot() int { return 4 }

func (supabaseV2) answers() bool { return false }

// decode implements codec as phoenixV2 does.
func (supabaseV2) decode(payload []byte, binary bool) (inbound, *Error) {
	return decodePhoenixV2(payload, binary)
}

// encode implements codec by phoenix.md sections 2.1 and 8.3, allocating as
// phoenixV2 does.
func (supabaseV2) encode(dst []byte, m *outbound) ([]byte, opcode) {
	if m.binary && m.kind == kindEvent {
		if frame, ok := appendSupabaseBytes(dst, m); ok {
			return frame, frameBinary
		}
	}
	return appendPhoenixV2(dst, m)
}

func decodePhoenixV2(payload []byte, binary bool) (inbound, *Error) {
	if binary {
		return decodePhoenixBytes(payload)
	}
	if err := checkPhoenixText(payload); err != nil {
		return inbound{}, err
	}
	var five [5][]byte
	n := 0
	elements := scanArray(payload, maxNesting)
	for ; elements.next(); n++ {
		if n < len(five) {
			five[n] = elements.value
		}
	}
	if !elements.complete() || n < len(five) {
		return inbound{}, invalidMessage(fmt.Sprintf("A message must be one JSON array of five elements, nested at most %d levels deep", maxNesting))
	}
	f := phoenixFields{joinRef: five[0], ref: five[1], topic: five[2], event: five[3], payload: five[4]}
	return f.message()
}

func appendPhoenixV2(dst []byte, m *outbound) ([]byte, opcode) {
	head, ok := phoenixHeadOf(m)
	if !ok {
		return dst, frameNone
	}
	dst = append(dst, '[')
	dst = appendRef(dst, head.joinRef)
	dst = append(dst, ',')
	dst = appendRef(dst, head.ref)
	dst = append(dst, ',')
	dst = appendQuoted(dst, head.topic)
	dst = append(dst, ',')
	dst = appendQuoted(dst, head.event)
	dst = append(dst, ',')
	dst = appendPhoenixPayload(dst, m)
	return append(dst, ']'), frameText
}
