package realtime

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONBecomesMessagePack(t *testing.T) { // document.md section 13
	for text, want := range map[string]string{
		// The smallest integer, but none of 64 bits.
		"0": "00", "127": "7f", "128": "cc80", "255": "ccff", "256": "cd0100", "65535": "cdffff", "65536": "ce00010000", "4294967295": "ceffffffff",
		"-1": "ff", "-32": "e0", "-33": "d0df", "-128": "d080", "-129": "d1ff7f", "-32768": "d18000", "-32769": "d2ffff7fff", "-2147483648": "d280000000",
		"4294967296": "cb41f0000000000000", "-2147483649": "cbc1e0000000200000", "1700000000820": "cb4278bcfe56b34000", "9007199254740993": "cb4340000000000000",
		"18446744073709551616": "cb43f0000000000000", "-0": "cb8000000000000000", "-10": "f6",
		// What is written as a fraction is one.
		"1.0": "cb3ff0000000000000", "0.1": "cb3fb999999999999a", "1e2": "cb4059000000000000", "-1.5E+0": "cbbff8000000000000", "1e999": "cb7ff0000000000000", "1e-999": "cb0000000000000000",
		"0.1000000000000000055511151231257827021181583404541015625": "cb3fb999999999999a",
		" null ": "c0", "true": "c3", "false": "c2",
		`""`: "a0", `"a\"\\\/\b\f\n\r\t\u00e9"`: "ab61225c2f080c0a0d09c3a9", `"\ud83d\ude00"`: "a4f09f9880", `"\ud800"`: "a3efbfbd",
		`"` + strings.Repeat(`\n`, 31) + `"`: "bf" + strings.Repeat("0a", 31), `"` + strings.Repeat(`\n`, 16) + `"`: "b0" + strings.Repeat("0a", 16),
		`"` + strings.Repeat(`\u0061`, 60) + `"`: "d93c" + strings.Repeat("61", 60),
		"[]":                                     "90", "[ ]": "90", "{}": "80", "{ \n}": "80", "[1,[2,[]],{}]": "9301920290" + "80", ` { "a" : [ 1 , 2 ] , "b":{"a":{} } } `: "82a161920102a16281a16180",
		`{"\u0061":1,"a":2}`: "82a16101a16102",
		// Bytes.
		`"\u0043Q=="`: "c40109", `["\u0041QI=",{"\u0041QI=":"\u0041QID"}]`: "92c402010281a44151493dc403010203",
		// Strings that look like them.
		`"AQI="`: "a44151493d", `"\u0041"`: "a141", `"\u0041Q"`: "a24151", `"\u0041QI"`: "a3415149", `"\u0041Q=I"`: "a441513d49", `"\u0041R=="`: "a441523d3d", `"\u0041==="`: "a4413d3d3d",
		`"\u0041QI=AQID"`: "a84151493d41514944", `"\u0041\u0051I="`: "a44151493d", `"\u0041Q-_"`: "a441512d5f", `"\u002B491"`: "a42b343931", `"\u004Aaaa"`: "a44a616161", `"\u006a!aa"`: "a46a216161", `"\u0000aaa"`: "a400616161",
	} {
		want := strings.ReplaceAll(want, " ", "")
		got, ok := appendPacked([]byte("before"), []byte(text))
		if !ok || hex.EncodeToString(got) != hex.EncodeToString([]byte("before"))+want {
			t.Errorf("%s: got %x, %v, want %s", text, got[min(len(got), 6):], ok, want)
		}
	}
}

func TestWhatIsNoJSONIsNotPacked(t *testing.T) {
	for _, text := range []string{"", " ", "x", "1 2", "[", "[1", "[1,", "[1,]", "[1 2]", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a" 1}`, `{1:1}`, "{1}", "[}", "{]", "[1}", `{"a":1]`, "]", "01", "-", `"`, `"\x"`, "nul", "[[]", "{}}", "[]]"} {
		if got, ok := appendPacked(nil, []byte(text)); ok {
			t.Errorf("%q: got %x", text, got)
		}
	}
}

func TestPackedHeadsAreTheSmallest(t *testing.T) {
	for n, heads := range map[int][3]string{ // of arrays, of maps, of strings
		15: {"9f", "8f", "af"}, 16: {"dc0010", "de0010", "b0"}, 31: {"dc001f", "de001f", "bf"}, 32: {"dc0020", "de0020", "d920"}, 255: {"dc00ff", "de00ff", "d9ff"}, 256: {"dc0100", "de0100", "da0100"},
		65535: {"dcffff", "deffff", "daffff"}, 65536: {"dd00010000", "df00010000", "db00010000"}, 70000: {"dd00011170", "df00011170", "db00011170"},
	} {
		for i, text := range []string{
			"[" + strings.Repeat("1,", n-1) + "1]",
			"{" + strings.Repeat(`"":[],`, n-1) + `"":[]}`,
			`"` + strings.Repeat("s", n) + `"`,
		} {
			around := `{"before":[0],"it":` + text + `,"after":[` + text + `]}`
			got, ok := appendPacked(nil, []byte(around))
			head, _ := hex.DecodeString(heads[i])
			if !ok || !bytes.Contains(got, append([]byte("\x83\xa6before\x91\x00\xa2it"), head...)) {
				t.Errorf("%d: got % x…, %v, want the head %s", n, got[:min(len(got), 30)], ok, heads[i])
			}
			if back, fault := unpack(got); string(back) != around || fault != "" {
				t.Errorf("%d: got %.50s back, %q", n, back, fault)
			}
		}
	}
}

func TestPackedBytesSurviveJSON(t *testing.T) {
	b := make([]byte, 0, 1<<17)
	for n := range 70 {
		wantBytesBack(t, b[:n])
		b = append(b, byte(255-37*n))
	}
	for _, n := range []int{255, 256, 65535, 65536, 1 << 17} {
		wantBytesBack(t, b[:n])
	}
}

// wantBytesBack packs b, and wants it to come out again after everything that may
// happen to JSON on its way, and to be base64 for readers of JSON.
func wantBytesBack(t *testing.T, b []byte) {
	t.Helper()
	packed := append(appendSize([]byte{packedArray | 1}, packedBin8, uint64(len(b))), b...)
	text, fault := unpack(packed)
	var read [][]byte
	if err := json.Unmarshal(text, &read); err != nil || fault != "" || !bytes.Equal(read[0], b) || !strings.Contains(string(text), base64.StdEncoding.EncodeToString(b)[min(1, len(b)):]) {
		t.Fatalf("% x: as JSON %s, %q", b, text, fault)
	}
	moved, err := json.Marshal(map[string]json.RawMessage{"contents": text})
	if err != nil {
		t.Fatal(err)
	}
	want := append([]byte("\x81\xa8contents"), packed...)
	if len(b) == 0 {
		want = []byte("\x81\xa8contents\x91\xa0") // nothing is there to bear the mark
	}
	if got, ok := appendPacked(nil, moved); !ok || !bytes.Equal(got, want) {
		t.Fatalf("% .40x: got % .60x, want % .60x", b, got, want)
	}
}

func TestPackingDoesNotAllocate(t *testing.T) {
	text := []byte(benchmarkOp)
	dst := make([]byte, 0, 2*len(text))
	if got := testing.AllocsPerRun(100, func() { appendPacked(dst, text) }); got != 0 {
		t.Errorf("packing: got %v allocations, want none", got)
	}
	deep := []byte(nested(`{"a":[1.5,"\n",`, "-1e-7", "]}", 16))
	if got := testing.AllocsPerRun(100, func() { appendPacked(dst, deep) }); got != 0 {
		t.Errorf("packing 32 levels: got %v allocations, want none", got)
	}
	packed, ok := appendPacked(nil, text)
	if !ok {
		t.Fatal("the text cannot be packed")
	}
	out := make([]byte, 0, 2*len(text))
	if got := testing.AllocsPerRun(100, func() {
		u := unpacker{in: packed, out: out}
		u.value(maxNesting)
	}); got != 0 {
		t.Errorf("unpacking: got %v allocations, want none", got)
	}
}

// FuzzPack: all JSON and nothing else is packed, and says the same afterwards.
func FuzzPack(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.JSON)
	}
	f.Add(`{"a":[1,2.50,"\u0041QI=",{"b":{}}],"a":" \ud800"}`)
	f.Add(`[1e999,-0,[[[]]],""]`)
	f.Add("[" + strings.Repeat("1,", 20) + "1]")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		packed, ok := appendPacked(nil, []byte(text))
		if ok != json.Valid([]byte(text)) {
			t.Fatalf("%q: packed %v", text, ok)
		}
		if !ok || levels([]byte(text)) >= maxNesting {
			return
		}
		back, fault := unpack(packed)
		if fault == "a number that JSON does not have" { // it was too large
			return
		}
		if fault != "" || !sameTokens(t, back, []byte(text)) {
			t.Fatalf("%q: got %s back, %q", text, back, fault)
		}
	})
}

// benchmarkOp is an op event as a Fluid runtime causes it.
var benchmarkOp = fmt.Sprintf(`{"documentId":"doc1","op":[{"clientId":"6f1f0a52-5a54-4a0a-8f0e-2c9a3a2f7c11","sequenceNumber":41,`+
	`"minimumSequenceNumber":30,"clientSequenceNumber":7,"referenceSequenceNumber":39,"type":"op","contents":%q,"metadata":{"batch":true},"timestamp":1700000001234}]}`,
	`{"type":"component","contents":{"address":"root","contents":{"type":"op","content":{"address":"map","contents":{"key":"title","path":"/","type":"set","value":{"type":"Plain","value":"hello"}}}}}}`)

func BenchmarkPack(b *testing.B) {
	text := []byte(benchmarkOp)
	dst := make([]byte, 0, 2*len(text))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		appendPacked(dst, text)
	}
}

func BenchmarkUnpack(b *testing.B) {
	packed, _ := appendPacked(nil, []byte(benchmarkOp))
	out := make([]byte, 0, 2*len(benchmarkOp))
	b.SetBytes(int64(len(packed)))
	b.ReportAllocs()
	for b.Loop() {
		u := unpacker{in: packed, out: out}
		u.value(maxNesting)
	}
}
