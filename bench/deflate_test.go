package main

import (
	"bytes"
	"testing"
)

// deflated is the payload of a compressed frame.
func deflated(p []byte) []byte {
	frame := newLimit(1, true).frame(p)
	head := 2
	switch frame[1] {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	return frame[head:]
}

func TestInflateGivesWhatWasDeflated(t *testing.T) {
	for _, want := range [][]byte{newRows(1), []byte("x"), bytes.Repeat([]byte("realtime "), 20_000)} {
		if got, err := inflate(deflated(want)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes and error %v, want the %d that went in", len(got), err, len(want))
		}
	}
	if got, err := inflate([]byte("not compressed")); err == nil {
		t.Errorf("got %q, want an error", got)
	}
}

// inspected is what a client that inspects makes of a message.
func TestOnlyCompressedRowsPassTheInspection(t *testing.T) {
	rows := newRows(5)
	for name, c := range map[string]struct {
		frame []byte
		want  int
	}{
		"compressed":       {newLimit(1, true).frame(rows), 1},
		"as it is":         {newLimit(1, false).frame(rows), 0},
		"something else":   {newLimit(1, true).frame(newPayload(5)), 0},
		"compressed twice": {newLimit(1, true).frame(deflated(rows)), 0},
	} {
		l := load{script: newScript(raw, "x", true), ready: 1, clients: []client{{stage: stageReady}}}
		if err := l.inspect(); err != nil {
			t.Fatal(err)
		}
		cl := &l.clients[0]
		for i := range c.frame { // cut everywhere
			if err := l.frames(cl, c.frame[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if l.inspected != c.want || cl.got != 1 || cl.stage != stageReady {
			t.Errorf("%s: got %d inspected, %d messages, stage %d, want %d, 1, ready", name, l.inspected, cl.got, cl.stage, c.want)
		}
		// The next one is counted without a look.
		if err := l.frames(cl, c.frame); err != nil || cl.got != 2 || l.inspected != c.want {
			t.Errorf("%s: got %d messages, %d inspected, error %v after a second one", name, cl.got, l.inspected, err)
		}
	}
}
