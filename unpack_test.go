package realtime

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// unpack returns one MessagePack value as JSON, or what is wrong with it.
func unpack(packed []byte) (text []byte, fault string) {
	u := unpacker{in: packed}
	u.value(maxNesting - 1)
	if u.fault == "" && len(u.in) > 0 {
		u.fault = "more than one value"
	}
	return u.out, u.fault
}

// tokens returns what JSON says, spelling apart: strings decoded, numbers as the
// float64 nearest to them, keys in order and duplicates kept.
func tokens(t *testing.T, text []byte) (all []json.Token) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return all
		}
		if n, ok := token.(json.Number); ok {
			f, _ := strconv.ParseFloat(n.String(), 64)
			token = f
		}
		all = append(all, token)
	}
}

func sameTokens(t *testing.T, a, b []byte) bool {
	t.Helper()
	x, y := tokens(t, a), tokens(t, b)
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			return false
		}
	}
	return true
}

func TestMessagePackBecomesJSON(t *testing.T) {
	for packed, want := range map[string]string{
		"00": "0", "7f": "127", "e0": "-32", "ff": "-1",
		"cc ff": "255", "cd ffff": "65535", "ce ffffffff": "4294967295", "cf ffffffffffffffff": "18446744073709551615",
		"d0 80": "-128", "d1 8000": "-32768", "d2 80000000": "-2147483648", "d3 8000000000000000": "-9223372036854775808", "d3 0000000000000001": "1",
		"cb 3ff0000000000000": "1", "cb 3ff8000000000000": "1.5", "cb c3e0000000000000": "-9223372036854776000",
		"cb 4278bcfe56b34000": "1700000000820", "cb 44b52d02c7e14af6": "1e+23", "cb 8000000000000000": "-0",
		"cb 3e7ad7f29abcaf48": "1e-7", "cb 3eb0c6f7a0b5ed8d": "0.000001", "cb 3cd203af9ee75616": "1e-15", "ca 3dcccccd": "0.10000000149011612", "ca bfc00000": "-1.5",
		"c0": "null", "c2": "false", "c3": "true",
		"a0": `""`, "a1 61": `"a"`, "d9 01 22": `"\""`, "da 0001 0a": `"\n"`, "db 00000001 5c": `"\\"`, "a3 00 1f 7f": `"\u0000\u001f` + "\x7f" + `"`, "a4 f09f9880": `"😀"`,
		"c4 00": `""`, "c4 01 09": `"\u0043Q=="`, "c5 0002 0102": `"\u0041QI="`, "c6 00000003 fbffbf": `"\u002b/+/"`, "c4 01 a9": `"\u0071Q=="`,
		"90": "[]", "93 01 90 80": "[1,[],{}]", "dc 0001 c0": "[null]", "dd 00000002 c2 c3": "[false,true]",
		"80": "{}", "82 a1 61 01 a1 61 91 02": `{"a":1,"a":[2]}`, "de 0001 d9 01 61 c0": `{"a":null}`, "df 00000001 da 0001 61 c0": `{"a":null}`, "81 db 00000000 c0": `{"":null}`,
		// undefined: absent.
		"d4 00 00": "null", "d4 00 07": "null", "93 d4 00 00 01 d4 00 00": "[null,1,null]", "81 a1 61 d4 00 00": "{}",
		"83 a1 61 d4 00 00 a1 62 01 a1 63 d4 00 00": `{"b":1}`, "82 a1 61 81 a1 62 d4 00 00 a1 63 c0": `{"a":{},"c":null}`, "82 a1 61 01 a1 62 d4 00 00": `{"a":1}`,
	} {
		if got, fault := unpack(hexBytes(t, packed)); string(got) != want || fault != "" {
			t.Errorf("%s: got %s, %q, want %s", packed, got, fault, want)
		}
	}
}

func TestMessagePackThatIsNoJSONIsRefused(t *testing.T) {
	for packed, want := range map[string]string{
		"": "cut off", "91": "cut off", "81": "cut off", "81 a1 61": "cut off", "81 01": "cut off", "cc": "cut off", "cb 00": "cut off", "a2 61": "cut off", "c4 02 00": "cut off",
		"db ffffffff 61": "cut off", "c6 ffffffff": "cut off", "dd ffffffff 00": "cut off", "df ffffffff a0 00": "cut off", "dc 0002 00": "cut off", "d4": "cut off", "d4 00": "cut off",
		"c1": "an extension type", "c7 00 01": "an extension type", "c8 0000 01": "an extension type", "c9 00000000 01": "an extension type",
		"d4 01 00": "an extension type", "d4 72 40": "an extension type", "d5 00 0000": "an extension type", "d6 ff 00000000": "an extension type", "d7 ff 0000000000000000": "an extension type",
		"d8 00 00000000000000000000000000000000": "an extension type", "81 a1 61 d6 ff 00000000": "an extension type",
		"81 01 00": "a key that is no string", "81 c0 00": "a key that is no string", "81 c4 01 61 00": "a key that is no string", "81 d4 00 00 00": "a key that is no string", "81 90 00": "a key that is no string",
		"a1 ff": "text that is not UTF-8", "a2 c0 af": "text that is not UTF-8", "a3 ed a0 80": "text that is not UTF-8", "81 a1 80 00": "text that is not UTF-8",
		"cb 7ff8000000000000": "a number that JSON does not have", "cb 7ff0000000000000": "a number that JSON does not have", "cb fff0000000000000": "a number that JSON does not have", "ca 7fc00000": "a number that JSON does not have",
		strings.Repeat("91", 63) + "90": "nested too deep", strings.Repeat("81 a0", 64) + "c0": "nested too deep", strings.Repeat("91", 100000) + "c0": "nested too deep",
		"00 00": "more than one value", "90 c0": "more than one value",
	} {
		if got, fault := unpack(hexBytes(t, packed)); fault != want {
			t.Errorf("%.60s: got %.60s, %q, want %q", packed, got, fault, want)
		}
	}
	if _, fault := unpack(hexBytes(t, strings.Repeat("91", 63)+"c0")); fault != "" {
		t.Errorf("63 levels: %s", fault)
	}
}

// vector is a value as msgpackr packs it: see interop/msgpack.
type vector struct{ JSON, Packed, Small string }

func vectors(t testing.TB) (all []vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/msgpackr.json")
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil || len(all) < 100 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	return all
}

func TestMsgpackrsValuesAreRead(t *testing.T) { // document.md section 13
	for _, v := range vectors(t) {
		packed, err := hex.DecodeString(v.Packed)
		if err != nil {
			t.Fatal(err)
		}
		got, fault := unpack(packed)
		if fault != "" || !sameTokens(t, got, []byte(v.JSON)) {
			t.Errorf("%.80s: got %s, %q, want %s", v.Packed, got, fault, v.JSON)
		}
		// As a client gets it that the message is sent on to.
		if again, ok := appendPacked(nil, got); !ok || hex.EncodeToString(again) != v.Small {
			t.Errorf("%.80s: packed again as %x, want %s", v.JSON, again, v.Small)
		}
	}
}

func TestMsgpackrsNumbersKeepTheirDigits(t *testing.T) {
	for _, v := range vectors(t) {
		packed, _ := hex.DecodeString(v.Packed)
		if isNumber([]byte(v.JSON)) {
			if got, _ := unpack(packed); string(got) != v.JSON {
				t.Errorf("%s: got %s, want %s", v.Packed, got, v.JSON)
			}
		}
	}
}

// FuzzUnpack: whatever comes, what is accepted is JSON in UTF-8 that is packed again
// to the same.
func FuzzUnpack(f *testing.F) {
	for _, v := range vectors(f) {
		packed, _ := hex.DecodeString(v.Packed)
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		text, fault := unpack(packed)
		if fault != "" {
			return
		}
		if !json.Valid(text) || !utf8.Valid(text) || levels(text) >= maxNesting || len(text) > 6*len(packed)+2 {
			t.Fatalf("% x: got %s", packed, text)
		}
		again, ok := appendPacked(nil, text)
		if !ok {
			t.Fatalf("% x: %s cannot be packed", packed, text)
		}
		back, fault := unpack(again)
		if fault != "" || !sameTokens(t, back, text) {
			t.Fatalf("% x: %s: got %s, %q", packed, text, back, fault)
		}
		if third, _ := appendPacked(nil, back); !bytes.Equal(third, again) {
			t.Fatalf("% x: %s: packed as % x and % x", packed, text, again, third)
		}
	})
}
