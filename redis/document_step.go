package redis

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// The first arguments of the script, whatever the step.
const (
	argKind = iota
	argPublish
	argToken
	argNow
	argFresh // what the document is born as, if this is its first step
	argNode
	argClient
	firstArgument // of the step's own
)

// onlyArguments are those of a script that needs nothing but its kind.
func onlyArguments(kind string) []string {
	args := make([]string, firstArgument, firstArgument+16)
	args[argKind] = kind
	return args
}

// stepArguments returns the arguments of a step but for those that run sets. They share
// the bytes of the step.
func stepArguments(step *realtime.DocumentStep) ([]string, error) {
	args := onlyArguments("")
	if !step.Now.IsZero() {
		args[argNow] = strconv.FormatInt(step.Now.UnixMicro(), 10)
	}
	args[argFresh] = rand.Text()[:12]
	args[argNode], args[argClient] = step.Node, step.Client
	kind := stepKinds[step.Kind]
	if kind.arguments == nil {
		return nil, fmt.Errorf("redis: no step of a document: %d", step.Kind)
	}
	args[argKind] = kind.name
	return kind.arguments(args, step), nil
}

type stepKind struct {
	name      string
	arguments func(args []string, step *realtime.DocumentStep) []string
}

var stepKinds = map[realtime.StepKind]stepKind{
	realtime.StepJoin:  {"join", joinArguments},
	realtime.StepLeave: {"leave", func(args []string, _ *realtime.DocumentStep) []string { return args }},
	realtime.StepOps:   {"ops", opsArguments},
	realtime.StepRefer: {"refer", func(args []string, step *realtime.DocumentStep) []string {
		return append(args, whole(step.RSN))
	}},
	realtime.StepNoop: {"noop", func(args []string, step *realtime.DocumentStep) []string {
		return append(args, step.Noop.Type, text(step.Noop.Text))
	}},
	realtime.StepIdle: {"idle", func(args []string, step *realtime.DocumentStep) []string {
		return append(args, micros(step.Timeout), micros(step.Period))
	}},
	realtime.StepAnswer: {"answer", func(args []string, step *realtime.DocumentStep) []string {
		return append(args, whole(step.Answers), step.Answer.Type, text(step.Answer.Text), step.Ack.Handle,
			whole(step.Ack.SequenceNumber), whole(step.Ack.Covered))
	}},
	realtime.StepBury: {"bury", func(args []string, step *realtime.DocumentStep) []string {
		return append(args, step.Nodes...)
	}},
	realtime.StepSignal: {"signal", func(args []string, step *realtime.DocumentStep) []string {
		return append(args, text(step.Signal))
	}},
}

func joinArguments(args []string, step *realtime.DocumentStep) []string {
	mode := "read"
	if step.Writer {
		mode = "write"
	}
	return append(args, mode, flag(step.Summaries), text(step.Object), step.Join.Type, text(step.Join.Text),
		step.Leave.Type, text(step.Leave.Text), text(step.Came), text(step.Went))
}

func opsArguments(args []string, step *realtime.DocumentStep) []string {
	args = append(args, string(appendQuoted(nil, step.Client)), whole(step.MaxUnsummarized), strconv.Itoa(len(step.Ops)))
	for i := range step.Ops {
		op := &step.Ops[i]
		args = append(args, whole(op.CSN), whole(op.RSN), op.Type, text(op.Text), flag(op.Null), op.Flaw)
		if op.Type != "summarize" {
			args = append(args, "0")
			continue
		}
		args = append(args, strconv.Itoa(1+len(op.Refusal)), "summaryNack")
		for _, part := range op.Refusal {
			args = append(args, text(part))
		}
	}
	return args
}

// text shares b, which nobody changes.
func text(b []byte) string { return rueidis.BinaryString(b) }

func whole(n int64) string { return strconv.FormatInt(n, 10) }

func micros(d time.Duration) string { return whole(d.Microseconds()) }

func flag(is bool) string {
	if is {
		return "1"
	}
	return "0"
}

// appendQuoted appends s as JSON, in the very form in which the core writes it: the
// messages are compared byte by byte. A sequence that is not UTF-8 becomes U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
