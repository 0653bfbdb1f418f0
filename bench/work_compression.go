package main

import "fmt"

var compressionWork = &work{
	name: "compression", title: "One topic of {members} members with permessage-deflate, 1 KiB of JSON per message, 32 in flight",
	rows: []row{
		{name: "compression-cpu", unit: "µs", text: "server CPU per delivery"},
		{name: "compression-speed", unit: "1/s", text: "deliveries per second (more is better)"},
		{name: "compression-wire", unit: "B", text: "bytes on the wire per delivery"},
	},
	compress: true,
	can:      func(p *peer) bool { return p.compresses }, lack: "compression whose messages can be counted without inflating them",
	run: compression,
}

// compression has every client look into its first message, so that the
// measured run need not: it was compressed, and inflates to what was published.
func compression(x *pair, s scale) (figures, error) {
	if err := x.connect(s.members, 1, 0); err != nil {
		return nil, err
	}
	order := serveOrder{Topics: 1, Members: s.members, InFlight: 32, Rows: true}
	if _, err := x.load(loadOrder{Op: "inspect"}); err != nil {
		return nil, err
	}
	order.Least = 1
	if err := x.warm(order, 0); err != nil {
		return nil, err
	}
	seen, err := x.load(loadOrder{Op: "count"})
	if err != nil {
		return nil, err
	}
	if seen.Inspected != s.members {
		return nil, fmt.Errorf("%s: %d of %d clients got a message that is compressed as it should be", x.peer.name, seen.Inspected, s.members)
	}
	order.Least, order.Seconds = 0, s.span.Seconds()
	return x.flatOut("compression", order)
}
