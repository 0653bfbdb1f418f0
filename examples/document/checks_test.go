package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The checks that have a test in this directory, and how many there are in all:
// those beyond are for a real client, in interop/fluid.
const (
	lastTested = 123
	lastCheck  = 129
)

var (
	checkName = regexp.MustCompile(`(?m)^func (TestCheck(\d+)_\w+)\(t \*testing\.T\)`)
	checkRow  = regexp.MustCompile("(?m)^\\| (\\d+) \\| .* \\| `(TestCheck\\d+_\\w+)` \\|$")
)

// testsOf returns the tests of the checks, by number.
func testsOf(t *testing.T) map[int]string {
	t.Helper()
	tests := map[int]string{}
	for _, pattern := range []string{"*_test.go", "../../interop/fluid/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range checkName.FindAllStringSubmatch(string(text), -1) {
				n := number(t, found[2])
				if tests[n] != "" {
					t.Errorf("check %d has two tests, %s and %s", n, tests[n], found[1])
				}
				if tests[n] = found[1]; !strings.HasPrefix(found[1], fmt.Sprintf("TestCheck%03d_", n)) {
					t.Errorf("%s: want a number of three digits", found[1])
				}
			}
		}
	}
	return tests
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEveryCheckHasItsTestAndItsRowInTheDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/protocols.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), ". Documents\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[int]string{}
	for _, found := range checkRow.FindAllStringSubmatch(section, -1) {
		n := number(t, found[1])
		if rows[n] != "" {
			t.Errorf("check %d has two rows", n)
		}
		rows[n] = found[2]
	}
	tests := testsOf(t)
	for n := 1; n <= lastCheck; n++ {
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
	if len(rows) > lastCheck {
		t.Errorf("docs/protocols.md has %d rows, want %d", len(rows), lastCheck)
	}
}
