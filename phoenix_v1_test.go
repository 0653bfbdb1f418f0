package realtime

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPhoenixV1Decodes(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    inbound
	}{
		{`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}`, inbound{op: opJoin, topic: "room:1", event: "phx_join", ref: `"1"`, joinRef: "null", data: rawJSON(`{}`)}},
		{`{"topic":"realtime:x","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}`, inbound{op: opJoin, topic: "realtime:x", event: "phx_join", ref: `"1"`, joinRef: `"1"`, data: rawJSON(`{}`)}},
		{`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"5"}`, inbound{op: opPing, topic: "phoenix", event: "heartbeat", ref: `"5"`, joinRef: "null", data: rawJSON(`{}`)}},
		{` { "ref" : null , "payload" : [ 1 ] , "join_ref":7, "event":"\u0065", "topic" : "t", "more":[[]] } `, inbound{topic: "t", event: "e", ref: "null", joinRef: "7", data: rawJSON(`[ 1 ]`)}},
		{`{"topic":"t","event":"phx_leave","payload":null,"ref":7,"join_ref":null}`, inbound{op: opLeave, topic: "t", event: "phx_leave", ref: "7", joinRef: "null", data: rawJSON(`null`)}},
		// Of duplicate keys the last one counts, also when the first is bad.
		{`{"topic":1,"event":"x","payload":1,"ref":{},"topic":"t","event":"e","payload":2,"ref":"1"}`, inbound{topic: "t", event: "e", ref: `"1"`, joinRef: "null", data: rawJSON(`2`)}},
	} {
		for _, binary := range []bool{false, true} { // a frame of bytes is read as text
			got, err := phoenixV1{}.decode([]byte(c.payload), binary)
			if err != nil {
				t.Errorf("%.120q: %v", c.payload, err)
				continue
			}
			wantInbound(t, c.payload, got, c.want)
		}
	}
}

func TestPhoenixV1RefusesGarbageFatally(t *testing.T) {
	for _, payload := range append([]string{`[null,null,"t","e",{}]`, "\x00\x00\x00\x01\x01te"}, phoenixGarbage...) {
		wantInvalidMessage(t, phoenixV1{}, payload, false)
		wantInvalidMessage(t, phoenixV1{}, payload, true)
	}
	for _, f := range phoenixBadFields {
		wantInvalidMessage(t, phoenixV1{}, fmt.Sprintf(`{"join_ref":%s,"ref":%s,"topic":%s,"event":%s,"payload":%s}`, f[0], f[1], f[2], f[3], f[4]), false)
	}
}

func TestPhoenixV1TellsTextThatIsNotUTF8(t *testing.T) {
	payload := "{\"topic\":\"\xff\",\"event\":\"e\",\"payload\":{},\"ref\":\"1\"}"
	wantInvalidUTF8(t, phoenixV1{}, payload)
	wantInvalidMessage(t, phoenixV1{}, payload, true) // no text, so no 1007
}

func wantInvalidUTF8(t *testing.T, c codec, payload string) {
	t.Helper()
	in, err := c.decode([]byte(payload), false)
	wantPhoenix(t, c, []byte(payload), in, err)
	if err == nil || err.Code != "invalid_utf8" {
		t.Errorf("%s: %.100q: got %v, want invalid_utf8", c.protocol(), payload, err)
	}
}

func TestPhoenixV1AnswersBadNames(t *testing.T) {
	for _, n := range phoenixBadNames {
		payload, _ := json.Marshal(map[string]any{"topic": n.topic, "event": n.event, "payload": nil, "ref": "9", "join_ref": 4})
		wantBadName(t, phoenixV1{}, payload, n.topic, n.event)
	}
}

// wantBadName checks that a message with ref "9" and join_ref 4 is refused so that
// it can be answered.
func wantBadName(t *testing.T, c codec, payload []byte, topic, event string) {
	t.Helper()
	in, err := c.decode(payload, false)
	if err == nil || err.Code != badNameCode(topic) || err.Retry != RetryNever || err.Text == "" {
		t.Errorf("%s: %.100q: got %+v, want %s", c.protocol(), payload, err, badNameCode(topic))
		return
	}
	if in.topic != topic || in.event != event || in.ref != `"9"` || in.joinRef != "4" || in.op != phoenixOp(topic, event) {
		t.Errorf("%s: %.100q: got %s beside the error, which cannot be answered so", c.protocol(), payload, showInbound(in))
	}
}

func TestPhoenixAcceptsNestingUpTo64(t *testing.T) {
	data := nested("[", "", "]", 63)
	for c, payload := range map[codec]string{
		phoenixV1{}: `{"topic":"t","event":"e","payload":` + data + `,"ref":null}`,
		phoenixV2{}: `[null,null,"t","e",` + data + `,` + data + `]`,
	} {
		got, err := c.decode([]byte(payload), false)
		if err != nil || string(got.data) != data {
			t.Errorf("%s: got %s, %v", c.protocol(), got.data, err)
		}
	}
}

func FuzzPhoenixV1Decode(f *testing.F) {
	for _, payload := range phoenixGarbage {
		if len(payload) < 1000 {
			f.Add([]byte(payload), false)
		}
	}
	for _, n := range phoenixBadFields {
		f.Add(fmt.Appendf(nil, `{"join_ref":%s,"ref":%s,"topic":%s,"event":%s,"payload":%s}`, n[0], n[1], n[2], n[3], n[4]), false)
	}
	f.Add([]byte(`{"topic":"realtime:x","event":"phx_join","payload":{"a":[1,{}]},"ref":"1","join_ref":"\u0031\ud83d\ude00"}`), true)
	f.Add([]byte(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":-1e5,"topic":"phoenix"}`), false)
	f.Fuzz(func(t *testing.T, payload []byte, binary bool) {
		in, err := phoenixV1{}.decode(payload, binary)
		wantPhoenix(t, phoenixV1{}, payload, in, err)
		if !utf8.Valid(payload) {
			if want := map[bool]string{false: "invalid_utf8", true: "invalid_message"}[binary]; err == nil || err.Code != want {
				t.Fatalf("%q: got %v, want %s", payload, err, want)
			}
			return
		}
		var fields map[string]json.RawMessage // a struct would fold the case of keys
		if json.Unmarshal(payload, &fields) != nil || fields == nil || levels(payload) > maxNesting {
			if err == nil || err.Code != "invalid_message" {
				t.Fatalf("%q: got %v, want invalid_message", payload, err)
			}
			return
		}
		wantFields(t, payload, in, err, fields["join_ref"], fields["ref"], fields["topic"], fields["event"], fields["payload"])
	})
}

func BenchmarkPhoenixV1Decode(b *testing.B) {
	benchmarkDecode(b, phoenixV1{}, `{"topic":"session:123","event":"send_message","payload":{"message":"`+strings.Repeat("m", 50)+`"},"ref":"7","join_ref":"3"}`)
}
