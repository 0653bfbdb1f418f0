package main

import (
	"maps"
	"time"
)

// One topic that everybody has joined: flat out with much and with nothing
// waiting, and at a fixed rate.

var fanoutWork = &work{
	name: "fanout", title: "One topic of {members} members, 32 messages in flight",
	rows: []row{
		{name: "fanout-cpu", unit: "µs", text: "server CPU per delivery"},
		{name: "fanout-speed", unit: "1/s", text: "deliveries per second (more is better)"},
		{name: "fanout-mallocs", unit: "allocs", text: "allocations per delivery", own: true},
		{name: "fanout-wire", unit: "B", text: "bytes on the wire per delivery", own: true},
		{name: "fanout-load", unit: "µs", text: "CPU of the load generator per delivery", own: true},
	},
	can: publishes, lack: lacksPublish,
	run: func(x *pair, s scale) (figures, error) {
		return fanout(x, "fanout", s.members, 32, s.span)
	},
}

var manyWork = &work{
	name: "many", title: "One topic of {many} members: 16 messages in flight, then 4 messages/s for the time from publish to arrival",
	rows: []row{
		{name: "many-cpu", unit: "µs", text: "server CPU per delivery"},
		{name: "many-speed", unit: "1/s", text: "deliveries per second (more is better)"},
		{name: "many-p50", unit: "µs", text: "p50"},
		{name: "many-p99", unit: "µs", text: "p99"},
		{name: "many-p999", unit: "µs", text: "p99.9"},
	},
	can: publishes, lack: lacksPublish,
	run: func(x *pair, s scale) (figures, error) {
		out, err := fanout(x, "many", s.many, 16, s.span)
		if err != nil {
			return nil, err
		}
		latency, err := x.paced("many", serveOrder{Topics: 1, Members: s.many, Rate: 4, Seconds: 3 * s.span.Seconds()})
		maps.Copy(out, latency)
		return out, err
	},
}

var singleWork = &work{
	name: "single", title: "One topic of {members} members, one message in flight",
	rows: []row{
		{name: "single-cpu", unit: "µs", text: "server CPU per delivery"},
		{name: "single-speed", unit: "1/s", text: "deliveries per second (more is better)"},
		{name: "single-mallocs", unit: "allocs", text: "allocations per delivery", own: true},
	},
	can: publishes, lack: lacksPublish,
	run: func(x *pair, s scale) (figures, error) {
		return fanout(x, "single", s.members, 1, s.span)
	},
}

var rateWork = &work{
	name: "rate", title: "One topic of {members} members, 20 messages/s: time from publish to arrival",
	rows: []row{
		{name: "rate-p50", unit: "µs", text: "p50"},
		{name: "rate-p99", unit: "µs", text: "p99"},
		{name: "rate-p999", unit: "µs", text: "p99.9"},
	},
	can: publishes, lack: lacksPublish,
	run: func(x *pair, s scale) (figures, error) {
		if err := x.connect(s.members, 1, 0); err != nil {
			return nil, err
		}
		return x.paced("rate", serveOrder{Topics: 1, Members: s.members, Rate: 20, Seconds: 2 * s.span.Seconds()})
	},
}

func fanout(x *pair, name string, clients, inFlight int, span time.Duration) (figures, error) {
	if err := x.connect(clients, 1, 0); err != nil {
		return nil, err
	}
	return x.flatOut(name, serveOrder{Topics: 1, Members: clients, InFlight: inFlight, Seconds: span.Seconds()})
}
