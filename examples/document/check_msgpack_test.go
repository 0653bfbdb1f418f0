package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// The checks of MessagePack.

// packedPair returns a writer that speaks MessagePack and one that speaks JSON.
func packedPair(t *testing.T) (s *site, a, b *member) {
	t.Helper()
	s = check(t)
	a = s.over(t, "3.0.0", "acme", "doc1").connect("write")
	b = s.writer(t)
	a.want(b.joins(2, 0), b.joinSignal())
	return s, a, b
}

func TestCheck119_FormatsShareADocument(t *testing.T) {
	s, a, b := packedPair(t)
	a.submit(a.made(2, fields{"contents": fields{"n": []any{1, -1, 1.5, nil, true, "é", 70000, 3000000000}}, "metadata": fields{"batch": true}}))
	all([]*member{a, b}, a.echo(3, 0))
	b.submit(b.made(3, fields{"contents": `{"type":"component"}`}))
	all([]*member{a, b}, b.echo(4, 2))
	for sn := int64(2); sn <= 4; sn++ {
		if found := differs(string(a.messages[sn]), string(b.messages[sn])); found != "" {
			t.Errorf("message %d: %s", sn, found)
		}
	}
	c := s.over(t, "3.0.0", "acme", "doc1").connect("write")
	c.wantInitial(1, 4)
	all([]*member{a, b}, c.joins(5, 2), c.joinSignal())
	c.signals(fields{"content": "x", "targetClientId": packUndefined})
	all([]*member{a, b}, c.signal("x"))
	a.send(`[null,"h","phoenix","heartbeat",{}]`)
	if got := a.peer.next(); differs(got, `[null,"h","phoenix","phx_reply",{"status":"ok","response":{}}]`) != "" {
		t.Errorf("heartbeat: got %s", got)
	}
	c.nothing()
}

func TestCheck120_UndefinedIsAbsent(t *testing.T) {
	_, a, b := packedPair(t)
	a.submit(a.made(2, fields{"metadata": packUndefined, "compression": packUndefined}))
	a.last = a.last.with(fields{"metadata": nil, "compression": nil})
	all([]*member{a, b}, a.echo(3, 0))
}

func TestCheck121_WholeFloatIsAnInteger(t *testing.T) {
	_, a, b := packedPair(t)
	op := a.made(2, fields{"clientSequenceNumber": packFloat + "1.0", "referenceSequenceNumber": packFloat + "2"})
	a.submit(op)
	a.last = op.with(fields{"clientSequenceNumber": 1, "referenceSequenceNumber": 2})
	all([]*member{a, b}, a.echo(3, 0))
	half := op.with(fields{"clientSequenceNumber": packFloat + "1.5"})
	a.submit(half)
	a.only(nack(anyValue, -1, refusal(400, "malformed", "Malformed operation: clientSequenceNumber")))
	b.nothing()
}

func TestCheck122_NumbersAreWhatJavaScriptReads(t *testing.T) {
	_, a, b := packedPair(t)
	b.submit(b.made(2))
	var f frame
	select {
	case f = <-a.frames:
	case <-t.Context().Done():
	}
	value, rest, err := unpacked(f.bytes)
	if err != nil || len(rest) > 0 || !f.binary {
		t.Fatalf("% x: %v, want one value in a binary frame", f.bytes, err)
	}
	payload := value.([]any)[4].(map[string]any)
	op := payload["op"].([]any)[0].(map[string]any)
	if at, ok := op["timestamp"].(float); !ok || at < 1.6e12 {
		t.Errorf("timestamp is %T %v, want a float64", op["timestamp"], op["timestamp"])
	}
	if op["sequenceNumber"] != int64(3) || op["clientSequenceNumber"] != int64(1) {
		t.Errorf("got %v, want the numbers 3 and 1 as integers", op)
	}
	if !bytes.Contains(f.bytes, append([]byte("\xaesequenceNumber"), 3)) {
		t.Errorf("% x: want the number in one byte", f.bytes)
	}
}

func TestCheck123_WhatIsNoArrayClosesTheConnection(t *testing.T) {
	s := check(t)
	for name, write := range map[string]func(*member){
		"text":      func(m *member) { m.write(websocket.MessageText, []byte(`["1","1","document:acme:doc1","noop",{}]`)) },
		"map":       func(m *member) { m.write(websocket.MessageBinary, packJSON(`{"a":1}`)) },
		"short":     func(m *member) { m.write(websocket.MessageBinary, packJSON(`["1","1"]`)) },
		"cut":       func(m *member) { m.write(websocket.MessageBinary, []byte{0x95, 0xa1}) },
		"extension": func(m *member) { m.write(websocket.MessageBinary, []byte{0x95, 0xc0, 0xc0, 0xd5, 5, 0, 0}) },
		"deep":      func(m *member) { m.write(websocket.MessageBinary, bytes.Repeat([]byte{0x91}, 10_000)) },
		"nothing":   func(m *member) { m.write(websocket.MessageBinary, nil) },
	} {
		m := s.over(t, "3.0.0", "acme", "doc1").connect("read")
		write(m)
		m.wantEnd()
		if text := m.err.Error(); strings.Contains(text, "timeout") {
			t.Errorf("%s: ended with %v", name, m.err)
		}
	}
	m := s.over(t, "3.0.0", "acme", "doc1").connect("write")
	m.send(compact([]any{"1", nil, m.topic(), "submitOp", m.submission(m.made(1)), "trailing", 5}))
	m.only(m.echo(2, 1))
}
