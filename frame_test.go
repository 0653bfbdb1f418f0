package realtime

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestHeadersHaveTheirShortestForm(t *testing.T) {
	for _, c := range []struct {
		op   opcode
		rsv1 bool
		n    int
		want string
	}{
		{frameText, false, 0, "\x81\x00"},
		{frameText, true, 125, "\xc1\x7d"},
		{frameBinary, false, 126, "\x82\x7e\x00\x7e"},
		{frameText, false, 65535, "\x81\x7e\xff\xff"},
		{frameText, true, 65536, "\xc1\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
		{frameClose, false, 2, "\x88\x02"},
	} {
		if got := string(appendHeader([]byte("before"), c.op, c.rsv1, c.n)); got != "before"+c.want {
			t.Errorf("%v of %d: got %x, want %x behind what was there", c.op, c.n, got, c.want)
		}
	}
	if string(pingFrame) != "\x89\x00" {
		t.Errorf("ping is %x, want 8900", pingFrame)
	}
}

func TestClosePayloadFitsItsFrameAndStaysText(t *testing.T) {
	for _, c := range []struct {
		name, reason, want string
		code, wantCode     int
	}{
		{"plain", "bye", "bye", 1000, 1000},
		{"no code", "ignored", "", 0, closeNoStatus},
		{"what an empty close gives", "", "", closeNoStatus, closeNoStatus},
		{"exactly full", strings.Repeat("x", 123), strings.Repeat("x", 123), 4001, 4001},
		{"too long", strings.Repeat("x", 124), strings.Repeat("x", 123), 4001, 4001},
		{"cut inside a character", strings.Repeat("é", 62), strings.Repeat("é", 61), 4001, 4001},
		{"cut inside an emoji", "x" + strings.Repeat("😀", 40), "x" + strings.Repeat("😀", 30), 4001, 4001},
		{"not UTF-8", "a\xffb", "a\uFFFDb", 4001, 4001},
	} {
		payload := closePayload(c.code, c.reason)
		code, reason := parseClose(payload)
		if code != c.wantCode || reason != c.want || len(payload) > maxControlPayload || checkClose(payload) != nil {
			t.Errorf("%s: got %d %q in %d bytes, want %d %q", c.name, code, reason, len(payload), c.wantCode, c.want)
		}
	}
}

func FuzzClosePayload(f *testing.F) {
	f.Add("bye")
	f.Add(strings.Repeat("é", 100))
	f.Add("\xff\xf0")
	f.Fuzz(func(t *testing.T, reason string) {
		payload := closePayload(4000, reason)
		if err := checkClose(payload); err != nil || len(payload) > maxControlPayload {
			t.Errorf("%q gives %q: %v", reason, payload, err)
		}
		if _, got := parseClose(payload); utf8.ValidString(reason) && !strings.HasPrefix(reason, got) {
			t.Errorf("%q came back as %q", reason, got)
		}
	})
}

func TestDeflatedMessageInflatesToItself(t *testing.T) {
	for _, payload := range []string{"", "a", long[:511], long, random} {
		packed := deflateMessage([]byte("before"), []byte(payload))
		if !bytes.HasPrefix(packed, []byte("before")) {
			t.Fatalf("%d bytes: what was there is gone", len(payload))
		}
		got, err := inflate(packed[len("before"):], int64(len(payload)))
		if err != nil || string(got) != payload {
			t.Errorf("%d bytes came back as %d, %v", len(payload), len(got), err)
		}
		if len(payload) > 0 {
			if _, err := inflate(packed[len("before"):], int64(len(payload)-1)); err != errMessageTooLarge {
				t.Errorf("%d bytes over the limit by one: got %v", len(payload), err)
			}
		}
	}
}

func TestCompressorsAreNoMoreThanProcessors(t *testing.T) {
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if got, err := inflate(deflateMessage(nil, []byte(random)), testLimit); err != nil || string(got) != random {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
	if got, want := len(deflaters), cap(deflaters); got != want {
		t.Errorf("%d compressors came back, want %d", got, want)
	}
}

func TestInflatedMessagesShareNoMemory(t *testing.T) {
	one, _ := inflate([]byte(pack("first")), testLimit)
	two, _ := inflate([]byte(pack("other")), testLimit)
	if string(one) != "first" || string(two) != "other" {
		t.Errorf("got %q and %q", one, two)
	}
}

func FuzzInflate(f *testing.F) {
	f.Add([]byte(pack("hello")))
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))
	f.Add([]byte(pack(strings.Repeat("x", 5000))))
	f.Add([]byte(pack(strings.Repeat("x", 10_000))))
	f.Fuzz(func(t *testing.T, compressed []byte) {
		const limit = 5000
		before := bytes.Clone(compressed)
		got, err := inflate(compressed, limit)
		if len(got) > limit || cap(got) > limit+limit/2 || (err != nil) != (got == nil) {
			t.Errorf("%d bytes (cap %d), %v with a limit of %d", len(got), cap(got), err, limit)
		}
		if !bytes.Equal(compressed, before) {
			t.Error("the input was changed")
		}
		if err != nil {
			return
		}
		if again, err := inflate(deflateMessage(nil, got), limit); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%q came back as %q, %v", got, again, err)
		}
	})
}

// FuzzReader feeds arbitrary bytes: no panic, memory in proportion to what came,
// the same result however the bytes are cut, and discarding ends.
func FuzzReader(f *testing.F) {
	for _, c := range readerCases() {
		if len(c.bytes) < 1000 {
			f.Add([]byte(c.bytes), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		whole, wholeErr := fuzzRead(t, bytes.NewReader(stream), len(stream))
		at := min(int(cut), len(stream))
		pieces := iotest.HalfReader(io.MultiReader(bytes.NewReader(stream[:at]), iotest.OneByteReader(bytes.NewReader(stream[at:]))))
		if cutUp, err := fuzzRead(t, pieces, len(stream)); !slices.Equal(whole, cutUp) || err != wholeErr {
			t.Errorf("at once %v, %v, in pieces %v, %v", whole, wholeErr, cutUp, err)
		}

		var r frameReader
		r.init(bytes.NewReader(stream), testLimit, true)
		for range cut % 4 {
			if _, _, err := r.next(); err != nil {
				break
			}
		}
		r.discard()
		for {
			op, payload, err := r.next()
			if err != nil {
				break
			}
			if op != frameClose || checkClose(payload) != nil {
				t.Fatalf("discarding gave %v %q", op, payload)
			}
		}
	})
}

func fuzzRead(t *testing.T, src io.Reader, came int) ([]got, error) {
	var r frameReader
	r.init(src, math.MaxInt64, true)
	r.limit = testLimit
	var all []got
	for {
		op, payload, err := r.next()
		if err != nil {
			r.release()
			return all, err
		}
		if op.isControl() && cap(payload) > maxControlPayload || len(payload) > testLimit || cap(payload) > 2*testLimit {
			t.Fatalf("%v of %d bytes, cap %d", op, len(payload), cap(payload))
		}
		if p := r.partial; p != nil && cap(p.payload) > 4096+4*came {
			t.Fatalf("%d bytes held for %d that came", cap(p.payload), came)
		}
		all = append(all, got{op, string(payload)})
	}
}

// FuzzRoundTrip cuts a message into fragments with pings between them.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello"), uint16(2), false, true)
	f.Add([]byte(long[:5000]), uint16(300), true, false)
	f.Add([]byte(""), uint16(0), true, true)
	f.Fuzz(func(t *testing.T, payload []byte, size uint16, packed, pings bool) {
		payload = payload[:min(len(payload), testLimit)]
		size = max(size, uint16(len(payload)/100), 1)
		body, bit := string(payload), byte(0)
		if packed {
			body, bit = pack(body), bitRSV1
		}
		var w wire
		var want []got
		first := byte(textMore) | bit
		for len(body) > int(size) {
			w = w.frame(first, body[:size])
			body, first = body[size:], contMore
			if pings {
				w, want = w.frame(fPing, "p"), append(want, got{framePing, "p"})
			}
		}
		w = w.frame(first|bitFin, body)
		want = append(want, text(string(payload)))
		var r frameReader
		r.init(bytes.NewReader(w), testLimit, true)
		if all, err := readAll(t, &r); !slices.Equal(all, want) || err != io.EOF {
			t.Errorf("got %v, %v, want %v", all, err, want)
		}
	})
}
