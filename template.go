package realtime

import (
	"fmt"
	"strings"
)

// template is the parsed form of a topic pattern such as "chat:{room}": segments
// between colons, each a literal or a parameter. A parameter matches one
// segment that is not empty; the last one, written {name...}, all the rest. As in
// Phoenix a * at the end matches whatever follows, nothing included
// (phoenix.md section 3.1).
type template struct {
	text     string
	segments []segment
}

type segment struct {
	literal string // "" for a parameter
	param   string // "*" for what follows the literal
	rest    bool
}

// star is the parameter of patterns that end in *.
const star = "*"

// parseTemplate returns what is wrong with text, if anything.
func parseTemplate(text string) (template, error) {
	p := template{text: text}
	if err := checkName(text, maxTopicBytes); err != nil {
		return p, fmt.Errorf("pattern %q: %w", text, err)
	}
	parts := strings.Split(text, ":")
	seen := map[string]bool{}
	for i, part := range parts {
		s, err := parseSegment(part, i == len(parts)-1)
		if err == nil && s.param != "" && seen[s.param] {
			err = fmt.Errorf("parameter {%s} twice", s.param)
		}
		if err != nil {
			return p, fmt.Errorf("pattern %q: %w", text, err)
		}
		seen[s.param] = true
		p.segments = append(p.segments, s)
	}
	return p, nil
}

func parseSegment(part string, last bool) (segment, error) {
	if begin, ok := strings.CutSuffix(part, star); ok && last && !strings.ContainsAny(begin, "{}*") {
		return segment{literal: begin, param: star, rest: true}, nil
	}
	if !strings.ContainsAny(part, "{}") {
		if strings.Contains(part, star) {
			return segment{}, fmt.Errorf("segment %q: * stands at the end of a pattern", part)
		}
		if part == "" {
			return segment{}, fmt.Errorf("empty segment")
		}
		return segment{literal: part}, nil
	}
	name, ok := strings.CutPrefix(part, "{")
	name, closed := strings.CutSuffix(name, "}")
	name, rest := strings.CutSuffix(name, "...")
	switch {
	case !ok || !closed || name == "" || strings.ContainsAny(name, "{}.*"):
		return segment{}, fmt.Errorf("segment %q: a parameter is a whole segment, {name}", part)
	case rest && !last:
		return segment{}, fmt.Errorf("segment %q: only the last parameter may take the rest", part)
	}
	return segment{param: name, rest: rest}, nil
}

// match reports whether name is one of the pattern's, and its parameters.
func (p *template) match(name string) (Params, bool) {
	var params Params
	for i, s := range p.segments {
		part, rest, more := strings.Cut(name, ":")
		if s.param == star {
			value, ok := strings.CutPrefix(name, s.literal)
			return append(params, Param{Name: star, Value: value}), ok
		}
		if s.rest {
			part, more = name, false
		}
		if part == "" || s.literal != "" && s.literal != part || more != (i < len(p.segments)-1) {
			return nil, false
		}
		if s.param != "" {
			params = append(params, Param{Name: s.param, Value: part})
		}
		name = rest
	}
	return params, true
}

// build is the inverse of match: values in the order of the parameters.
func (p *template) build(values []string) (string, error) {
	var b strings.Builder
	for i, s := range p.segments {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(s.literal)
		if s.param == "" {
			continue
		}
		if len(values) == 0 {
			return "", fmt.Errorf("realtime: %q: no value for {%s}", p.text, s.param)
		}
		value := values[0]
		values = values[1:]
		if value == "" && s.param != star || !s.rest && strings.Contains(value, ":") {
			return "", fmt.Errorf("realtime: %q: %q cannot stand for {%s}", p.text, value, s.param)
		}
		b.WriteString(value)
	}
	if len(values) > 0 {
		return "", fmt.Errorf("realtime: %q: %d values too many", p.text, len(values))
	}
	return b.String(), checkName(b.String(), maxTopicBytes)
}

// shape is the pattern with its parameters' names left out: two patterns of one
// shape match the same names.
func (p *template) shape() string {
	parts := make([]string, len(p.segments))
	for i, s := range p.segments {
		switch {
		case s.param == star:
			parts[i] = s.literal + star
		case s.rest:
			parts[i] = "{...}"
		case s.param != "":
			parts[i] = "{}"
		default:
			parts[i] = s.literal
		}
	}
	return strings.Join(parts, ":")
}
