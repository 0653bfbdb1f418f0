package realtimetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Exactly matches data that is the same JSON as want: unlike want itself, it
// allows no further fields in objects.
func Exactly(want any) func(json.RawMessage) error {
	return func(got json.RawMessage) error { return match(got, want, true) }
}

// compare returns how got differs from want, which is described at
// [Client.WantPush].
func compare(got json.RawMessage, want any) error {
	switch w := want.(type) {
	case nil:
		return nil
	case func(json.RawMessage) error:
		return w(got)
	}
	return match(got, want, false)
}

func match(got json.RawMessage, want any, exact bool) error {
	text, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("want is not JSON: %w", err)
	}
	w, err := parse(text)
	if err != nil {
		return fmt.Errorf("want is not JSON: %w", err)
	}
	g, err := parse(got)
	if err != nil {
		return fmt.Errorf("got %q, which is not JSON: %w", got, err)
	}
	if !matches(g, w, exact) {
		return fmt.Errorf("got %s, want %s", got, text)
	}
	return nil
}

// parse keeps numbers as they are written: an offset may be more than a float64
// can tell.
func parse(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

func matches(got, want any, exact bool) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || exact && len(g) != len(w) {
			return false
		}
		for key, value := range w {
			if field, there := g[key]; !there || !matches(field, value, exact) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !matches(g[i], w[i], exact) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(got, want)
}
