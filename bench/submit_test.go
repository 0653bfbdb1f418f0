package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const someClient = `"6f1f0a52-5a54-4a0a-8f0e-2c9a3a2f7c11"`

func someAuthor(t testing.TB) *author {
	a, err := newAuthor([]byte(`["1","2","document:bench:7","connect_document_success",{"clientId":` + someClient + `,"claims":{}}]`))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sent unmasks the one frame in p.
func sent(t *testing.T, a *author, p []byte) []byte {
	t.Helper()
	text := bytes.Clone(p[a.payload:])
	for i := range text {
		text[i] ^= maskKey[i&3]
	}
	return text
}

func TestSubmissionsBearConsecutiveNumbers(t *testing.T) {
	a := someAuthor(t)
	a.prepare(7, 3)
	a.sn = 41
	for round := range 40 {
		var m []json.RawMessage
		var body struct {
			ClientID       string
			MessageBatches [][]struct {
				ClientSequenceNumber, ReferenceSequenceNumber int
				Contents                                      struct{ Text string }
			}
		}
		text := sent(t, a, a.next())
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if err := json.Unmarshal(m[4], &body); err != nil || string(m[2]) != `"document:bench:7"` || `"`+body.ClientID+`"` != someClient {
			t.Fatalf("got %s (%v), want a submission to document 7 by %s", text, err, someClient)
		}
		if len(body.MessageBatches) != 1 || len(body.MessageBatches[0]) != 3 {
			t.Fatalf("got %s, want one batch of three ops", text)
		}
		for i, op := range body.MessageBatches[0] {
			if want := 3*round + i + 1; op.ClientSequenceNumber != want || op.ReferenceSequenceNumber != 41 || op.Contents.Text == "" {
				t.Errorf("round %d, op %d: got %+v, want number %d after 41", round, i, op, want)
			}
		}
	}
}

func TestNextSubmissionDoesNotAllocate(t *testing.T) {
	a := someAuthor(t)
	a.prepare(0, 32)
	if n := testing.AllocsPerRun(100, func() { a.next() }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// event is an op event of messages by these clients, numbered from first on.
func event(first int, clients ...string) []byte {
	var ops []string
	for i, id := range clients {
		ops = append(ops, fmt.Sprintf(`{"clientId":%s,"sequenceNumber":%d,"contents":{"clientId":%s,"detail":{}}}`, id, first+i, someClient))
	}
	return []byte(strings.Replace(sequencedEvent, "{ops}", strings.Join(ops, ","), 1))
}

func TestAuthorsCountOpsAndNoticeGaps(t *testing.T) {
	const other = `"00000000-0000-4000-8000-000000000000"`
	a := someAuthor(t)
	a.prepare(0, 2)
	for _, step := range []struct {
		text []byte
		ops  uint64
		back int
	}{
		{event(10, "null", other), 1, 0},                // a join has a number and is no op
		{event(12, someClient, other), 2, 0},            // half of a submission
		{event(14, someClient, someClient), 2, 1},       // the other half, and half of the next
		{[]byte(`{"clientId":null,"content":1}`), 0, 0}, // a signal has no number
		{event(16, someClient), 1, 1},
	} {
		ops, back, err := a.observe(step.text)
		if err != nil || ops != step.ops || back != step.back {
			t.Errorf("%s: got %d ops, %d back and error %v, want %d and %d", step.text, ops, back, err, step.ops, step.back)
		}
	}
	for _, first := range []int{16, 18} {
		if _, _, err := a.observe(event(first, other)); err == nil {
			t.Errorf("message %d after 16: got no error", first)
		}
	}
}

func TestRefusedSubmissionFailsTheRun(t *testing.T) {
	l := load{script: newScript(dialect{Authors: true}, "x", false)}
	c := &client{stage: stageReady, author: someAuthor(t), fd: -1}
	for reply, ok := range map[string]bool{
		`["1","3","document:bench:0","phx_reply",{"status":"ok","response":{"sequenceNumber":4}}]`:      true,
		`["1","3","document:bench:0","phx_reply",{"status":"error","response":{"reason":"throttled"}}]`: false,
	} {
		err := l.frames(c, appendFrame(nil, opText, []byte(reply), false))
		if (err == nil) != ok {
			t.Errorf("%s: got error %v", reply, err)
		}
	}
	if l.submits.answered != 2 {
		t.Errorf("got %d answers, want 2", l.submits.answered)
	}
}

func TestCutEventIsCountedOnce(t *testing.T) {
	l := load{script: newScript(dialect{Authors: true}, "x", false)}
	c := &client{stage: stageReady, author: someAuthor(t), fd: -1}
	stream := appendFrame(appendFrame(nil, opText, event(1, someClient, someClient), false), opText, event(3, someClient), false)
	for i := range stream {
		if err := l.frames(c, stream[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if c.got != 3 || c.author.sn != 3 {
		t.Errorf("got %d ops up to %d, want 3 up to 3", c.got, c.author.sn)
	}
}

// What others publish is as long as what the library sends.
func TestOpEventSizeIsThatOfAnEvent(t *testing.T) {
	for _, ops := range []int{1, 32} {
		op := strings.Replace(sequencedOp, "{payload}", string(newPayload(0)), 1)
		text := strings.Replace(sequencedEvent, "{ops}", strings.TrimSuffix(strings.Repeat(op+",", ops), ","), 1)
		if got := opEventSize(ops); got != len(text) || !json.Valid([]byte(text)) || len(payloadOf(got, 0)) != got {
			t.Errorf("%d ops: got %d, want %d", ops, got, len(text))
		}
	}
}
