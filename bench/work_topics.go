package main

import "maps"

const topicMembers = 10

var topicsWork = &work{
	name: "topics", title: "{topics} topics of 10 members, {topicConns} connections: twice as many messages in flight as topics, " +
		"then 2,000 messages/s for the time from publish to arrival",
	rows: []row{
		{name: "topics-cpu", unit: "µs", text: "server CPU per delivery"},
		{name: "topics-speed", unit: "1/s", text: "deliveries per second (more is better)"},
		{name: "topics-p50", unit: "µs", text: "p50"},
		{name: "topics-p99", unit: "µs", text: "p99"},
		{name: "topics-p999", unit: "µs", text: "p99.9"},
	},
	can: publishes, lack: lacksPublish,
	run: topics,
}

func topics(x *pair, s scale) (figures, error) {
	if err := x.connect(topicMembers*s.topics, s.topics, 0); err != nil {
		return nil, err
	}
	order := serveOrder{Topics: s.topics, Members: topicMembers, InFlight: 2 * s.topics, Seconds: s.span.Seconds()}
	out, err := x.flatOut("topics", order)
	if err != nil {
		return nil, err
	}
	order.Rate = 2000
	latency, err := x.paced("topics", order)
	maps.Copy(out, latency)
	return out, err
}
