package nats

import (
	"encoding/binary"
	"errors"

	"github.com/seed-58bc6ac1/realtime"
)

// recordVersion is the first byte of what is stored. Another form gets another one,
// so that nodes of two versions can tell.
const recordVersion = 1

// The kinds of records.
const (
	kindEvent    = iota // an event at its offset
	kindPosition        // no event: the stream of the topic stands at this offset
)

var errRecord = errors.New("not a record of a topic")

// position is where a topic's stream stands, as far as somebody knows.
type position struct {
	epoch  string
	offset uint64
	id     uint64 // of the event at offset, or of the epoch's beginning: chosen by chance
	seq    uint64 // of the message in the server's stream; it is not part of the record
}

// record is one message of a topic's subject.
type record struct {
	position
	kind byte

	// previous is the id of the event before. A server that has lost its newest
	// messages would go on with the same numbers: the chain of ids shows it.
	previous uint64

	event []byte // as [realtime.Event.AppendBinary] makes it
}

// append appends r as it is stored.
func (r *record) append(b []byte) []byte {
	b = append(b, recordVersion, r.kind)
	b = binary.AppendUvarint(b, r.offset)
	b = binary.LittleEndian.AppendUint64(b, r.id)
	b = binary.LittleEndian.AppendUint64(b, r.previous)
	b = append(b, byte(len(r.epoch)))
	b = append(b, r.epoch...)
	return append(b, r.event...)
}

// parseRecord returns what append wrote, and keeps a part of b.
func parseRecord(b []byte) (record, error) {
	var r record
	if len(b) < 2 || b[0] != recordVersion || b[1] > kindPosition {
		return r, errRecord
	}
	r.kind = b[1]
	offset, n := binary.Uvarint(b[2:])
	if n <= 0 {
		return r, errRecord
	}
	b = b[2+n:]
	if len(b) < 17 || b[16] == 0 || len(b) < 17+int(b[16]) {
		return r, errRecord
	}
	r.offset, r.id, r.previous = offset, binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	end := 17 + int(b[16])
	r.epoch, r.event = string(b[17:end]), b[end:]
	if (r.kind == kindPosition) != (len(r.event) == 0) || r.kind == kindEvent && r.offset == 0 {
		return r, errRecord
	}
	return r, nil
}

// eventOf returns the record's event.
func (r *record) eventOf(topic string) (*realtime.Event, error) {
	e := &realtime.Event{}
	if err := e.UnmarshalBinary(r.event); err != nil {
		return nil, err
	}
	e.Topic, e.Offset, e.Epoch = topic, r.offset, r.epoch
	return e, nil
}
