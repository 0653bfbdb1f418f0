package realtime

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
)

// maxPostLines is how many messages of one POST are taken (phoenix.md appendix
// A); phoenix.js sends no more.
const maxPostLines = 100

// postBody reads the messages that one POST brings, one at a time: what it holds
// never exceeds one message.
type postBody struct {
	src   *bufio.Reader
	limit int // bytes of one message
	lines int // how many are still taken
	whole bool
}

// newPostBody starts on a body. Without newline-delimited JSON as its type it is
// one text message as a whole.
func newPostBody(src io.Reader, contentType string, limit int64) *postBody {
	kind, _, _ := mime.ParseMediaType(contentType)
	b := &postBody{src: bufio.NewReader(src), limit: int(limit), lines: maxPostLines}
	if b.whole = kind != "application/x-ndjson"; b.whole {
		b.lines = 1
	}
	return b
}

// postBytes is the most that a body of messages within limit can have.
func postBytes(limit int64) int64 { return maxPostLines * int64(lineBytes(int(limit))) }

// lineBytes is the longest line for a message of limit bytes, its end included.
func lineBytes(limit int) int { return base64.StdEncoding.EncodedLen(limit) + len("\r\n") }

// next returns the next message and whether it is text or binary. The payload is
// the caller's. The error is io.EOF after the last, errMessageTooLarge, or what
// reading the body met.
func (b *postBody) next() (opcode, []byte, error) {
	if b.lines == 0 {
		return frameNone, nil, io.EOF
	}
	if b.whole {
		b.lines = 0
		text, err := io.ReadAll(io.LimitReader(b.src, int64(b.limit)+1))
		return b.bound(frameText, text, tooLarge(err))
	}
	for {
		line, err := b.line()
		if err != nil {
			return frameNone, nil, err
		}
		if len(line) > 0 { // between two newlines there is no message
			b.lines--
			return b.message(line)
		}
	}
}

// cut reports whether there is more than the lines that were taken.
func (b *postBody) cut() bool {
	_, err := b.src.Peek(1)
	return b.lines == 0 && !b.whole && err == nil
}

// message is one line. What is neither an array nor base64 is left to the codec
// as text: it is an object of V1, or nothing that a codec will take.
func (b *postBody) message(line []byte) (opcode, []byte, error) {
	if line[0] != '[' {
		if payload, err := base64.StdEncoding.AppendDecode(nil, line); err == nil {
			return b.bound(frameBinary, payload, nil)
		}
	}
	return b.bound(frameText, line, nil)
}

func (b *postBody) bound(op opcode, payload []byte, err error) (opcode, []byte, error) {
	if err == nil && len(payload) > b.limit {
		err = errMessageTooLarge
	}
	if err != nil {
		return frameNone, nil, err
	}
	return op, payload, nil
}

// line reads to the end of a line, which it cuts off.
func (b *postBody) line() ([]byte, error) {
	var line []byte
	for {
		part, err := b.src.ReadSlice('\n')
		if len(line)+len(part) > lineBytes(b.limit) {
			return nil, errMessageTooLarge
		}
		line = append(line, part...)
		switch {
		case err == nil, err == io.EOF && len(line) > 0:
			return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
		case err != bufio.ErrBufferFull:
			return nil, tooLarge(err)
		}
	}
}

// tooLarge is what an error of a body means that http.MaxBytesReader bounds.
func tooLarge(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errMessageTooLarge
	}
	return err
}
