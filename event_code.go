package realtime

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"
)

// eventVersion is the first byte of an encoded event. Another form gets another
// one, so that nodes of two versions can tell.
const eventVersion = 1

// The bits of the second byte.
const eventBinary = 1 << 0

var errEventCode = errors.New("realtime: not an encoded event")

// AppendBinary appends e as brokers keep and carry it: everything but the topic and
// the position, which they know themselves. It implements [encoding.BinaryAppender].
func (e *Event) AppendBinary(b []byte) ([]byte, error) {
	var flags byte
	if e.Binary {
		flags |= eventBinary
	}
	b = append(b, eventVersion, flags)
	b = binary.AppendVarint(b, e.Time.UnixMicro())
	b = appendText(b, e.Name)
	b = appendText(b, e.Except)
	return append(b, e.Data...), nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// UnmarshalBinary sets what AppendBinary wrote, and keeps a part of b. It implements
// [encoding.BinaryUnmarshaler] but for that.
func (e *Event) UnmarshalBinary(b []byte) error {
	if len(b) < 2 || b[0] != eventVersion || b[1]&^eventBinary != 0 {
		return errEventCode
	}
	e.Binary = b[1]&eventBinary != 0
	micros, n := binary.Varint(b[2:])
	if n <= 0 {
		return errEventCode
	}
	b = b[2+n:]
	var ok bool
	if e.Name, b, ok = cutText(b); !ok {
		return errEventCode
	}
	if e.Except, b, ok = cutText(b); !ok || !json.Valid(b) {
		return errEventCode
	}
	e.Time, e.Data = time.UnixMicro(micros), json.RawMessage(b)
	return nil
}

func cutText(b []byte) (text string, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, false
	}
	return string(b[n : n+int(size)]), b[n+int(size):], true
}
