package main

var stallWork = &work{
	name: "stall", title: "{members} members of which one has stopped reading, 8 messages in flight: time from publish to arrival at the others, without and with it",
	rows: []row{
		{name: "stall-p99", unit: "×", text: "p99 with it by p99 without", own: true},
		{name: "stall-without-p99", unit: "µs", text: "p99 without"},
		{name: "stall-with-p99", unit: "µs", text: "p99 with"},
		{name: "stall-without-p999", unit: "µs", text: "p99.9 without"},
		{name: "stall-with-p999", unit: "µs", text: "p99.9 with"},
	},
	every: 2,
	can:   publishes, lack: lacksPublish,
	run: stall,
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
	order := serveOrder{Topics: 1, Members: readers, InFlight: 8, Seconds: s.span.Seconds()}
	if err := x.warm(order, order.Seconds); err != nil {
		return nil, err
	}
	_, without, err := x.measured(order, true)
	if err != nil {
		return nil, err
	}
	x.stop()
	order.Least = 300
	y, err := startPair(x.peer, x.compress)
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
	a, b := latencies("", without), latencies("", with)
	return figures{
		"stall-p99":         b["-p99"] / a["-p99"],
		"stall-without-p99": a["-p99"], "stall-with-p99": b["-p99"],
		"stall-without-p999": a["-p999"], "stall-with-p999": b["-p999"],
	}, nil
}
