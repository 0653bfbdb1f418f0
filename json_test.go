package realtime

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// valid reports whether text is one value and nothing else.
func valid(text string, room int) bool {
	end := skipValue([]byte(text), 0, room)
	return end >= 0 && skipSpace([]byte(text), end) == len(text)
}

func nested(open, inside, shut string, levels int) string {
	return strings.Repeat(open, levels) + inside + strings.Repeat(shut, levels)
}

var jsonTexts = []struct {
	text string
	want bool
}{
	{`0`, true}, {`-0`, true}, {`10`, true}, {`1.5`, true}, {`1e5`, true}, {`1E+05`, true}, {`-1.0e-0`, true},
	{`1e999999999`, true}, {strings.Repeat("9", 5000), true},
	{``, false}, {` `, false}, {`-`, false}, {`01`, false}, {`-01`, false}, {`1.`, false}, {`.5`, false}, {`1e`, false},
	{`1e+`, false}, {`+1`, false}, {`0x10`, false}, {`NaN`, false}, {`Infinity`, false}, {`-Infinity`, false}, {`1_000`, false},
	{`true`, true}, {`false`, true}, {`null`, true}, {` null `, true}, {"\t\r\n1", true},
	{`tru`, false}, {`TRUE`, false}, {`nulll`, false}, {`nul`, false}, {`undefined`, false}, {"\v1", false}, {"\u00a01", false}, {"\ufeff1", false},
	{`""`, true}, {`"a"`, true}, {`"\"\\\/\b\f\n\r\t\u00e9"`, true}, {`"\ud83d\ude00"`, true}, {`"\ud800"`, true}, {"\"\x7f\"", true},
	{`"`, false}, {`"a`, false}, {`"\"`, false}, {`"\`, false}, {`"\x41"`, false}, {`"\u12"`, false}, {`"\u12g4"`, false}, {`"\u`, false},
	{"\"\n\"", false}, {"\"\x00\"", false}, {"\"\x1f\"", false}, {`'a'`, false}, {`"\U0041"`, false},
	{`[]`, true}, {`[ ]`, true}, {`[1]`, true}, {`[1,2]`, true}, {` [ 1 , [ ] , { } ] `, true},
	{`[`, false}, {`]`, false}, {`[1`, false}, {`[1,`, false}, {`[1,]`, false}, {`[,1]`, false}, {`[1 2]`, false}, {`[1}`, false}, {`[1]]`, false}, {`[1:2]`, false},
	{`{}`, true}, {`{ }`, true}, {`{"a":1}`, true}, {`{"":{"":""}}`, true}, {` { "a" : 1 , "a" : [ 2 ] } `, true},
	{`{`, false}, {`}`, false}, {`{"a"}`, false}, {`{"a":}`, false}, {`{"a":1,}`, false}, {`{,}`, false}, {`{a:1}`, false}, {`{"a" 1}`, false}, {`{"a":1`, false},
	{`{"a":1]`, false}, {`{"a":1 "b":2}`, false}, {`{1:2}`, false}, {`{"a"::1}`, false}, {`{"a":1}{}`, false}, {`{"a":1},`, false}, {`1 1`, false}, {`1,`, false},
	{`/**/1`, false}, {`1//`, false},
	{nested("[", "", "]", 64), true}, {nested("[", "", "]", 65), false}, {nested("[", "0", "]", 64), true},
	{nested(`{"a":`, "1", "}", 64), true}, {nested(`{"a":`, "1", "}", 65), false},
	{nested(`[{"a":`, "[]", "}]", 31), true}, {nested(`[{"a":`, "[]", "}]", 32), false},
	{"[" + nested("[", "", "]", 63) + "," + nested("[", "", "]", 63) + "]", true},
}

func TestSkipValueAcceptsExactlyJSON(t *testing.T) {
	for _, c := range jsonTexts {
		if got := valid(c.text, 64); got != c.want {
			t.Errorf("%.60q: got %v, want %v", c.text, got, c.want)
		}
	}
}

func TestSkipValueCountsLevels(t *testing.T) {
	for _, levels := range []int{1, 2, 63, 64, 65, 128, 129, 1000, 10000} {
		for _, text := range []string{nested("[", "", "]", levels), nested(`{"a":`, "0", "}", levels), nested(`[1,`, "0", ",2]", levels)} {
			if !valid(text, levels) {
				t.Errorf("%d levels of %.5q: refused with room for %d", levels, text, levels)
			}
			if valid(text, levels-1) {
				t.Errorf("%d levels of %.5q: accepted with room for %d", levels, text, levels-1)
			}
		}
	}
	if !valid(`"scalar"`, 0) || valid(`[]`, 0) {
		t.Error("room for 0 levels must accept scalars and nothing else")
	}
	for _, text := range []string{nested("[", "", "}", 100), nested("[", `{"a":1]`, "]", 100), strings.Repeat("[", 100)} {
		if valid(text, 1000) {
			t.Errorf("%.110q: accepted", text)
		}
	}
}

func TestScanObjectYieldsKeysAndRawValues(t *testing.T) {
	text := " {\"a\" : 1 ,\n\"\\u0062\\n\":[ 1, {} ] , \"\":\"\\u0041\",\"a\":null,\"\\ud800x\":{}} "
	want := []struct{ key, value, raw string }{
		{"a", "1", `"a" : 1`},
		{"b\n", "[ 1, {} ]", `"\u0062\n":[ 1, {} ]`},
		{"", `"\u0041"`, `"":"\u0041"`},
		{"a", "null", `"a":null`},
		{"\uFFFDx", "{}", `"\ud800x":{}`},
	}
	fields := scanObject([]byte(text), 3)
	for i, w := range want {
		if !fields.next() {
			t.Fatalf("field %d is missing", i)
		}
		if string(fields.key) != w.key || string(fields.value) != w.value || string(fields.raw()) != w.raw {
			t.Errorf("field %d: got %q %q %q, want %q", i, fields.key, fields.value, fields.raw(), w)
		}
		if cap(fields.value) != len(fields.value) {
			t.Errorf("field %d: an append to the value would write over the text behind it", i)
		}
		if fields.complete() {
			t.Errorf("field %d: complete before the end", i)
		}
	}
	for range 2 { // the second call changes nothing
		if fields.next() || !fields.complete() {
			t.Error("the end was not recognized")
		}
	}
}

func TestScanObjectRefusesWhatIsNotOneObject(t *testing.T) {
	for _, text := range []string{
		``, ` `, `null`, `1`, `"{}"`, `[]`, `[{}]`, `{`, `{}{}`, `{} x`, `{}]`, "\ufeff{}", `{"a":1,}`, `{,"a":1}`, `{"a":1 "b":2}`, `{"a":1,"b"`, `{"a":1,"b":`,
		`{"a":[}`, `{"a":01}`, `{"a":1}}`, `{a:1}`, `{"a":{"b":[]}}`,
	} {
		fields := scanObject([]byte(text), 2)
		for fields.next() {
		}
		if fields.complete() {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestScanArrayYieldsRawElements(t *testing.T) {
	text := " [ 1 ,\n[ 2 , {} ],\"a\\u0041\", null,{\"b\" : 1}] "
	elements := scanArray([]byte(text), 3)
	for i, want := range []string{"1", "[ 2 , {} ]", `"a\u0041"`, "null", `{"b" : 1}`} {
		if !elements.next() || string(elements.value) != want {
			t.Errorf("element %d: got %q, want %q", i, elements.value, want)
		}
		if cap(elements.value) != len(elements.value) {
			t.Errorf("element %d: an append to it would write over the text behind it", i)
		}
		if elements.complete() {
			t.Errorf("element %d: complete before the end", i)
		}
	}
	for range 2 { // the second call changes nothing
		if elements.next() || !elements.complete() {
			t.Error("the end was not recognized")
		}
	}
}

func TestScanArrayRefusesWhatIsNotOneArray(t *testing.T) {
	for _, text := range []string{
		``, ` `, `null`, `1`, `"[]"`, `{}`, `{"a":[]}`, `[`, `]`, `[][]`, `[] x`, `[]}`, "\ufeff[]", `[1,]`, `[,1]`, `[,]`, `[1 2]`, `[1,2`, `[1,`, `[1:2]`, `["a":1]`,
		`[01]`, `[[}]`, `[1]]`, `[a]`, `[[[]]]`, `[{"a":[]}]`,
	} {
		elements := scanArray([]byte(text), 2)
		for elements.next() {
		}
		if elements.complete() {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestUnquoteNoticesLoneSurrogates(t *testing.T) {
	for _, c := range []struct {
		text, want string
		whole      bool
	}{
		{`""`, "", true},
		{`"abc"`, "abc", true},
		{`"h\u00e9\/\\\"\b\f\n\r\t"`, "hé/\\\"\b\f\n\r\t", true},
		{`"\u0000"`, "\x00", true},
		{`"\ud83d\ude00"`, "😀", true},
		{`"\uD83D\uDE00!"`, "😀!", true},
		{`"\ufffd"`, "\uFFFD", true},
		{`"\uFFFF"`, "\uFFFF", true},
		{`"\ud800"`, "\uFFFD", false},
		{`"\udc00"`, "\uFFFD", false},
		{`"\ud800x"`, "\uFFFDx", false},
		{`"\ud800\n"`, "\uFFFD\n", false},
		{`"\ud800\u0041"`, "\uFFFDA", false},
		{`"\ud800\ud83d\ude00"`, "\uFFFD😀", false},
		{`"\ude00\ud83d"`, "\uFFFD\uFFFD", false},
	} {
		got, whole := unquote([]byte(c.text))
		if got != c.want || whole != c.whole {
			t.Errorf("%s: got %q, %v, want %q, %v", c.text, got, whole, c.want, c.whole)
		}
	}
}

func TestUnquoteCopies(t *testing.T) {
	text := []byte(`"abc"`)
	got, _ := unquote(text)
	copy(text, `"xyz"`)
	if got != "abc" {
		t.Errorf("got %q after the text changed, want abc", got)
	}
}

func TestAppendQuotedWritesValidJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `""`},
		{"plain", `"plain"`},
		{`a"b\c/`, `"a\"b\\c/"`},
		{"\n\r\t\b\x00\x1f\x7f", `"\n\r\t\u0008\u0000\u001f` + "\x7f\""},
		{"é😀\u2028\uFFFD", "\"é😀\u2028\uFFFD\""},
		{"a\xffb", "\"a\uFFFDb\""},
		{"\xc0\xaf", "\"\uFFFD\uFFFD\""},           // overlong
		{"\xed\xa0\x80", "\"\uFFFD\uFFFD\uFFFD\""}, // a surrogate in UTF-8
		{"\xe2\x82", "\"\uFFFD\uFFFD\""},           // cut off
	} {
		if got := string(appendQuoted([]byte("x"), c.in)); got != "x"+c.want {
			t.Errorf("%q: got %s, want x%s", c.in, got, c.want)
		}
	}
}

func TestScanningDoesNotAllocate(t *testing.T) {
	text := []byte(`{"channel":"a","data":{"b":[1,2,{"c":"\u0041"}],"d":null},"ref":"1"}`)
	got := testing.AllocsPerRun(100, func() {
		fields := scanObject(text, maxNesting)
		for fields.next() {
		}
		if !fields.complete() {
			t.Fatal("refused")
		}
	})
	if got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

// Strings are skipped eight bytes at a time: whatever ends or spoils one has to be seen
// at each place of the eight, beside any other byte.
func TestAnyByteIsSeenAtAnyPlaceOfAString(t *testing.T) {
	for place := range 20 {
		for b := range 256 {
			for _, beside := range []string{"x", " ", "\x7f", "!", "#", "é"} {
				inside := strings.Repeat(beside, place) + string([]byte{byte(b)}) + strings.Repeat(beside, 9)
				text := `"` + inside + `"`
				want := len(text)
				switch c := byte(b); {
				case c == '"':
					want = place*len(beside) + 2
				case c < ' ', c == '\\':
					want = -1
				}
				if got := skipString([]byte(text), 0); got != want {
					t.Errorf("%q: got %d, want %d", text, got, want)
				}
			}
		}
	}
}

func FuzzScannerAgreesWithEncodingJSON(f *testing.F) {
	for _, c := range jsonTexts {
		f.Add([]byte(c.text))
	}
	f.Add([]byte(`{"a\u0062\ud800":{"x":[1]},"":"\ud83d\ude00","a":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		// encoding/json lets any bytes stand in strings; the codecs refuse them
		// before they scan.
		if !utf8.Valid(text) {
			t.Skip()
		}
		want := json.Valid(text)
		if got := valid(string(text), maxHostNesting); got != want {
			t.Fatalf("%q: got valid %v, want %v", text, got, want)
		}
		if got, deep := valid(string(text), maxNesting), levels(text) > maxNesting; want && got == deep {
			t.Fatalf("%q: %d levels: got valid %v", text, levels(text), got)
		}
		if want {
			sameFields(t, text)
			sameElements(t, text)
		}
	})
}

// levels counts the nesting of valid JSON.
func levels(text []byte) int {
	depth, most, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			most = max(most, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return most
}

// sameFields compares the scanner's fields of valid JSON with encoding/json's.
func sameFields(t *testing.T, text []byte) {
	t.Helper()
	var want map[string]json.RawMessage
	isAnObject := json.Unmarshal(text, &want) == nil && want != nil
	got := map[string]json.RawMessage{}
	fields := scanObject(text, maxHostNesting)
	for fields.next() {
		got[string(fields.key)] = fields.value
		if isString(fields.value) {
			var s string
			if err := json.Unmarshal(fields.value, &s); err != nil {
				t.Fatalf("%q: %v", fields.value, err)
			}
			mine, whole := unquote(fields.value)
			if mine != s {
				t.Fatalf("%q: got %q, want %q", fields.value, mine, s)
			}
			var back string
			if err := json.Unmarshal(appendQuoted(nil, mine), &back); err != nil || back != mine || !utf8.ValidString(mine) {
				t.Fatalf("%q, whole %v: quoted and back: %q, %v", mine, whole, back, err)
			}
		}
	}
	if fields.complete() != isAnObject {
		t.Fatalf("%q: got complete %v, want %v", text, fields.complete(), isAnObject)
	}
	if !isAnObject {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%q: got %d keys, want %d", text, len(got), len(want))
	}
	for key, value := range want {
		if !bytes.Equal(got[key], value) {
			t.Fatalf("%q: key %q: got %q, want %q", text, key, got[key], value)
		}
	}
}

// sameElements compares the scanner's elements of valid JSON with encoding/json's.
func sameElements(t *testing.T, text []byte) {
	t.Helper()
	var want []json.RawMessage
	isAnArray := json.Unmarshal(text, &want) == nil && want != nil
	elements := scanArray(text, maxHostNesting)
	n := 0
	for ; elements.next(); n++ {
		if isAnArray && (n >= len(want) || !bytes.Equal(elements.value, want[n])) {
			t.Fatalf("%q: element %d: got %q, want %q", text, n, elements.value, want)
		}
	}
	if elements.complete() != isAnArray || isAnArray && n != len(want) {
		t.Fatalf("%q: got %d elements, complete %v, want %d, %v", text, n, elements.complete(), len(want), isAnArray)
	}
}

func FuzzAppendQuoted(f *testing.F) {
	f.Add("a\"\\\n\x00\x7f\u2028\xff\xed\xa0\x80😀")
	f.Fuzz(func(t *testing.T, s string) {
		quoted := appendQuoted(nil, s)
		var got string
		if err := json.Unmarshal(quoted, &got); err != nil || !utf8.Valid(quoted) {
			t.Fatalf("%q: %s: %v", s, quoted, err)
		}
		var want string // encoding/json replaces the same bytes
		text, _ := json.Marshal(s)
		if err := json.Unmarshal(text, &want); err != nil || got != want {
			t.Fatalf("%q: got %q, want %q, %v", s, got, want, err)
		}
	})
}
