package realtime

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzSignalsBetweenNodes: what another node sends is signals or is refused, and
// signals come out as they went in.
func FuzzSignalsBetweenNodes(f *testing.F) {
	f.Add(appendSignals(nil, []signal{{content: json.RawMessage(`"x"`)}, {content: json.RawMessage(`1.50`), targeted: map[string]bool{}},
		{content: json.RawMessage(`{}`), ignored: map[string]bool{"a": true, "b": true}}, {content: json.RawMessage(`[]`), target: "c"}}))
	f.Add([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, ok := parseSignals(b)
		if !ok {
			return
		}
		code := appendSignals(nil, all)
		again, ok := parseSignals(code)
		if !ok || !bytes.Equal(appendSignals(nil, again), code) {
			t.Errorf("%q became %q", b, code)
		}
		for i := range again {
			for _, id := range []string{"", "a", "b", "c"} {
				if all[i].isFor(id) != again[i].isFor(id) || !reflect.DeepEqual(all[i].content, again[i].content) {
					t.Errorf("signal %d of %q is for others than before", i, b)
				}
			}
		}
	})
}

func TestSignalsKeepTheirTargetsBetweenNodes(t *testing.T) {
	for _, s := range []signal{{}, {targeted: map[string]bool{}}, {targeted: map[string]bool{"a": true}}, {ignored: map[string]bool{"a": true}},
		{target: "a"}, {target: "b", ignored: map[string]bool{"a": true}}, {ignored: map[string]bool{}, target: "b"}} {
		s.content = json.RawMessage(`{"n":1.50}`)
		got, ok := parseSignals(appendSignals(nil, []signal{s}))
		if !ok || len(got) != 1 || string(got[0].content) != `{"n":1.50}` {
			t.Fatalf("%+v came back as %+v", s, got)
		}
		for _, id := range []string{"a", "b", "c"} {
			if got[0].isFor(id) != s.isFor(id) {
				t.Errorf("%+v is for %s: %v, and as it came back: %v", s, id, s.isFor(id), got[0].isFor(id))
			}
		}
	}
}
