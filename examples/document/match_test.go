package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What a test cannot know stands in a pattern as one of these strings.
const (
	anyValue = "<any>"
	aTime    = "<time>" // milliseconds, about now
	aUUID    = "<uuid>"
	aHash    = "<hash>" // 64 hex digits

	// startOf and jsonOf are followed by what a string begins with, and by the
	// pattern of the JSON that it holds.
	startOf = "<start>"
	jsonOf  = "<json>"
)

var (
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// differs compares JSON with a pattern and says where they differ, or nothing.
// Numbers have to have the same digits, and objects the same keys.
func differs(got, pattern string) string {
	value, err := parsed(got)
	if err != nil {
		return fmt.Sprintf("%.200q is no JSON: %v", got, err)
	}
	want, err := parsed(pattern)
	if err != nil {
		panic(fmt.Sprintf("pattern %s: %v", pattern, err)) // written in the test
	}
	return difference("", value, want)
}

func parsed(text string) (value any, err error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, fmt.Errorf("more after the value")
	}
	return value, nil
}

func difference(path string, got, want any) string {
	switch want := want.(type) {
	case map[string]any:
		return objectDifference(path, got, want)
	case []any:
		return listDifference(path, got, want)
	case string:
		return textDifference(path, got, want)
	}
	if got != want {
		return fmt.Sprintf("%s: got %v, want %v", path, got, want)
	}
	return ""
}

func objectDifference(path string, got any, want map[string]any) string {
	object, ok := got.(map[string]any)
	if !ok {
		return fmt.Sprintf("%s: got %v, want an object", path, got)
	}
	for key := range object {
		if _, ok := want[key]; !ok {
			return fmt.Sprintf("%s: has the key %q, which is one too many", path, key)
		}
	}
	for key, one := range want {
		value, ok := object[key]
		if !ok {
			return fmt.Sprintf("%s: the key %q is missing", path, key)
		}
		if found := difference(path+"."+key, value, one); found != "" {
			return found
		}
	}
	return ""
}

func listDifference(path string, got any, want []any) string {
	list, ok := got.([]any)
	if !ok || len(list) != len(want) {
		return fmt.Sprintf("%s: got %.300s, want a list of %d", path, fmt.Sprint(got), len(want))
	}
	for i, one := range want {
		if found := difference(fmt.Sprintf("%s[%d]", path, i), list[i], one); found != "" {
			return found
		}
	}
	return ""
}

func textDifference(path string, got any, want string) string {
	if want == anyValue {
		return ""
	}
	if want == aTime {
		if number, ok := got.(json.Number); ok && recent(number) {
			return ""
		}
		return fmt.Sprintf("%s: got %v, want the time in milliseconds", path, got)
	}
	text, ok := got.(string)
	if pattern, found := strings.CutPrefix(want, jsonOf); ok && found {
		if found := differs(text, pattern); found != "" {
			return path + " (inside) " + found
		}
		return ""
	}
	prefix, cut := strings.CutPrefix(want, startOf)
	switch {
	case ok && want == aUUID && uuidForm.MatchString(text):
	case ok && want == aHash && hashForm.MatchString(text):
	case ok && cut && strings.HasPrefix(text, prefix):
	case ok && text == want:
	default:
		return fmt.Sprintf("%s: got %#v, want %q", path, got, want)
	}
	return ""
}

// recent says whether a time in milliseconds is at most a minute from now.
func recent(number json.Number) bool {
	at, err := number.Int64()
	return err == nil && time.Since(time.UnixMilli(at)).Abs() < time.Minute
}

// list writes texts as a JSON array.
func list(texts ...string) string { return "[" + strings.Join(texts, ",") + "]" }

func TestPatternsFindDifferences(t *testing.T) {
	now := fmt.Sprint(time.Now().UnixMilli())
	for _, test := range []struct {
		got, pattern string
		same         bool
	}{
		{`{"a":[1,null,"x"],"b":` + now + `}`, `{"b":"<time>","a":[1,null,"x"]}`, true},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`{"a":1,"b":2}`, `{"a":1}`, false},
		{`{"a":null}`, `{}`, false},
		{`[1,2]`, `[1]`, false},
		{`10`, `1e1`, false},
		{`9007199254740993`, `9007199254740992`, false},
		{`"{\"a\":1}"`, `"<json>{\"a\":1}"`, true},
		{`"{\"a\":2}"`, `"<json>{\"a\":1}"`, false},
		{`"2.0"`, `2.0`, false},
		{`1000`, `"<time>"`, false},
		{`"1b4e28ba-2fa1-41d2-883f-0016d3cca427"`, `"<uuid>"`, true},
		{`"1"`, `"<uuid>"`, false},
		{`{"a":1} {}`, `{"a":1}`, false},
	} {
		if got := differs(test.got, test.pattern); (got == "") != test.same {
			t.Errorf("%s and %s: got %q", test.got, test.pattern, got)
		}
	}
}
