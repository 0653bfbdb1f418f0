package realtime

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// paramsOf returns the parameters of a handshake (phoenix.md section 1.2): those
// of the query, and of the route's wildcards, which a query cannot change.
func paramsOf(r *http.Request) map[string]any {
	params := map[string]any{}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		text, wrong := url.QueryUnescape(value)
		if err == nil && wrong == nil && name != "" {
			setParam(params, name, text)
		}
	}
	for _, name := range wildcards(r.Pattern) {
		params[name] = r.PathValue(name)
	}
	return params
}

// maxParamDepth bounds the brackets in a parameter's name.
const maxParamDepth = 8

// setParam sets name, which may be a[b] for a map or a[] for a list. What does not
// fit what is there already takes its place, as the last of several does. A name
// whose brackets are not in order is a name like any other.
func setParam(params map[string]any, name, value string) {
	key, path, ok := bracketed(name)
	if !ok {
		params[name] = value
		return
	}
	params[key] = placed(params[key], path, value)
}

// placed returns old with value at path: a "" in it appends to a list.
func placed(old any, path []string, value string) any {
	if len(path) == 0 {
		return value
	}
	if path[0] == "" {
		list, _ := old.([]any)
		return append(list, placed(nil, path[1:], value))
	}
	fields, ok := old.(map[string]any)
	if !ok {
		fields = map[string]any{}
	}
	fields[path[0]] = placed(fields[path[0]], path[1:], value)
	return fields
}

// bracketed parts a[b][c] into a and [b c].
func bracketed(name string) (key string, path []string, ok bool) {
	key, rest, ok := strings.Cut(name, "[")
	if !ok || key == "" || !strings.HasSuffix(rest, "]") {
		return "", nil, false
	}
	path = strings.Split(strings.TrimSuffix(rest, "]"), "][")
	for _, part := range path {
		if strings.ContainsAny(part, "[]") {
			return "", nil, false
		}
	}
	return key, path, len(path) <= maxParamDepth
}

// wildcards returns the names in a pattern of [http.ServeMux].
func wildcards(pattern string) []string {
	var names []string
	for part := range strings.SplitSeq(pattern, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			if name != "" && name != "$" {
				names = append(names, name)
			}
		}
	}
	return names
}

// phoenixVersion returns the codec that vsn asks for (section 1.3): any patch of
// 1.0 and 2.0, and of 3.0 where the mount speaks MessagePack.
func phoenixVersion(params map[string]any, packed bool) (codec, error) {
	given, there := params["vsn"]
	text, ok := given.(string)
	if !there {
		text, ok = "1.0.0", true
	}
	major, minor, valid := parseVersion(text)
	switch {
	case !ok || !valid || minor != 0:
	case major == 1:
		return phoenixV1{}, nil
	case major == 2:
		if _, supabase := params["apikey"]; supabase {
			return supabaseV2{}, nil
		}
		return phoenixV2{}, nil
	case major == 3 && packed:
		return phoenixV3{}, nil
	}
	return nil, fmt.Errorf("%w: vsn %s is not 1.0.x, 2.0.x or, with MessagePack, 3.0.x", ReasonForbidden, loggable(fmt.Sprint(given)))
}

// parseVersion reads a version of three numbers (semver.org, item 2). One that
// comes before its x.y.0 counts as not valid.
func parseVersion(text string) (major, minor uint64, ok bool) {
	text, build, built := strings.Cut(text, "+")
	text, early, before := strings.Cut(text, "-")
	parts := strings.Split(text, ".")
	if len(parts) != 3 || before && early == "" || built && build == "" {
		return 0, 0, false
	}
	var numbers [3]uint64
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return 0, 0, false
		}
		numbers[i] = n
	}
	return numbers[0], numbers[1], !before || numbers[2] > 0
}
