package main

import (
	"errors"
	"fmt"
	"os/exec"
	"sync"

	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// store is the Redis of all nodes.
type store struct {
	url    string
	server *redistest.Server // nil if it is not ours

	mu    sync.Mutex // guards the following, held while it changes
	state string
}

// The states of a store. Of one that is not ours nothing is known.
const (
	storeUp      = "up"
	storePaused  = "paused"
	storeDead    = "dead"
	storeForeign = "foreign"
)

var errNoRedis = errors.New("redis-server is not in the PATH: install it (on Debian apt install redis-server), " +
	"or name one that runs with -redis redis://HOST:PORT")

// openStore returns the Redis at url, or starts one that has all it acknowledged on
// its disk.
func openStore(url string) (*store, error) {
	if url != "" {
		return &store{url: url, state: storeForeign}, nil
	}
	server, err := redistest.New(redistest.Durable)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errNoRedis
	}
	if err != nil {
		return nil, err
	}
	return &store{url: server.URL(), server: server, state: storeUp}, nil
}

// door returns the URL by which one node reaches the store, and the proxy behind it
// with which the node can be cut off; nil for a store that is not ours.
func (s *store) door() (url string, proxy *redistest.Proxy, err error) {
	if s.server == nil {
		return s.url, nil, nil
	}
	if proxy, err = redistest.NewProxy(s.server.Addr); err != nil {
		return "", nil, fmt.Errorf("a proxy before Redis: %w", err)
	}
	return "redis://" + proxy.Addr, proxy, nil
}

// errImpossible is what cannot be done as things are.
var errImpossible = errors.New("that is not possible now")

// do carries out what a button says.
func (s *store) do(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.server == nil:
		return errImpossible
	case what == "pause" && s.state == storeUp:
		return s.becomes(storePaused, s.server.Stop())
	case what == "resume" && s.state == storePaused:
		return s.becomes(storeUp, s.server.Cont())
	case what == "kill" && s.state != storeDead:
		s.server.Kill()
		return s.becomes(storeDead, nil)
	case what == "start" && s.state == storeDead:
		return s.becomes(storeUp, s.server.Restart())
	case what == "flush" && s.state == storeUp:
		return s.server.Flush()
	}
	return errImpossible
}

func (s *store) becomes(state string, err error) error {
	if err == nil {
		s.state = state
	}
	return err
}

// now returns the state, and whether buttons can change it.
func (s *store) now() (state string, ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.server != nil
}

func (s *store) close() error {
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}
