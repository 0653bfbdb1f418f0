package main

import "slices"

var who = []swatch{{"own", "this library"}, {"limit", "no library: the least that is possible"}, {"peer", "others"}}

// plots are the pictures of what was measured; one without figures is left out.
func plots(s scale, r result) []chart {
	title := s.sizes().Replace
	charts := []chart{
		{
			name: "cpu", title: "What the server's CPU is spent on (less is better; thin line: range of the rounds)", legend: who,
			panels: []panel{
				barsOf("fanout-cpu", "µs per delivery", title("{members} members, 32 messages in flight")),
				barsOf("many-cpu", "µs per delivery", title("{many} members, 16 messages in flight")),
				barsOf("single-cpu", "µs per delivery", title("{members} members, one message in flight")),
				barsOf("topics-cpu", "µs per delivery", title("{topics} topics of 10 members")),
				barsOf("compression-cpu", "µs per delivery", title("{members} members, 1 KiB compressed")),
				barsOf("echo-cpu", "µs per request", "request and reply"),
				barsOf("handshake-cpu", "µs per client", "connect and join"),
				barsOf("joins-cpu", "µs per pair", "join and leave on an open connection"),
				barsOf("document-cpu", "µs per op", "one document of 10 members, each op in order to all"),
			},
		},
		{
			name: "latency", title: "Time from publish to arrival (less is better; logarithmic)",
			legend: []swatch{{"p50", "p50"}, {"p99", "p99"}, {"p999", "p99.9"}},
			panels: []panel{
				quantilesOf("rate", title("{members} members, 20 messages/s")),
				quantilesOf("many", title("{many} members, 4 messages/s")),
				quantilesOf("topics", title("{topics} topics of 10 members, 2,000 messages/s")),
				{"request and reply, round trip", "µs", dots, []mark{{"echo-p50", "p50"}, {"echo-p99", "p99"}}},
			},
		},
		{
			name: "memory", title: "What an idle connection costs (less is better; thin line: range of the rounds)",
			legend: append([]swatch{{"heap", "heap"}, {"stack", "stack"}, {"rest", "rest of RSS"}}, who...),
			panels: []panel{
				{title("slope from {few} to {idle} connections, no message yet"), "bytes", stacks,
					[]mark{{"idle-heap", "heap"}, {"idle-stack", "stack"}, {"idle-rss", ""}}},
				barsOf("idle-used-rss", "bytes", "RSS after messages went both ways"),
				barsOf("idle-rss-few", "bytes", title("RSS at {few} connections")),
				barsOf("idle-rss-most", "bytes", title("RSS at {idle} connections")),
				barsOf("idle-all", "ms", title("one publish to all {idle}: until the last one has it")),
			},
		},
		{
			name: "stall", title: title("The tail of {members} members when one has stopped reading (less is better; logarithmic)"),
			legend: []swatch{{"without", "all of them read"}, {"with", "one has stopped reading"}},
			panels: []panel{
				{"p99 from publish to arrival at the others", "µs", dots, []mark{{"stall-without-p99", "without"}, {"stall-with-p99", "with"}}},
				{"p99.9", "µs", dots, []mark{{"stall-without-p999", "without"}, {"stall-with-p999", "with"}}},
			},
		},
	}
	for i := range charts {
		charts[i].panels = slices.DeleteFunc(charts[i].panels, func(p panel) bool { return len(p.rows(r)) == 0 })
	}
	return slices.DeleteFunc(charts, func(c chart) bool { return len(c.panels) == 0 })
}

func barsOf(figure, unit, title string) panel {
	return panel{title, unit, single, []mark{{figure, ""}}}
}

func quantilesOf(name, title string) panel {
	return panel{title, "µs", dots, []mark{{name + "-p50", "p50"}, {name + "-p99", "p99"}, {name + "-p999", "p999"}}}
}
