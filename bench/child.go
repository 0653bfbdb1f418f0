package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// child is a process that answers lines of JSON.
type child struct {
	name    string
	cmd     *exec.Cmd
	orders  io.WriteCloser
	answers *json.Decoder
}

// hang is when a child that does not answer is killed. Longer than any order takes.
const hang = 60 * time.Second

func startChild(name string, argv []string, role string, shared *os.File) (*child, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "BENCH_ROLE="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // however the driver ends
	cmd.ExtraFiles = []*os.File{shared}                                // becomes counterFD
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &child{name: name, cmd: cmd, orders: in, answers: json.NewDecoder(out)}, nil
}

// ask sends an order, unless it is nil, and waits for the answer.
func (c *child) ask(order, answer any) error {
	if order != nil {
		if err := json.NewEncoder(c.orders).Encode(order); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	killer := time.AfterFunc(hang, func() { _ = c.cmd.Process.Kill() })
	defer killer.Stop()
	if err := c.answers.Decode(answer); err != nil {
		return fmt.Errorf("%s gave no answer: %w", c.name, err)
	}
	return nil
}

func (c *child) stop() {
	_ = c.orders.Close()
	if os.Getenv("BENCH_PROFILE") != "" {
		time.Sleep(time.Second) // let the profile out; both end by themselves
	}
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // killed on purpose
}

// pair is one candidate's server process with a load process of its own.
type pair struct {
	peer     *peer
	compress bool
	addr     string
	srv      *child
	gen      *child
	speak    dialect // of its clients
	deaf     int     // clients that stall
}

func startPair(p *peer, compress bool) (*pair, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own path: %w", err)
	}
	shared, err := newCounterFile()
	if err != nil {
		return nil, err
	}
	defer shared.Close()
	argv := []string{self}
	if p.argv != nil {
		argv = p.argv()
	}
	role := "serve "
	if compress {
		role = "compress "
	}
	x := &pair{peer: p, compress: compress, speak: p.speak}
	if x.srv, err = startChild(p.name, argv, role+p.name, shared); err != nil {
		return nil, err
	}
	if x.gen, err = startChild("load", []string{self}, "load", shared); err != nil {
		x.srv.stop()
		return nil, err
	}
	var hello serveAnswer
	if err := x.srv.ask(nil, &hello); err != nil {
		x.stop()
		return nil, err
	}
	x.addr = hello.Addr
	return x, nil
}

func (x *pair) stop() {
	x.gen.stop()
	x.srv.stop()
}

func (x *pair) serve(order serveOrder) (a serveAnswer, err error) {
	if err = x.srv.ask(order, &a); err == nil && a.Error != "" {
		err = errors.New(x.peer.name + ": " + a.Error)
	}
	return a, err
}

func (x *pair) load(order loadOrder) (a loadAnswer, err error) {
	order.Addr, order.Speak, order.Compress = x.addr, x.speak, x.compress
	if err = x.gen.ask(order, &a); err == nil && a.Error != "" {
		err = errors.New("load: " + a.Error)
	}
	return a, err
}

func (x *pair) report(gc bool) (usage, error) {
	a, err := x.serve(serveOrder{Op: "report", GC: gc})
	return a.Usage, err
}

// connect adds count clients, spread over the topics, and returns when all have joined.
func (x *pair) connect(count, topics, deaf int) error {
	a, err := x.load(loadOrder{Op: "connect", Count: count, Topics: topics, Parallel: 64, Deaf: deaf})
	if err != nil {
		return err
	}
	x.deaf += deaf
	want := int64(a.Ready)
	if x.deaf == 0 {
		return x.awaitMembers(want, want)
	}
	if err := x.awaitMembers(want-int64(x.deaf), want); err != nil { // it may have closed who stalls
		return err
	}
	time.Sleep(50 * time.Millisecond) // and if it has not, a join may be on its way
	return nil
}

// awaitMembers waits until the server has noticed every join and leave. A
// dialect with a ready text needs that only for leaves, and cannot tell.
func (x *pair) awaitMembers(least, most int64) error {
	if x.speak.Ready != "" {
		return nil
	}
	for range 1000 {
		u, err := x.report(false)
		if err != nil || u.Members >= least && u.Members <= most {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%s: not %d to %d members after five seconds", x.peer.name, least, most)
}
