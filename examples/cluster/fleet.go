package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
)

// fleet is the nodes, and who is to get the next connection.
type fleet struct {
	nodes []*node
	stop  context.CancelFunc
	loops sync.WaitGroup
}

// newFleet starts n nodes. command makes the process of one with these arguments.
func newFleet(n int, s *store, command func(args ...string) *exec.Cmd) (*fleet, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &fleet{stop: stop}
	for i := range n {
		url, proxy, err := s.door()
		if err != nil {
			f.close()
			return nil, err
		}
		one := &node{name: fmt.Sprintf("node-%d", i+1), door: proxy, state: nodeDead}
		one.command = func() *exec.Cmd {
			return command("-node", one.name, "-addr", "127.0.0.1:0", "-redis", url)
		}
		f.nodes = append(f.nodes, one)
	}
	for _, one := range f.nodes {
		if err := one.start(); err != nil {
			f.close()
			return nil, err
		}
		f.loops.Go(func() { one.watchLoop(ctx) })
	}
	return f, nil
}

// find returns the node of that name, nil if there is none.
func (f *fleet) find(name string) *node {
	for _, one := range f.nodes {
		if one.name == name {
			return one
		}
	}
	return nil
}

// turns returns a function that connects to the next node that takes connections, or
// to the one after it: no session is tied to a node.
func (f *fleet) turns() func(context.Context, string, string) (net.Conn, error) {
	var next atomic.Uint64
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		err := errors.New("no node takes connections")
		first := next.Add(1)
		for i := range f.nodes {
			addr := f.nodes[(first+uint64(i))%uint64(len(f.nodes))].takes()
			if addr == "" {
				continue
			}
			conn, dialErr := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if dialErr == nil {
				return conn, nil
			}
			err = dialErr
		}
		return nil, err
	}
}

// close drains all nodes at once and waits for their ends.
func (f *fleet) close() {
	f.stop()
	var all sync.WaitGroup
	for _, one := range f.nodes {
		all.Go(one.end)
	}
	all.Wait()
	f.loops.Wait()
}
