package realtime

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTemplateMatchesNames(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          string // parameters as a=b, "-" for no match
	}{
		{"global", "global", ""},
		{"global", "globals", "-"},
		{"global", "global:", "-"},
		{"global", "", "-"},
		{"chat:{room}", "chat:lobby", "room=lobby"},
		{"chat:{room}", "chat:", "-"},
		{"chat:{room}", "chat", "-"},
		{"chat:{room}", "chat:a:b", "-"},
		{"chat:{room}", "Chat:a", "-"},
		{"chat:{room}", "chat:{room}", "room={room}"},
		{"{a}:x:{b}", "1:x:2", "a=1 b=2"},
		{"{a}:x:{b}", "1:y:2", "-"},
		{"{a}:x:{b}", ":x:2", "-"},
		{"{a}:x:{b}", "1:x:", "-"},
		{"doc:{tenant}:{path...}", "doc:t:a:b:c", "tenant=t path=a:b:c"},
		{"doc:{tenant}:{path...}", "doc:t:a", "tenant=t path=a"},
		{"doc:{tenant}:{path...}", "doc:t:", "-"},
		{"doc:{tenant}:{path...}", "doc:t", "-"},
		{"{all...}", "a:b", "all=a:b"},
		{"{all...}", "a", "all=a"},
		{"{all...}", "", "-"},
		{"größe:{ä}", "größe:ß", "ä=ß"},
		{"room:*", "room:1", "*=1"},
		{"room:*", "room:a:b", "*=a:b"},
		{"room:*", "room:", "*="},
		{"room:*", "room", "-"},
		{"room:*", "roomy:1", "-"},
		{"foo*", "foo", "*="},
		{"foo*", "food:1", "*=d:1"},
		{"{a}:x*", "1:xy", "a=1 *=y"},
		{"*", "anything:at all", "*=anything:at all"},
	} {
		p, err := parseTemplate(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		got := "-"
		if params, ok := p.match(tt.name); ok {
			var words []string
			for _, one := range params {
				words = append(words, one.Name+"="+one.Value)
			}
			got = strings.Join(words, " ")
		}
		if got != tt.want {
			t.Errorf("%s matches %q as %q, want %q", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestTemplateRefusesWhatIsNoPattern(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "",
		"a::b":                   "empty segment",
		":a":                     "empty segment",
		"a:":                     "empty segment",
		"a:{}":                   "whole segment",
		"a:{...}":                "whole segment",
		"a:x{b}":                 "whole segment",
		"a:{b}x":                 "whole segment",
		"a:{b":                   "whole segment",
		"a:b}":                   "whole segment",
		"a:{b}{c}":               "whole segment",
		"a:{b{c}":                "whole segment",
		"a:{b....}":              "whole segment",
		"a:{b.c}":                "whole segment",
		"a:{b...}:c":             "only the last",
		"a:{b}:{b}":              "twice",
		"a:{b}:{b...}":           "twice",
		"a:{*}":                  "whole segment",
		"a*b":                    "at the end",
		"a*:b":                   "at the end",
		"a**":                    "at the end",
		"a\nb":                   "",
		"a\xff":                  "",
		strings.Repeat("a", 256): "",
	} {
		_, err := parseTemplate(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}

func TestTemplateBuildsNames(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		values  []string
		want    string // "" for an error
	}{
		{"global", nil, "global"},
		{"global", []string{"x"}, ""},
		{"chat:{room}", []string{"lobby"}, "chat:lobby"},
		{"chat:{room}", nil, ""},
		{"chat:{room}", []string{""}, ""},
		{"chat:{room}", []string{"a:b"}, ""},
		{"chat:{room}", []string{"a\n"}, ""},
		{"chat:{room}", []string{strings.Repeat("a", 255)}, ""},
		{"chat:{room}", []string{"a", "b"}, ""},
		{"{a}:x:{b...}", []string{"1", "2:3"}, "1:x:2:3"},
	} {
		p, err := parseTemplate(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.build(tt.values)
		if err == nil != (tt.want != "") || err == nil && got != tt.want {
			t.Errorf("%s with %.20q: %q, %v; want %q", tt.pattern, tt.values, got, err, tt.want)
		}
	}
}

func TestTemplatesOfOneShapeConflict(t *testing.T) {
	h, _ := newLooseHub(t) // room:{id}
	for text, want := range map[string]bool{"room:{other}": true, "room:{id...}": false, "{id}:room": false, "room:id": false} {
		p, err := parseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.declare(&Pattern{template: p}); (err != nil) != want {
			t.Errorf("%s beside room:{id}: %v, want an error: %v", text, err, want)
		}
	}
}

func TestNameBelongsToTheFirstPatternThatMatches(t *testing.T) {
	h, _ := newLooseHub(t) // room:{id}
	for _, text := range []string{"room:lobby", "{all...}"} {
		p, _ := parseTemplate(text)
		if err := h.declare(&Pattern{template: p}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"room:lobby": "room:{id}", "room:a:b": "{all...}", "global": "{all...}"} {
		if p, _ := h.pattern(name); p.text != want {
			t.Errorf("%s belongs to %s, want %s", name, p.text, want)
		}
	}
}

// FuzzTemplate: what matches is built from its parameters again, and a pattern
// that is refused is refused with words.
func FuzzTemplate(f *testing.F) {
	for _, s := range [][2]string{{"chat:{room}", "chat:a"}, {"{a}:{b...}", "1:2:3"}, {"a:{b", "a"}, {"global", "global"}, {"{a...}", "\xff"}, {"{a}:b*", "1:bc:"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := parseTemplate(pattern)
		if err != nil {
			return
		}
		if shape := p.shape(); strings.Count(shape, ":") != strings.Count(pattern, ":") {
			t.Errorf("%q has shape %q", pattern, shape)
		}
		params, ok := p.match(name)
		if !ok || checkName(name, maxTopicBytes) != nil {
			return
		}
		values := make([]string, len(params))
		for i, one := range params {
			values[i] = one.Value
		}
		back, err := p.build(values)
		if err != nil || back != name {
			t.Errorf("%q matches %q as %v, which builds %q, %v", pattern, name, params, back, err)
		}
		again, ok := p.match(back)
		if !ok || !slices.Equal(again, params) {
			t.Errorf("%q matches %q as %v, then as %v", pattern, name, params, again)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	p, err := parseTemplate("document:{tenant}:{document}")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"document:t1:d1", "chat:lobby"} {
		b.Run(fmt.Sprintf("name=%s", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.match(name)
			}
		})
	}
}
