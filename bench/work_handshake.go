package main

import "time"

var handshakeWork = &work{
	name: "handshake", title: "Connection set-up: {conns} clients connect and join, 64 at a time",
	rows: []row{
		{name: "handshake-cpu", unit: "µs", text: "server CPU per connect and join"},
		{name: "handshake-speed", unit: "1/s", text: "connections per second (more is better)"},
	},
	run: handshake,
}

var churnWork = &work{
	name: "churn", title: "{conns} clients connect, join and leave again, 32 at a time",
	rows: []row{
		{name: "churn-cpu", unit: "µs", text: "server CPU per connect, join and leave"},
		{name: "churn-left", unit: "each", text: "goroutines left behind", own: true},
	},
	run: churn,
}

func handshake(x *pair, s scale) (figures, error) {
	if err := x.connect(s.conns/10, 1, 0); err != nil {
		return nil, err
	}
	before, err := x.report(false)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := x.connect(s.conns, 1, 0); err != nil {
		return nil, err
	}
	took := time.Since(start)
	after, err := x.report(false)
	if err != nil {
		return nil, err
	}
	return figures{
		"handshake-cpu":   float64(after.cpu()-before.cpu()) / float64(s.conns) / 1e3,
		"handshake-speed": float64(s.conns) / took.Seconds(),
	}, nil
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
