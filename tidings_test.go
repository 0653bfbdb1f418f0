package realtime

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

var someTidings = []*tidings{
	{kind: tidingsChange, life: 1 << 63, number: 7, leaves: []string{"a", "b"}, joins: []*entry{{key: "ada", ref: "r", text: []byte(`{"phx_ref":"r"}`)}}},
	{kind: tidingsChange, life: 1, number: 1},
	{kind: tidingsState, life: 1, number: 2, part: 3, last: true, joins: []*entry{{key: "ø", ref: "r", text: []byte(`{}`)}, {key: "x", ref: "s", text: []byte(`{"a":[1]}`)}}},
	{kind: tidingsRoll, life: 9, number: 300, count: 70000, echo: true},
	{kind: tidingsBye, life: 2, number: 2},
}

func TestTidingsComeBackFromTheirCode(t *testing.T) {
	for _, want := range someTidings {
		code := want.append(nil)
		got, err := decodeTidings(code)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v (%v), want %+v", got, err, want)
		}
		for n := range code {
			if got, err := decodeTidings(code[:n]); err == nil {
				t.Errorf("the first %d of %d bytes are %+v", n, len(code), got)
			}
		}
	}
}

func TestTidingsOutOfBoundsAreRefused(t *testing.T) {
	one := func(key, ref, text string) []byte {
		return (&tidings{kind: tidingsState, life: 1, joins: []*entry{{key: key, ref: ref, text: []byte(text)}}}).append(nil)
	}
	if _, err := decodeTidings(one("k", "r", "{}")); err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string][]byte{
		"nothing":       nil,
		"version":       {2, byte(tidingsBye), 1, 1},
		"kind":          {1, 99, 1, 1},
		"too large":     append(one("k", "r", "{}"), make([]byte, maxTidings)...),
		"more than is":  {1, byte(tidingsState), 1, 1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F},
		"no key":        one("", "r", "{}"),
		"long key":      one(strings.Repeat("k", maxKeyBytes+1), "r", "{}"),
		"broken key":    one("\xff", "r", "{}"),
		"no ref":        one("k", "", "{}"),
		"long ref":      one("k", strings.Repeat("r", maxEntryRef+1), "{}"),
		"no object":     one("k", "r", "[]"),
		"no JSON":       one("k", "r", `{"a":}`),
		"more than one": one("k", "r", `{},{}`),
		"long meta":     one("k", "r", `{"a":"`+strings.Repeat("x", maxTextBytes)+`"}`),
		"rest":          append(one("k", "r", "{}"), 0),
	} {
		if got, err := decodeTidings(code); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

// Whatever a node has to tell comes in messages that others take.
func TestMuchToTellIsSeveralTidings(t *testing.T) {
	text := []byte(`{"a":"` + strings.Repeat("x", maxMetaBytes) + `"}`)
	var say telling
	say.life = 1
	var all []*entry
	for n := range 500 {
		all = append(all, &entry{key: strings.Repeat("k", maxKeyBytes), ref: fmt.Sprint(n), text: text})
	}
	say.note(delta{joins: all})
	var h, late hearsay
	hear := func(h *hearsay, news []*tidings) (joins, leaves int) {
		for _, n := range news {
			got, err := decodeTidings(n.append(nil))
			if err != nil {
				t.Fatal(err)
			}
			d, ask := h.hear("a", got)
			if ask {
				t.Fatal("asks, though nothing is lost")
			}
			joins, leaves = joins+len(d.joins), leaves+len(d.leaves)
		}
		return joins, leaves
	}
	if joins, leaves := hear(&h, say.take()); joins != 500 || leaves != 0 {
		t.Errorf("%d came and %d left, want 500 and none", joins, leaves)
	}
	if say.number < 10 {
		t.Errorf("they were told in %d messages, want more", say.number)
	}
	late.hear("a", say.roll(false))
	if joins, _ := hear(&late, say.state(all)); joins != 500 || !late.complete("a") {
		t.Errorf("%d came with the state, want 500", joins)
	}
	for _, e := range all {
		e.left = 1
	}
	say.note(delta{leaves: all})
	if joins, leaves := hear(&h, say.take()); joins != 0 || leaves != 500 {
		t.Errorf("%d came and %d left, want none and 500", joins, leaves)
	}
}

func FuzzTidings(f *testing.F) {
	for _, t := range someTidings {
		f.Add(t.append(nil))
	}
	f.Add(appendEntryCodes(nil, someTidings[0].joins))
	f.Fuzz(func(t *testing.T, code []byte) {
		if es, err := decodeEntries(code); err == nil {
			if again, err := decodeEntries(appendEntryCodes(nil, es)); err != nil || len(again) != len(es) {
				t.Errorf("%d entries became %d: %v", len(es), len(again), err)
			}
		}
		got, err := decodeTidings(code)
		if err != nil {
			return
		}
		again := got.append(nil)
		second, err := decodeTidings(again)
		if err != nil {
			t.Fatalf("%q is refused, the code of decoded tidings", again)
		}
		if !bytes.Equal(second.append(nil), again) {
			t.Errorf("%q became %q", again, second.append(nil))
		}
		var h hearsay
		h.hear("a", got)
		h.hear("a", second)
	})
}
