package realtime

import (
	"errors"
	"fmt"
)

// check returns what is wrong with the bookkeeping of a server at rest: every
// membership must be seen from both ends, and nothing may outlive its owner.
func (n *node) check() error {
	if err := n.hub.check(); err != nil {
		return err
	}
	memberships := 0
	for _, c := range n.list() {
		var s *session
		switch link := c.link.(type) {
		case *session:
			s = link
		case *phoenix:
			s = link.session
		default:
			continue
		}
		joined, err := s.check()
		if err != nil {
			return err
		}
		memberships += joined
	}
	for name, count := range n.hub.all() {
		memberships -= count
		if count == 0 {
			return fmt.Errorf("topic %s is empty", name)
		}
	}
	if memberships != 0 {
		return fmt.Errorf("connections have %d memberships more than topics have members", memberships)
	}
	return nil
}

func (c *session) check() (joined int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.channels {
		if ch.member == nil {
			return 0, fmt.Errorf("connection %s keeps channel %s without membership", c.id, ch.name)
		}
		if ch.member.removed {
			return 0, fmt.Errorf("connection %s believes to be in %s", c.id, ch.name)
		}
		joined++
	}
	return joined, nil
}

// check returns what is wrong with the bookkeeping, for tests at a moment when
// nothing is under way: every membership must be seen from both ends.
func (h *hub) check() error {
	var errs []error
	for i := range h.shards {
		for _, t := range h.shards[i].list() {
			errs = append(errs, t.check())
		}
	}
	return errors.Join(errs...)
}

func (t *topic) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refs != t.members.len() {
		return fmt.Errorf("topic %s: %d references, %d members", t.name, t.refs, t.members.len())
	}
	for i, m := range t.members.appendTo(nil) {
		if int(m.at) != i || m.topic != t || m.removed {
			return fmt.Errorf("topic %s: member %d is astray", t.name, i)
		}
	}
	if r, ok := t.presence.(*rollCall); ok {
		return r.checkLocked()
	}
	return nil
}

// checkLocked returns what is wrong with a roster: every entry must be one of a
// member's, or told by another node, and the sums right.
func (r *rollCall) checkLocked() error {
	tracked := map[*entry]bool{}
	for m := range r.topic.members.all() {
		for _, e := range m.present.entries {
			tracked[e] = true
		}
	}
	if r.nodes != nil {
		for _, w := range r.nodes.heard.nodes {
			for _, e := range w.entries {
				tracked[e] = true
			}
		}
	}
	metas, bytes := 0, 0
	for i, p := range r.order {
		if r.people[p.key] != p || p.at != i || len(p.metas) == 0 {
			return fmt.Errorf("topic %s: %q is astray in the roster", r.topic.name, p.key)
		}
		bytes += len(p.key)
		for _, e := range p.metas {
			if metas, bytes = metas+1, bytes+len(e.text); !tracked[e] || e.left > 0 {
				return fmt.Errorf("topic %s: a ghost of %q", r.topic.name, p.key)
			}
		}
	}
	if metas != len(tracked) || metas != r.metas || bytes != r.bytes || len(r.people) != len(r.order) {
		return fmt.Errorf("topic %s: %d entries of %d bytes are present, %d tracked, counted %d of %d bytes",
			r.topic.name, metas, bytes, len(tracked), r.metas, r.bytes)
	}
	return nil
}

// presences returns how many entries the rosters of all topics hold.
func (h *hub) presences() (n int) {
	for i := range h.shards {
		for _, t := range h.shards[i].list() {
			if r, ok := t.presence.(*rollCall); ok {
				t.mu.Lock()
				n += len(r.mineLocked())
				t.mu.Unlock()
			}
		}
	}
	return n
}
