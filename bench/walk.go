package main

import "encoding/binary"

// walker finds the frames in what a server sends (RFC 6455 section 5.2). It
// keeps its place between reads, so a stream may be cut anywhere, and it never
// copies or allocates.
type walker struct {
	left uint64 // payload bytes of the current frame that are still to come
	head [10]byte
	have uint8 // bytes of head that are there; 0 between frames
	open bool  // the header is complete, payload is being walked
	bad  bool  // a masked frame: no server may send one, the stream is lost
}

// next consumes the beginning of p and returns the piece of payload found
// there, whether the frame ends with it, and what is left of p. It is called
// until end is false; then all of p has been consumed.
func (w *walker) next(p []byte) (piece []byte, end bool, rest []byte) {
	if !w.open {
		if p = w.header(p); !w.open {
			return nil, false, nil
		}
	}
	if uint64(len(p)) < w.left {
		w.left -= uint64(len(p))
		return p, false, nil
	}
	n := w.left
	w.left, w.have, w.open = 0, 0, false
	return p[:n], true, p[n:]
}

// header collects the header from p and returns what follows it.
func (w *walker) header(p []byte) []byte {
	for len(p) > 0 {
		w.head[w.have] = p[0]
		w.have++
		p = p[1:]
		if w.have < 2 || w.have < w.size() {
			continue
		}
		switch size := w.head[1] & 0x7f; size {
		case 126:
			w.left = uint64(binary.BigEndian.Uint16(w.head[2:]))
		case 127:
			w.left = binary.BigEndian.Uint64(w.head[2:])
		default:
			w.left = uint64(size)
		}
		w.open = true
		w.bad = w.bad || w.head[1]&0x80 != 0
		return p
	}
	return nil
}

// size is the length of the header, known from its second byte on.
func (w *walker) size() uint8 {
	switch w.head[1] & 0x7f {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

// opcode and final describe the frame that next last returned a piece of.
func (w *walker) opcode() byte { return w.head[0] & 0x0f }
func (w *walker) final() bool  { return w.head[0]&0x80 != 0 }
func (w *walker) rsv1() bool   { return w.head[0]&bitRSV1 != 0 }

const (
	bitRSV1 = 0x40 // the message is compressed (RFC 7692 section 6)

	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa
)

var maskKey = [4]byte{0x5a, 0xc3, 0x17, 0x88}

// appendFrame appends one unfragmented frame; opcode may have bitRSV1. With mask it is a client's frame,
// masked with a fixed key: the server's work of unmasking is the same.
func appendFrame(dst []byte, opcode byte, payload []byte, mask bool) []byte {
	dst = append(dst, 0x80|opcode)
	bit := byte(0)
	if mask {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, bit|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, bit|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, bit|127), uint64(n))
	}
	if !mask {
		return append(dst, payload...)
	}
	dst = append(dst, maskKey[:]...)
	for i, b := range payload {
		dst = append(dst, b^maskKey[i&3])
	}
	return dst
}
