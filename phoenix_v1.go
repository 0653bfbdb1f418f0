package realtime

// phoenixV1 is the protocol of Phoenix clients with vsn=1.0.0 or none: one JSON
// object per message, {"topic":…,"event":…,"payload":…,"ref":…}, and no bytes.
type phoenixV1 struct{}

func (phoenixV1) protocol() string { return "phoenix.v1" }

func (phoenixV1) slot() int { return 2 }

func (phoenixV1) answers() bool { return false }

// decode implements codec by phoenix.md section 2.2. A frame of bytes is read as
// text.
func (phoenixV1) decode(payload []byte, binary bool) (inbound, *Error) {
	if err := checkPhoenixText(payload); err != nil {
		if binary {
			err.Code = string(ReasonInvalidMessage)
		}
		return inbound{}, err
	}
	var f phoenixFields
	fields := scanObject(payload, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "topic":
			f.topic = fields.value
		case "event":
			f.event = fields.value
		case "payload":
			f.payload = fields.value
		case "ref":
			f.ref = fields.value
		case "join_ref":
			f.joinRef = fields.value
		}
	}
	if !fields.complete() {
		return inbound{}, errNotObject()
	}
	if f.payload == nil || f.ref == nil {
		return inbound{}, invalidMessage("A message must have a topic, an event, a payload and a ref")
	}
	return f.message()
}

// encode implements codec by phoenix.md section 2.2. It allocates only if dst is
// too short or an error has data.
func (phoenixV1) encode(dst []byte, m *outbound) ([]byte, opcode) {
	head, ok := phoenixHeadOf(m)
	if !ok {
		return dst, frameNone
	}
	dst = append(dst, `{"topic":`...)
	dst = appendQuoted(dst, head.topic)
	dst = append(dst, `,"event":`...)
	dst = appendQuoted(dst, head.event)
	dst = append(dst, `,"payload":`...)
	dst = appendPhoenixPayload(dst, m)
	dst = append(dst, `,"ref":`...)
	dst = appendRef(dst, head.ref)
	return append(dst, '}'), frameText
}
