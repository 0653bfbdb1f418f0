package main

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
)

// deflateTerms are offered and asked for: each message stands for itself in both
// directions, so that a server may send the same bytes to everybody (RFC 7692
// section 7.1.1).
const deflateTerms = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// deflateAccepted is what the answer must say at least.
var deflateAccepted = [][]byte{[]byte("permessage-deflate"), []byte("server_no_context_takeover")}

// deflateTail is what a sender takes off (RFC 7692 section 7.2.1).
const deflateTail = "\x00\x00\xff\xff"

// inflate returns the message that a compressed frame holds.
func inflate(payload []byte) ([]byte, error) {
	const final = "\x01\x00\x00\xff\xff" // an empty last block, so that the reader sees an end
	source := io.MultiReader(bytes.NewReader(payload), bytes.NewReader([]byte(deflateTail+final)))
	text, err := io.ReadAll(flate.NewReader(source))
	if err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	}
	return text, nil
}
