package realtime

import (
	"bytes"
	"compress/flate"
	"io"
	"runtime"
	"sync"
)

// errInvalidDeflate is a compressed message that does not decompress.
const errInvalidDeflate = protocolError("invalid compressed message")

// deflateTail ends what a peer compressed: the four bytes that a sender takes
// off (RFC 7692 section 7.2.1), then an empty final block, so that the flate
// reader sees an end.
var deflateTail = []byte{0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff}

const syncMarker = 4 // bytes of deflateTail that every flush of a writer ends with

// deflateSource is a compressed message with the tail back in its place.
type deflateSource struct {
	rest   []byte
	tailed bool // rest is in the tail
}

func (d *deflateSource) ReadByte() (byte, error) {
	if !d.more() {
		return 0, io.EOF
	}
	first := d.rest[0]
	d.rest = d.rest[1:]
	return first, nil
}

func (d *deflateSource) Read(p []byte) (int, error) {
	if !d.more() {
		return 0, io.EOF
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *deflateSource) more() bool {
	if len(d.rest) == 0 && !d.tailed {
		d.rest, d.tailed = deflateTail, true
	}
	return len(d.rest) > 0
}

// ended reports whether the message ended where it should: behind the tail, or
// with a final block of the sender's, to which it adds one zero byte (RFC 7692
// section 7.2.3.4).
func (d *deflateSource) ended() bool {
	return len(d.rest) == 0 || !d.tailed && len(d.rest) == 1 && d.rest[0] == 0
}

// inflater decompresses one message at a time: without context takeover nothing
// remains from one to the next, so that all connections share a few of them
// (44 KB each).
type inflater struct {
	source deflateSource
	flate  io.ReadCloser
	first  [4096]byte // most messages fit: they are then copied at their exact size
}

var inflaters = sync.Pool{New: func() any {
	in := new(inflater)
	in.flate = flate.NewReader(&in.source)
	return in
}}

// inflate returns the decompressed message, which is the caller's; compressed
// is not kept. It stops with errMessageTooLarge one byte after limit, however
// much would follow, and fails with errInvalidDeflate. A message that goes on
// after a final block is refused, since its rest would be lost in silence.
func inflate(compressed []byte, limit int64) ([]byte, error) {
	in := inflaters.Get().(*inflater)
	message, err := in.inflate(compressed, limit)
	in.source = deflateSource{}
	inflaters.Put(in)
	return message, err
}

func (in *inflater) inflate(compressed []byte, limit int64) ([]byte, error) {
	in.source = deflateSource{rest: compressed}
	if err := in.flate.(flate.Resetter).Reset(&in.source, nil); err != nil {
		return nil, errInvalidDeflate
	}
	out := in.first[:0:min(int64(len(in.first)), limit+1)]
	for {
		n, err := in.flate.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case int64(len(out)) > limit:
			return nil, errMessageTooLarge
		case err == io.EOF && in.source.ended():
			return in.owned(out), nil
		case err != nil:
			return nil, errInvalidDeflate
		case len(out) == cap(out):
			out = append(make([]byte, 0, min(2*int64(cap(out)), limit+1)), out...)
		}
	}
}

// owned returns out, or a copy if out is in the inflater's own array.
func (in *inflater) owned(out []byte) []byte {
	if len(out) == 0 {
		return []byte{}
	}
	if &out[0] == &in.first[0] {
		return bytes.Clone(out)
	}
	return out
}

// deflater compresses one message at a time into out.
type deflater struct {
	flate *flate.Writer
	out   []byte
}

func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// deflaters holds a slot for each processor, nil until it is first used. A
// flate.Writer is 1.2 MB, which a sync.Pool would multiply under load; more of
// them than processors would not compress any faster.
var deflaters = func() chan *deflater {
	slots := make(chan *deflater, runtime.GOMAXPROCS(0))
	for range cap(slots) {
		slots <- nil
	}
	return slots
}()

// deflateMessage appends payload, compressed without context takeover and
// without the tail, to dst: the payload of a frame with RSV1 that is right for
// every member. It waits while as many calls as there are processors are at
// work. Below 512 bytes it does not pay.
func deflateMessage(dst, payload []byte) []byte {
	d := <-deflaters
	if d == nil {
		d = new(deflater)
		// BestSpeed: a publisher waits for it under the topic's lock. The error is
		// for levels that do not exist.
		d.flate, _ = flate.NewWriter(d, flate.BestSpeed)
	}
	defer func() { deflaters <- d }()
	d.out = dst
	d.flate.Reset(d)
	// Errors can come from d.Write only, which has none.
	_, _ = d.flate.Write(payload)
	_ = d.flate.Flush()
	dst, d.out = d.out[:len(d.out)-syncMarker], nil
	return dst
}
