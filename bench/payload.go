package main

import (
	"math/rand/v2"
	"strconv"
	"time"
)

const (
	payloadSize = 128
	stampMark   = `"at":"`
	stampDigits = 19 // of a time in nanoseconds since 1970
)

// newPayload returns a JSON object of payloadSize bytes that bears the time.
func newPayload(seq uint64) []byte { return payloadOf(payloadSize, seq) }

func payloadOf(size int, seq uint64) []byte {
	return padded(append(opened(size, seq), `,"text":"`...), size)
}

const rowsSize = 1024

// newRows returns a JSON object of rowsSize bytes that compresses as a page of
// a table does: the same keys again and again, with values that differ.
func newRows(seq uint64) []byte {
	random := rand.New(rand.NewPCG(seq, 0))
	p := append(opened(rowsSize, seq), `,"rows":[`...)
	for i := 0; len(p) < rowsSize-130; i++ {
		if i > 0 {
			p = append(p, ',')
		}
		p = strconv.AppendInt(append(p, `{"id":`...), random.Int64N(1e6), 10)
		p = strconv.AppendInt(append(p, `,"user":"user-`...), random.Int64N(1e4), 10)
		p = strconv.AppendInt(append(p, `","cents":`...), random.Int64N(1e5), 10)
		p = strconv.AppendBool(append(p, `,"open":`...), random.Int64N(2) == 0)
		p = append(p, '}')
	}
	return padded(append(p, `],"text":"`...), rowsSize)
}

func opened(size int, seq uint64) []byte {
	p := append(make([]byte, 0, size), '{')
	p = append(p, stampMark...)
	p = strconv.AppendInt(p, time.Now().UnixNano(), 10)
	return strconv.AppendUint(append(p, `","seq":`...), seq, 10)
}

func padded(p []byte, size int) []byte {
	for len(p) < size-2 {
		p = append(p, 'x')
	}
	return append(p, '"', '}')
}
