package boltlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed-58bc6ac1/realtime"
)

// Records are numbers and strings, one after the other: numbers as varints,
// strings with their length before them, and the JSON of a message as what is
// left.

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func encodeMessage(m realtime.SequencedMessage) []byte {
	b := make([]byte, 0, len(m.JSON)+len(m.ClientID)+len(m.Type)+32)
	for _, n := range []int64{m.MinimumSequenceNumber, m.ClientSequenceNumber, m.ReferenceSequenceNumber, m.Timestamp} {
		b = binary.AppendVarint(b, n)
	}
	return append(appendString(appendString(b, m.ClientID), m.Type), m.JSON...)
}

// decodeMessage returns the message with a number; its JSON is part of b.
func decodeMessage(number int64, b []byte) (realtime.SequencedMessage, error) {
	m := realtime.SequencedMessage{SequenceNumber: number}
	r := record{rest: b}
	for _, n := range []*int64{&m.MinimumSequenceNumber, &m.ClientSequenceNumber, &m.ReferenceSequenceNumber, &m.Timestamp} {
		*n = r.number()
	}
	m.ClientID, m.Type = r.text(), r.text()
	if r.damaged {
		return realtime.SequencedMessage{}, fmt.Errorf("the record of message %d is damaged", number)
	}
	m.JSON = r.rest
	return m, nil
}

func encodeHead(head realtime.LogHead) []byte {
	b := binary.AppendVarint(nil, head.SequenceNumber)
	b = binary.AppendVarint(b, head.MinimumSequenceNumber)
	b = appendString(b, head.Epoch)
	for _, s := range head.Summaries {
		b = appendString(b, s.Handle)
		b = binary.AppendVarint(b, s.SequenceNumber)
		b = binary.AppendVarint(b, s.Covered)
	}
	return b
}

// decodeHead returns the head without the clients that are open.
func decodeHead(b []byte) (realtime.LogHead, error) {
	var head realtime.LogHead
	r := record{rest: b}
	head.SequenceNumber, head.MinimumSequenceNumber, head.Epoch = r.number(), r.number(), r.text()
	for i := range head.Summaries {
		head.Summaries[i] = realtime.SummaryMark{Handle: r.text(), SequenceNumber: r.number(), Covered: r.number()}
	}
	if r.damaged || len(r.rest) > 0 {
		return realtime.LogHead{}, errors.New("the record of a head is damaged")
	}
	return head, nil
}

// record reads what one consists of. Once something is not there it is damaged,
// and all that follows is zero.
type record struct {
	rest    []byte
	damaged bool
}

func (r *record) number() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.rest, r.damaged = nil, true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *record) text() string {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > uint64(len(r.rest)-size) {
		r.rest, r.damaged = nil, true
		return ""
	}
	s := string(r.rest[size : size+int(n)])
	r.rest = r.rest[size+int(n):]
	return s
}
