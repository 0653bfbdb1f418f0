package realtime

import "encoding/binary"

// maxRecordFields bounds the fields of one record from another node.
const maxRecordFields = 64

// appendRecord appends texts to b, as nodes send them to each other: how many, and
// each with its length. A later version may add fields behind those that there are.
func appendRecord(b []byte, fields ...string) []byte {
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, one := range fields {
		b = appendText(b, one)
	}
	return b
}

// cutRecord reads a record of at least want fields; those beyond are there, too.
func cutRecord(b []byte, want int) (fields []string, rest []byte, ok bool) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > maxRecordFields || count < uint64(want) {
		return nil, nil, false
	}
	b = b[n:]
	fields = make([]string, count)
	for i := range fields {
		if fields[i], b, ok = cutText(b); !ok {
			return nil, nil, false
		}
	}
	return fields, b, true
}

// cutNumber reads what [binary.AppendUvarint] wrote.
func cutNumber(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
