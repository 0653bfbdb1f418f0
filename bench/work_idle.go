package main

import (
	"fmt"
	"time"
)

// Memory per connection that has joined one topic and never received a message,
// at two numbers of connections. The slope between the two leaves out what the
// process holds for itself.
var idleWork = &work{
	name: "idle", title: "Idle connections, all in one topic (with this library after a checked token), after garbage collection: {few} of them, {idle}, and the slope between the two",
	rows: []row{
		{name: "idle-rss", unit: "B", text: "RSS per connection, slope"},
		{name: "idle-rss-few", unit: "B", text: "RSS per connection at {few}, less the empty process", own: true},
		{name: "idle-rss-most", unit: "B", text: "the same at {idle}", own: true},
		{name: "idle-heap", unit: "B", text: "heap, slope"},
		{name: "idle-stack", unit: "B", text: "stack, slope"},
		{name: "idle-goroutines", unit: "each", text: "goroutines per connection", own: true},
		{name: "idle-all", unit: "ms", text: "their first message, one publish to all {idle}: until the last one has it"},
		{name: "idle-used-rss", unit: "B", text: "RSS per connection after messages went both ways"},
	},
	every: 4, // the most expensive by far, and its rounds differ by a few percent only
	can:   publishes, lack: lacksPublish,
	run: idle,
}

func idle(x *pair, s scale) (figures, error) {
	few, most := s.idle[0], s.idle[1]
	none, err := x.report(true)
	if err != nil {
		return nil, err
	}
	low, err := x.settled(few)
	if err != nil {
		return nil, err
	}
	high, err := x.settled(most - few)
	if err != nil {
		return nil, err
	}
	slope := func(a, b uint64) float64 { return (float64(b) - float64(a)) / float64(most-few) }
	out := figures{
		"idle-rss":        slope(low.RSS, high.RSS),
		"idle-rss-few":    (float64(low.RSS) - float64(none.RSS)) / float64(few),
		"idle-rss-most":   (float64(high.RSS) - float64(none.RSS)) / float64(most),
		"idle-heap":       slope(low.Heap, high.Heap),
		"idle-stack":      slope(low.Stack, high.Stack),
		"idle-goroutines": slope(low.Goroutines, high.Goroutines),
	}
	first, _, err := x.measured(serveOrder{Topics: 1, Members: most, InFlight: 1, Least: 1}, false)
	if err != nil {
		return nil, err
	}
	out["idle-all"] = first.Seconds * 1e3
	return out, used(x, s, low, out)
}

// settled adds clients and reports once they have been idle for a while.
func (x *pair) settled(count int) (usage, error) {
	if err := x.connect(count, 1, 0); err != nil {
		return usage{}, err
	}
	time.Sleep(1500 * time.Millisecond)
	return x.report(true)
}

// used has messages go both ways on every connection and adds what that leaves.
func used(x *pair, s scale, low usage, out figures) error {
	few, most := s.idle[0], s.idle[1]
	a, err := x.serve(serveOrder{Op: "publish", Topics: 1, Members: most, InFlight: 4, Seconds: min(0.2, s.span.Seconds())})
	if err != nil {
		return err
	}
	if a.Lost > 0 {
		return fmt.Errorf("%s lost %d of %d deliveries", x.peer.name, a.Lost, a.Published*uint64(most))
	}
	if _, err := x.load(loadOrder{Op: "echo", Each: 2, Window: 1}); err != nil {
		return err
	}
	u, err := x.report(true)
	if err != nil {
		return err
	}
	base := float64(low.RSS) - out["idle-rss"]*float64(few)
	out["idle-used-rss"] = (float64(u.RSS) - base) / float64(most)
	return nil
}
