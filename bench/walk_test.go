package main

import (
	"bytes"
	"strings"
	"testing"
)

// found is a frame as the walker tells it.
type found struct {
	op      byte
	final   bool
	payload string
}

// walkAll feeds stream to a walker in pieces of at most size bytes.
func walkAll(stream []byte, size int) (frames []found, w walker) {
	var payload []byte
	for len(stream) > 0 {
		p := stream[:min(size, len(stream))]
		stream = stream[len(p):]
		for {
			piece, end, rest := w.next(p)
			payload = append(payload, piece...)
			if !end {
				break
			}
			frames = append(frames, found{w.opcode(), w.final(), string(payload)})
			payload = payload[:0]
			if p = rest; len(p) == 0 {
				break
			}
		}
	}
	return frames, w
}

func TestWalkerFindsFramesHoweverTheStreamIsCut(t *testing.T) {
	long, huge := strings.Repeat("l", 300), strings.Repeat("h", 70_000)
	want := []found{
		{opText, true, "a"}, {opText, true, ""}, {opPing, true, "ping"}, {opText, true, long},
		{opText, false, "first "}, {0, true, "second"}, {opText, true, huge}, {opClose, true, "\x03\xe8"},
	}
	var stream []byte
	for _, f := range want {
		at := len(stream)
		stream = appendFrame(stream, f.op, []byte(f.payload), false)
		if !f.final {
			stream[at] &^= 0x80
		}
	}
	for _, size := range []int{1, 2, 3, 5, 7, 127, 4096, len(stream)} {
		got, w := walkAll(stream, size)
		if len(got) != len(want) {
			t.Fatalf("pieces of %d: got %d frames, want %d", size, len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("pieces of %d, frame %d: got %.40v, want %.40v", size, i, got[i], want[i])
			}
		}
		if w.bad || w.open || w.have != 0 {
			t.Errorf("pieces of %d: walker ends with bad %v, open %v, have %d", size, w.bad, w.open, w.have)
		}
	}
}

func TestWalkerMarksAMaskedFrame(t *testing.T) {
	if _, w := walkAll(appendFrame(nil, opText, []byte("x"), true), 100); !w.bad {
		t.Error("a masked frame from a server was taken for good")
	}
}

func TestMaskedFrameUnmasksToItsPayload(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 70_000} {
		want := bytes.Repeat([]byte("payload "), size/8+1)[:size]
		frame := appendFrame(nil, opText, want, true)
		body := frame[len(frame)-size:]
		key := frame[len(frame)-size-4:][:4]
		got := make([]byte, size)
		for i := range got {
			got[i] = body[i] ^ key[i%4]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %.20q, want %.20q", size, got, want)
		}
	}
}

func TestWalkerDoesNotAllocate(t *testing.T) {
	var stream []byte
	for range 16 {
		stream = appendFrame(stream, opText, newPayload(0), false)
	}
	var w walker
	n := testing.AllocsPerRun(100, func() {
		for p := stream; len(p) > 0; {
			_, _, p = w.next(p)
		}
	})
	if n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// FuzzWalker: any bytes in any pieces give the same frames as in one piece.
func FuzzWalker(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, opText, []byte("hello"), false), opPing, nil, false), 3)
	f.Add([]byte{0x81, 126, 0, 2, 'a', 'b', 0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, 'c'}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		whole, a := walkAll(stream, len(stream)+1)
		cut, b := walkAll(stream, max(1, size))
		if len(whole) != len(cut) {
			t.Fatalf("got %d frames in pieces, %d in one", len(cut), len(whole))
		}
		for i := range whole {
			if whole[i] != cut[i] {
				t.Errorf("frame %d: got %v in pieces, %v in one", i, cut[i], whole[i])
			}
		}
		if a != b {
			t.Errorf("walkers end as %+v and %+v", b, a)
		}
	})
}

func BenchmarkWalker(b *testing.B) {
	var stream []byte
	for range 16 {
		stream = appendFrame(stream, opText, newPayload(0), false)
	}
	var w walker
	b.ReportAllocs()
	for b.Loop() {
		for p := stream; len(p) > 0; {
			_, _, p = w.next(p)
		}
	}
}
