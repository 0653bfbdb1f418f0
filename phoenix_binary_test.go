package realtime

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// hexBytes is a frame as phoenix.md writes it.
func hexBytes(t *testing.T, text string) []byte {
	t.Helper()
	frame, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestFramesOfBytesAreDecoded(t *testing.T) {
	null := rawJSON("null")
	for _, c := range []struct {
		frame string
		want  inbound
	}{
		// Section 2.3.
		{"00 01 02 06 03  33  31 31  72 6f 6f 6d 3a 31  62 69 6e  01 02",
			inbound{topic: "room:1", event: "bin", joinRef: `"3"`, ref: `"11"`, data: null, binary: []byte{1, 2}}},
		{"00 01 02 06 03  33  31 31  72 6f 6f 6d 3a 31  62 69 6e",
			inbound{topic: "room:1", event: "bin", joinRef: `"3"`, ref: `"11"`, data: null, binary: []byte{}}},
		{"00 00 00 01 01 74 65 00", inbound{topic: "t", event: "e", joinRef: "null", ref: "null", data: null, binary: []byte{0}}},
		{"00 01 01 01 01 22 0a 74 65", inbound{topic: "t", event: "e", joinRef: `"\""`, ref: `"\n"`, data: null, binary: []byte{}}},
		{"00 00 00 01 08 74 70 68 78 5f 6a 6f 69 6e 7b 7d", inbound{op: opJoin, topic: "t", event: "phx_join", joinRef: "null", ref: "null", data: null, binary: []byte("{}")}},
		{"00 00 01 07 09 39 70 68 6f 65 6e 69 78 68 65 61 72 74 62 65 61 74",
			inbound{op: opPing, topic: "phoenix", event: "heartbeat", joinRef: "null", ref: `"9"`, data: null, binary: []byte{}}},
		// Section 8.3.
		{"03 01 01 0e 06 00 01  36  39  7265616c74696d653a6c6f626279  637572736f72  7b2278223a317d",
			inbound{topic: "realtime:lobby", event: "broadcast", joinRef: `"6"`, ref: `"9"`, data: rawJSON(`{"type":"broadcast","event":"cursor","payload":{"x":1}}`)}},
		{"03 00 00 01 02 0d 01  74  65 22  7b2270657273697374223a317d  6e756c6c",
			inbound{topic: "t", event: "broadcast", joinRef: "null", ref: "null", data: rawJSON(`{"type":"broadcast","event":"e\"","payload":null,"meta":{"persist":1}}`)}},
		{"03 01 01 01 01 00 00  36  39  74  65  00 ff",
			inbound{topic: "t", event: "broadcast", joinRef: `"6"`, ref: `"9"`, data: rawJSON(`{"type":"broadcast","event":"e"}`), binary: []byte{0, 255}}},
		{"03 00 00 01 00 02 00  74  7b7d",
			inbound{topic: "t", event: "broadcast", joinRef: "null", ref: "null", data: rawJSON(`{"type":"broadcast","event":"","meta":{}}`), binary: []byte{}}},
	} {
		for _, codec := range []codec{phoenixV2{}, supabaseV2{}} {
			frame := append(hexBytes(t, c.frame), "behind"...)
			frame = frame[:len(frame)-len("behind")]
			got, err := codec.decode(frame, true)
			if err != nil {
				t.Errorf("%s: %v", c.frame, err)
				continue
			}
			wantInbound(t, c.frame, got, c.want)
			if cap(got.binary) != len(got.binary) {
				t.Errorf("%s: an append to the bytes would write behind the frame", c.frame)
			}
			clear(frame[:len(frame)-len(got.binary)])
			if got.topic != c.want.topic || got.event != c.want.event || got.ref != c.want.ref || got.joinRef != c.want.joinRef {
				t.Errorf("%s: got %s after the frame changed", c.frame, showInbound(got))
			}
		}
	}
}

func TestFramesOfBytesAreRefusedFatally(t *testing.T) {
	for _, frame := range []string{
		"", "ff 00", "00", "00 01 02 06", "00 00 00 00 01", "00 01 02 06 03 33", "00 01 02 06 03  33  31 31  72 6f 6f 6d 3a 31  62 69", "00 ff ff ff ff",
		"01 01 02 06 02  33  31 31  72 6f 6f 6d 3a 31  6f 6b  01", "02 01 01 74 65", "04 01 01 00 01 74 65 7b7d", "05 00 00 00 00", "7b 7d",
		"03", "03 00 00 01 01 00", "03 00 00 01 01 00 01", "03 00 00 01 01 00 01 74", "03 00 00 01 01 09 01 74 65 7b7d",
		"03 00 00 01 01 00 01  74 65", "03 00 00 01 01 00 01  74 65  7b", "03 00 00 01 01 00 01  74 65  7b7d7d", "03 00 00 01 01 00 01  74 65  22ff22",
		"03 00 00 01 01 00 02  74 65  7b7d", "03 00 00 01 01 00 ff  74 65  7b7d",
		"03 00 00 01 01 02 01  74 65  5b5d  7b7d", "03 00 00 01 01 02 00  74 65  7b7b  7b7d", "03 00 00 01 01 04 00  74 65  6e756c6c",
		"03 00 00 01 01 00 01  74 65  " + nested("5b", "", "5d", 63),
	} {
		for _, c := range []codec{phoenixV2{}, supabaseV2{}} {
			wantInvalidMessage(t, c, string(hexBytes(t, frame)), true)
		}
	}
}

// Old clients cut names that are not ASCII to bytes of nonsense (section 2.3).
func TestMangledNamesInFramesOfBytesAreAnswered(t *testing.T) {
	for _, c := range []struct{ frame, topic, event string }{
		{"00 00 01 01 01 39 e9 65 00", "\xe9", "e"},
		{"00 00 01 01 02 39 74 65 ff", "t", "e\xff"},
		{"00 00 01 00 01 39 65", "", "e"},
		{"00 00 01 01 00 39 74", "t", ""},
		{"03 00 01 01 01 00 01 39 00 65 31", "\x00", "broadcast"},
	} {
		frame := hexBytes(t, c.frame)
		got, err := phoenixV2{}.decode(frame, true)
		wantPhoenix(t, phoenixV2{}, frame, got, err)
		if err == nil || err.Code != badNameCode(c.topic) || got.topic != c.topic || got.event != c.event || got.ref != `"9"` {
			t.Errorf("%s: got %s, %v", c.frame, showInbound(got), err)
		}
	}
}

func TestUserPayloadsMayBeNestedAsInText(t *testing.T) {
	frame := []byte("\x03\x00\x00\x01\x01\x00\x01te" + nested("[", "", "]", 62))
	in, err := supabaseV2{}.decode(frame, true)
	if err != nil {
		t.Fatal(err)
	}
	text := `[null,null,"t","broadcast",` + string(in.data) + `]`
	if again, err := (supabaseV2{}).decode([]byte(text), false); err != nil || !reflect.DeepEqual(again, in) {
		t.Errorf("as text: got %s, %v, want %s", showInbound(again), err, showInbound(in))
	}
}

func FuzzPhoenixBinaryDecode(f *testing.F) {
	for _, frame := range []string{
		"\x00\x01\x02\x06\x03" + "311room:1bin\x01\x02", "\x00\x00\x00\x00\x00", "\xff\x00", "\x01\x01\x02\x06\x02" + "311room:1ok\x01", "\x00\x00\x01\x01\x01\x39\xe9e\x00",
		"\x00\x00\x01\x07\x09" + "9phoenixheartbeat", "\x03\x01\x01\x0e\x06\x00\x01" + "69realtime:lobbycursor" + `{"x":1}`,
		"\x03\x00\x00\x01\x02\x0d\x01te\"" + `{"persist":1}` + "[null]", "\x03\x01\x01\x01\x01\x00\x00" + "69te\x00\xff",
	} {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		in, err := phoenixV2{}.decode(bytes.Clone(frame), true)
		wantPhoenix(t, phoenixV2{}, frame, in, err)
		want, ok := expectBytes(frame)
		if accepted := err == nil || err.Code == badNameCode(in.topic); accepted != ok {
			t.Fatalf("% x: got accepted %v, want %v (%v)", frame, accepted, ok, err)
		}
		if !ok {
			return
		}
		if in.topic != want.topic || in.event != want.event || !bytes.Equal(in.binary, want.binary) || (in.binary == nil) != (want.binary == nil) {
			t.Fatalf("% x: got %s, want %s", frame, showInbound(in), showInbound(want))
		}
		if !sameText(in.ref, want.ref) || !sameText(in.joinRef, want.joinRef) {
			t.Fatalf("% x: got refs %s and %s, want %s and %s", frame, in.ref, in.joinRef, want.ref, want.joinRef)
		}
		var got, wanted any
		if json.Unmarshal(in.data, &got) == nil && json.Unmarshal(want.data, &wanted) == nil && !reflect.DeepEqual(got, wanted) {
			t.Fatalf("% x: got data %s, want %s", frame, in.data, want.data)
		}
	})
}

// expectBytes decodes a frame in another way than the codec: by one reader that
// goes from the left to the right. Text that is not UTF-8 has become U+FFFD.
func expectBytes(frame []byte) (want inbound, ok bool) {
	at := 0
	take := func(n int) string {
		if at < 0 || len(frame)-at < n {
			at = -1
			return ""
		}
		at += n
		return string(frame[at-n : at])
	}
	kind := take(1)
	n := map[string]int{"\x00": 4, "\x03": 6}[kind]
	sizes := take(n)
	if n == 0 || at < 0 {
		return want, false
	}
	encoding := byte(0)
	if n == 6 {
		encoding, sizes = sizes[5], sizes[:5]
	}
	var fields []string
	for i := range len(sizes) {
		fields = append(fields, take(int(sizes[i])))
	}
	if at < 0 || encoding > 1 {
		return want, false
	}
	ref := func(s string) string {
		if s == "" {
			return "null"
		}
		text, _ := json.Marshal(s)
		return string(text)
	}
	want = inbound{joinRef: ref(fields[0]), ref: ref(fields[1]), topic: fields[2], event: fields[3], data: rawJSON("null"), binary: frame[at:]}
	if n == 4 {
		return want, true
	}
	want.event = "broadcast"
	data := map[string]any{"type": "broadcast", "event": fields[3]}
	if fields[4] != "" {
		meta := rawJSON(fields[4])
		if !json.Valid(meta) || !utf8.Valid(meta) || meta[0] != '{' || levels(meta) > maxNesting-2 {
			return want, false
		}
		data["meta"] = meta
	}
	if encoding == 1 {
		payload := json.RawMessage(frame[at:])
		if !json.Valid(payload) || !utf8.Valid(payload) || levels(payload) > maxNesting-2 {
			return want, false
		}
		data["payload"], want.binary = payload, nil
	}
	want.data, _ = json.Marshal(data)
	return want, true
}

func BenchmarkPhoenixBinaryDecode(b *testing.B) {
	for name, frame := range map[string]string{
		"push":      "\x00\x01\x02\x06\x03" + "311room:1bin" + strings.Repeat("\x01", 100),
		"broadcast": "\x03\x01\x01\x0e\x06\x00\x01" + "69realtime:lobbycursor" + `{"x":1,"y":2}`,
	} {
		b.Run(name, func(b *testing.B) {
			payload := []byte(frame)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (phoenixV2{}).decode(payload, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
