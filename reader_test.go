package realtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"unsafe"
)

// wire builds what a client sends.
type wire []byte

const testKey = 0xf1a2b3c4

// frame appends a masked frame. first is its first byte as it stands.
func (w wire) frame(first byte, payload string) wire {
	n := len(payload)
	switch {
	case n < len16:
		w = append(w, first, bitMask|byte(n))
	case n <= 0xffff:
		w = binary.BigEndian.AppendUint16(append(w, first, bitMask|len16), uint16(n))
	default:
		w = binary.BigEndian.AppendUint64(append(w, first, bitMask|len64), uint64(n))
	}
	w = binary.LittleEndian.AppendUint32(w, testKey)
	for i := range n {
		w = append(w, payload[i]^byte(uint32(testKey)>>(8*(i%4))))
	}
	return w
}

func (w wire) raw(b ...byte) wire { return append(w, b...) }

// The first bytes of frames, final unless they say otherwise.
const (
	fText, fBinary, fCont = 0x81, 0x82, 0x80
	fClose, fPing, fPong  = 0x88, 0x89, 0x8a
	textMore, contMore    = 0x01, 0x00
	fPacked, packedMore   = 0xc1, 0x41 // compressed text
)

func closeText(code int, reason string) string { return string(closePayload(code, reason)) }

func pack(s string) string { return string(deflateMessage(nil, []byte(s))) }

// got is one result of next.
type got struct {
	op      opcode
	payload string
}

func (g got) String() string {
	if len(g.payload) > 40 {
		return fmt.Sprintf("%d:%q…(%d)", g.op, g.payload[:40], len(g.payload))
	}
	return fmt.Sprintf("%d:%q", g.op, g.payload)
}

// readAll returns everything that next gives and the error at the end.
func readAll(t testing.TB, r *frameReader) ([]got, error) {
	t.Helper()
	var all []got
	for {
		op, payload, err := r.next()
		if err != nil {
			if _, _, again := r.next(); !r.discarding && again != err {
				t.Errorf("the call after the error gave %v, want %v again", again, err)
			}
			return all, err
		}
		all = append(all, got{op, string(payload)})
		if r.buffered() == 0 && r.buf != nil {
			t.Fatalf("a buffer is held while no byte is pending, after %v", all[len(all)-1])
		}
	}
}

const testLimit = 100_000

var (
	long   = strings.Repeat("0123456789abcdef", 4096) // 64 KiB
	random = randomText(20_000)
)

func randomText(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

type readerCase struct {
	name  string
	bytes wire
	want  []got
	err   error // io.EOF if nil
}

func text(s string) got { return got{frameText, s} }

// readerCases are numbered after the sections of Autobahn's test suite.
var readerCases = sync.OnceValue(func() []readerCase {
	var w wire
	ping125 := strings.Repeat("p", 125)
	cases := []readerCase{
		{"1.1.1 empty text", w.frame(fText, ""), []got{text("")}, nil},
		{"1.1.2 text of 125", w.frame(fText, long[:125]), []got{text(long[:125])}, nil},
		{"1.1.3 text of 126", w.frame(fText, long[:126]), []got{text(long[:126])}, nil},
		{"1.1.6 text of 65535", w.frame(fText, long[:65535]), []got{text(long[:65535])}, nil},
		{"1.1.7 text of 65536", w.frame(fText, long), []got{text(long)}, nil},
		{"1.2.1 empty binary", w.frame(fBinary, ""), []got{{frameBinary, ""}}, nil},
		{"1.2.7 binary of 65536", w.frame(fBinary, long), []got{{frameBinary, long}}, nil},
		{"1.3.1 two texts", w.frame(fText, "a").frame(fText, "b"), []got{text("a"), text("b")}, nil},

		{"2.1 ping without payload", w.frame(fPing, ""), []got{{framePing, ""}}, nil},
		{"2.2 ping with payload", w.frame(fPing, "hello"), []got{{framePing, "hello"}}, nil},
		{"2.4 ping of 125", w.frame(fPing, ping125), []got{{framePing, ping125}}, nil},
		{"2.5 ping of 126", w.frame(fPing, ping125+"p"), nil, protocolError("control frame over 125 bytes")},
		{"2.7 unsolicited pong", w.frame(fPong, "x"), []got{{framePong, "x"}}, nil},
		{"2.10 ten pings", bytes.Repeat(w.frame(fPing, "x"), 10), repeat(got{framePing, "x"}, 10), nil},

		{"3.1 RSV3", w.frame(0x91, "x"), nil, protocolError("reserved bit set")},
		{"3.2 RSV2 after a good message", w.frame(fText, "a").frame(0xa1, "x"), []got{text("a")}, protocolError("reserved bit set")},
		{"3.5 RSV1 and RSV3", w.frame(0xd1, "x"), nil, protocolError("reserved bit set")},
		{"3.6 RSV2 on a ping", w.frame(0xa9, "x"), nil, protocolError("reserved bit set")},
		{"3.7 RSV on a close", w.frame(0xf8, ""), nil, protocolError("reserved bit set")},

		{"4.1.1 opcode 3", w.frame(0x83, ""), nil, protocolError("reserved opcode")},
		{"4.1.5 opcode 7", w.frame(0x87, "x"), nil, protocolError("reserved opcode")},
		{"4.2.1 opcode 11", w.frame(0x8b, ""), nil, protocolError("reserved opcode")},
		{"4.2.5 opcode 15", w.frame(0x8f, "x"), nil, protocolError("reserved opcode")},

		{"5.1 fragmented ping", w.frame(0x09, "a").frame(fCont, "b"), nil, protocolError("fragmented control frame")},
		{"5.2 fragmented pong", w.frame(0x0a, "a"), nil, protocolError("fragmented control frame")},
		{"5.2.1 fragmented close", w.frame(0x08, ""), nil, protocolError("fragmented control frame")},
		{"5.3 two fragments", w.frame(textMore, "a").frame(fCont, "b"), []got{text("ab")}, nil},
		{"5.6 ping between fragments", w.frame(textMore, "a").frame(fPing, "p").frame(fCont, "b"), []got{{framePing, "p"}, text("ab")}, nil},
		{"5.8 pings around every fragment", w.frame(fPing, "1").frame(textMore, "a").frame(fPing, "2").frame(contMore, "b").frame(fPong, "3").frame(fCont, "c"),
			[]got{{framePing, "1"}, {framePing, "2"}, {framePong, "3"}, text("abc")}, nil},
		{"5.9 continuation of nothing", w.frame(fCont, "a").frame(fText, "b"), nil, protocolError("continuation of nothing")},
		{"5.12 open continuation of nothing", w.frame(contMore, "a"), nil, protocolError("continuation of nothing")},
		{"5.15 continuation after the end", w.frame(textMore, "a").frame(fCont, "b").frame(contMore, "c"), []got{text("ab")}, protocolError("continuation of nothing")},
		{"5.18 text inside a message", w.frame(textMore, "a").frame(fText, "b"), nil, protocolError("message inside a fragmented message")},
		{"5.19 binary inside a message", w.frame(textMore, "a").frame(0x02, "b"), nil, protocolError("message inside a fragmented message")},
		{"5.21 end between fragments", w.frame(textMore, "a"), nil, io.EOF},

		{"6.1.2 empty fragments only", w.frame(textMore, "").frame(contMore, "").frame(fCont, ""), []got{text("")}, nil},
		{"6.1.3 one fragment not empty", w.frame(textMore, "").frame(contMore, "x").frame(fCont, ""), []got{text("x")}, nil},
		{"6.3.1 broken UTF-8 is the codec's", w.frame(fText, "\xce\xba\xed\xa0\x80"), []got{text("\xce\xba\xed\xa0\x80")}, nil},
		{"6.2.2 a character in two fragments", w.frame(textMore, "\xce").frame(fCont, "\xba"), []got{text("κ")}, nil},

		{"7.1.1 text, then close", w.frame(fText, "a").frame(fClose, closeText(1000, "")), []got{text("a"), {frameClose, "\x03\xe8"}}, nil},
		{"7.3.1 empty close", w.frame(fClose, ""), []got{{frameClose, ""}}, nil},
		{"7.3.2 close of one byte", w.frame(fClose, "a"), nil, protocolError("close frame with half a code")},
		{"7.3.4 close with reason", w.frame(fClose, closeText(1000, "bye")), []got{{frameClose, "\x03\xe8bye"}}, nil},
		{"7.3.5 close with reason of 123", w.frame(fClose, "\x03\xe8"+long[:123]), []got{{frameClose, "\x03\xe8" + long[:123]}}, nil},
		{"7.3.6 close with reason of 124", w.frame(fClose, "\x03\xe8"+long[:124]), nil, protocolError("control frame over 125 bytes")},
		{"7.5.1 close reason not UTF-8", w.frame(fClose, "\x03\xe8\xce\xba\xed\xa0\x80"), nil, protocolError("close reason is not UTF-8")},

		{"9.1 message at the limit", w.frame(fBinary, strings.Repeat("x", testLimit)), []got{{frameBinary, strings.Repeat("x", testLimit)}}, nil},
		{"9.2 message over the limit", w.frame(fText, "a").frame(fBinary, strings.Repeat("x", testLimit+1)), []got{text("a")}, errMessageTooLarge},
		{"9.3 fragments over the limit", w.frame(textMore, strings.Repeat("x", testLimit)).frame(fPing, "p").frame(fCont, "y"), []got{{framePing, "p"}}, errMessageTooLarge},
		{"9.4 only the declared length is there", w.raw(fText, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4), nil, errMessageTooLarge},
		{"9.5 64-byte fragments", fragmented(long, 64), []got{text(long)}, nil},
		{"9.6 many messages", bytes.Repeat(w.frame(fText, "hello, world"), 1000), repeat(text("hello, world"), 1000), nil},

		{"10.1 frame without mask", w.raw(fText, 1, 'a'), nil, protocolError("frame of a client without mask")},
		{"10.2 close without mask", w.raw(fClose, 0), nil, protocolError("frame of a client without mask")},
		{"10.3 5 bytes with 16-bit length", w.raw(fText, 0xfe, 0, 5, 0, 0, 0, 0, 'h', 'e', 'l', 'l', 'o'), nil, protocolError("length not in its shortest form")},
		{"10.4 65535 bytes with 64-bit length", w.raw(fText, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0), nil, protocolError("length not in its shortest form")},
		{"10.5 length with the top bit", w.raw(fText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), nil, protocolError("length with the top bit set")},
		{"10.6 ping with 16-bit length", w.raw(fPing, 0xfe, 0, 1, 0, 0, 0, 0, 'p'), nil, protocolError("length not in its shortest form")},
		{"10.7 end in the header", w.raw(fText), nil, io.ErrUnexpectedEOF},
		{"10.8 end in the length", w.raw(fText, 0xfe, 1), nil, io.ErrUnexpectedEOF},
		{"10.9 end in the mask", w.raw(fText, 0x85, 1, 2), nil, io.ErrUnexpectedEOF},
		{"10.10 end before the payload", w.frame(fText, "hello")[:6], nil, io.ErrUnexpectedEOF},
		{"10.11 end in a long payload", w.frame(fText, long)[:50_000], nil, io.ErrUnexpectedEOF},
		{"10.12 end in a ping", w.frame(fPing, "hello")[:8], nil, io.ErrUnexpectedEOF},
		{"10.13 end before a ping's payload", w.frame(fPing, "hello")[:6], nil, io.ErrUnexpectedEOF},
		{"10.14 nothing", nil, nil, nil},

		{"12.1 compressed text", w.frame(fPacked, pack("hello")), []got{text("hello")}, nil},
		{"12.2 compressed long text", w.frame(fPacked, pack(long)), []got{text(long)}, nil},
		{"12.3 incompressible at 20000", w.frame(0xc2, pack(random)), []got{{frameBinary, random}}, nil},
		{"12.4 compressed empty text", w.frame(fPacked, "\x00"), []got{text("")}, nil},
		{"12.5 plain between compressed", w.frame(fPacked, pack("a")).frame(fText, "b").frame(fPacked, pack("c")), []got{text("a"), text("b"), text("c")}, nil},
		{"12.6 the example of RFC 7692", w.frame(fPacked, "\xf2\x48\xcd\xc9\xc9\x07\x00"), []got{text("Hello")}, nil},
		{"12.7 the example with a final block", w.frame(fPacked, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), []got{text("Hello")}, nil},
		{"12.8 the example not compressed", w.frame(fPacked, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), []got{text("Hello")}, nil},
		{"12.9 the example in two blocks", w.frame(fPacked, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), []got{text("Hello")}, nil},
		{"12.10 context taken over", w.frame(fPacked, "\xf2\x48\xcd\xc9\xc9\x07\x00").frame(fPacked, "\xf2\x00\x11\x00\x00"), []got{text("Hello")}, errInvalidDeflate},
		{"13.1 compressed in fragments", w.frame(packedMore, pack("hello")[:3]).frame(fPing, "p").frame(fCont, pack("hello")[3:]), []got{{framePing, "p"}, text("hello")}, nil},
		{"13.2 compression bit on a continuation", w.frame(packedMore, "a").frame(0xc0, "b"), nil, protocolError("compression bit on a continuation")},
		{"13.3 compression bit on a ping", w.frame(0xc9, ""), nil, protocolError("compressed control frame")},
		{"13.4 not a compressed message", w.frame(fPacked, "\xff\xff\xff\xff"), nil, errInvalidDeflate},
		{"13.5 compressed message of no bytes", w.frame(fPacked, ""), nil, errInvalidDeflate},
		{"13.6 compressed to the limit", w.frame(fPacked, pack(strings.Repeat("x", testLimit))), []got{text(strings.Repeat("x", testLimit))}, nil},
		{"13.7 compressed over the limit", w.frame(fPacked, pack(strings.Repeat("x", testLimit+1))), nil, errMessageTooLarge},
		{"13.8 bomb of 20 MB", w.frame(fPacked, pack(strings.Repeat("x", 20_000_000))), nil, errMessageTooLarge},
		{"13.9 content behind a final block", w.frame(fPacked, "\xf3\x48\xcd\xc9\xc9\x07\x00"+"\xf2\x48\xcd\xc9\xc9\x07\x00"), nil, errInvalidDeflate},
		{"13.11 end inside a block", w.frame(fPacked, "\x5b"), nil, errInvalidDeflate},
		{"13.10 incompressible at the limit", w.frame(0xc2, pack(randomText(testLimit))), []got{{frameBinary, randomText(testLimit)}}, nil},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		payload := closeText(code, "")
		cases = append(cases, readerCase{fmt.Sprintf("7.7 close %d", code), w.frame(fClose, payload), []got{{frameClose, payload}}, nil})
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		payload := string(binary.BigEndian.AppendUint16(nil, code))
		cases = append(cases, readerCase{fmt.Sprintf("7.9 close %d", code), w.frame(fClose, payload), nil, protocolError("close code that must not be sent")})
	}
	return cases
})

func repeat(g got, n int) (all []got) {
	for range n {
		all = append(all, g)
	}
	return all
}

// fragmented returns text in frames of size bytes.
func fragmented(text string, size int) (w wire) {
	first := byte(textMore)
	for ; len(text) > size; text = text[size:] {
		w = w.frame(first, text[:size])
		first = contMore
	}
	return w.frame(first|bitFin, text)
}

// chunked gives n bytes at a time, n chosen anew each time.
type chunked struct {
	src  io.Reader
	rand *rand.Rand
	most int
}

func (c *chunked) Read(p []byte) (int, error) {
	return c.src.Read(p[:min(len(p), 1+c.rand.IntN(c.most))])
}

func TestFramesReadTheSameHoweverTheBytesArrive(t *testing.T) {
	sources := map[string]func(io.Reader) io.Reader{
		"at once":         func(r io.Reader) io.Reader { return r },
		"byte by byte":    iotest.OneByteReader,
		"in halves":       iotest.HalfReader,
		"error with data": iotest.DataErrReader,
		"in small pieces": func(r io.Reader) io.Reader { return &chunked{r, rand.New(rand.NewPCG(1, 2)), 20} },
		"in large pieces": func(r io.Reader) io.Reader { return &chunked{r, rand.New(rand.NewPCG(3, 4)), 9000} },
	}
	for _, c := range readerCases() {
		for name, source := range sources {
			var r frameReader
			r.init(source(bytes.NewReader(c.bytes)), testLimit, true)
			checkCase(t, c, name, &r)
		}
		for _, n := range []int{1, 2, 7, 500, 4096} {
			n = min(n, len(c.bytes))
			var r frameReader
			r.init(bytes.NewReader(c.bytes[n:]), testLimit, true)
			b := readBuffers.Get().(*readBuffer)
			r.feed(b, copy(b[:], c.bytes[:n]))
			checkCase(t, c, fmt.Sprintf("fed %d", n), &r)
		}
	}
}

func checkCase(t *testing.T, c readerCase, how string, r *frameReader) {
	t.Helper()
	all, err := readAll(t, r)
	want := c.err
	if want == nil {
		want = io.EOF
	}
	if !slices.Equal(all, c.want) || err != want {
		t.Errorf("%s, %s: got %v, %v, want %v, %v", c.name, how, all, err, c.want, want)
	}
	r.release()
	if r.buf != nil || r.partial != nil {
		t.Errorf("%s, %s: released reader still holds memory", c.name, how)
	}
}

func TestEverySplitInTwoReadsTheSame(t *testing.T) {
	var w wire
	w = w.frame(fText, "hello").frame(fPing, "ping").frame(textMore, strings.Repeat("x", 200)).frame(fPing, "").
		frame(fCont, "tail").frame(fPacked, pack("compressed")).frame(fClose, closeText(4001, "bye"))
	want := []got{text("hello"), {framePing, "ping"}, {framePing, ""}, text(strings.Repeat("x", 200) + "tail"), text("compressed"), {frameClose, closeText(4001, "bye")}}
	for i := range len(w) {
		var r frameReader
		r.init(io.MultiReader(bytes.NewReader(w[:i]), bytes.NewReader(w[i:])), testLimit, true)
		if all, err := readAll(t, &r); !slices.Equal(all, want) || err != io.EOF {
			t.Fatalf("split at %d: got %v, %v, want %v, EOF", i, all, err, want)
		}
	}
}

func TestCompressionBitNeedsTheExtension(t *testing.T) {
	var r frameReader
	r.init(bytes.NewReader(wire{}.frame(fPacked, pack("hello"))), testLimit, false)
	if _, _, err := r.next(); err != protocolError("reserved bit set") {
		t.Errorf("got %v, want a protocol error", err)
	}
}

func TestViolationsMatchAsProtocolError(t *testing.T) {
	for _, err := range []error{fmt.Errorf("reading: %w", protocolError("x")), errInvalidDeflate} {
		if _, ok := errors.AsType[protocolError](err); !ok {
			t.Errorf("%v does not match protocolError", err)
		}
	}
	if _, ok := errors.AsType[protocolError](errMessageTooLarge); ok {
		t.Error("a large message counts as a violation")
	}
}

func TestErrorsOfTheSourceComeAsTheyAre(t *testing.T) {
	cause := errors.New("cut")
	for _, w := range []wire{nil, wire{}.frame(fText, "hello")[:3], wire{}.frame(fText, "hello")[:8], wire{}.frame(fPing, "hello")[:8], wire{}.frame(fText, long)[:9000]} {
		var r frameReader
		r.init(io.MultiReader(bytes.NewReader(w), iotest.ErrReader(cause)), testLimit, true)
		if _, err := readAll(t, &r); err != cause {
			t.Errorf("after %d bytes: got %v, want %v", len(w), err, cause)
		}
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestSourceThatGivesNothingIsNotReadForEver(t *testing.T) {
	for _, w := range []wire{nil, wire{}.frame(fText, long)[:9000]} {
		var r frameReader
		r.init(io.MultiReader(bytes.NewReader(w), silent{}), testLimit, true)
		if _, err := readAll(t, &r); err != io.ErrNoProgress {
			t.Errorf("got %v, want %v", err, io.ErrNoProgress)
		}
	}
}

func TestFloodOfEmptyFragmentsIsRefused(t *testing.T) {
	var w wire
	empty := w.frame(contMore, "")
	for name, c := range map[string]struct {
		continuations int
		want          error
	}{"at the bound": {maxFragments - 1, io.EOF}, "over it": {maxFragments, protocolError("message in too many fragments")}} {
		src := io.MultiReader(bytes.NewReader(w.frame(textMore, "")), bytes.NewReader(bytes.Repeat(empty, c.continuations)))
		var r frameReader
		r.init(src, testLimit, true)
		if _, _, err := r.next(); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestDiscardingReaderReturnsOnlyTheCloseFrame(t *testing.T) {
	var w wire
	bye := got{frameClose, closeText(1000, "bye")}
	closeFrame := w.frame(fClose, bye.payload)
	for _, c := range []struct {
		name  string
		first wire  // read before discard
		err   error // what that gave
		then  wire
		want  []got
		end   error
	}{
		{"at rest", w, nil, w.frame(fText, "a").frame(fPing, "p").frame(fPacked, "junk").frame(fBinary, long), []got{bye}, io.EOF},
		{"between fragments", w.frame(textMore, "a").frame(fPing, "p"), nil, w.frame(contMore, "b").frame(fCont, "c"), []got{bye}, io.EOF},
		{"after a large message", w.frame(fText, strings.Repeat("x", testLimit+1)), errMessageTooLarge, w.frame(fText, "a"), []got{bye}, io.EOF},
		{"after large fragments", w.frame(textMore, long).frame(fCont, long), errMessageTooLarge, w.frame(fText, "a"), []got{bye}, io.EOF},
		{"after a bomb", w.frame(fPacked, pack(strings.Repeat("x", testLimit+1))), errMessageTooLarge, w, []got{bye}, io.EOF},
		{"after a violation", w.frame(0xf1, "what is this?"), protocolError("reserved bit set"), w.frame(0x8b, "and this"), []got{bye}, io.EOF},
		{"after a frame without mask", w.raw(fText, 3, 'a', 'b', 'c'), protocolError("frame of a client without mask"), w.raw(fText, 3, 'a', 'b', 'c'), []got{bye}, io.EOF},
		{"after a broken compressed message", w.frame(fPacked, "\xff\xff"), errInvalidDeflate, w, []got{bye}, io.EOF},
		{"after a length without meaning", w.raw(fText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), protocolError("length with the top bit set"), w, nil, io.ErrUnexpectedEOF},
		{"before a length without meaning", w, nil, w.raw(fText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), nil, io.ErrUnexpectedEOF},
		{"before a malformed close", w, nil, w.frame(fClose, "x"), []got{{frameClose, ""}, bye}, io.EOF},
		{"before a close that is too long", w, nil, w.frame(fClose, long[:130]), []got{bye}, io.EOF},
	} {
		for _, source := range []func(io.Reader) io.Reader{iotest.HalfReader, iotest.OneByteReader} {
			var r frameReader
			r.init(source(io.MultiReader(bytes.NewReader(c.first), bytes.NewReader(c.then), bytes.NewReader(closeFrame))), testLimit, true)
			if len(c.first) > 0 {
				if _, _, err := r.next(); err != c.err {
					t.Fatalf("%s: got %v before, want %v", c.name, err, c.err)
				}
			}
			r.discard()
			if r.partial != nil {
				t.Errorf("%s: the message under way is kept", c.name)
			}
			if all, err := readAll(t, &r); !slices.Equal(all, c.want) || err != c.end {
				t.Errorf("%s: got %v, %v, want %v, %v", c.name, all, err, c.want, c.end)
			}
		}
	}
}

func TestDiscardingDoesNotAllocate(t *testing.T) {
	stream := wire{}.frame(fText, long[:1000]).frame(fPing, "x").frame(fPacked, pack(long)).frame(fClose, closeText(1000, ""))
	src := bytes.NewReader(nil)
	var r frameReader
	r.init(src, testLimit, true)
	r.discard()
	allocs := testing.AllocsPerRun(100, func() {
		src.Reset(stream)
		if op, _, err := r.next(); op != frameClose || err != nil {
			t.Fatalf("got %v, %v, want a close frame", op, err)
		}
	})
	if allocs != 0 && !raceEnabled {
		t.Errorf("got %v allocations, want 0", allocs)
	}
}

func TestControlPayloadIsKeptUntilTheReaderIsAskedAgain(t *testing.T) {
	var r frameReader
	r.init(bytes.NewReader(nil), testLimit, false)
	b := readBuffers.Get().(*readBuffer)
	r.feed(b, copy(b[:], wire{}.frame(fPing, "hello")))
	_, payload, err := r.next()
	if err != nil || string(payload) != "hello" || cap(payload) != len(payload) {
		t.Errorf("got %q (cap %d), %v, want hello with nothing behind it", payload, cap(payload), err)
	}
	if r.buf == nil {
		t.Error("the payload's buffer is back in the pool while it is in use")
	}
	if n := r.buffered(); n != 0 || r.buf != nil {
		t.Errorf("%d bytes buffered, buffer %p, want none", n, r.buf)
	}
}

func TestFeedingTooEarlyPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("fed bytes were overwritten")
		}
	}()
	var r frameReader
	r.init(bytes.NewReader(nil), testLimit, false)
	r.feed(new(readBuffer), 3)
	r.feed(new(readBuffer), 3)
}

func TestEmptyFeedHoldsNoBuffer(t *testing.T) {
	var r frameReader
	r.init(bytes.NewReader(nil), testLimit, false)
	if r.feed(new(readBuffer), 0); r.buf != nil {
		t.Error("an empty buffer is held")
	}
}

func TestDeclaredLengthAllocatesNothingAhead(t *testing.T) {
	const limit = 1 << 30
	header := wire{}.raw(fBinary, 0xff, 0, 0, 0, 0, 0x3f, 0, 0, 0, 1, 2, 3, 4)
	for _, arrived := range []int{0, 1, 5000, 100_000} {
		src := io.MultiReader(bytes.NewReader(header), bytes.NewReader(make([]byte, arrived)))
		var r frameReader
		r.init(src, limit, false)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := r.next()
		runtime.ReadMemStats(&after)
		if err != io.ErrUnexpectedEOF {
			t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
		}
		// The last step has at most four times what was there, the steps before
		// together a third of that; 32 KiB for the test and its pool.
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(32<<10+6*arrived); got > most {
			t.Errorf("%d bytes allocated for %d that came, want at most %d", got, arrived, most)
		}
	}
}

func TestSingleFrameMessageHasItsExactSize(t *testing.T) {
	for _, n := range []int{1, 4095, 4096, 4097, 20_000, 65_536} {
		var r frameReader
		r.init(bytes.NewReader(wire{}.frame(fBinary, long[:n])), testLimit, false)
		_, payload, err := r.next()
		if err != nil || len(payload) != n || cap(payload) != n {
			t.Errorf("message of %d: len %d, cap %d, %v", n, len(payload), cap(payload), err)
		}
	}
}

func TestReaderAllocatesOncePerMessageAndNeverForControlFrames(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame wire
		want  float64
	}{
		{"text", wire{}.frame(fText, `{"type":"ping"}`), 1},
		{"text of 4000", wire{}.frame(fText, long[:4000]), 1},
		{"compressed text", wire{}.frame(fPacked, pack("hello")), 1},
		{"empty text", wire{}.frame(fText, ""), 0},
		{"ping", wire{}.frame(fPing, "hello"), 0},
		{"pong", wire{}.frame(fPong, ""), 0},
	} {
		var r frameReader
		r.init(iotest.ErrReader(io.EOF), testLimit, true)
		got := testing.AllocsPerRun(200, func() {
			b := readBuffers.Get().(*readBuffer)
			r.feed(b, copy(b[:], c.frame))
			if _, _, err := r.next(); err != nil {
				t.Fatal(err)
			}
			r.buffered()
		})
		if got != c.want && !raceEnabled {
			t.Errorf("%s: got %v allocations, want %v", c.name, got, c.want)
		}
	}
}

func TestManyFragmentsAreNotCopiedEachTime(t *testing.T) {
	src, stream := bytes.NewReader(nil), fragmented(long, 16)
	var r frameReader
	r.init(src, testLimit, false)
	got := testing.AllocsPerRun(3, func() {
		src.Reset(stream)
		if _, payload, err := r.next(); err != nil || len(payload) != len(long) {
			t.Fatal(len(payload), err)
		}
	})
	if got > 20 {
		t.Errorf("got %v allocations for %d fragments, want a few for the doublings", got, len(long)/16)
	}
}

// watched notes the longest read and whether one of that kind held a buffer.
type watched struct {
	io.Reader
	reader  *frameReader
	longest int
	held    bool
}

func (w *watched) Read(p []byte) (int, error) {
	if w.longest = max(w.longest, len(p)); len(p) > len(readBuffer{}) {
		w.held = w.held || w.reader.buf != nil
	}
	return w.Reader.Read(p)
}

func TestLongPayloadIsReadStraightIntoItsMessage(t *testing.T) {
	var r frameReader
	src := &watched{Reader: bytes.NewReader(wire{}.frame(fBinary, long)), reader: &r}
	r.init(src, testLimit, false)
	if _, payload, err := r.next(); err != nil || string(payload) != long {
		t.Fatal(len(payload), err)
	}
	if src.longest < len(long)/2 || src.held {
		t.Errorf("longest read %d of %d bytes, buffer held meanwhile: %v", src.longest, len(long), src.held)
	}
}

func TestReaderIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(frameReader{}); got > 96 {
		t.Errorf("frameReader has %d bytes, every connection pays them; want at most 96", got)
	}
}

func TestUnmaskingMatchesTheDefinition(t *testing.T) {
	for n := range 140 {
		for offset := range 8 {
			b := []byte(random[:offset+n])
			want := []byte(random[:offset+n])
			for i := range n {
				want[offset+i] ^= byte(uint32(testKey) >> (8 * (i % 4)))
			}
			if unmask(b[offset:], testKey); !bytes.Equal(b, want) {
				t.Fatalf("%d bytes at %d: got %x, want %x", n, offset, b, want)
			}
		}
	}
}
