package realtime

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"
)

// The first bytes of MessagePack's values (github.com/msgpack/msgpack, spec.md),
// those of the widths that follow one another left out.
const (
	packedMap   = 0x80 // up to 15 pairs in the low bits
	packedArray = 0x90 // up to 15 elements
	packedText  = 0xa0 // up to 31 bytes
	packedNil   = 0xc0
	packedFalse = 0xc2
	packedTrue  = 0xc3
	packedBin8  = 0xc4
	packedFloat = 0xca // of 32 bits; 64 next to it
	packedUint8 = 0xcc
	packedInt8  = 0xd0
	packedExt1  = 0xd4 // an extension of one byte
	packedText8 = 0xd9
	packedArr16 = 0xdc
	packedMap16 = 0xde
	packedMinus = 0xe0 // -32 to -1
)

// undefinedType is the extension that JavaScript's undefined is sent as.
const undefinedType = 0

// unpacker reads MessagePack and writes it as JSON, value by value and without a tree
// between: keys stay in order, duplicates and all, and integers of 64 bits keep their
// digits. The JSON is at most six times as long as what was read.
type unpacker struct {
	in    []byte // what is left to read
	out   []byte
	fault string // what is wrong; "" while nothing is
}

// array reads the head of an array and returns how many elements it has, 0 if there
// is none.
func (u *unpacker) array() int {
	switch tag := u.tag(); {
	case tag&0xf0 == packedArray:
		return int(u.count(uint64(tag&0xf), 1))
	case tag == packedArr16, tag == packedArr16+1:
		return int(u.count(u.uint(2<<(tag-packedArr16)), 1))
	}
	return 0
}

// payload is value for the payload of a message: bytes it returns, and writes as null.
func (u *unpacker) payload(room int) []byte {
	ahead := unpacker{in: u.in}
	if tag := ahead.tag(); tag < packedBin8 || tag > packedBin8+2 {
		u.value(room)
		return nil
	}
	u.out = append(u.out, "null"...)
	return u.take(u.uint(1 << (u.tag() - packedBin8)))
}

// unpackShape is what a value is besides what has been written of it.
type unpackShape uint8

const (
	unpackedScalar unpackShape = iota // it is written
	unpackedAbsent                    // it is not there
	unpackedArray                     // its elements follow
	unpackedMap
)

// value transcodes the next value, which may have room levels of nesting, at most
// maxNesting. Its own stack stays flat, as that of skipValue. An absent key is left
// out; an absent element, or the value itself, is null.
func (u *unpacker) value(room int) {
	var left [maxNesting]uint32 // of each open level, what is still to come
	var maps uint64             // one bit for each open level, the innermost lowest
	for depth := 0; u.fault == ""; {
		inMap, start := depth > 0 && maps&1 == 1, len(u.out)
		if depth > 0 {
			left[depth-1]--
			u.separate(inMap)
		}
		switch shape, n := u.item(); {
		case shape == unpackedAbsent && inMap:
			u.out = u.out[:start]
		case shape == unpackedAbsent:
			u.out = append(u.out, "null"...)
		case shape == unpackedScalar:
		case depth == room:
			u.fail("nested too deep")
		default:
			left[depth] = n
			depth++
			maps = maps<<1 | bit(shape == unpackedMap)
			u.out = append(u.out, opener(shape == unpackedMap))
		}
		for ; depth > 0 && left[depth-1] == 0; depth-- {
			u.out = append(u.out, closer(maps&1 == 1))
			maps >>= 1
		}
		if depth == 0 {
			return
		}
	}
}

func opener(object bool) byte {
	if object {
		return '{'
	}
	return '['
}

// separate writes what stands before a value: the comma, and in a map the key.
func (u *unpacker) separate(inMap bool) {
	if last := u.out[len(u.out)-1]; last != '{' && last != '[' {
		u.out = append(u.out, ',')
	}
	if inMap {
		u.key()
		u.out = append(u.out, ':')
	}
}

func (u *unpacker) key() {
	switch tag := u.tag(); {
	case tag&0xe0 == packedText:
		u.text(uint64(tag & 0x1f))
	case tag >= packedText8 && tag <= packedText8+2:
		u.text(u.uint(1 << (tag - packedText8)))
	default:
		u.fail("a key that is no string")
	}
}

// item reads one value. Of an array or a map it reads the head, and returns how
// many elements or pairs there are.
func (u *unpacker) item() (shape unpackShape, n uint32) {
	switch tag := u.tag(); {
	case tag < packedMap:
		u.out = strconv.AppendUint(u.out, uint64(tag), 10)
	case tag < packedArray:
		return unpackedMap, u.count(uint64(tag&0xf), 2)
	case tag < packedText:
		return unpackedArray, u.count(uint64(tag&0xf), 1)
	case tag < packedNil:
		u.text(uint64(tag & 0x1f))
	case tag >= packedMinus:
		u.out = strconv.AppendInt(u.out, int64(int8(tag)), 10)
	case tag >= packedMap16:
		return unpackedMap, u.count(u.uint(2<<(tag-packedMap16)), 2)
	case tag >= packedArr16:
		return unpackedArray, u.count(u.uint(2<<(tag-packedArr16)), 1)
	case tag >= packedText8:
		u.text(u.uint(1 << (tag - packedText8)))
	case tag == packedExt1:
		return u.undefined(), 0
	case tag > packedExt1:
		u.fail("an extension type")
	case tag >= packedInt8:
		u.signed(1 << (tag - packedInt8))
	case tag >= packedUint8:
		u.out = strconv.AppendUint(u.out, u.uint(1<<(tag-packedUint8)), 10)
	default:
		u.other(tag)
	}
	return unpackedScalar, 0
}

// other reads what is neither number, text nor container, and floats.
func (u *unpacker) other(tag byte) {
	switch tag {
	case packedNil:
		u.out = append(u.out, "null"...)
	case packedFalse:
		u.out = append(u.out, "false"...)
	case packedTrue:
		u.out = append(u.out, "true"...)
	case packedBin8, packedBin8 + 1, packedBin8 + 2:
		u.out = appendMarked(u.out, u.take(u.uint(1<<(tag-packedBin8))))
	case packedFloat:
		u.float(float64(math.Float32frombits(uint32(u.uint(4)))))
	case packedFloat + 1:
		u.float(math.Float64frombits(u.uint(8)))
	default:
		u.fail("an extension type")
	}
}

// undefined reads an extension of one byte: only undefined is known.
func (u *unpacker) undefined() unpackShape {
	if u.uint(1) != undefinedType {
		u.fail("an extension type")
	}
	u.uint(1)
	return unpackedAbsent
}

func (u *unpacker) fail(fault string) {
	if u.fault == "" {
		u.fault = fault
	}
}

// take returns the next n bytes, nil if there are fewer.
func (u *unpacker) take(n uint64) []byte {
	if n > uint64(len(u.in)) {
		u.fail("cut off")
		u.in = nil
		return nil
	}
	taken := u.in[:n:n]
	u.in = u.in[n:]
	return taken
}

// tag returns the first byte of a value; behind the end that of nil.
func (u *unpacker) tag() byte {
	if len(u.in) == 0 {
		u.fail("cut off")
		return packedNil
	}
	tag := u.in[0]
	u.in = u.in[1:]
	return tag
}

// uint returns the next 1, 2, 4 or 8 bytes as a number, 0 behind the end.
func (u *unpacker) uint(width int) uint64 {
	var wide [8]byte
	b := u.take(uint64(width))
	copy(wide[8-len(b):], b)
	return binary.BigEndian.Uint64(wide[:])
}

// count refuses lengths that cannot be true: each element has one byte at least,
// each pair two.
func (u *unpacker) count(n uint64, least int) uint32 {
	if n > uint64(len(u.in)/least) {
		u.fail("cut off")
		return 0
	}
	return uint32(n)
}

func (u *unpacker) signed(width int) {
	unused := 64 - 8*width
	u.out = strconv.AppendInt(u.out, int64(u.uint(width)<<unused)>>unused, 10)
}

func (u *unpacker) text(n uint64) {
	text := u.take(n)
	if !utf8.Valid(text) {
		u.fail("text that is not UTF-8")
	}
	u.out = appendQuotedText(u.out, text)
}

// appendQuotedText is appendQuoted for text that is known to be UTF-8.
func appendQuotedText(dst, text []byte) []byte {
	dst = append(dst, '"')
	from := 0 // what is before stands in dst
	for at, c := range text {
		if c < ' ' || c == '"' || c == '\\' {
			dst = append(dst, text[from:at]...)
			dst = appendEscape(dst, c)
			from = at + 1
		}
	}
	dst = append(dst, text[from:]...)
	return append(dst, '"')
}

// float writes a number as JavaScript does, so whole ones below 1e21 as integers.
// Only -0 keeps its sign.
func (u *unpacker) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		u.fail("a number that JSON does not have")
		return
	}
	if size := math.Abs(f); size == 0 || size >= 1e-6 && size < 1e21 {
		u.out = strconv.AppendFloat(u.out, f, 'f', -1, 64)
		return
	}
	u.out = strconv.AppendFloat(u.out, f, 'e', -1, 64)
	if n := len(u.out); u.out[n-2] == '0' && u.out[n-3] == '-' { // e-07
		u.out[n-2] = u.out[n-1]
		u.out = u.out[:n-1]
	}
}

// Bytes inside a payload are a base64 string in JSON. That it stands for bytes is
// said by its spelling: the first character is escaped, with lower-case digits, which
// no writer of JSON does to a character of base64. So every reader of the JSON sees
// the same plain string, wherever the text was stored or handed on, and appendPacked
// can tell bytes from text. The mark is lost where a host decodes the string and
// encodes it again, and no bytes at all cannot bear it: both reach readers of
// MessagePack as text.
const byteMark = `\u00`

// lowerHex is how a mark is spelled.
const lowerHex = "0123456789abcdef"

// appendMarked appends b as such a string.
func appendMarked(dst, b []byte) []byte {
	if len(b) == 0 {
		return append(dst, `""`...)
	}
	dst = append(dst, `"`+byteMark...)
	at := len(dst)
	dst = base64.StdEncoding.AppendEncode(append(dst, 0), b)
	first := dst[at+1]
	dst[at], dst[at+1] = lowerHex[first>>4], lowerHex[first&0xf]
	return append(dst, '"')
}
