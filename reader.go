package realtime

import (
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"sync"
)

// readBuffer is what one read of a socket goes into.
type readBuffer [4096]byte

// readBuffers holds the buffers of all connections. A connection has one only
// while it has unread bytes.
var readBuffers = sync.Pool{New: func() any { return new(readBuffer) }}

const (
	// maxFragments bounds the frames of one message, because empty ones are free
	// of the limit in bytes. Autobahn's most fragmented message has that many
	// (case 9.3.1: 4 MiB in frames of 64 bytes); as empty frames they are 384 KiB
	// of traffic and about a millisecond.
	maxFragments = 1 << 16

	// maxEmptyReads bounds reads in a row that give nothing, as in package bufio.
	maxEmptyReads = 100
)

// frameReader turns the bytes of one connection into messages and control
// frames. It belongs to one goroutine. An idle one holds no buffer and nothing
// else on the heap.
type frameReader struct {
	src   io.Reader
	limit int64 // bytes of one message, decompressed

	buf        *readBuffer // nil, or unread bytes in [start:end], or a control payload
	start, end uint16

	deflate    bool // RSV1 is allowed
	discarding bool
	lost       bool // where the next frame begins is not known any more

	partial *partial // the fragmented message that is under way
	skip    int64    // payload bytes of a refused frame, still to come
	err     error    // what next has failed with
}

// partial is a message of which the last fragment has not come.
type partial struct {
	payload    []byte
	op         opcode
	compressed bool
	fragments  int
}

// frameHeader is one frame's header as it is on the wire, before any judgement.
type frameHeader struct {
	op      opcode
	fin     bool
	rsv1    bool
	rsv23   bool
	masked  bool
	minimal bool   // the length is in its shortest form
	length  int64  // negative if the top bit was set
	key     uint32 // little endian
}

// init sets the reader up. limit bounds a message's bytes, all fragments
// together and decompressed. deflate says that permessage-deflate was agreed
// on, without context takeover by the client.
func (r *frameReader) init(src io.Reader, limit int64, deflate bool) {
	// Twice the limit is still an int, so that no sum below overflows.
	*r = frameReader{src: src, limit: max(0, min(limit, math.MaxInt/2)), deflate: deflate}
}

// feed gives the reader a buffer from readBuffers with n bytes in it. The buffer
// is the reader's from then on. It must not be called while buffered is not 0.
func (r *frameReader) feed(b *readBuffer, n int) {
	if r.buffered() != 0 {
		panic("realtime: frameReader fed before it has read what it has")
	}
	r.buf, r.start, r.end = b, 0, uint16(n)
	r.settle()
}

// buffered returns how many bytes are there to be read without the source. It
// ends the use of a control frame's payload: the buffer that held it goes back.
func (r *frameReader) buffered() int {
	r.settle()
	return int(r.end - r.start)
}

// release gives the buffer back and lets go of a message under way. The
// connection has ended; next must not be called any more.
func (r *frameReader) release() {
	r.start, r.end = 0, 0
	r.settle()
	r.partial = nil
	r.err = io.ErrClosedPipe
}

// settle gives a buffer without unread bytes back to the pool.
func (r *frameReader) settle() {
	if r.buf != nil && r.start == r.end {
		readBuffers.Put(r.buf)
		r.buf, r.start, r.end = nil, 0, 0
	}
}

// discard makes next skip everything but a close frame from here on. It may be
// called at any time between two calls of next, also after one has failed.
func (r *frameReader) discard() {
	r.discarding = true
	r.partial = nil
}

// next returns the next message or control frame; it blocks while the source
// does. A message's payload is the caller's for ever. A control frame's payload
// is valid until any other method of the reader is called.
//
// The error is a [protocolError], errMessageTooLarge, or the source's as it
// came: io.EOF between two frames, io.ErrUnexpectedEOF inside one. After an
// error next returns the same again, except that after discard it continues
// behind a frame that it had refused.
//
// After discard it returns only close frames, with an empty payload if that is
// malformed, and errors of the source.
func (r *frameReader) next() (opcode, []byte, error) {
	if r.discarding {
		return r.nextClose()
	}
	for r.err == nil {
		h, err := r.header()
		if err == nil {
			err = r.check(&h)
		}
		if err != nil {
			r.err = err
			break
		}
		if h.op.isControl() {
			payload, err := r.control(&h)
			if err == nil && h.op == frameClose {
				err = checkClose(payload)
			}
			r.err = err
			if err != nil {
				break
			}
			return h.op, payload, nil
		}
		op, payload, err := r.message(&h)
		r.err = err
		if op != frameNone && err == nil {
			return op, payload, nil
		}
	}
	return frameNone, nil, r.err
}

// nextClose is next after discard. It judges nothing, so that a peer that is
// refused for a violation still gets its close frame understood.
func (r *frameReader) nextClose() (opcode, []byte, error) {
	for {
		if err := r.skipPayload(); err != nil {
			return frameNone, nil, err
		}
		h, err := r.header()
		if err != nil {
			return frameNone, nil, err
		}
		if h.op != frameClose || uint64(h.length) > maxControlPayload {
			r.refuse(&h)
			continue
		}
		payload, err := r.control(&h)
		if err != nil {
			return frameNone, nil, err
		}
		if checkClose(payload) != nil {
			payload = nil
		}
		return frameClose, payload, nil
	}
}

// header reads the next frame's header.
func (r *frameReader) header() (h frameHeader, err error) {
	b, err := r.peek(2)
	if err != nil {
		return h, err
	}
	h.op = opcode(b[0] & bitsOp)
	h.fin = b[0]&bitFin != 0
	h.rsv1 = b[0]&bitRSV1 != 0
	h.rsv23 = b[0]&bitsRSV23 != 0
	h.masked = b[1]&bitMask != 0
	h.length = int64(b[1] & bitsLen)
	h.minimal = true
	size := 2
	switch h.length {
	case len16:
		size += 2
	case len64:
		size += 8
	}
	length := size
	if h.masked {
		size += 4
	}
	if b, err = r.peek(size); err != nil {
		return h, err
	}
	switch h.length {
	case len16:
		h.length = int64(binary.BigEndian.Uint16(b[2:]))
		h.minimal = h.length >= len16
	case len64:
		h.length = int64(binary.BigEndian.Uint64(b[2:]))
		h.minimal = h.length > 0xffff
	}
	if h.masked {
		h.key = binary.LittleEndian.Uint32(b[length:])
	}
	r.start += uint16(size)
	return h, nil
}

// check returns what is wrong with the frame. Its payload is then to be skipped.
func (r *frameReader) check(h *frameHeader) error {
	cause := r.violation(h)
	if cause == "" && h.op.isControl() {
		return nil
	}
	err := error(errMessageTooLarge)
	if cause != "" {
		err = cause
	} else if h.length <= r.room(h) {
		return nil
	}
	r.refuse(h)
	return err
}

// refuse has the frame's payload skipped.
func (r *frameReader) refuse(h *frameHeader) {
	r.skip = h.length
	r.lost = h.length < 0
}

// violation names the rule of RFC 6455 that the frame breaks, "" if none.
func (r *frameReader) violation(h *frameHeader) protocolError {
	switch {
	case h.length < 0:
		return "length with the top bit set"
	case !h.minimal:
		return "length not in its shortest form"
	case !h.masked:
		return "frame of a client without mask"
	case h.rsv23, h.rsv1 && !r.deflate:
		return "reserved bit set"
	}
	switch h.op {
	case frameClose, framePing, framePong:
		switch {
		case h.rsv1:
			return "compressed control frame"
		case !h.fin:
			return "fragmented control frame"
		case h.length > maxControlPayload:
			return "control frame over 125 bytes"
		}
	case frameNone:
		switch {
		case r.partial == nil:
			return "continuation of nothing"
		case h.rsv1:
			return "compression bit on a continuation"
		case r.partial.fragments == maxFragments:
			return "message in too many fragments"
		}
	case frameText, frameBinary:
		if r.partial != nil {
			return "message inside a fragmented message"
		}
	default:
		return "reserved opcode"
	}
	return ""
}

// room returns how long the payload of the data frame may be.
func (r *frameReader) room(h *frameHeader) int64 {
	compressed, have := h.rsv1, 0
	if r.partial != nil {
		compressed, have = r.partial.compressed, len(r.partial.payload)
	}
	limit := r.limit
	if compressed {
		// What cannot be compressed grows: by 5 bytes in 16 KiB with zlib's defaults.
		limit += limit>>10 + 64
	}
	return limit - int64(have)
}

// control reads the payload of a control frame, in the buffer.
func (r *frameReader) control(h *frameHeader) ([]byte, error) {
	n := int(h.length)
	if n == 0 {
		r.settle()
		return nil, nil
	}
	b, err := r.peek(n)
	if err != nil {
		return nil, insideFrame(err)
	}
	r.start += uint16(n)
	unmask(b, h.key)
	return b, nil
}

// message reads the payload of a data frame and returns the message that it
// ends; frameNone if it ends none.
func (r *frameReader) message(h *frameHeader) (opcode, []byte, error) {
	if r.partial != nil || !h.fin {
		return r.fragment(h)
	}
	n := int(h.length)
	if h.rsv1 && n <= int(r.end-r.start) {
		b := r.buf[r.start : int(r.start)+n]
		unmask(b, h.key)
		message, err := inflate(b, r.limit)
		r.start += uint16(n)
		r.settle()
		return h.op, message, err
	}
	payload, err := r.payload(nil, n, h.key)
	if err == nil && h.rsv1 {
		payload, err = inflate(payload, r.limit)
	}
	return h.op, payload, err
}

func (r *frameReader) fragment(h *frameHeader) (opcode, []byte, error) {
	if r.partial == nil {
		r.partial = &partial{op: h.op, compressed: h.rsv1}
	}
	p := r.partial
	p.fragments++
	var err error
	if p.payload, err = r.payload(p.payload, int(h.length), h.key); err != nil || !h.fin {
		return frameNone, nil, err
	}
	r.partial = nil
	if p.compressed {
		p.payload, err = inflate(p.payload, r.limit)
	}
	return p.op, p.payload, err
}

// payload appends the n bytes of a frame's payload to dst, unmasked.
func (r *frameReader) payload(dst []byte, n int, key uint32) ([]byte, error) {
	if dst == nil && n == 0 {
		r.settle()
		return []byte{}, nil
	}
	had, want := len(dst), len(dst)+n
	for len(dst) < want {
		if len(dst) == cap(dst) {
			dst = r.grow(dst, had, want)
		}
		got, err := r.read(dst[len(dst):min(cap(dst), want)])
		if err != nil {
			r.skip = int64(want - len(dst)) // for discard, after a deadline
			return nil, insideFrame(err)
		}
		dst = dst[:len(dst)+got]
	}
	r.settle()
	unmask(dst[had:], key)
	return dst, nil
}

// grow makes room for a payload that will end at want. Memory follows the bytes
// that have come and never a length that was only declared: it is at most 4 KiB
// or four times what is there. Joined fragments double, for many small ones
// would otherwise be copied each time.
func (r *frameReader) grow(dst []byte, had, want int) []byte {
	there := len(dst) + int(r.end-r.start)
	size := min(want, max(len(readBuffer{}), 4*there))
	if had > 0 {
		size = max(size, 2*had)
	}
	return append(make([]byte, 0, size), dst...)
}

// read reads at least one byte into p, which is not empty. A long p is filled
// straight from the source. A short one goes through the buffer, as one read then also
// gets the frames behind it.
func (r *frameReader) read(p []byte) (int, error) {
	if r.start == r.end {
		if len(p) >= len(readBuffer{}) {
			r.settle()
			return r.readSource(p)
		}
		if err := r.fill(1); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[r.start:r.end])
	r.start += uint16(n)
	return n, nil
}

// skipPayload reads past the payload of a refused frame.
func (r *frameReader) skipPayload() error {
	for r.skip > 0 || r.lost {
		if r.start == r.end {
			if err := r.fill(1); err != nil {
				return insideFrame(err)
			}
		}
		n := int64(r.end - r.start)
		if !r.lost {
			n = min(n, r.skip)
			r.skip -= n
		}
		r.start += uint16(n)
		r.settle()
	}
	return nil
}

// peek returns the next n bytes, which stay unread, where they are in the
// buffer. n is at most 139: a header and a control frame's payload.
func (r *frameReader) peek(n int) ([]byte, error) {
	if int(r.end-r.start) < n {
		if err := r.fill(n); err != nil {
			return nil, err
		}
	}
	end := int(r.start) + n
	return r.buf[r.start:end:end], nil
}

// fill reads until n bytes are in the buffer.
func (r *frameReader) fill(n int) error {
	if r.buf == nil {
		r.buf = readBuffers.Get().(*readBuffer)
	}
	if r.start == r.end || int(r.start)+n > len(r.buf) {
		r.end = uint16(copy(r.buf[:], r.buf[r.start:r.end]))
		r.start = 0
	}
	for int(r.end-r.start) < n {
		got, err := r.readSource(r.buf[r.end:])
		if err != nil {
			if r.start != r.end {
				err = insideFrame(err)
			}
			r.settle()
			return err
		}
		r.end += uint16(got)
	}
	return nil
}

// readSource reads at least one byte from the source. An error that comes with
// bytes comes again without.
func (r *frameReader) readSource(p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := r.src.Read(p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// insideFrame returns what an error of the source means in the middle of a frame.
func insideFrame(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// unmask undoes a client's mask (RFC 6455 section 5.3) on a whole payload.
func unmask(b []byte, key uint32) {
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^wide)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^wide)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^wide)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key)
		key = bits.RotateLeft32(key, -8)
	}
}
