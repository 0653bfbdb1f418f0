package realtime

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// constantsOf parses reason.go for the string constants whose names begin so.
func constantsOf(t *testing.T, prefix string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(spec.Names[0].Name, prefix) && len(spec.Values) == 1 {
			if value, ok := spec.Values[0].(*ast.BasicLit); ok {
				found[spec.Names[0].Name] = strings.Trim(value.Value, `"`)
			}
		}
		return true
	})
	return found
}

func TestTableHasEveryReasonOnce(t *testing.T) {
	constants := constantsOf(t, "Reason")
	if len(constants) < 18 {
		t.Fatalf("found only %d reasons in the source", len(constants))
	}
	rows := map[Reason]int{}
	for _, row := range Reasons() {
		rows[row.Reason]++
	}
	for name, value := range constants {
		if rows[Reason(value)] != 1 {
			t.Errorf("%s stands %d times in the table, want once", name, rows[Reason(value)])
		}
	}
	if len(rows) != len(constants) {
		t.Errorf("the table has %d reasons, the source %d", len(rows), len(constants))
	}
}

func TestRowsAreComplete(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	retries := map[Retry]bool{RetryNever: true, RetryNow: true, RetryBackoff: true, RetryNewToken: true}
	words := map[string]Reason{}
	for _, row := range Reasons() {
		ours := row.Reason != ReasonClientClosed && row.Reason != ReasonConnectionLost
		switch {
		case !name.MatchString(string(row.Reason)):
			t.Errorf("%q is no name for a label", string(row.Reason))
		case !retries[row.Retry]:
			t.Errorf("%s: retry %q", row.Reason, row.Retry)
		case row.Text == "" || row.Cause == "":
			t.Errorf("%s: no words for people or operators", row.Reason)
		case ours != (row.Code != 0):
			t.Errorf("%s: code %d", row.Reason, row.Code)
		case ours && !validCloseCode(row.Code):
			t.Errorf("%s: code %d must not be sent", row.Reason, row.Code)
		case len(row.Reason) > maxCloseReason:
			t.Errorf("%s does not fit into a close frame", row.Reason)
		case words[row.Text] != "":
			t.Errorf("%s and %s have the same words", row.Reason, words[row.Text])
		}
		words[row.Text] = row.Reason
	}
}

// The codes and hints of envelope.md section 6, which clients are written to.
func TestCodesAndHintsAreThoseOfTheProtocol(t *testing.T) {
	for reason, want := range map[Reason]string{
		ReasonUnauthenticated: "4001 new_token", ReasonTokenExpired: "4001 new_token", ReasonTokenInvalid: "4001 new_token",
		ReasonOriginNotAllowed: "4003 never", ReasonRateLimited: "4004 backoff", ReasonInvalidMessage: "4005 never",
		ReasonForbidden: "4006 never", ReasonSlowConsumer: "4008 now", ReasonHeartbeatTimeout: "4009 now",
		ReasonReplaced: "4010 never", ReasonShutdown: "1012 backoff", ReasonOverloaded: "1013 backoff",
		ReasonMessageTooLarge: "1009 never", ReasonProtocolError: "1002 backoff", ReasonInternal: "1011 backoff",
	} {
		row := reason.info()
		if got := fmt.Sprint(row.Code, " ", row.Retry); got != want {
			t.Errorf("%s: %s, want %s", string(reason), got, want)
		}
	}
	if got := ReasonDisconnected.info().Code; got != 4011 {
		t.Errorf("disconnected: code %d, want 4011", got)
	}
}

func TestReasonsTableIsTheCallersCopy(t *testing.T) {
	Reasons()[0].Text = "changed"
	if Reasons()[0].Text == "changed" {
		t.Error("a caller can change the table")
	}
}

func TestClientSeesOnlyWhatWasMeantForIt(t *testing.T) {
	own := &Error{Code: "quota", Text: "Too many rooms"}
	for _, tt := range []struct {
		err  error
		code string
		text string
	}{
		{errors.New("dial tcp 10.0.0.7: refused"), "internal", "Internal error"},
		{fmt.Errorf("load: %w", own), "quota", "Too many rooms"},
		{Reject("read-only"), "forbidden", "read-only"},
		{fmt.Errorf("%w: key 7", ReasonTokenInvalid), "token_invalid", "The token is not valid"},
		{Reason("made_up"), "made_up", "made_up"},
	} {
		if got := clientError(tt.err); got.Code != tt.code || got.Text != tt.text {
			t.Errorf("%v: shown as %s %q, want %s %q", tt.err, got.Code, got.Text, tt.code, tt.text)
		}
	}
}

func TestCodeLabelsAreAFixedSet(t *testing.T) {
	known := constantsOf(t, "Code")
	if len(known) < 7 {
		t.Fatalf("found only %d codes in the source", len(known))
	}
	for _, reason := range constantsOf(t, "Reason") {
		known[reason] = reason
	}
	known["ok"] = "ok"
	for _, code := range known {
		if got := codeLabel(code); got != code {
			t.Errorf("code %s has label %s", code, got)
		}
	}
	for _, code := range []string{"quota", "", "user-17"} {
		if got := codeLabel(code); got != "host" {
			t.Errorf("code %q of the host has label %q, want host", code, got)
		}
	}
}

func TestReasonIsAnErrorThatCanBeCompared(t *testing.T) {
	err := fmt.Errorf("%w: limit per IP", ReasonRateLimited)
	if !errors.Is(err, ReasonRateLimited) || errors.Is(err, ReasonForbidden) {
		t.Error("errors.Is does not tell reasons apart")
	}
	if got, want := ReasonRateLimited.Error(), "realtime: rate_limited: Too many messages"; got != want {
		t.Errorf("Error() is %q, want %q", got, want)
	}
}
