package main

import (
	"fmt"
	"slices"
	"time"
)

// A work is one thing that candidates are measured at. It has a file of its own
// and is listed in works.go. It gets a fresh pair of processes and returns
// figures by the names of its rows.
type work struct {
	name  string
	title string // {members}, {many}, {topics}, {few} and {idle} stand for sizes
	rows  []row
	run   func(x *pair, s scale) (figures, error)

	every    int                // takes part in every so-manieth round; 0 is 1
	compress bool               // on servers and connections with permessage-deflate
	can      func(p *peer) bool // whether the candidate is able to; nil is all of them
	lack     string             // what those who are not able lack
}

// row is one column of the work's table. Less is better unless the text says
// otherwise.
type row struct {
	name string
	unit string
	text string
	own  bool // says enough as it is, no ratio is taken
}

type figures map[string]float64

// has reports whether the candidate takes part.
func (w *work) has(p *peer) bool {
	return (p.works == nil || slices.Contains(p.works, w.name)) && (w.can == nil || w.can(p))
}

// scale is what the sizes of the works follow.
type scale struct {
	members int           // of one topic
	many    int           // of a large topic
	topics  int           // of ten members each
	idle    [2]int        // two numbers of idle connections, for the slope; the second is the most that open files allow
	conns   int           // handshakes and churns
	span    time.Duration // of one measurement
}

// publishes is a work's can: a server in another language cannot sleep on the
// shared counter.
func publishes(p *peer) bool { return p.argv == nil }

const lacksPublish = "an adapter that publishes"

// warm publishes for a tenth of the span, so that code, pools and stacks are there.
func (x *pair) warm(order serveOrder, seconds float64) error {
	order.Op, order.Rate, order.Seconds = "publish", 0, seconds/10 // Least stays
	a, err := x.serve(order)
	if err == nil && a.Lost > 0 {
		err = fmt.Errorf("%s lost %d of %d deliveries", x.peer.name, a.Lost, a.Published*uint64(order.Members))
	}
	return err
}

// measured publishes and checks that every client has got every message of its
// topic, no more and no less. The CPU of the load answer is that of the run.
func (x *pair) measured(order serveOrder, stamps bool) (serveAnswer, loadAnswer, error) {
	order.Op = "publish"
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

// flatOut publishes as fast as the messages in flight allow.
func (x *pair) flatOut(name string, order serveOrder) (figures, error) {
	if err := x.warm(order, order.Seconds); err != nil {
		return nil, err
	}
	a, c, err := x.measured(order, false)
	if err != nil {
		return nil, err
	}
	n := float64(c.Total)
	return figures{
		name + "-cpu":     float64(a.Usage.cpu()-a.Before.cpu()) / n / 1e3,
		name + "-speed":   n / a.Seconds,
		name + "-mallocs": float64(a.Usage.Mallocs-a.Before.Mallocs) / n,
		name + "-load":    float64(c.CPU) / n / 1e3,
		name + "-wire":    float64(c.Bytes) / n,
	}, nil
}

// paced publishes at a fixed rate and takes the time from publish to arrival.
func (x *pair) paced(name string, order serveOrder) (figures, error) {
	order.InFlight = 1
	if err := x.warm(order, order.Seconds); err != nil {
		return nil, err
	}
	_, c, err := x.measured(order, true)
	if err != nil {
		return nil, err
	}
	return latencies(name, c), nil
}

func latencies(name string, a loadAnswer) figures {
	return figures{name + "-p50": float64(a.P50) / 1e3, name + "-p99": float64(a.P99) / 1e3, name + "-p999": float64(a.P999) / 1e3}
}
