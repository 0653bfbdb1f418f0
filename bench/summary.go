package main

import (
	"fmt"
	"slices"
	"strings"
)

// headlines are the figures of the table that a README has room for.
var headlines = []struct{ figure, text string }{
	{"fanout-cpu", "CPU per delivery, {members} members, 32 messages in flight"},
	{"many-cpu", "the same, {many} members, 16 in flight"},
	{"single-cpu", "the same, {members} members, one in flight"},
	{"topics-cpu", "the same, {topics} topics of 10 members"},
	{"compression-cpu", "the same, {members} members, 1 KiB compressed"},
	{"rate-p50", "publish to arrival, p50, {members} members, 20 messages/s"},
	{"rate-p99", "the same, p99"},
	{"many-p99", "the same, p99, {many} members, 4 messages/s"},
	{"topics-p50", "the same, p50, {topics} topics of 10 members, 2,000 messages/s"},
	{"echo-cpu", "CPU per request and reply"},
	{"handshake-cpu", "CPU per connect and join"},
	{"joins-cpu", "CPU per join and leave on an open connection"},
	{"idle-rss", "RSS per idle connection, {idle} of them"},
	{"idle-used-rss", "the same after messages went both ways"},
	{"idle-all", "one publish to all {idle}, until the last one has it"},
	{"document-time", "time per sequenced op, one document of 10 members"},
	{"documents-cpu", "CPU per sequenced op, {topics} documents of 10 members"},
	{"stall-with-p99", "p99 of the others with one stalled reader among {members}"},
}

// summary gives the base's medians, and of the others how many times that they
// take: the median of the ratios within a round.
func summary(s settings, r result) string {
	var b strings.Builder
	names := []string{s.base}
	for _, p := range s.peers {
		if p.name != s.base {
			names = append(names, p.name)
		}
	}
	fmt.Fprintf(&b, "| less is better | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	rows := 0
	for _, h := range headlines {
		col := r.column(h.figure)
		if !slices.ContainsFunc(col.Cells, func(c cell) bool { return c.Value.Rounds > 0 }) {
			continue
		}
		fmt.Fprintf(&b, "| %s |", s.scale.sizes().Replace(h.text))
		for _, name := range names {
			fmt.Fprintf(&b, " %s |", col.headline(name, s.base))
		}
		b.WriteString("\n")
		rows++
	}
	if rows == 0 {
		return ""
	}
	return b.String() + "\n"
}

func (col column) headline(peer, base string) string {
	i := slices.IndexFunc(col.Cells, func(c cell) bool { return c.Peer == peer })
	switch {
	case i < 0:
		return "–"
	case col.Cells[i].Value.Rounds == 0:
		return "failed"
	case peer == base:
		return short(col.Cells[i].Value.Median) + " " + col.Unit
	case col.Cells[i].Ratio == nil:
		return "–"
	}
	return short(col.Cells[i].Ratio.Median) + "×"
}
