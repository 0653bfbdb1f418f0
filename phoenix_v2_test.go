package realtime

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPhoenixV2Decodes(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    inbound
	}{
		// Section 2.1.
		{`["3","3","room:1","phx_join",{"user":"alice"}]`, inbound{op: opJoin, topic: "room:1", event: "phx_join", ref: `"3"`, joinRef: `"3"`, data: rawJSON(`{"user":"alice"}`)}},
		{`["3","8","room:1","new_msg",{"body":"hi"}]`, inbound{topic: "room:1", event: "new_msg", ref: `"8"`, joinRef: `"3"`, data: rawJSON(`{"body":"hi"}`)}},
		{`[null,"9","phoenix","heartbeat",{}]`, inbound{op: opPing, topic: "phoenix", event: "heartbeat", ref: `"9"`, joinRef: "null", data: rawJSON(`{}`)}},
		{`["3","22","room:1","phx_leave",{}]`, inbound{op: opLeave, topic: "room:1", event: "phx_leave", ref: `"22"`, joinRef: `"3"`, data: rawJSON(`{}`)}},
		// Extra elements, white space, payloads of any kind.
		{" [ null , null,\n\"t\" , \"e\" ,[ 1 , 2 ] , {} , 7 ] ", inbound{topic: "t", event: "e", ref: "null", joinRef: "null", data: rawJSON(`[ 1 , 2 ]`)}},
		{`[null,null,"t","e",null]`, inbound{topic: "t", event: "e", ref: "null", joinRef: "null", data: rawJSON(`null`)}},
		{`[null,null,"t","e","\ud800"]`, inbound{topic: "t", event: "e", ref: "null", joinRef: "null", data: rawJSON(`"\ud800"`)}},
		// Refs stay what they are, and equal ones are equal.
		{`[7,-1.50e3,"t","e",{}]`, inbound{topic: "t", event: "e", ref: "-1.50e3", joinRef: "7", data: rawJSON(`{}`)}},
		{`["\u0037","",  "t","e",{}]`, inbound{topic: "t", event: "e", ref: `""`, joinRef: `"7"`, data: rawJSON(`{}`)}},
		{`["\/\"\u0000","\ud83d\ude00é","t","e",{}]`, inbound{topic: "t", event: "e", ref: `"😀é"`, joinRef: `"/\"\u0000"`, data: rawJSON(`{}`)}},
		{`["` + strings.Repeat("é", 127) + `r","` + strings.Repeat(`\u0072`, 255) + `","t","e",{}]`,
			inbound{topic: "t", event: "e", ref: `"` + strings.Repeat("r", 255) + `"`, joinRef: `"` + strings.Repeat("é", 127) + `r"`, data: rawJSON(`{}`)}},
		// Only phx_join, phx_leave and the heartbeat on its topic mean something.
		{`[null,"1","a","heartbeat",{}]`, inbound{topic: "a", event: "heartbeat", ref: `"1"`, joinRef: "null", data: rawJSON(`{}`)}},
		{`[null,"1","phoenix","Heartbeat",{}]`, inbound{topic: "phoenix", event: "Heartbeat", ref: `"1"`, joinRef: "null", data: rawJSON(`{}`)}},
		{`[null,"1","phoenix","phx_join",{}]`, inbound{op: opJoin, topic: "phoenix", event: "phx_join", ref: `"1"`, joinRef: "null", data: rawJSON(`{}`)}},
		{`[null,"1","a","phx_reply",{}]`, inbound{topic: "a", event: "phx_reply", ref: `"1"`, joinRef: "null", data: rawJSON(`{}`)}},
		{`[null,"1","\u0061","\u0070hx_close",{}]`, inbound{topic: "a", event: "phx_close", ref: `"1"`, joinRef: "null", data: rawJSON(`{}`)}},
		{`[null,"1","` + strings.Repeat("t", 255) + `","` + strings.Repeat("e", 128) + `",{}]`,
			inbound{topic: strings.Repeat("t", 255), event: strings.Repeat("e", 128), ref: `"1"`, joinRef: "null", data: rawJSON(`{}`)}},
	} {
		for _, codec := range []codec{phoenixV2{}, supabaseV2{}} {
			got, err := codec.decode([]byte(c.payload), false)
			if err != nil {
				t.Errorf("%.120q: %v", c.payload, err)
				continue
			}
			wantInbound(t, c.payload, got, c.want)
		}
	}
}

func TestPhoenixV2RefusesGarbageFatally(t *testing.T) {
	for _, c := range []codec{phoenixV2{}, supabaseV2{}} {
		for _, payload := range append([]string{`{"topic":"t","event":"e","payload":{},"ref":"1"}`}, phoenixGarbage...) {
			wantInvalidMessage(t, c, payload, false)
		}
		for _, f := range phoenixBadFields {
			wantInvalidMessage(t, c, `[`+strings.Join(f[:], ",")+`]`, false)
		}
		for _, payload := range []string{"[null,null,\"t\",\"e\",\"\xff\"]", "\xff", "[null,null,\"\xed\xa0\x80\",\"e\",{}]", "[\"\xc0\xaf\""} {
			wantInvalidUTF8(t, c, payload)
		}
	}
}

func TestPhoenixV2AnswersBadNames(t *testing.T) {
	for _, n := range phoenixBadNames {
		payload, _ := json.Marshal([]any{4, "9", n.topic, n.event, map[string]any{}})
		wantBadName(t, phoenixV2{}, payload, n.topic, n.event)
	}
}

func TestPhoenixV2CopiesStringsAndAliasesData(t *testing.T) {
	payload := []byte(`["abc","ghi","top","eve",[1],0]`)
	got, err := phoenixV2{}.decode(payload, false)
	if err != nil {
		t.Fatal(err)
	}
	if cap(got.data) != len(got.data) {
		t.Error("an append to the data would write over the payload")
	}
	if at := strings.Index(string(payload), "[1]"); &got.data[0] != &payload[at] {
		t.Error("the data is a copy")
	}
	clear(payload)
	if got.topic != "top" || got.event != "eve" || got.ref != `"ghi"` || got.joinRef != `"abc"` {
		t.Errorf("got %s after the payload changed", showInbound(got))
	}
}

func TestDecodingPhoenixV2AllocatesItsStringsAlone(t *testing.T) {
	for _, c := range []struct {
		payload string
		binary  bool
		most    float64
	}{
		{`["3","17","session:123","send_message",{"message":"hello"}]`, false, 4},
		{`[null,"17","phoenix","heartbeat",{}]`, false, 3},
		{"\x00\x01\x02\x06\x03" + "311room:1bin\x01\x02", true, 5}, // and the data "null"
	} {
		payload := []byte(c.payload)
		if got := testing.AllocsPerRun(100, func() {
			if _, err := (phoenixV2{}).decode(payload, c.binary); err != nil {
				t.Fatal(err)
			}
		}); got > c.most {
			t.Errorf("%q: got %v allocations, want at most %v", c.payload, got, c.most)
		}
	}
}

func FuzzPhoenixV2Decode(f *testing.F) {
	for _, payload := range phoenixGarbage {
		if len(payload) < 1000 {
			f.Add([]byte(payload))
		}
	}
	for _, n := range phoenixBadFields {
		f.Add([]byte(`[` + strings.Join(n[:], ",") + `]`))
	}
	for _, n := range phoenixBadNames {
		f.Add(fmt.Appendf(nil, `[4,"9",%q,%q,{}]`, n.topic, n.event))
	}
	f.Add([]byte(`["3","3","room:1","phx_join",{"user":"alice"}]`))
	f.Add([]byte(` [ -1e5 , "\u0031\ud83d\ude00\n" , "phoenix" , "heartbeat" , [ {} ] , 7 ] `))
	f.Fuzz(func(t *testing.T, payload []byte) {
		in, err := phoenixV2{}.decode(payload, false)
		wantPhoenix(t, phoenixV2{}, payload, in, err)
		if !utf8.Valid(payload) {
			if err == nil || err.Code != "invalid_utf8" {
				t.Fatalf("%q: got %v, want invalid_utf8", payload, err)
			}
			return
		}
		var fields []json.RawMessage
		if json.Unmarshal(payload, &fields) != nil || len(fields) < 5 || levels(payload) > maxNesting {
			if err == nil || err.Code != "invalid_message" {
				t.Fatalf("%q: got %v, want invalid_message", payload, err)
			}
			return
		}
		wantFields(t, payload, in, err, fields[0], fields[1], fields[2], fields[3], fields[4])
	})
}

func BenchmarkPhoenixV2Decode(b *testing.B) {
	for _, c := range []struct{ name, payload string }{
		{"128B", `["3","7","session:123","send_message",{"message":"` + strings.Repeat("m", 77) + `"}]`},
		{"1KB", `["3","7","session:123","send_message",{"messages":[` + strings.Repeat(`{"id":12345,"text":"hello"},`, 32) + `{}]}]`},
		{"heartbeat", `[null,"7","phoenix","heartbeat",{}]`},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkDecode(b, phoenixV2{}, c.payload) })
	}
}

func BenchmarkPhoenixV2Encode(b *testing.B) { benchmarkEncode(b, phoenixV2{}) }
