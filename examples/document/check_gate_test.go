package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
)

// The checks of a submission as a whole.

// gated submits a payload that has to be refused as a whole, and with a ref.
func (m *member) gated(payload fields, operation any, code int, reason, message string) {
	m.t.Helper()
	content := refusal(code, reason, message)
	m.push("submitOp", payload)
	m.want(nack(operation, -1, content))
	m.ask("gated", "submitOp", payload)
	m.want(nack(operation, -1, content), replyError("gated", code, reason, message))
}

func TestCheck049_SubmissionNeedsItsFields(t *testing.T) {
	m := check(t).writer(t)
	for _, payload := range []fields{
		{"foo": "bar"}, {"clientId": 5, "messageBatches": []any{}}, {"clientId": m.id}, {"messageBatches": []any{}},
		{"clientId": m.id, "messageBatches": fields{}},
	} {
		m.gated(payload, nil, 400, "malformed", "Malformed submitOp: missing clientId or messageBatches")
	}
}

func TestCheck050_SubmissionForAnotherClientIsRefused(t *testing.T) {
	a, b := check(t).pair(t)
	forged := a.submission(a.made(2)).with(fields{"clientId": b.id})
	a.gated(forged, nil, 400, "client_id_mismatch", fmt.Sprintf("Client ID mismatch: expected %s, got %s", a.id, b.id))
	b.nothing()
	a.submit(a.last)
	all([]*member{a, b}, a.echo(3, 0))
}

func TestCheck051_ReaderMayNotSubmit(t *testing.T) {
	s := check(t)
	w := s.writer(t)
	for code, scopes := range map[int][]string{403: {"doc:read"}, 400: {"doc:read", "doc:write"}} {
		r := s.joined(t, "acme", "doc1")
		r.token = tokenFor("doc1", scopes...)
		r.connect("read")
		w.want(r.joinSignal())
		r.gated(r.submission(r.made(1)), nil, code, "read_only", "Read-only clients cannot submit operations")
	}
	w.nothing()
}

// many returns ops with the next numbers.
func (m *member) many(count int, rsn int64) (ops []fields) {
	for range count {
		ops = append(ops, m.made(rsn))
	}
	return ops
}

// event is the pattern of an op event with ops that got the numbers from sn on.
func (m *member) event(sn, msn int64, ops ...fields) string {
	var messages []string
	for i, op := range ops {
		messages = append(messages, m.opMessage(op, sn+int64(i), msn))
	}
	return m.ops(messages...)
}

func TestCheck052_SubmissionHasAtMostAHundredOps(t *testing.T) {
	a, b := check(t).pair(t)
	ops := a.many(101, 2)
	tooMany := fields{"clientId": a.id, "messageBatches": [][]fields{ops[:60], ops[60:]}}
	a.gated(tooMany, nil, 400, "batch_too_large", "Batch size 101 exceeds maximum 100")
	b.nothing()
	a.ask("9", "submitOp", a.submission(ops[:100]...))
	a.wantUnordered(a.event(3, 0, ops[:100]...), reply("9", `{"sequenceNumber":102}`))
	b.only(a.event(3, 0, ops[:100]...))
}

func TestCheck053_ContentsHaveALimit(t *testing.T) {
	s := host(t, realtime.MaxMessageSize(1000))
	a, b := s.pair(t)
	if a.hello.MaxMessageSize != 1000 {
		t.Errorf("maxMessageSize is %d, want 1000", a.hello.MaxMessageSize)
	}
	full := strings.Repeat("x", 998) // and two quotes
	ops := []fields{a.made(2), a.made(2, fields{"contents": full + "x"}), a.made(2)}
	a.gated(a.submission(ops...), nil, 413, "message_too_large", "Message size 1001 exceeds limit 1000")
	b.nothing()
	ops[1]["contents"] = full
	a.submit(ops...)
	all([]*member{a, b}, a.event(3, 0, ops...))
}

func TestCheck054_MalformedOpIsRefused(t *testing.T) {
	a, b := check(t).pair(t)
	good := fields{"type": "op", "clientSequenceNumber": 1, "referenceSequenceNumber": 2, "contents": "x"}
	for _, test := range []struct {
		op     any
		naming string
	}{
		{good.with(fields{"clientSequenceNumber": "1"}), "clientSequenceNumber"},
		{good.with(fields{"clientSequenceNumber": 1.5}), "clientSequenceNumber"},
		{good.with(fields{"clientSequenceNumber": 0}), "clientSequenceNumber"},
		{good.with(fields{"clientSequenceNumber": json.RawMessage("9007199254740992")}), "clientSequenceNumber"},
		{good.with(fields{"clientSequenceNumber": nil}), "clientSequenceNumber"},
		{good.with(fields{"referenceSequenceNumber": -2}), "referenceSequenceNumber"},
		{good.with(fields{"referenceSequenceNumber": nil}), "referenceSequenceNumber"},
		{good.with(fields{"type": 5}), "type"},
		{5, ""}, {"op", ""}, {json.RawMessage("null"), ""},
	} {
		payload := fields{"clientId": a.id, "messageBatches": []any{[]any{test.op}}}
		message := "Malformed operation: " + test.naming
		if test.naming == "" {
			message = startOf + "Malformed operation"
		}
		a.gated(payload, test.op, 400, "malformed", message)
	}
	b.nothing()
	a.made(2)
	a.submit(good)
	all([]*member{a, b}, a.event(3, 0, good))
}

func TestCheck055_EmptySubmissionIsNothing(t *testing.T) {
	a, b := check(t).pair(t)
	a.push("submitOp", fields{"clientId": a.id, "messageBatches": []any{[]any{}}})
	a.push("submitOp", fields{"clientId": a.id, "messageBatches": []any{}})
	a.ask("5", "submitOp", fields{"clientId": a.id, "messageBatches": []any{[]any{}, []any{}}})
	a.only(reply("5", `{"sequenceNumber":2}`))
	b.nothing()
}

func TestCheck056_BatchesAreFlattened(t *testing.T) {
	a, b := check(t).pair(t)
	ops := a.many(6, 2)
	for i, batches := range []any{
		[]fields{ops[0], ops[1]}, [][]fields{{ops[2]}, {ops[3]}}, []any{ops[4], []fields{ops[5]}},
	} {
		a.push("submitOp", fields{"clientId": a.id, "messageBatches": batches})
		all([]*member{a, b}, a.event(int64(3+2*i), 0, ops[2*i:2*i+2]...))
	}
}

func TestCheck057_NackHasBothShapes(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	unconnected := s.joined(t, "acme", "doc1")
	unconnected.push("submitOp", a.submission())
	a.push("submitOp", fields{})
	a.submit(fields{"clientSequenceNumber": 7, "referenceSequenceNumber": 1})
	a.submit(fields{"clientSequenceNumber": 1, "referenceSequenceNumber": 99})
	a.submit(fields{"clientSequenceNumber": 1, "referenceSequenceNumber": 1, "type": "join"})
	a.submit(fields{"clientSequenceNumber": "x"})
	for i, from := range []*member{unconnected, a, a, a, a, a} {
		got := strings.TrimPrefix(from.next(), "nack ")
		var payload struct {
			ClientID  *string
			Content   json.RawMessage
			Operation json.RawMessage
			Nacks     []struct{ Content, Operation json.RawMessage }
		}
		if err := json.Unmarshal([]byte(got), &payload); err != nil || len(payload.Nacks) != 1 || payload.ClientID == nil {
			t.Fatalf("nack %d: got %s (%v)", i, got, err)
		}
		one := payload.Nacks[0]
		if payload.Content == nil || string(one.Content) != string(payload.Content) || string(one.Operation) != string(payload.Operation) {
			t.Errorf("nack %d: got %s, want the same content twice", i, got)
		}
	}
}
