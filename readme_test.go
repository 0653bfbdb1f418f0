package realtime

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// generated returns what stands in the README between the comment that begins
// with mark and its end.
func generated(t *testing.T, mark string) string {
	t.Helper()
	_, rest, found := strings.Cut(readText(t, "README.md"), "<!-- "+mark+":")
	_, rest, opened := strings.Cut(rest, "-->\n")
	table, _, ended := strings.Cut(rest, "<!-- end -->")
	if !found || !opened || !ended {
		t.Fatalf("README.md has no part marked %q", mark)
	}
	return table
}

func TestReadmeTableOfClosesIsTheCodes(t *testing.T) {
	var want strings.Builder
	want.WriteString("| reason | code | retry | the client is told | look at |\n|---|---|---|---|---|\n")
	for _, row := range Reasons() {
		code, retry, text := fmt.Sprint(row.Code), "`"+string(row.Retry)+"`", row.Text
		if row.Code == 0 { // the peer ended it: nobody is told anything
			code, retry, text = "–", "–", "–"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s | %s |\n", string(row.Reason), code, retry, text, row.Cause)
	}
	if got := generated(t, "reasons"); got != want.String() {
		t.Errorf("README.md differs from Reasons(); want\n%s", want.String())
	}
}

// metricInfo is one registered metric.
type metricInfo struct{ name, kind, labels, help string }

var descText = regexp.MustCompile(`fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)", (?:unit: "[^"]*", )?constLabels: \{\}, variableLabels: \{([^}]*)\}`)

// registeredMetrics lists what WithMetrics registers, by name.
func registeredMetrics(t *testing.T) []metricInfo {
	t.Helper()
	var infos []metricInfo
	for _, c := range newMetrics().all() {
		descs := make(chan *prometheus.Desc, 8)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			m := descText.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			infos = append(infos, metricInfo{m[1], kindOf(c), strings.ReplaceAll(m[3], ",", ", "), m[2]})
		}
	}
	slices.SortFunc(infos, func(a, b metricInfo) int { return cmp.Compare(a.name, b.name) })
	return infos
}

func kindOf(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.GaugeVec, prometheus.Gauge: // a Gauge is a Counter, too
		return "gauge"
	}
	return "counter"
}

func TestReadmeListsEveryMetric(t *testing.T) {
	var want strings.Builder
	want.WriteString("| metric | kind | labels | what it says |\n|---|---|---|---|\n")
	for _, m := range registeredMetrics(t) {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", m.name, m.kind, m.labels, m.help)
	}
	if got := generated(t, "metrics"); got != want.String() {
		t.Errorf("README.md differs from the registry; want\n%s", want.String())
	}
}

// optionResults are the types whose constructors a user has to know of.
var optionResults = []string{"Option", "MountOption", "TopicOption", "PublishOption", "PresenceOption", "JWTOption", "RateLimit", "Policy", "DocumentOption"}

// exportedOptions lists the exported functions of the package that make one.
func exportedOptions(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.IsExported() && makesOption(f) {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

func makesOption(f *ast.FuncDecl) bool {
	if f.Type.Results == nil || len(f.Type.Results.List) != 1 {
		return false
	}
	result, ok := f.Type.Results.List[0].Type.(*ast.Ident)
	return ok && slices.Contains(optionResults, result.Name)
}

func TestReadmeNamesEveryOption(t *testing.T) {
	readme := readText(t, "README.md")
	names := exportedOptions(t)
	if len(names) < 40 {
		t.Fatalf("found %d options, want the package's 40 and more", len(names))
	}
	for _, name := range names {
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(readme) {
			t.Errorf("README.md does not name %s", name)
		}
	}
	_, table, _ := strings.Cut(readme, "\n## Options\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, name := range names {
		if strings.HasPrefix(name, "With") && !strings.Contains(table, "`"+name+"`") {
			t.Errorf("the table of options lacks %s", name)
		}
	}
}

func TestReadmeSnippetsAreCompiled(t *testing.T) {
	compiled := ""
	for _, file := range []string{"example_readme_test.go", "jwks/example_test.go", "redis/example_test.go"} {
		compiled += codeLines(readText(t, file))
	}
	snippets := regexp.MustCompile("(?s)\n```go\n(.*?)```").FindAllStringSubmatch(readText(t, "README.md"), -1)
	if len(snippets) < 10 {
		t.Fatalf("found %d snippets, want 10 and more", len(snippets))
	}
	for _, snippet := range snippets {
		for _, part := range strings.Split(withoutHead(snippet[1]), "\n\n") {
			if lines := codeLines(part); !strings.Contains(compiled, lines) {
				t.Errorf("no example has this:\n%s", lines)
			}
		}
	}
}

// withoutHead cuts the package clause and the imports off a whole program.
func withoutHead(program string) string {
	if !strings.HasPrefix(program, "package ") {
		return program
	}
	_, body, _ := strings.Cut(program, "\n)\n\n")
	return body
}

var spaces = regexp.MustCompile(`[ \t]+`)

// codeLines returns code without indentation, alignment and empty lines.
func codeLines(code string) string {
	var lines strings.Builder
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(spaces.ReplaceAllString(line, " ")); line != "" {
			lines.WriteString(line + "\n")
		}
	}
	return lines.String()
}

func TestProtocolPageNamesEveryReasonAndCode(t *testing.T) {
	page := readText(t, "docs/protocols.md")
	for _, row := range Reasons() {
		want := fmt.Sprintf("| `%s` | %d |", string(row.Reason), row.Code)
		if row.Code == 0 {
			want = "`" + string(row.Reason) + "`"
		}
		if !strings.Contains(page, want) {
			t.Errorf("docs/protocols.md lacks %s", want)
		}
	}
	for _, code := range []string{CodeInvalidData, CodeUnknownChannel, CodeUnknownEvent, CodeNotSubscribed,
		CodeAlreadySubscribed, CodeTooManyChannels, CodeNoHistory, CodeJoinTimeout, CodeUnavailable} {
		if !strings.Contains(page, "| `"+code+"` |") {
			t.Errorf("docs/protocols.md lacks the code %s", code)
		}
	}
	for _, c := range append([]codec{rawCodec{}}, allCodecs...) {
		if !strings.Contains(page, "`"+c.protocol()+"`") {
			t.Errorf("docs/protocols.md lacks the protocol %s", c.protocol())
		}
	}
}
