package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/pprof"
	"time"
)

// The driver talks to its two children in lines of JSON: an order goes to
// stdin, exactly one answer comes from stdout. The first answer of a server
// process comes without an order and bears its address.

// serveOrder asks a server process for "report" or "publish".
type serveOrder struct {
	Op string `json:"op"`
	GC bool   `json:"gc,omitempty"` // report: collect garbage first

	// publish: to Topics in turn, each of Members.
	Topics   int     `json:"topics,omitempty"`
	Members  int     `json:"members,omitempty"`
	InFlight int     `json:"in_flight,omitempty"` // most messages not yet arrived everywhere
	Rate     float64 `json:"rate,omitempty"`      // messages per second; 0 is as fast as InFlight allows
	Seconds  float64 `json:"seconds,omitempty"`
	Least    uint64  `json:"least,omitempty"` // goes on past Seconds until so many are published
	Rows     bool    `json:"rows,omitempty"`  // payloads are 1 KiB, and worth compressing
	Bytes    int     `json:"bytes,omitempty"` // of a payload, if it is not the usual size
}

type serveAnswer struct {
	Error     string  `json:"error,omitempty"`
	Addr      string  `json:"addr,omitempty"`
	Before    usage   `json:"before"`
	Usage     usage   `json:"usage"`
	Published uint64  `json:"published,omitempty"`
	Lost      uint64  `json:"lost,omitempty"` // deliveries that never arrived
	Seconds   float64 `json:"seconds,omitempty"`
}

// longest bounds a run that waits for its least number of messages.
const longest = 3 * time.Second

// patience is how long the publisher waits while nothing arrives at all. Tests
// shorten it for a candidate that loses messages.
var patience = 3 * time.Second

// serveMain is the server process of one candidate.
func serveMain(name string, compress bool, in io.Reader, out io.Writer) error {
	p := findPeer(name)
	if p == nil || p.start == nil || compress && !p.compresses {
		return fmt.Errorf("no candidate %q", name)
	}
	if _, err := raiseFiles(); err != nil {
		return err
	}
	arrivals, err := mapCounter(counterFD)
	if err != nil {
		return err
	}
	stop, err := profile(name)
	if err != nil {
		return err
	}
	defer stop()
	s, err := p.start(compress)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	go func() { // ends with the process
		fmt.Fprintln(os.Stderr, "serve:", s.Serve(l))
		os.Exit(1)
	}()
	answers := json.NewEncoder(out)
	if err := answers.Encode(serveAnswer{Addr: l.Addr().String()}); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	orders := json.NewDecoder(bufio.NewReader(in))
	for {
		var order serveOrder
		if err := orders.Decode(&order); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("order: %w", err)
		}
		answer, err := obey(s, arrivals, order)
		if err != nil {
			answer.Error = err.Error()
		}
		if err := answers.Encode(answer); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func obey(s server, arrivals *counter, order serveOrder) (answer serveAnswer, err error) {
	switch order.Op {
	case "report":
		answer.Usage, err = usageNow(order.GC)
	case "publish":
		if answer.Before, err = usageNow(false); err != nil {
			return answer, err
		}
		publish(s, arrivals, order, &answer)
		answer.Usage, err = usageNow(false)
	default:
		err = fmt.Errorf("unknown order %q", order.Op)
	}
	return answer, err
}

// publish returns when all that it published has arrived, or nothing arrives
// any more.
func publish(s server, arrivals *counter, order serveOrder, answer *serveAnswer) {
	start := time.Now()
	base := arrivals.arrived.Load()
	end := start.Add(time.Duration(order.Seconds * float64(time.Second)))
	each := uint64(order.Members)
	payload := newPayload
	if order.Rows {
		payload = newRows
	}
	if order.Bytes > 0 {
		payload = func(seq uint64) []byte { return payloadOf(order.Bytes, seq) }
	}
	topic, sent, confirmed := 0, uint64(0), uint64(0)
	for now := start; now.Before(end) || sent < order.Least && now.Sub(start) < longest; now = time.Now() {
		if order.Rate > 0 {
			// On a fixed schedule: a late message does not delay those after it.
			time.Sleep(time.Until(start.Add(time.Duration(float64(sent) / order.Rate * float64(time.Second)))))
		} else if sent-confirmed >= uint64(order.InFlight) {
			// Half of the window is waited for at once, so that the publisher's own
			// sleeping and waking does not become part of what is measured.
			confirmed = sent - uint64(order.InFlight)/2
			if !arrivals.wait(base+confirmed*each, patience) {
				break
			}
		}
		s.Publish(topic, payload(sent))
		sent++
		if topic++; topic == order.Topics {
			topic = 0
		}
	}
	arrivals.wait(base+sent*each, patience)
	answer.Seconds = time.Since(start).Seconds()
	answer.Published = sent
	if got := arrivals.arrived.Load() - base; got < sent*each {
		answer.Lost = sent*each - got
	}
}

// profile writes a CPU profile of the server process to the file that
// BENCH_PROFILE names, with the candidate's name behind it; stop ends it.
func profile(name string) (stop func(), err error) {
	path := os.Getenv("BENCH_PROFILE")
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path + "." + name)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}
