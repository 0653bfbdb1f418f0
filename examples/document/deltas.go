package main

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/seed-58bc6ac1/realtime"
)

// Bounds of an answer to GET /deltas: what the client gets at most, and how many of
// these are in memory at a time.
const (
	maxDeltas   = 2000
	deltasChunk = 100
)

// deltas serves the messages of documents, byte for byte as the log has them.
type deltas struct{ log realtime.OpLog }

// list answers GET /deltas/{tenant}/{document}?from=&to=: from is exclusive, to
// inclusive (document.md section 12.3).
func (d deltas) list(c *call) (int, any, error) {
	id := realtime.DocumentID{Tenant: c.tenant, Document: c.PathValue("document")}
	after, to := int64(0), int64(-1) // all of them
	if n, ok := queryInt(c.Request, "from"); ok {
		after = max(n, 0)
	}
	if n, ok := queryInt(c.Request, "to"); ok {
		to = max(n, 0)
	}
	// The first read shows an error while there is still a status to say so.
	first, err := d.read(c, id, after, to, maxDeltas)
	if err != nil {
		return 0, nil, err
	}
	return 0, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		d.stream(w, c, id, to, first)
	}), nil
}

// read returns the next messages, no more than left.
func (d deltas) read(c *call, id realtime.DocumentID, after, to int64, left int) ([]realtime.SequencedMessage, error) {
	if to >= 0 && to <= after {
		return nil, nil
	}
	return d.log.Read(c.Context(), id, after, to, min(left, deltasChunk))
}

// stream writes the messages, and reads on while there are more. An answer that
// cannot be finished is cut, so that nobody takes it for whole.
func (d deltas) stream(w http.ResponseWriter, c *call, id realtime.DocumentID, to int64, chunk []realtime.SequencedMessage) {
	text := bytes.NewBufferString(`{"value":[`)
	for sent := 0; len(chunk) > 0; {
		for _, m := range chunk {
			if sent > 0 {
				text.WriteByte(',')
			}
			text.Write(m.JSON)
			sent++
		}
		if _, err := w.Write(text.Bytes()); err != nil {
			return
		}
		text.Reset()
		if sent >= maxDeltas {
			break
		}
		var err error
		if chunk, err = d.read(c, id, chunk[len(chunk)-1].SequenceNumber, to, maxDeltas-sent); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	text.WriteString(`]}`)
	_, _ = w.Write(text.Bytes())
}

// queryInt returns the integer of a query's parameter, if it is one.
func queryInt(r *http.Request, name string) (int64, bool) {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	return n, err == nil
}
