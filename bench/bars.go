package main

import (
	"fmt"
	"strings"
)

// bar is a promise of the library: the median of figure, as a ratio to the
// candidate against in the same rounds (or as it is, when against is empty), is
// at most first; then is where it means to end up. A negative number is none.
type bar struct {
	figure, against string
	first, then     float64
}

const none = -1

var bars = []bar{
	{"fanout-cpu", "limitco", 2.0, 1.3},
	{"fanout-cpu", "gws", 0.25, none},
	{"fanout-cpu", "centrifuge", 0.4, none},
	{"many-cpu", "limitco", 2.0, 1.3},
	{"many-cpu", "gws", 0.25, none},
	{"single-cpu", "limit", 1.25, 1.1},
	{"single-cpu", "gws", 1.0, none},
	{"single-mallocs", "", 0.05, 0},
	{"rate-p50", "limit", 1.3, 1.1},
	{"rate-p50", "gws", 1.0, none},
	{"topics-cpu", "limitco", 1.3, 1.0},
	{"topics-cpu", "gws", 0.75, none},
	{"topics-p50", "limit", none, 1.1},
	{"topics-p50", "gws", 1.0, none},
	{"echo-cpu", "socketio", 0.4, none},
	{"echo-cpu", "gws", 1.6, 1.2},
	{"handshake-cpu", "gws", 1.7, 1.3},
	{"idle-rss", "", 8500, 5000},
	{"idle-rss", "gws", 1.1, none},
	{"idle-rss", "naive", 0.35, none},
	{"idle-used-rss", "gws", 1.0, 0.5},
	{"idle-goroutines", "", 1.01, 1.01}, // the slope has a goroutine or two of the runtime in it
	{"stall-p99", "", 1.2, 1.05},
	{"document-time", "gws", 1. / 3, 1. / 5}, // three and five times as many ops in the same time
}

// barTable holds the subject against the bars; empty when it did not run.
func barTable(subject string, samples []sample, rounds int) string {
	var b strings.Builder
	for _, one := range bars {
		values := series(samples, rounds, subject, one.figure)
		got, to := spreadOf(values), "as it is"
		if one.against != "" {
			got, to = ratios(values, series(samples, rounds, one.against, one.figure)), "by "+one.against
		}
		if got.Rounds == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s, %s | %s (%s–%s) | %s | %s |\n", one.figure, to, short(got.Median), short(got.Low), short(got.High),
			verdict(got.Median, one.first), verdict(got.Median, one.then))
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n## Bars of " + subject + "\n\n| figure | median (range) | bar | aim |\n|---|---|---|---|\n" + b.String()
}

func verdict(got, most float64) string {
	switch {
	case most < 0:
		return "–"
	case got <= most:
		return "≤ " + short(most) + " met"
	default:
		return "≤ " + short(most) + " **missed**"
	}
}
