package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// MessagePack as the driver's library reads and writes it, made only for these
// tests, so that a mistake of the server's codec is not made twice.

// In JSON that is to be packed, these strings stand for what JSON does not have.
const (
	packUndefined = "<undefined>"
	packFloat     = "<float>" // followed by a number, that goes as float64
	packBytes     = "<bytes>" // followed by what goes as bin
)

// packJSON writes JSON as the library writes the value: maps always as map16.
func packJSON(text string) []byte {
	value, err := parsed(text)
	if err != nil {
		panic(err) // written in the test
	}
	return packed(nil, value)
}

func packed(out []byte, value any) []byte {
	switch value := value.(type) {
	case nil:
		return append(out, 0xc0)
	case bool:
		if value {
			return append(out, 0xc3)
		}
		return append(out, 0xc2)
	case json.Number:
		return packedNumber(out, value)
	case string:
		return packedString(out, value)
	case []any:
		out = binary.BigEndian.AppendUint16(append(out, 0xdc), uint16(len(value)))
		for _, one := range value {
			out = packed(out, one)
		}
		return out
	case map[string]any:
		out = binary.BigEndian.AppendUint16(append(out, 0xde), uint16(len(value)))
		for _, key := range slices.Sorted(maps.Keys(value)) {
			out = packed(packedString(out, key), value[key])
		}
		return out
	}
	panic(fmt.Sprintf("%T is not of JSON", value))
}

func packedNumber(out []byte, number json.Number) []byte {
	n, err := number.Int64()
	if err != nil || n > math.MaxUint32 || n < math.MinInt32 {
		return packedFloat(out, string(number))
	}
	switch {
	case n >= 0 && n < 128 || n < 0 && n >= -32:
		return append(out, byte(n))
	case n < 0:
		return binary.BigEndian.AppendUint32(append(out, 0xd2), uint32(int32(n)))
	case n < 1<<8:
		return append(out, 0xcc, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(out, 0xcd), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(out, 0xce), uint32(n))
}

func packedFloat(out []byte, text string) []byte {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err) // written in the test
	}
	return binary.BigEndian.AppendUint64(append(out, 0xcb), math.Float64bits(f))
}

func packedString(out []byte, text string) []byte {
	if text == packUndefined {
		return append(out, 0xd4, 0, 0)
	}
	if number, ok := strings.CutPrefix(text, packFloat); ok {
		return packedFloat(out, number)
	}
	if bin, ok := strings.CutPrefix(text, packBytes); ok {
		return append(append(out, 0xc4, byte(len(bin))), bin...)
	}
	if len(text) < 32 {
		return append(append(out, 0xa0|byte(len(text))), text...)
	}
	return append(binary.BigEndian.AppendUint32(append(out, 0xdb), uint32(len(text))), text...)
}

// unpackJSON reads one message and writes it as JSON.
func unpackJSON(in []byte) (string, error) {
	value, rest, err := unpacked(in)
	if err != nil {
		return "", err
	}
	if len(rest) > 0 {
		return "", fmt.Errorf("%d bytes after the message", len(rest))
	}
	text, err := json.Marshal(value)
	return string(text), err
}

// float is a number that came as float64. In JSON a whole one is an integer.
type float float64

func (f float) MarshalJSON() ([]byte, error) {
	if f == float(math.Trunc(float64(f))) {
		return strconv.AppendFloat(nil, float64(f), 'f', -1, 64), nil
	}
	return json.Marshal(float64(f))
}

var errPack = errors.New("not what the library would read as it was meant")

// unpacked reads one value: nil, bool, int64, float, string, []byte, []any or
// map[string]any. Integers of 64 bits are errors: the library makes BigInts of
// them, which do not add up with numbers.
func unpacked(in []byte) (value any, rest []byte, err error) {
	if len(in) == 0 {
		return nil, nil, errPack
	}
	head, rest := in[0], in[1:]
	switch {
	case head < 0x80:
		return int64(head), rest, nil
	case head < 0x90:
		return unpackedMap(rest, int(head&15))
	case head < 0xa0:
		return unpackedList(rest, int(head&15))
	case head < 0xc0:
		return unpackedString(rest, int(head&31))
	case head >= 0xe0:
		return int64(int8(head)), rest, nil
	case head == 0xc0:
		return nil, rest, nil
	case head == 0xc2 || head == 0xc3:
		return head == 0xc3, rest, nil
	}
	width, ok := map[byte]int{
		0xc4: 1, 0xc5: 2, 0xc6: 4, 0xcb: 8, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xd0: 1, 0xd1: 2, 0xd2: 4,
		0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4,
	}[head]
	if !ok || len(rest) < width {
		return nil, nil, fmt.Errorf("%w: %#x", errPack, head)
	}
	var number uint64
	for _, b := range rest[:width] {
		number = number<<8 | uint64(b)
	}
	return unpackedWide(head, number, rest[width:])
}

func unpackedWide(head byte, number uint64, rest []byte) (any, []byte, error) {
	switch head {
	case 0xcb:
		return float(math.Float64frombits(number)), rest, nil
	case 0xcc, 0xcd, 0xce:
		return int64(number), rest, nil
	case 0xd0:
		return int64(int8(number)), rest, nil
	case 0xd1:
		return int64(int16(number)), rest, nil
	case 0xd2:
		return int64(int32(number)), rest, nil
	case 0xd9, 0xda, 0xdb:
		return unpackedString(rest, int(number))
	case 0xdc, 0xdd:
		return unpackedList(rest, int(number))
	case 0xde, 0xdf:
		return unpackedMap(rest, int(number))
	}
	if int(number) > len(rest) {
		return nil, nil, errPack
	}
	return rest[:number], rest[number:], nil
}

func unpackedString(in []byte, length int) (any, []byte, error) {
	if length > len(in) {
		return nil, nil, errPack
	}
	return string(in[:length]), in[length:], nil
}

func unpackedList(in []byte, length int) (any, []byte, error) {
	all := []any{}
	for range length {
		one, rest, err := unpacked(in)
		if err != nil {
			return nil, nil, err
		}
		all, in = append(all, one), rest
	}
	return all, in, nil
}

func unpackedMap(in []byte, length int) (any, []byte, error) {
	all := map[string]any{}
	for range length {
		key, rest, err := unpacked(in)
		if err != nil {
			return nil, nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, nil, fmt.Errorf("%w: key %v", errPack, key)
		}
		if all[name], in, err = unpacked(rest); err != nil {
			return nil, nil, err
		}
	}
	return all, in, nil
}

func TestOwnMessagePackReadsWhatItWrites(t *testing.T) {
	const text = `{"a":[1,-1,-33,127,128,65535,65536,4294967295,1700000000123,1.5,null,true,false],"b":{"c":"0123456789012345678901234567890123456789"}}`
	got, err := unpackJSON(packJSON(text))
	if err != nil || got != text {
		t.Errorf("got %s (%v)\nwant %s", got, err, text)
	}
	want, _ := hex.DecodeString("de0001a161d40000")
	if got := packJSON(`{"a":"<undefined>"}`); !bytes.Equal(got, want) {
		t.Errorf("undefined: got % x, want % x", got, want)
	}
}
