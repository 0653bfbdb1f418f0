// Package checks holds the numbered tests of a protocol against their table in
// docs/protocols.md.
package checks

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	name = regexp.MustCompile(`(?m)^func (TestCheck(\d+)_\w+)\(t \*testing\.T\)`)
	row  = regexp.MustCompile("(?m)^\\| (\\d+) \\| .* \\| `(TestCheck\\d+_\\w+)` \\|$")
)

// Table wants a test in the caller's folder, one of examples, and a row with its name
// in the section of docs/protocols.md that heading begins, for each of the checks up to
// last.
func Table(t *testing.T, heading string, last int) {
	t.Helper()
	tests, rows := testsOf(t), rowsOf(t, heading)
	for n := 1; n <= last; n++ {
		if rows[n] == "" {
			t.Errorf("check %d has no row in docs/protocols.md", n)
		}
		if tests[n] == "" {
			t.Errorf("check %d has no test", n)
		}
		if tests[n] != "" && rows[n] != tests[n] {
			t.Errorf("check %d: docs/protocols.md names %s, the test is %s", n, rows[n], tests[n])
		}
	}
	if len(rows) > last {
		t.Errorf("docs/protocols.md has %d rows, want %d", len(rows), last)
	}
}

// testsOf returns the tests of the checks, by number.
func testsOf(t *testing.T) map[int]string {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files (%v)", err)
	}
	tests := map[int]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range name.FindAllStringSubmatch(string(text), -1) {
			n := number(t, found[2])
			if tests[n] != "" {
				t.Errorf("check %d has two tests, %s and %s", n, tests[n], found[1])
			}
			if tests[n] = found[1]; !strings.HasPrefix(found[1], fmt.Sprintf("TestCheck%03d_", n)) {
				t.Errorf("%s: want a number of three digits", found[1])
			}
		}
	}
	return tests
}

// rowsOf returns the tests that the table names, by number.
func rowsOf(t *testing.T, heading string) map[int]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/protocols.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[int]string{}
	for _, found := range row.FindAllStringSubmatch(section, -1) {
		n := number(t, found[1])
		if rows[n] != "" {
			t.Errorf("check %d has two rows", n)
		}
		rows[n] = found[2]
	}
	return rows
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
