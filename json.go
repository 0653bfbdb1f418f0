package realtime

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// The codecs need of JSON what encoding/json does not give: keys that differ by
// case, values handed on as the bytes that came, a bound on nesting, and lone
// surrogates that are noticed. So they scan the text themselves, once, strictly
// by RFC 8259. Whether the text is UTF-8 is for the caller to check; the scanner
// neither asks nor changes a byte.
//
// Positions are indexes into the text. A function that skips something returns
// the index after it, or -1 if the text at that place is not what it should be.

const (
	// maxNesting bounds what a client may send (envelope.md section 2). The
	// message itself is level 1.
	maxNesting = 64

	// maxHostNesting is for JSON of the host, which was checked by
	// encoding/json: the depth that it accepts.
	maxHostNesting = 10000
)

// objectScanner walks over the fields of one JSON object:
//
//	fields := scanObject(text, maxNesting)
//	for fields.next() {
//		… fields.key, fields.value …
//	}
//	if !fields.complete() {
//		… not an object …
//	}
//
// What next yields before complete has said yes is provisional: the text may
// still prove malformed.
type objectScanner struct {
	key   []byte // decoded; lone surrogates have become U+FFFD
	value []byte // as it stands in the text, capacity clipped

	text  []byte
	room  int // levels of nesting left to a value
	at    int // after the last field; -1: malformed
	start int // of the current field
	ended bool
}

// scanObject returns a scanner for the object that fills text, white space
// around it allowed. The object may be nested nesting levels deep, itself
// included. It does not allocate, unless a key holds an escape.
func scanObject(text []byte, nesting int) objectScanner {
	return objectScanner{text: text, room: nesting - 1, at: skipByte(text, skipSpace(text, 0), '{')}
}

// next goes to the next field and reports whether there is one.
func (s *objectScanner) next() bool {
	if s.at < 0 || s.ended {
		return false
	}
	at := skipSpace(s.text, s.at)
	if end := skipByte(s.text, at, '}'); end >= 0 {
		s.at, s.ended = end, true
		return false
	}
	if s.value != nil { // not the first
		if at = skipByte(s.text, at, ','); at >= 0 {
			at = skipSpace(s.text, at)
		}
	}
	if at >= 0 {
		at = s.field(at)
	}
	s.at = at
	return at >= 0
}

// field reads the field whose key starts at at.
func (s *objectScanner) field(at int) int {
	keyEnd := skipString(s.text, at)
	if keyEnd < 0 {
		return -1
	}
	from := skipByte(s.text, skipSpace(s.text, keyEnd), ':')
	if from < 0 {
		return -1
	}
	from = skipSpace(s.text, from)
	end := skipValue(s.text, from, s.room)
	if end < 0 {
		return -1
	}
	s.start, s.value = at, s.text[from:end:end]
	s.key = s.text[at+1 : keyEnd-1]
	if bytes.IndexByte(s.key, '\\') >= 0 {
		s.key, _ = appendUnescaped(nil, s.key)
	}
	return end
}

// raw returns the current field as it stands in the text, from the quote of its
// key to the end of its value.
func (s *objectScanner) raw() []byte { return s.text[s.start:s.at] }

// complete reports, after next has returned false, whether the text was one
// well-formed object and nothing else.
func (s *objectScanner) complete() bool {
	return s.ended && skipSpace(s.text, s.at) == len(s.text)
}

// arrayScanner walks over the elements of one JSON array, as objectScanner does
// over the fields of an object. What next yields before complete has said yes is
// provisional, here too.
type arrayScanner struct {
	value []byte // as it stands in the text, capacity clipped

	text  []byte
	room  int // levels of nesting left to a value
	at    int // after the last element; -1: malformed
	ended bool
}

// scanArray returns a scanner for the array that fills text, white space around
// it allowed. The array may be nested nesting levels deep, itself included. It
// does not allocate.
func scanArray(text []byte, nesting int) arrayScanner {
	return arrayScanner{text: text, room: nesting - 1, at: skipByte(text, skipSpace(text, 0), '[')}
}

// next goes to the next element and reports whether there is one.
func (s *arrayScanner) next() bool {
	if s.at < 0 || s.ended {
		return false
	}
	at := skipSpace(s.text, s.at)
	if end := skipByte(s.text, at, ']'); end >= 0 {
		s.at, s.ended = end, true
		return false
	}
	if s.value != nil { // not the first
		at = skipByte(s.text, at, ',')
	}
	if at >= 0 {
		from := skipSpace(s.text, at)
		if at = skipValue(s.text, from, s.room); at >= 0 {
			s.value = s.text[from:at:at]
		}
	}
	s.at = at
	return at >= 0
}

// complete reports, after next has returned false, whether the text was one
// well-formed array and nothing else.
func (s *arrayScanner) complete() bool {
	return s.ended && skipSpace(s.text, s.at) == len(s.text)
}

// skipValue skips the value that starts at at, or after white space there. room
// is how many levels of nesting it may have; 0 means no array and no object. Its
// own stack stays flat however deep the value is, because a connection's
// goroutine should live on 2 KiB.
func skipValue(text []byte, at, room int) int {
	// One bit for each open level, the innermost lowest: 1 object, 0 array.
	var objects uint64
	depth := 0
value:
	for {
		at = skipSpace(text, at)
		switch {
		case at == len(text):
			return -1
		case text[at] != '{' && text[at] != '[':
			at = skipScalar(text, at)
		case depth == room:
			return -1
		case depth == 64: // no bit is left; only the host's JSON gets here
			at = skipValue(text, at, room-depth)
		default:
			object := text[at] == '{'
			depth++
			objects = objects<<1 | bit(object)
			at = skipSpace(text, at+1)
			if at < len(text) && text[at] == closer(object) {
				break // empty: closed below, as any other
			}
			if at = skipKey(text, at, object); at < 0 {
				return -1
			}
			continue
		}
		if at < 0 {
			return -1
		}
		for depth > 0 {
			object := objects&1 == 1
			at = skipSpace(text, at)
			if at == len(text) {
				return -1
			}
			switch text[at] {
			case ',':
				if at = skipKey(text, skipSpace(text, at+1), object); at < 0 {
					return -1
				}
				continue value
			case closer(object):
				at++
				depth--
				objects >>= 1
			default:
				return -1
			}
		}
		return at
	}
}

// bit is the mark of an object or array on skipValue's stack, closer what ends it.
func bit(object bool) uint64 {
	if object {
		return 1
	}
	return 0
}

func closer(object bool) byte {
	if object {
		return '}'
	}
	return ']'
}

// skipKey skips a key and its colon in an object, and nothing in an array.
func skipKey(text []byte, at int, object bool) int {
	if !object {
		return at
	}
	if at = skipString(text, at); at < 0 {
		return -1
	}
	return skipByte(text, skipSpace(text, at), ':')
}

// skipScalar skips a string, number or literal; text[at] exists.
func skipScalar(text []byte, at int) int {
	switch text[at] {
	case '"':
		return skipString(text, at)
	case 't':
		return skipWord(text, at, "true")
	case 'f':
		return skipWord(text, at, "false")
	case 'n':
		return skipWord(text, at, "null")
	default:
		return skipNumber(text, at)
	}
}

func skipSpace(text []byte, at int) int {
	for at < len(text) && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t') {
		at++
	}
	return at
}

func skipByte(text []byte, at int, want byte) int {
	if at < len(text) && text[at] == want {
		return at + 1
	}
	return -1
}

func skipWord(text []byte, at int, word string) int {
	if len(text)-at >= len(word) && string(text[at:at+len(word)]) == word {
		return at + len(word)
	}
	return -1
}

// skipString skips a string with its quotes.
func skipString(text []byte, at int) int {
	if at >= len(text) || text[at] != '"' {
		return -1
	}
	for at++; ; at++ {
		for at+8 <= len(text) && isPlain(binary.LittleEndian.Uint64(text[at:])) {
			at += 8
		}
		if at >= len(text) {
			return -1
		}
		switch c := text[at]; {
		case c == '"':
			return at + 1
		case c < ' ':
			return -1
		case c == '\\':
			at++
			if at >= len(text) {
				return -1
			}
			if text[at] == 'u' {
				if codeUnit(text[at+1:]) < 0 {
					return -1
				}
				at += 4
			} else if escaped(text[at]) == 0 {
				return -1
			}
		}
	}
}

// isPlain reports whether none of eight bytes is a quote, a backslash or a control
// character. Of the three terms each has a high bit set if a byte is one of these, and a
// borrow from such a byte is all that could set one wrongly.
func isPlain(x uint64) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := x^each*'"', x^each*'\\'
	return ((quote-each)&^quote|(backslash-each)&^backslash|(x-each*' ')&^x)&high == 0
}

// skipNumber skips -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?, of any size.
func skipNumber(text []byte, at int) int {
	if text[at] == '-' {
		at++
	}
	first := at
	if at = skipDigits(text, at); at < 0 || text[first] == '0' && at > first+1 {
		return -1
	}
	if at < len(text) && text[at] == '.' {
		if at = skipDigits(text, at+1); at < 0 {
			return -1
		}
	}
	if at < len(text) && (text[at] == 'e' || text[at] == 'E') {
		at++
		if at < len(text) && (text[at] == '+' || text[at] == '-') {
			at++
		}
		return skipDigits(text, at)
	}
	return at
}

// skipDigits skips at least one digit.
func skipDigits(text []byte, at int) int {
	first := at
	for at < len(text) && '0' <= text[at] && text[at] <= '9' {
		at++
	}
	if at == first {
		return -1
	}
	return at
}

// isString reports whether a value, as a scanner yields it, is a string; nil is
// none. isNull alike.
func isString(value []byte) bool { return len(value) > 0 && value[0] == '"' }
func isNull(value []byte) bool   { return len(value) > 0 && value[0] == 'n' }

// isNumber and hasEscape are like isString, for any value and for a string.
func isNumber(value []byte) bool {
	return len(value) > 0 && (value[0] == '-' || '0' <= value[0] && value[0] <= '9')
}

func hasEscape(value []byte) bool { return bytes.IndexByte(value, '\\') >= 0 }

// unquote returns what a string stands for, in memory of its own; value is one
// that a scanner yielded and isString accepts. It reports false if there is a
// lone surrogate, in whose place is then U+FFFD.
func unquote(value []byte) (string, bool) {
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	plain, whole := appendUnescaped(nil, inner)
	return string(plain), whole
}

// appendUnescaped is unquote for the inside of a string.
func appendUnescaped(dst, inner []byte) ([]byte, bool) {
	whole := true
	for {
		plain := bytes.IndexByte(inner, '\\')
		if plain < 0 {
			return append(dst, inner...), whole
		}
		dst = append(dst, inner[:plain]...)
		c := inner[plain+1]
		if inner = inner[plain+2:]; c != 'u' {
			dst = append(dst, escaped(c))
			continue
		}
		r := codeUnit(inner)
		inner = inner[4:]
		if utf16.IsSurrogate(r) {
			pair := utf8.RuneError
			if len(inner) >= 6 && inner[0] == '\\' && inner[1] == 'u' {
				pair = utf16.DecodeRune(r, codeUnit(inner[2:]))
			}
			// DecodeRune says RuneError of what is no pair, and of nothing else.
			if r = pair; r == utf8.RuneError {
				whole = false
			} else {
				inner = inner[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
}

// codeUnit returns the value of the four hexadecimal digits that text starts
// with, -1 if it does not.
func codeUnit(text []byte) rune {
	if len(text) < 4 {
		return -1
	}
	var unit rune
	for _, c := range text[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		unit = unit<<4 | rune(c)
	}
	return unit
}

// escaped returns the byte that c stands for after a backslash, 0 for none.
func escaped(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

// appendQuoted appends s as a JSON string. Bytes of s that are not UTF-8 become
// U+FFFD, so the result is valid JSON whatever s holds.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0 // what is before stands in dst
	for at := 0; at < len(s); {
		if c := s[at]; c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				dst = append(dst, s[from:at]...)
				dst = appendEscape(dst, c)
				from = at + 1
			}
			at++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[at:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[from:at]...)
			dst = append(dst, "\uFFFD"...)
			from = at + 1
		}
		at += size
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xF])
}

// isJSON reports whether text is one JSON value in UTF-8, nested no deeper than
// what hosts may send.
func isJSON(text []byte) bool {
	at := skipSpace(text, 0)
	if at = skipValue(text, at, maxHostNesting); at < 0 {
		return false
	}
	return skipSpace(text, at) == len(text) && utf8.Valid(text)
}

// encode keeps a panic in the payload's own MarshalJSON from ending the process:
// it runs on a goroutine of ours when a handler has returned the payload.
func encode(payload any) (b json.RawMessage, err error) {
	defer func() {
		if v := recover(); v != nil {
			b, err = nil, fmt.Errorf("realtime: encode payload %T: panic: %v", payload, v)
		}
	}()
	if b, err = json.Marshal(payload); err != nil {
		return nil, fmt.Errorf("realtime: encode payload: %w", err)
	}
	return b, nil
}
