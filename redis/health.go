package redis

import (
	"errors"
	"sync"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// health is what is known of one lane: whether commands work, and whether what others
// publish arrives.
type health struct {
	suspect chan struct{} // somebody wants to know whether the server is there
	blind   bool          // nobody would ask: every command is tried; set before use

	mu       sync.Mutex // guards the following
	commands standing
	arrivals standing
	isDown   chan struct{} // closed while commands do not work
	change   func()        // nil, or called after a change, with the lock released
}

// standing is one side's state, and why.
type standing struct {
	state realtime.BrokerState
	err   error
}

var errConnecting = errors.New("the connection is being made")

func newHealth() *health {
	return &health{suspect: make(chan struct{}, 1), isDown: make(chan struct{}),
		arrivals: standing{realtime.BrokerDegraded, errConnecting}}
}

// status is the worse of the two sides.
func (h *health) status() realtime.BrokerStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	worse := h.commands
	if h.arrivals.state > worse.state {
		worse = h.arrivals
	}
	return realtime.BrokerStatus{State: worse.state, Err: worse.err}
}

// refuses returns why no command should be tried, nil if it should.
func (h *health) refuses() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.commands.state == realtime.BrokerDown {
		return h.commands.err
	}
	return nil
}

// down is closed while commands do not work.
func (h *health) down() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.isDown
}

// cutOff reports whether messages of others cannot arrive, and why.
func (h *health) cutOff() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.arrivals.state == realtime.BrokerDown {
		return h.arrivals.err
	}
	return nil
}

// note takes what a failed command says. A lost connection alone says little: the
// next command has another one. It is asked for.
func (h *health) note(w weight, err error) {
	if h.blind {
		return
	}
	switch w {
	case harmless:
		return
	case fatal:
		h.setCommands(standing{realtime.BrokerDown, err})
	case partial:
		h.setCommands(standing{realtime.BrokerDegraded, err})
	}
	h.doubt() // its end is not waited for until the next heartbeat
}

// doubt has the server asked at once whether it is there.
func (h *health) doubt() {
	select {
	case h.suspect <- struct{}{}:
	default:
	}
}

// answered notes that the server takes commands, and how long it took.
func (h *health) answered(took, slow time.Duration) {
	if took > slow {
		h.setCommands(standing{realtime.BrokerDegraded, errSlow})
		return
	}
	h.setCommands(standing{})
}

var errSlow = errors.New("the server answers slowly")

func (h *health) setCommands(s standing) {
	h.mu.Lock()
	was := h.commands
	h.commands = s
	if was.state != s.state {
		if s.state == realtime.BrokerDown {
			close(h.isDown)
		} else if was.state == realtime.BrokerDown {
			h.isDown = make(chan struct{})
		}
	}
	h.mu.Unlock()
	h.changed(was.state != s.state)
}

func (h *health) setArrivals(s standing) {
	h.mu.Lock()
	was := h.arrivals
	h.arrivals = s
	h.mu.Unlock()
	h.changed(was.state != s.state)
}

func (h *health) changed(really bool) {
	h.mu.Lock()
	f := h.change
	h.mu.Unlock()
	if really && f != nil {
		f()
	}
}

// watch has f called after every change.
func (h *health) watch(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.change = f
}
