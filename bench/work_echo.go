package main

import "fmt"

const echoClients = 100

var echoWork = &work{
	name: "echo", title: "Request and reply on 100 connections, one request outstanding on each",
	rows: []row{
		{name: "echo-cpu", unit: "µs", text: "server CPU per request and reply"},
		{name: "echo-p50", unit: "µs", text: "round trip, p50"},
		{name: "echo-p99", unit: "µs", text: "round trip, p99"},
	},
	run: func(x *pair, s scale) (figures, error) {
		each := max(int(s.span.Seconds()*400), 20)
		cpu, c, err := asked(x, loadOrder{Op: "echo", Window: 1, Stamps: true}, each)
		if err != nil {
			return nil, err
		}
		return figures{"echo-cpu": cpu / float64(c.Total) / 1e3, "echo-p50": float64(c.P50) / 1e3, "echo-p99": float64(c.P99) / 1e3}, nil
	},
}

// asked has every client send so many requests, after a tenth of them to warm
// up, and returns the CPU that they cost in nanoseconds.
func asked(x *pair, order loadOrder, each int) (cpu float64, c loadAnswer, err error) {
	if err = x.connect(echoClients, 1, 0); err != nil {
		return 0, c, err
	}
	order.Each = max(each/20, 1) * 2 // even: whoever leaves comes back
	if _, err = x.load(order); err != nil {
		return 0, c, err
	}
	before, err := x.report(false)
	if err != nil {
		return 0, c, err
	}
	order.Each = each
	if c, err = x.load(order); err != nil {
		return 0, c, err
	}
	after, err := x.report(false)
	if err != nil {
		return 0, c, err
	}
	if c.Min != uint64(each) || c.Max != uint64(each) {
		err = fmt.Errorf("%s: %d to %d replies per client in place of %d", x.peer.name, c.Min, c.Max, each)
	}
	return float64(after.cpu() - before.cpu()), c, err
}
