package main

import (
	"fmt"
	"maps"
	"time"
)

// A work is one thing that candidates are measured at. It gets a fresh pair of
// processes and returns figures by the names of its rows.
type work struct {
	name string
	rows []row
	run  func(x *pair, s scale) (figures, error)
}

// row is one line of the table. Less is better in every row.
type row struct {
	name string
	unit string
	text string
	own  bool // the value is a ratio already, none to the base is taken
}

type figures map[string]float64

var allWorks = []*work{
	{
		name: "fanout",
		rows: []row{
			{name: "fanout-cpu", unit: "µs", text: "server CPU per delivery, {members} members, 32 in flight"},
			{name: "fanout-wall", unit: "µs", text: "wall time per delivery, same run"},
			{name: "fanout-mallocs", unit: "allocs", text: "allocations per delivery, same run", own: true},
			{name: "fanout-load", unit: "µs", text: "CPU of the load generator per delivery, same run", own: true},
		},
		run: func(x *pair, s scale) (figures, error) { return fanout(x, "fanout", s.members, 32, s.span) },
	},
	{
		name: "many",
		rows: []row{{name: "many-cpu", unit: "µs", text: "server CPU per delivery, {many} members, 16 in flight"}},
		run:  func(x *pair, s scale) (figures, error) { return fanout(x, "many", s.many, 16, s.span) },
	},
	{
		name: "single",
		rows: []row{
			{name: "single-cpu", unit: "µs", text: "server CPU per delivery, {members} members, one in flight"},
			{name: "single-mallocs", unit: "allocs", text: "allocations per delivery, same run", own: true},
		},
		run: func(x *pair, s scale) (figures, error) { return fanout(x, "single", s.members, 1, s.span) },
	},
	{
		name: "rate",
		rows: []row{
			{name: "rate-p50", unit: "µs", text: "publish to arrival, p50, {members} members, 20 messages/s"},
			{name: "rate-p99", unit: "µs", text: "the same, p99"},
			{name: "rate-p999", unit: "µs", text: "the same, p99.9"},
		},
		run: func(x *pair, s scale) (figures, error) {
			if err := x.connect(s.members, 1, 0); err != nil {
				return nil, err
			}
			return x.paced("rate", serveOrder{Topics: 1, Members: s.members, Rate: 20}, 2*s.span)
		},
	},
	{
		name: "topics",
		rows: []row{
			{name: "topics-cpu", unit: "µs", text: "server CPU per delivery, {topics} topics of 10, twice as many in flight as topics"},
			{name: "topics-p50", unit: "µs", text: "publish to arrival, p50, {topics} topics of 10, 2,000 messages/s"},
			{name: "topics-p99", unit: "µs", text: "the same, p99"},
		},
		run: topics,
	},
	{
		name: "echo",
		rows: []row{
			{name: "echo-cpu", unit: "µs", text: "server CPU per request and reply, 100 connections, one outstanding"},
			{name: "echo-p50", unit: "µs", text: "the same, round trip, p50"},
		},
		run: echo,
	},
	{
		name: "handshake",
		rows: []row{{name: "handshake-cpu", unit: "µs", text: "server CPU per connect and join"}},
		run:  handshake,
	},
	{
		name: "churn",
		rows: []row{
			{name: "churn-cpu", unit: "µs", text: "server CPU per connect, join and leave"},
			{name: "churn-left", unit: "goroutines", text: "goroutines left behind", own: true},
		},
		run: churn,
	},
	{
		name: "idle",
		rows: []row{
			{name: "idle-rss", unit: "B", text: "RSS per idle connection after GC, before any message, slope up to {idle}"},
			{name: "idle-used-rss", unit: "B", text: "the same after messages went both ways"},
			{name: "idle-stack", unit: "B", text: "stack per idle connection"},
			{name: "idle-goroutines", unit: "each", text: "goroutines per idle connection", own: true},
		},
		run: idle,
	},
	{
		name: "stall",
		rows: []row{{name: "stall-p99", unit: "×", text: "p99 with one stalled reader among {members}, by p99 without", own: true}},
		run:  stall,
	},
}

func workNames() (names []string) {
	for _, w := range allWorks {
		names = append(names, w.name)
	}
	return names
}

// warm publishes for a tenth of the span, so that code, pools and stacks are there.
func (x *pair) warm(order serveOrder, span time.Duration) error {
	order.Rate = 0
	order.Seconds = span.Seconds() / 10 // Least stays
	a, err := x.serve(order)
	if err == nil && a.Lost > 0 {
		err = fmt.Errorf("%s lost %d deliveries", x.peer.name, a.Lost)
	}
	return err
}

// measured publishes and checks that every client has got every message of its
// topic, no more and no less. The CPU of the load answer is that of the run.
func (x *pair) measured(order serveOrder, stamps bool) (serveAnswer, loadAnswer, error) {
	before, err := x.load(loadOrder{Op: "reset", Stamps: stamps})
	if err != nil {
		return serveAnswer{}, loadAnswer{}, err
	}
	a, err := x.serve(order)
	if err != nil {
		return a, loadAnswer{}, err
	}
	c, err := x.load(loadOrder{Op: "count"})
	if err != nil {
		return a, c, err
	}
	c.CPU -= before.CPU
	least := a.Published / uint64(order.Topics)
	most := (a.Published + uint64(order.Topics) - 1) / uint64(order.Topics)
	want := a.Published * uint64(order.Members)
	if a.Lost > 0 || c.Total != want || c.Min != least || c.Max != most {
		err = fmt.Errorf("%s: %d of %d arrived, per client %d to %d in place of %d to %d",
			x.peer.name, c.Total, want, c.Min, c.Max, least, most)
	}
	return a, c, err
}

func fanout(x *pair, name string, clients, inFlight int, span time.Duration) (figures, error) {
	if err := x.connect(clients, 1, 0); err != nil {
		return nil, err
	}
	return x.flatOut(name, serveOrder{Topics: 1, Members: clients, InFlight: inFlight}, span)
}

func topics(x *pair, s scale) (figures, error) {
	const each = 10
	if err := x.connect(each*s.topics, s.topics, 0); err != nil {
		return nil, err
	}
	out, err := x.flatOut("topics", serveOrder{Topics: s.topics, Members: each, InFlight: 2 * s.topics}, s.span)
	if err != nil {
		return nil, err
	}
	latency, err := x.paced("topics", serveOrder{Topics: s.topics, Members: each, Rate: 2000}, s.span)
	maps.Copy(out, latency)
	return out, err
}

// flatOut publishes as fast as the messages in flight allow.
func (x *pair) flatOut(name string, order serveOrder, span time.Duration) (figures, error) {
	order.Op, order.Seconds = "publish", span.Seconds()
	if err := x.warm(order, span); err != nil {
		return nil, err
	}
	a, c, err := x.measured(order, false)
	if err != nil {
		return nil, err
	}
	n := float64(c.Total)
	return figures{
		name + "-cpu":     float64(a.Usage.cpu()-a.Before.cpu()) / n / 1e3,
		name + "-wall":    a.Seconds / n * 1e6,
		name + "-mallocs": float64(a.Usage.Mallocs-a.Before.Mallocs) / n,
		name + "-load":    float64(c.CPU) / n / 1e3,
	}, nil
}

// paced publishes at a fixed rate and takes the time from publish to arrival.
func (x *pair) paced(name string, order serveOrder, span time.Duration) (figures, error) {
	order.Op, order.Seconds, order.InFlight = "publish", span.Seconds(), 1
	if err := x.warm(order, span); err != nil {
		return nil, err
	}
	_, c, err := x.measured(order, true)
	if err != nil {
		return nil, err
	}
	return figures{name + "-p50": float64(c.P50) / 1e3, name + "-p99": float64(c.P99) / 1e3, name + "-p999": float64(c.P999) / 1e3}, nil
}

func echo(x *pair, s scale) (figures, error) {
	const clients = 100
	if err := x.connect(clients, 1, 0); err != nil {
		return nil, err
	}
	each := max(int(s.span.Seconds()*400), 20)
	order := loadOrder{Op: "echo", Each: each / 10, Window: 1, Stamps: true}
	if _, err := x.load(order); err != nil {
		return nil, err
	}
	before, err := x.report(false)
	if err != nil {
		return nil, err
	}
	order.Each = each
	c, err := x.load(order)
	if err != nil {
		return nil, err
	}
	after, err := x.report(false)
	if err != nil {
		return nil, err
	}
	if c.Min != uint64(each) || c.Max != uint64(each) {
		return nil, fmt.Errorf("%s: %d to %d replies per client in place of %d", x.peer.name, c.Min, c.Max, each)
	}
	return figures{"echo-cpu": float64(after.cpu()-before.cpu()) / float64(c.Total) / 1e3, "echo-p50": float64(c.P50) / 1e3}, nil
}

func handshake(x *pair, s scale) (figures, error) {
	if err := x.connect(s.conns/10, 1, 0); err != nil {
		return nil, err
	}
	before, err := x.report(false)
	if err != nil {
		return nil, err
	}
	if err := x.connect(s.conns, 1, 0); err != nil {
		return nil, err
	}
	after, err := x.report(false)
	if err != nil {
		return nil, err
	}
	return figures{"handshake-cpu": float64(after.cpu()-before.cpu()) / float64(s.conns) / 1e3}, nil
}

func churn(x *pair, s scale) (figures, error) {
	order := loadOrder{Op: "churn", Count: s.conns / 10, Topics: 1, Parallel: 32}
	if _, err := x.load(order); err != nil {
		return nil, err
	}
	before, err := x.report(true) // the collector's own goroutines exist from here on
	if err != nil {
		return nil, err
	}
	order.Count = s.conns
	if _, err := x.load(order); err != nil {
		return nil, err
	}
	if err := x.awaitMembers(0, 0); err != nil {
		return nil, err
	}
	after, err := x.report(false)
	if err != nil {
		return nil, err
	}
	time.Sleep(50 * time.Millisecond) // the last goroutines are on their way out
	left, err := x.report(true)
	if err != nil {
		return nil, err
	}
	return figures{
		"churn-cpu":  float64(after.cpu()-before.cpu()) / float64(s.conns) / 1e3,
		"churn-left": max(0, float64(left.Goroutines)-float64(before.Goroutines)),
	}, nil
}

// idle takes the slope between two numbers of connections, which leaves out
// what the process holds for itself.
func idle(x *pair, s scale) (figures, error) {
	const settled = 1500 * time.Millisecond // without a message: that is what idle means
	few, most := s.idle[0], s.idle[1]
	if err := x.connect(few, 1, 0); err != nil {
		return nil, err
	}
	time.Sleep(settled)
	low, err := x.report(true)
	if err != nil {
		return nil, err
	}
	if err := x.connect(most-few, 1, 0); err != nil {
		return nil, err
	}
	time.Sleep(settled)
	high, err := x.report(true)
	if err != nil {
		return nil, err
	}
	per := func(a, b uint64) float64 { return (float64(b) - float64(a)) / float64(most-few) }
	out := figures{
		"idle-rss":        per(low.RSS, high.RSS),
		"idle-stack":      per(low.Stack, high.Stack),
		"idle-goroutines": per(low.Goroutines, high.Goroutines),
	}
	if x.peer.argv == nil { // publishing needs the Go side
		if _, err := x.serve(serveOrder{Op: "publish", Topics: 1, Members: most, InFlight: 4, Seconds: min(0.2, s.span.Seconds())}); err != nil {
			return nil, err
		}
	}
	if _, err := x.load(loadOrder{Op: "echo", Each: 2, Window: 1}); err != nil {
		return nil, err
	}
	used, err := x.report(true)
	if err != nil {
		return nil, err
	}
	base := float64(low.RSS) - out["idle-rss"]*float64(few)
	out["idle-used-rss"] = (float64(used.RSS) - base) / float64(most)
	return out, nil
}

// stall publishes flat out twice: to clients that read, then, in a server of its
// own, with one more that does not. Its socket is filled beforehand, while there
// are few members and that is cheap; the measured run overflows its queue.
func stall(x *pair, s scale) (figures, error) {
	const early = 9
	readers := s.members - 1
	if err := x.connect(readers, 1, 0); err != nil {
		return nil, err
	}
	order := serveOrder{Op: "publish", Topics: 1, Members: readers, InFlight: 8, Seconds: s.span.Seconds()}
	if err := x.warm(order, s.span); err != nil {
		return nil, err
	}
	order.Least = 300
	_, without, err := x.measured(order, true)
	if err != nil {
		return nil, err
	}
	x.stop()
	y, err := startPair(x.peer)
	if err != nil {
		return nil, err
	}
	defer y.stop()
	if err := y.connect(early, 1, 0); err != nil {
		return nil, err
	}
	if err := y.connect(1, 1, 1); err != nil {
		return nil, err
	}
	fill := order
	fill.Members, fill.Least = early, 400
	if err := y.warm(fill, 0); err != nil {
		return nil, err
	}
	if err := y.connect(readers-early, 1, 0); err != nil {
		return nil, err
	}
	_, with, err := y.measured(order, true)
	if err != nil {
		return nil, err
	}
	return figures{"stall-p99": float64(with.P99) / float64(without.P99)}, nil
}
