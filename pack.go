package realtime

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
)

// packLevel is an array or a map that is being written.
type packLevel struct {
	head   int // where its head is in what is written: one byte, as yet
	n      int // elements or pairs so far
	object bool
}

// appendPacked appends the JSON value that fills text as MessagePack, each value in
// the shortest form that JavaScript reads as what JSON.parse would have given:
//
//   - integers from -2^31 to 2^32-1 as such, all other numbers as float64: a wider
//     integer would become a BigInt there. What a float64 cannot hold, integers beyond
//     2^53 and more than 17 digits, is rounded as JSON.parse rounds it;
//   - strings that bear byteMark as bytes;
//   - lone surrogates, which UTF-8 does not have, as U+FFFD.
//
// It reports false if text is no JSON; what it returns then is of no use. It does not
// allocate but for dst, for nesting beyond 32 levels and for numbers of more than 32
// characters. Heads are widened when a level closes, which moves what is in it: so a
// message costs at most its length times its depth, and that is bounded for clients.
func appendPacked(dst, text []byte) ([]byte, bool) {
	var space [32]packLevel
	open := space[:0]
	at := skipSpace(text, 0)
value:
	for {
		at = skipSpace(text, at)
		if at == len(text) {
			return dst, false
		}
		if c := text[at]; c != '{' && c != '[' {
			dst, at = appendPackedScalar(dst, text, at)
		} else if inside := skipSpace(text, at+1); inside < len(text) && text[inside] == closer(c == '{') {
			dst, at = append(dst, packedHead(c == '{')), inside+1
		} else {
			open = append(open, packLevel{head: len(dst), object: c == '{'})
			dst = append(dst, packedHead(c == '{'))
			if dst, at = appendPackedKey(dst, text, inside, c == '{'); at < 0 {
				return dst, false
			}
			continue
		}
		for at >= 0 && len(open) > 0 {
			level := &open[len(open)-1]
			level.n++
			at = skipSpace(text, at)
			switch {
			case at == len(text):
				return dst, false
			case text[at] == ',':
				if dst, at = appendPackedKey(dst, text, skipSpace(text, at+1), level.object); at < 0 {
					return dst, false
				}
				continue value
			case text[at] != closer(level.object):
				return dst, false
			}
			dst = level.close(dst)
			open = open[:len(open)-1]
			at++
		}
		return dst, at >= 0 && skipSpace(text, at) == len(text)
	}
}

// packedHead is the first byte of an array or a map without elements.
func packedHead(object bool) byte {
	if object {
		return packedMap
	}
	return packedArray
}

// close completes the head.
func (l *packLevel) close(dst []byte) []byte {
	wide := byte(packedArr16)
	if l.object {
		wide = packedMap16
	}
	switch {
	case l.n < 16:
		dst[l.head] |= byte(l.n)
	case l.n < 1<<16:
		dst[l.head] = wide
		dst = slices.Insert(dst, l.head+1, byte(l.n>>8), byte(l.n))
	default:
		dst[l.head] = wide + 1
		dst = slices.Insert(dst, l.head+1, byte(l.n>>24), byte(l.n>>16), byte(l.n>>8), byte(l.n))
	}
	return dst
}

// appendPackedKey appends the key at at and skips its colon in an object, and does
// nothing in an array. The index is -1 if there is no key.
func appendPackedKey(dst, text []byte, at int, object bool) ([]byte, int) {
	if !object {
		return dst, at
	}
	end := skipString(text, at)
	if end < 0 {
		return dst, -1
	}
	return appendPackedString(dst, text[at+1:end-1]), skipByte(text, skipSpace(text, end), ':')
}

// appendPackedScalar appends the string, number or literal at at. It returns the
// index after it, -1 if there is none.
func appendPackedScalar(dst, text []byte, at int) ([]byte, int) {
	end := skipScalar(text, at)
	if end < 0 {
		return dst, -1
	}
	switch text[at] {
	case '"':
		inner := text[at+1 : end-1]
		if packed, ok := appendPackedBytes(dst, inner); ok {
			return packed, end
		}
		return appendPackedString(dst, inner), end
	case 'n':
		return append(dst, packedNil), end
	case 'f':
		return append(dst, packedFalse), end
	case 't':
		return append(dst, packedTrue), end
	}
	return appendPackedNumber(dst, text[at:end]), end
}

// appendPackedString appends the inside of a JSON string.
func appendPackedString(dst, inner []byte) []byte {
	if bytes.IndexByte(inner, '\\') < 0 {
		return appendPackedText(dst, inner)
	}
	at := len(dst)
	dst = appendTextHead(dst, len(inner)) // it has no more bytes than inner
	start := len(dst)
	dst, _ = appendUnescaped(dst, inner)
	size := len(dst) - start
	if end := len(appendTextHead(dst[:at], size)); end < start {
		dst = dst[:end+copy(dst[end:], dst[start:start+size])]
	}
	return dst
}

// appendPackedText appends text as a string.
func appendPackedText[T string | []byte](dst []byte, text T) []byte {
	return append(appendTextHead(dst, len(text)), text...)
}

func appendTextHead(dst []byte, n int) []byte {
	if n < 32 {
		return append(dst, packedText|byte(n))
	}
	return appendSize(dst, packedText8, uint64(n))
}

// appendSize appends the head of text or bytes, in the first of the widths of 8, 16
// and 32 bits that n fits.
func appendSize(dst []byte, narrow byte, n uint64) []byte {
	switch {
	case n < 1<<8:
		return append(dst, narrow, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, narrow+1), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, narrow+2), uint32(n))
}

// appendPackedBytes appends the inside of a string that bears byteMark as bytes. It
// reports false if that is not exactly what appendMarked writes.
func appendPackedBytes(dst, inner []byte) ([]byte, bool) {
	const marked = len(byteMark) + 2
	if len(inner) < marked+3 || string(inner[:len(byteMark)]) != byteMark || (len(inner)-marked)%4 != 3 {
		return dst, false
	}
	first := byte(codeUnit(inner[2:]))
	if inner[marked-2] != lowerHex[first>>4] || inner[marked-1] != lowerHex[first&0xf] {
		return dst, false
	}
	return appendPackedBase64(dst, first, inner[marked:])
}

// appendPackedBase64 appends the bytes that first and rest are the base64 text of,
// whose length is a multiple of four.
func appendPackedBase64(dst []byte, first byte, rest []byte) ([]byte, bool) {
	size := (1+len(rest))/4*3 - len(rest) + len(bytes.TrimRight(rest, "="))
	packed := appendSize(dst, packedBin8, uint64(size))
	start := len(packed)
	four := [4]byte{first, rest[0], rest[1], rest[2]}
	packed, err := base64.StdEncoding.Strict().AppendDecode(packed, four[:])
	if err == nil {
		packed, err = base64.StdEncoding.Strict().AppendDecode(packed, rest[3:])
	}
	return packed, err == nil && len(packed)-start == size
}

// appendPackedNumber appends a JSON number. One beyond float64 becomes infinite, as
// for JSON.parse.
func appendPackedNumber(dst, text []byte) []byte {
	if n, ok := packedInteger(text); ok {
		return appendPackedInteger(dst, n)
	}
	f, _ := strconv.ParseFloat(string(text), 64)
	return binary.BigEndian.AppendUint64(append(dst, packedFloat+1), math.Float64bits(f))
}

// packedInteger returns the integer that text is, if it is to be packed as one. -0
// is not.
func packedInteger(text []byte) (n int64, ok bool) {
	negative := text[0] == '-'
	digits := text
	if negative {
		digits = text[1:]
	}
	if len(digits) > len("4294967295") || negative && digits[0] == '0' {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	if negative {
		return -n, -n >= math.MinInt32
	}
	return n, n <= math.MaxUint32
}

func appendPackedInteger(dst []byte, n int64) []byte {
	switch {
	case n >= -32 && n < 128:
		return append(dst, byte(n))
	case n >= 0:
		return appendSize(dst, packedUint8, uint64(n))
	case n >= math.MinInt8:
		return append(dst, packedInt8, byte(n))
	case n >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, packedInt8+1), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, packedInt8+2), uint32(n))
}
