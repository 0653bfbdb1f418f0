package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// patience is how long a process may take to start.
const patience = 20 * time.Second

// node is one process of the application, or the place of one that has died.
type node struct {
	name    string
	command func() *exec.Cmd
	door    *redistest.Proxy // between it and Redis; nil if there is none

	mu    sync.Mutex // guards the following
	state string
	addr  string
	cut   bool
	since time.Time
	run   *exec.Cmd
	ended chan struct{} // closed when run has ended
	seen  health
}

// The states of a node.
const (
	nodeStarting = "starting"
	nodeUp       = "up"
	nodeDraining = "draining"
	nodeDead     = "dead"
)

// start runs the process, and returns when it listens.
func (n *node) start() error {
	n.mu.Lock()
	if n.state != nodeDead {
		n.mu.Unlock()
		return errImpossible
	}
	command := n.command()
	ended := make(chan struct{})
	n.becomesLocked(nodeStarting)
	n.run, n.ended = command, ended
	n.mu.Unlock()

	addr, err := launch(command)
	if err != nil {
		close(ended)
		n.died(command)
		return fmt.Errorf("starting %s: %w", n.name, err)
	}
	go func() {
		_ = command.Wait() // how it ended is on its log
		n.died(command)
		close(ended)
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == command && n.state == nodeStarting {
		n.addr = addr
		n.becomesLocked(nodeUp)
	}
	return nil
}

// launch starts a node's process and returns the address that it says. A pipe that
// nobody writes to tells the process when this one is dead.
func launch(command *exec.Cmd) (addr string, err error) {
	if _, err := command.StdinPipe(); err != nil {
		return "", err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := command.Start(); err != nil {
		return "", err
	}
	kill := time.AfterFunc(patience, func() { _ = command.Process.Kill() })
	said, err := bufio.NewReader(out).ReadString('\n')
	_, addr, ok := strings.Cut(strings.TrimSpace(said), " listening on http://")
	if !kill.Stop() || err != nil || !ok {
		_ = command.Process.Kill()
		_ = command.Wait()
		return "", fmt.Errorf("it said %q: %w", said, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return addr, nil
}

func (n *node) died(command *exec.Cmd) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == command {
		n.run, n.addr = nil, ""
		n.seen = health{}
		n.becomesLocked(nodeDead)
	}
}

func (n *node) becomesLocked(state string) { n.state, n.since = state, time.Now() }

// takes returns where the node takes connections, "" if it does not.
func (n *node) takes() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state != nodeUp || n.seen.refuses {
		return ""
	}
	return n.addr
}

// kill ends the process as kill -9 does, and waits for its end.
func (n *node) kill() error {
	return n.leave(nodeDead, func(p *exec.Cmd) error { return p.Process.Kill() })
}

// drain has the process send its clients away and end.
func (n *node) drain() error {
	return n.leave(nodeDraining, func(p *exec.Cmd) error { return p.Process.Signal(syscall.SIGTERM) })
}

// leave takes the node from those that get connections before anything else.
func (n *node) leave(state string, signal func(*exec.Cmd) error) error {
	n.mu.Lock()
	run, ended := n.run, n.ended
	if run == nil || run.Process == nil || n.state == state {
		n.mu.Unlock()
		return errImpossible
	}
	n.becomesLocked(state)
	n.mu.Unlock()
	if err := signal(run); err != nil {
		return fmt.Errorf("ending %s: %w", n.name, err)
	}
	if state == nodeDead {
		<-ended
	}
	return nil
}

// end drains the node for as long as that may take, and kills it then.
func (n *node) end() {
	n.mu.Lock()
	run, ended := n.run, n.ended
	n.mu.Unlock()
	if run != nil {
		_ = n.drain() // or it is under way
		select {
		case <-ended:
		case <-time.After(drainTime + time.Second):
			_ = run.Process.Kill()
			<-ended
		}
	}
	if n.door != nil {
		n.door.Close()
	}
}

// sever cuts the node off from Redis, or ends that.
func (n *node) sever(cut bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.door == nil || n.cut == cut {
		return errImpossible
	}
	if n.cut = cut; cut {
		n.door.Cut()
	} else {
		n.door.Heal()
	}
	return nil
}

// do carries out what a button says.
func (n *node) do(what string) error {
	switch what {
	case "kill":
		return n.kill()
	case "start":
		return n.start()
	case "drain":
		return n.drain()
	case "cut":
		return n.sever(true)
	case "heal":
		return n.sever(false)
	}
	return errImpossible
}

// watchLoop asks the node again and again, until ctx ends.
func (n *node) watchLoop(ctx context.Context) {
	beat := time.NewTicker(pace)
	defer beat.Stop()
	for {
		n.look(ctx)
		select {
		case <-beat.C:
		case <-ctx.Done():
			return
		}
	}
}

// look asks the node once.
func (n *node) look(ctx context.Context) {
	n.mu.Lock()
	addr, run := n.addr, n.run
	n.mu.Unlock()
	if addr == "" {
		return
	}
	now := examine(ctx, addr)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == run {
		n.seen = now
	}
}
