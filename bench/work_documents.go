package main

import (
	"maps"
	"slices"
)

// Documents whose ops are put in order for all of their members. A candidate
// without a sequencer publishes a text of the same length as the op event to as
// many members, with as much in flight: it has nothing to receive, to check or to
// keep.

const (
	documentWindow = 8  // submissions of each member in flight
	documentBatch  = 32 // ops of the larger submissions
)

var documentWork = &work{
	name: "document", title: "One document of 10 members, 8 submissions of each in flight, every op sequenced, stored in memory and sent to all; " +
		"others publish as many bytes to as many",
	rows: []row{
		{name: "document-time", unit: "µs", text: "time per sequenced op, one in a submission"},
		{name: "document-speed", unit: "1/s", text: "the same as ops per second (more is better)"},
		{name: "document-cpu", unit: "µs", text: "server CPU per op"},
		{name: "document-delivery", unit: "µs", text: "server CPU per op and member"},
		{name: "document-mallocs", unit: "allocs", text: "allocations per op", own: true},
		{name: "document-load", unit: "µs", text: "CPU of the load generator per op", own: true},
		{name: "document-batch-time", unit: "µs", text: "time per sequenced op, 32 in a submission"},
		{name: "document-batch-speed", unit: "1/s", text: "the same as ops per second (more is better)"},
		{name: "document-batch-cpu", unit: "µs", text: "server CPU per op, 32 in a submission"},
	},
	can: sequences, lack: "documents; of those without, two publish the same bytes",
	run: func(x *pair, s scale) (figures, error) {
		if err := x.open(1, topicMembers); err != nil {
			return nil, err
		}
		one, err := x.sequenced("document", 1, topicMembers, topicMembers, 1, documentWindow, s)
		if err != nil {
			return nil, err
		}
		many, err := x.sequenced("document-batch", 1, topicMembers, topicMembers, documentBatch, documentWindow, s)
		if err != nil {
			return nil, err
		}
		for _, name := range []string{"document-batch-delivery", "document-batch-mallocs", "document-batch-load"} {
			delete(many, name)
		}
		maps.Copy(one, many)
		return one, nil
	},
}

var documentsWork = &work{
	name: "documents", title: "{topics} documents of 10 members, {topicConns} connections, two of each document with one submission in flight",
	rows: []row{
		{name: "documents-time", unit: "µs", text: "time per sequenced op"},
		{name: "documents-speed", unit: "1/s", text: "the same as ops per second (more is better)"},
		{name: "documents-cpu", unit: "µs", text: "server CPU per op"},
		{name: "documents-delivery", unit: "µs", text: "server CPU per op and member"},
		{name: "documents-mallocs", unit: "allocs", text: "allocations per op", own: true},
		{name: "documents-load", unit: "µs", text: "CPU of the load generator per op", own: true},
	},
	can: sequences, lack: "documents; of those without, two publish the same bytes",
	every: 2,
	run: func(x *pair, s scale) (figures, error) {
		if err := x.open(s.topics, topicMembers); err != nil {
			return nil, err
		}
		return x.sequenced("documents", s.topics, topicMembers, 2, 1, 1, s)
	},
}

// sequences reports whether the candidate has documents, or is one of those that
// they are compared with.
func sequences(p *peer) bool {
	return p.document != nil || slices.Contains([]string{"gws", "limitco"}, p.name)
}

// open connects the members of documents.
func (x *pair) open(documents, members int) error {
	if x.peer.document != nil {
		x.speak = *x.peer.document
	}
	return x.connect(members*documents, documents, 0)
}

// sequenced has writers members of each document submit ops at a time, window
// submissions in flight; or publishes as much, if the candidate has no documents.
func (x *pair) sequenced(name string, documents, members, writers, ops, window int, s scale) (figures, error) {
	if x.peer.document == nil {
		return x.broadcast(name, serveOrder{Topics: documents, Members: members, InFlight: documents * writers * window,
			Seconds: s.span.Seconds(), Bytes: opEventSize(ops)}, ops)
	}
	order := loadOrder{Op: "submit", Writers: writers, Each: ops, Window: window, Seconds: s.span.Seconds() / 10}
	if _, err := x.load(order); err != nil { // to warm up
		return nil, err
	}
	before, err := x.serve(serveOrder{Op: "report"})
	if err != nil {
		return nil, err
	}
	start, err := x.load(loadOrder{Op: "count"})
	if err != nil {
		return nil, err
	}
	order.Seconds = s.span.Seconds()
	c, err := x.load(order)
	if err != nil {
		return nil, err
	}
	after, err := x.serve(serveOrder{Op: "report"})
	if err != nil {
		return nil, err
	}
	return opFigures(name, before.Usage, after.Usage, c.CPU-start.CPU, c.Seconds, float64(c.Total), members), nil
}

func (x *pair) broadcast(name string, order serveOrder, ops int) (figures, error) {
	if err := x.warm(order, order.Seconds); err != nil {
		return nil, err
	}
	a, c, err := x.measured(order, false)
	if err != nil {
		return nil, err
	}
	return opFigures(name, a.Before, a.Usage, c.CPU, a.Seconds, float64(c.Total)*float64(ops), order.Members), nil
}

// opFigures are those of so many deliveries of single ops.
func opFigures(name string, before, after usage, load int64, seconds, deliveries float64, members int) figures {
	n := deliveries / float64(members)
	return figures{
		name + "-time":     seconds / n * 1e6,
		name + "-speed":    n / seconds,
		name + "-cpu":      float64(after.cpu()-before.cpu()) / n / 1e3,
		name + "-delivery": float64(after.cpu()-before.cpu()) / deliveries / 1e3,
		name + "-mallocs":  float64(after.Mallocs-before.Mallocs) / n,
		name + "-load":     float64(load) / n / 1e3,
	}
}
