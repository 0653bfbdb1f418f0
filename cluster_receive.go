package realtime

import (
	"errors"
	"time"
)

// This file reads what comes from other nodes.

// receive is called with what comes from nodes, this one included.
func (c *cluster) receive(e *Event) {
	if e.Gap != nil {
		return // who waits for an answer has a bound
	}
	from, memos, err := parseMail(e.Data)
	if err != nil {
		c.refuse(0, err)
		return
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	if nodeBase(from) == c.name {
		c.echo(memos)
		return
	}
	c.metrics.nodeReceived.Add(float64(len(memos)))
	for _, one := range memos {
		if !c.take(from, one) {
			return
		}
	}
}

// echo looks for this node's own beats in what it sent to all.
func (c *cluster) echo(memos []memo) {
	for _, one := range memos {
		if h, ok := parseHello(one.body); ok && one.kind == nodeHello {
			c.happen(func(l *leases) news { return l.echo(c.base.Add(time.Duration(h.sent)*time.Microsecond), time.Now()) })
		}
	}
}

// take deals with one memo of another node. It returns false if that one was given
// up.
func (c *cluster) take(from string, one memo) bool {
	if one.kind == nodeBye {
		c.happen(func(l *leases) news { return l.bye(from, time.Now()) })
		return true
	}
	var h hello
	if one.kind == nodeHello {
		var ok bool
		if h, ok = parseHello(one.body); !ok {
			c.refuse(one.kind, errNodeMail)
			return true
		}
	}
	ttl := time.Duration(min(h.ttl, uint64(maxNodeTTL.Milliseconds()))) * time.Millisecond
	if c.happen(func(l *leases) news { return l.listen(from, ttl, time.Now()) }).accuse {
		if one.kind == nodeHello {
			c.send(from, nodeGone, []byte(from))
		}
		return false
	}
	c.open(from, one, h)
	return true
}

// open has a note handled.
func (c *cluster) open(from string, one memo, h hello) {
	switch one.kind {
	case nodeHello:
		if h.answer {
			c.greet(from, false)
		}
		return
	case nodeGone:
		c.happen(func(l *leases) news { return l.accused(string(one.body)) })
		return
	}
	c.mu.Lock()
	f := c.handlers[one.kind]
	c.mu.Unlock()
	if f == nil {
		c.refuse(one.kind, errors.New("a message between nodes of an unknown kind"))
		return
	}
	f(from, one.body)
}
