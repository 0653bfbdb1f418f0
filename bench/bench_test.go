package main

import (
	"bufio"
	"bytes"
	"errors"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The driver starts its own binary again for the children; here that is the test.
func TestMain(m *testing.M) {
	if role := os.Getenv("BENCH_ROLE"); role != "" {
		if role == "serve lossy" {
			patience = 500 * time.Millisecond // what it waits for never comes
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// A candidate that forgets every hundredth delivery, and one that doubles it.
func init() {
	register(&peer{name: "lossy", speak: raw, start: func(bool) (server, error) { return &faulty{limit: limit{batch: 1}, twice: 0}, nil }})
	register(&peer{name: "twice", speak: raw, start: func(bool) (server, error) { return &faulty{limit: limit{batch: 1}, twice: 2}, nil }})
}

func isFaulty(p *peer) bool { return p.name == "lossy" || p.name == "twice" }

type faulty struct {
	limit
	sent, twice int
}

func (f *faulty) Publish(topic int, payload []byte) {
	times := 1
	if f.sent++; f.sent%100 == 0 {
		times = f.twice
	}
	for range times {
		f.limit.Publish(topic, payload)
	}
}

var tiny = scale{members: 20, many: 40, topics: 8, idle: [2]int{10, 50}, conns: 40, span: 30 * time.Millisecond}

func TestEveryCandidateDoesEveryWork(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, p := range inOrder() {
		if isFaulty(p) {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel() // no figure is judged here
			if p.argv != nil && p.argv() == nil {
				t.Skip("not installed")
			}
			for _, w := range allWorks {
				if !w.has(p) {
					continue
				}
				got := runOne(w, p, 0, tiny)
				if got.Failure != "" {
					t.Errorf("%s: %s", w.name, got.Failure)
					continue
				}
				for _, r := range w.rows {
					if v, ok := got.Figures[r.name]; !ok || math.IsNaN(v) || math.IsInf(v, 0) {
						t.Errorf("%s: got %v for %s", w.name, got.Figures[r.name], r.name)
					}
				}
			}
		})
	}
}

func TestWrongTotalsFailTheRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, name := range []string{"lossy", "twice"} {
		x, err := startPair(findPeer(name), false)
		if err != nil {
			t.Fatal(err)
		}
		defer x.stop()
		if err := x.connect(10, 1, 0); err != nil {
			t.Fatal(err)
		}
		order := serveOrder{Op: "publish", Topics: 1, Members: 10, InFlight: 4, Rate: 2000, Seconds: 0.1}
		if _, _, err := x.measured(order, false); err == nil || !strings.Contains(err.Error(), "arrived") {
			t.Errorf("%s: got error %v, want one about what arrived", name, err)
		}
	}
}

func TestARunThatFailsLeavesNoProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	var pids []int
	bad := &work{name: "bad", run: func(x *pair, _ scale) (figures, error) {
		pids = append(pids, x.srv.cmd.Process.Pid, x.gen.cmd.Process.Pid)
		for _, pid := range pids {
			if err := unix.Kill(pid, 0); err != nil {
				t.Errorf("process %d before: got %v, want it to run", pid, err)
			}
		}
		return nil, errors.New("on purpose")
	}}
	if got := runOne(bad, findPeer("gws"), 0, tiny); got.Failure != "on purpose" {
		t.Errorf("got failure %q", got.Failure)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, 0); err != unix.ESRCH {
			t.Errorf("process %d after: got %v, want none", pid, err)
		}
	}
}

// gorilla's adapter closes a client whose queue is full. That it does so shows
// that the stalled reader is one, and that the run goes on without it.
func TestStalledReaderReallyStalls(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	x, err := startPair(findPeer("gorilla"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer x.stop()
	if err := x.connect(9, 1, 0); err != nil {
		t.Fatal(err)
	}
	if err := x.connect(1, 1, 1); err != nil {
		t.Fatal(err)
	}
	order := serveOrder{Op: "publish", Topics: 1, Members: 9, InFlight: 8, Least: 3000}
	a, _, err := x.measured(order, true)
	if err != nil {
		t.Fatal(err)
	}
	if a.Before.Members != 10 {
		t.Errorf("got %d members before, want 10", a.Before.Members)
	}
	if err := x.awaitMembers(9, 9); err != nil {
		t.Errorf("after %d messages: %v", a.Published, err)
	}
}

// Two mappings of one page stand for the two processes.
func TestCounterWakesThePublisher(t *testing.T) {
	file, err := newCounterFile()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	publisher, err := mapCounter(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	loader, err := mapCounter(int(file.Fd())) // a mapping of its own, as another process has
	if err != nil {
		t.Fatal(err)
	}
	if publisher.wait(1, time.Millisecond) {
		t.Error("wait for an arrival that never came: got true, want false")
	}
	const rounds = 2000
	done := make(chan bool)
	go func() {
		for i := range uint64(rounds) {
			for loader.wanted.Load() != i+1 && loader.arrived.Load() == i && i%2 == 0 {
				// Every second arrival comes only once it is waited for.
			}
			loader.add(1)
		}
		close(done)
	}()
	for i := range uint64(rounds) {
		if !publisher.wait(i+1, 5*time.Second) {
			t.Fatalf("arrival %d: got no wake-up", i+1)
		}
	}
	<-done
	if got := publisher.arrived.Load(); got != rounds {
		t.Errorf("got %d arrivals, want %d", got, rounds)
	}
}

func TestHandshakeBearsWhatTheDialectAsksFor(t *testing.T) {
	s := newScript(dialect{Path: "/ws?room={topic}", Subprotocol: "realtime.v1", Header: []string{"Authorization: Bearer x"},
		Hello: []string{`{"channel":"bench:{topic}"}`}}, "127.0.0.1:9", true)
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(s.upgrade(7))))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": nonce,
		"Sec-Websocket-Protocol": "realtime.v1", "Authorization": "Bearer x", "Sec-Websocket-Extensions": deflateTerms,
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if r.URL.String() != "/ws?room=7" || r.Host != "127.0.0.1:9" {
		t.Errorf("got %s at %s, want /ws?room=7 at 127.0.0.1:9", r.URL, r.Host)
	}
	if got, want := s.hello(3), appendFrame(nil, opText, []byte(`{"channel":"bench:3"}`), true); !bytes.Equal(got, want) {
		t.Errorf("hello: got %q, want %q", got, want)
	}
}

func TestBarsCompareRatiosOfTheSameRound(t *testing.T) {
	samples := []sample{
		{Peer: "me", Round: 0, Figures: figures{"fanout-cpu": 3, "single-mallocs": 0.01}},
		{Peer: "limitco", Round: 0, Figures: figures{"fanout-cpu": 2}},
		{Peer: "gws", Round: 0, Figures: figures{"fanout-cpu": 10}},
		{Peer: "limitco", Round: 1, Figures: figures{"fanout-cpu": 1}}, // a round without me
	}
	got := barTable("me", samples, 2)
	for _, want := range []string{
		"| fanout-cpu, by limitco | 1.50 (1.50–1.50) | ≤ 2.00 met | ≤ 1.30 **missed** |\n",
		"| fanout-cpu, by gws | 0.30 (0.30–0.30) | ≤ 0.25 **missed** | – |\n",
		"| single-mallocs, as it is | 0.010 (0.010–0.010) | ≤ 0.050 met | ≤ 0 **missed** |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwithout %q", got, want)
		}
	}
	if strings.Contains(got, "centrifuge") {
		t.Errorf("got\n%s\nwith a bar against a candidate that did not run", got)
	}
	if got := barTable("absent", samples, 2); got != "" {
		t.Errorf("absent: got %q, want nothing", got)
	}
}

func TestEveryBarNamesAFigureAndItsCandidate(t *testing.T) {
	rows := make(map[string]bool)
	for _, w := range allWorks {
		for _, r := range w.rows {
			rows[r.name] = true
		}
	}
	for _, one := range bars {
		if !rows[one.figure] || one.against != "" && findPeer(one.against) == nil {
			t.Errorf("bar on %q by %q: no such row or candidate", one.figure, one.against)
		}
	}
}

func TestReadyTextIsFoundInACutMessage(t *testing.T) {
	l := load{script: newScript(dialect{Ready: "subscription_success"}, "x", false), waiting: 1}
	c := &client{stage: stageJoining}
	stream := appendFrame(nil, opText, []byte(`{"channel":"global","type":"connected"}`), false)
	stream = appendFrame(stream, opText, []byte(`{"channel":"global","type":"subscription_success"}`), false)
	stream = appendFrame(stream, opText, []byte(`{"channel":"bench:0","type":"message"}`), false)
	for i := range stream {
		if err := l.frames(c, stream[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if c.stage != stageReady || l.ready != 1 || c.got != 1 {
		t.Errorf("got stage %d, %d ready, %d messages, want the third message counted alone", c.stage, l.ready, c.got)
	}
}

func TestBatchedLinesAreCountedOneByOne(t *testing.T) {
	l := load{script: newScript(dialect{Lines: true, Ping: "{}", Pong: "{}"}, "x", false)}
	c := &client{stage: stageReady, fd: -1}
	stream := appendFrame(nil, opText, []byte("{\"a\":1}\n{\"a\":2}\n{\"a\":3}"), false)
	stream = appendFrame(stream, opText, []byte(`{"a":4}`), false)
	if err := l.frames(c, stream); err != nil || c.got != 4 || l.fresh != 4 {
		t.Errorf("got %d messages and error %v, want 4", c.got, err)
	}
}

func TestFramesDoesNotAllocate(t *testing.T) {
	var stream []byte
	for range 16 {
		stream = appendFrame(stream, opText, newPayload(0), false)
	}
	l := load{script: newScript(raw, "x", false), stamps: true}
	c := &client{stage: stageReady}
	if n := testing.AllocsPerRun(100, func() { _ = l.frames(c, stream) }); n != 0 {
		t.Errorf("got %v allocations for 16 frames, want 0", n)
	}
	if c.got != l.latency.total || c.got == 0 {
		t.Errorf("got %d messages and %d latencies, want as many", c.got, l.latency.total)
	}
}
