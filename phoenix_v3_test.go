package realtime

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// packedMessage is a message as a client of V3 sends it, from that of V2.
func packedMessage(t testing.TB, text string) []byte {
	t.Helper()
	packed, ok := appendPacked(nil, []byte(text))
	if !ok {
		t.Fatalf("%s cannot be packed", text)
	}
	return packed
}

func TestPhoenixV3DecodesWhatV2Does(t *testing.T) {
	for _, text := range []string{
		`["3","3","document:acme:doc1","phx_join",{"token":"x"}]`, `[null,"9","phoenix","heartbeat",{}]`, `["3","22","room:1","phx_leave",{}]`, `[null,null,"t","e",[1,2]]`,
		`[null,null,"t","e",null]`, `[7,-1.5,"t","e",1]`, `["\"\\","é","a\"b","e","x\ny"]`, `[null,null,"t","e",{"a":1,"a":[{}],"b":-0.5}]`,
		`["1","2","` + strings.Repeat("t", 255) + `","` + strings.Repeat("e", 128) + `",{}]`,
		`["1","2","t","e",` + nested("[", "", "]", 62) + `]`,
	} {
		want, err := phoenixV2{}.decode([]byte(text), false)
		if err != nil {
			t.Fatal(err)
		}
		payload := packedMessage(t, text)
		got, err := phoenixV3{}.decode(payload, true)
		if err != nil {
			t.Errorf("%.120s: %v", text, err)
			continue
		}
		clear(payload)
		wantInbound(t, text, got, want)
		if cap(got.data) != len(got.data) {
			t.Errorf("%.120s: an append to the data would write behind it", text)
		}
	}
}

func TestPhoenixV3Decodes(t *testing.T) { // document.md section 13
	in := inbound{topic: "t", event: "e", joinRef: "null", ref: `"1"`}
	for frame, want := range map[string]inbound{
		// Elements behind the payload are ignored, in arrays of all widths.
		"96 c0 a131 a174 a165 80 c3":          {data: rawJSON(`{}`)},
		"dc0007 c0 a131 a174 a165 90 80 01":   {data: rawJSON(`[]`)},
		"dd00000005 c0 d90131 a174 a165 80":   {data: rawJSON(`{}`)},
		"95 d40000 a131 a174 a165 d40000":     {data: rawJSON(`null`)},
		"95 c0 a131 a174 a165 81 a16d d40000": {data: rawJSON(`{}`)},
		// Bytes.
		"95 c0 a131 a174 a165 c4020102":         {data: rawJSON(`null`), binary: []byte{1, 2}},
		"96 c0 a131 a174 a165 c40109 c40107":    {data: rawJSON(`null`), binary: []byte{9}},
		"95 c0 a131 a174 a165 c400":             {data: rawJSON(`null`), binary: []byte{}},
		"95 c0 a131 a174 a165 81 a161 c4020102": {data: rawJSON(`{"a":"\u0041QI="}`)},
	} {
		want.topic, want.event, want.joinRef, want.ref = in.topic, in.event, in.joinRef, in.ref
		got, err := phoenixV3{}.decode(hexBytes(t, frame), true)
		if err != nil {
			t.Errorf("%s: %v", frame, err)
			continue
		}
		wantInbound(t, frame, got, want)
	}
}

func TestPhoenixV3RefusesGarbageFatally(t *testing.T) { // document.md section 13, check 123
	good := `["3","3","document:acme:doc1","phx_join",{"token":"x"}]`
	wantInvalidMessage(t, phoenixV3{}, good, false)
	wantInvalidMessage(t, phoenixV3{}, string(packedMessage(t, good)), false)
	wantInvalidMessage(t, phoenixV3{}, good, true)
	for _, frame := range []string{
		"", "80", "01", "a131", "c0", "90", "94 c0c0 a174 a165", "dc0004 c0c0 a174 a165", "95 c0c0 a174 a165", "95 c0c0 a174 a165 81", "95 c0c0 a174 a165 80 80", "96 c0c0 a174 a165 80",
		"96 c0c0 a174 a165 80 c1", "95 c0c0 a174 a165 d6ff00000000", "95 c0c0 a174 a165 810102", "95 c0c0 a174 a165 a1ff", "95 c0c0 a174 a165 cb7ff8000000000000", "95 c0c0 a174 a165 c40201",
		"85 c0c0 a174a1 a165c0 80c0 c0c0", "ddffffffff c0c0 a174 a165 80", "95 c0c0 c40174 a165 80", "95 c40131 c0 a174 a1ff 80",
		"95 c0c0 a174 a165" + strings.Repeat("91", 63) + "90",
	} {
		wantInvalidMessage(t, phoenixV3{}, string(hexBytes(t, frame)), true)
	}
	for _, f := range phoenixBadFields {
		text := `[` + strings.Join(f[:], ",") + `]`
		if !strings.Contains(text, `\u`) && !strings.Contains(text, "777") { // lone surrogates and long numbers cannot be packed
			wantInvalidMessage(t, phoenixV3{}, string(packedMessage(t, text)), true)
		}
	}
}

func TestPhoenixV3AnswersBadNames(t *testing.T) {
	for _, n := range phoenixBadNames {
		text, _ := json.Marshal([]any{4, "9", n.topic, n.event, map[string]any{}})
		packed := packedMessage(t, string(text))
		in, err := phoenixV3{}.decode(packed, true)
		wantPhoenix(t, phoenixV3{}, packed, in, err)
		if err == nil || err.Code != badNameCode(n.topic) || in.topic != n.topic || in.event != n.event || in.ref != `"9"` || in.joinRef != "4" {
			t.Errorf("%s: got %s, %v", text, showInbound(in), err)
		}
	}
}

func TestPhoenixV3SaysWhatV2Says(t *testing.T) {
	said := 0
	for _, o := range phoenixOutbounds {
		got, op := phoenixV3{}.encode([]byte("before"), &o.m)
		switch {
		case o.m.binary:
			continue
		case o.v2 == "":
			if op != frameNone || string(got) != "before" {
				t.Errorf("%s: got %q, frame %d, want nothing", o.name, got, op)
			}
			continue
		case op != frameBinary || string(got[:6]) != "before":
			t.Errorf("%s: got %q, frame %d", o.name, got, op)
			continue
		}
		said++
		text, fault := unpack(got[6:])
		if fault != "" || !sameTokens(t, text, []byte(o.v2)) {
			t.Errorf("%s: got %s, %q, want %s", o.name, text, fault, o.v2)
		}
	}
	if said < 30 {
		t.Errorf("only %d messages were compared", said)
	}
}

func TestPhoenixV3SendsBytesAsBytes(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{`"CQ=="`, "c40109"}, {`"AQIDBA=="`, "c40401020304"}, {`"+/8="`, "c402fbff"}, {`""`, "c400"}, {`null`, "c400"}, {``, "c400"}, {`"A"`, ""}, {`"A==="`, ""}, {`{}`, ""}, {`"AQI`, ""},
	} {
		for prefix, m := range map[string]outbound{
			"95 a133 c0 a174 a165": {kind: kindEvent, event: "e", joinRef: `"3"`},
			"95 c0 c0 a174 a165":   {kind: kindEvent, event: "e"},
			"95 a133 07 a174 a9 7068785f7265706c79 82 a6737461747573 a26f6b a8726573706f6e7365":       {kind: kindReply, joinRef: `"3"`, ref: "7"},
			"95 a133 c0 a174 a9 7068785f7265706c79 82 a6737461747573 a56c61746572 a8726573706f6e7365": {kind: kindReply, joinRef: `"3"`, ref: "null", status: "later"},
			"95 a133 a134 a174 a9 7068785f7265706c79 82 a6737461747573 a26f6b a8726573706f6e7365":     {kind: kindJoined, joinRef: `"3"`, ref: `"4"`},
		} {
			m.topic, m.data, m.binary = "t", rawJSON(c.data), true
			want, wantOp := string(hexBytes(t, prefix+c.want)), frameBinary
			if c.want == "" {
				want, wantOp = "", frameNone
			}
			if got, op := (phoenixV3{}).encode(nil, &m); string(got) != want || op != wantOp {
				t.Errorf("%s: got % x, frame %d, want % x", c.data, got, op, want)
			}
		}
	}
}

func TestPhoenixV3NeverSendsHalfAMessage(t *testing.T) {
	for _, data := range []string{`{"a":`, `[1,]`, `{"a":1}}`, `nul`, `"`} {
		for _, kind := range []kind{kindEvent, kindReply, kindJoined} {
			m := outbound{kind: kind, topic: "t", event: "e", ref: `"1"`, data: rawJSON(data)}
			got, op := phoenixV3{}.encode([]byte("before"), &m)
			if data[0] != 'n' && (op != frameNone || string(got) != "before") { // what starts as null is null
				t.Errorf("%s: got %q, frame %d", data, got, op)
			}
		}
	}
}

func TestDecodingPhoenixV3AllocatesItsStringsAndItsJSON(t *testing.T) {
	for _, c := range []struct {
		text string
		most float64
	}{
		{`["3","17","session:123","send_message",{"message":"hello"}]`, 5},
		{`["3","17","document:acme:doc1","submitOp",` + benchmarkOp + `]`, 5},
		{`[null,"17","phoenix","heartbeat",{}]`, 4},
	} {
		payload := packedMessage(t, c.text)
		if got := testing.AllocsPerRun(100, func() {
			if _, err := (phoenixV3{}).decode(payload, true); err != nil {
				t.Fatal(err)
			}
		}); got > c.most {
			t.Errorf("%q: got %v allocations, want at most %v", c.text, got, c.most)
		}
	}
}

func TestEncodingPhoenixV3DoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for _, o := range phoenixOutbounds {
		switch {
		case o.m.err != nil && o.m.err.Data != nil: // it is marshalled
		case !utf8.ValidString(o.m.event): // it is mended
		case strings.Contains(o.m.ref, `\`), strings.Contains(string(o.m.data), `"A"`):
		default:
			if got := testing.AllocsPerRun(100, func() { phoenixV3{}.encode(dst, &o.m) }); got > 0 {
				t.Errorf("%s: got %v allocations, want none", o.name, got)
			}
		}
	}
}

// FuzzMsgpackDecode: what is no message is refused; of a message the answer has the
// refs that came, and its data goes out as it came in.
func FuzzMsgpackDecode(f *testing.F) {
	for _, text := range []string{
		`["3","3","room:1","phx_join",{"user":"alice"}]`, `[null,"9","phoenix","heartbeat",{}]`, `["1","5","document:acme:doc1","submitOp",` + benchmarkOp + `]`,
		`[7,-1.5,"t","e",[null,"\u0041QI=",4294967296,true]]`, `[4,"9","","\u0001",{},1,[2]]`,
	} {
		f.Add(packedMessage(f, text))
	}
	f.Add([]byte("\x95\xc0\xd4\x00\x00\xa1t\xa1e\x82\xa1a\xd4\x00\x00\xa1b\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\xdc\x00\x05\xc0\xc0\xa1t\xa1e\xc4\x02\x01\x02"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		in, err := phoenixV3{}.decode(payload, true)
		wantPhoenix(t, phoenixV3{}, payload, in, err)
		if err != nil || in.binary != nil {
			return
		}
		m := outbound{kind: kindReply, topic: in.topic, ref: in.ref, joinRef: in.joinRef, data: in.data}
		packed, op := phoenixV3{}.encode(nil, &m)
		if op != frameBinary {
			t.Fatalf("% x: %s cannot be sent", payload, in.data)
		}
		got, fault := unpack(packed)
		want, _ := phoenixV2{}.encode(nil, &m)
		if levels(want) < maxNesting && (fault != "" || !sameTokens(t, got, want)) {
			t.Fatalf("% x: got %s, %q, want %s", payload, got, fault, want)
		}
	})
}

func BenchmarkPhoenixV3Decode(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"128B", `["3","7","session:123","send_message",{"message":"` + strings.Repeat("m", 77) + `"}]`},
		{"1KB", `["3","7","session:123","send_message",{"messages":[` + strings.Repeat(`{"id":12345,"text":"hello"},`, 32) + `{}]}]`},
		{"op", fmt.Sprintf(`["3","7","document:acme:doc1","submitOp",%s]`, benchmarkOp)},
		{"heartbeat", `[null,"7","phoenix","heartbeat",{}]`},
	} {
		b.Run(c.name, func(b *testing.B) {
			payload := packedMessage(b, c.text)
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (phoenixV3{}).decode(payload, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPhoenixV3Encode(b *testing.B) { benchmarkEncode(b, phoenixV3{}) }
