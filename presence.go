package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// PresenceOption sets up [Presence].
type PresenceOption func(*presenceRules) error

// Presence keeps, for each topic, a list of who is there, and tells its members.
// Connections are tracked under a key, a user's id say, so that the tabs of one user
// are one key with a meta for each: by [Client.Track], or by themselves with
// [PresenceOf]. An entry is gone when its membership ends, on whatever way.
//
// Every answer to a join is followed by the event presence_state with the whole list,
// then by presence_diff whenever it has changed: data as in Phoenix, on every
// protocol. Changes are collected for a tick ([PresenceTick]) and told in one
// message; what came and went in between is not told. No overflow policy drops these
// events: a client without room for one is closed as "slow_consumer". They have no
// offset.
//
// Servers with a broker in common ([SharedBroker]) have one list: what happens on one
// node is told on the others a tick later. Who was on a node that is given up leaves
// ([WithNodeTTL]). The first member on a node waits for the others' lists before it is
// let in, a quarter of a second at most; what comes later is told as a diff.
//
// Above [PresenceLimit], or when the list needs more than half of the bytes that a
// queue may hold ([WithQueue]), members are counted only: they get an empty
// presence_state and then presence_count {"count":N} with the number of keys. When
// the list has shrunk to three quarters of the limit everybody gets it anew.
//
// A connection tracks at most 16 keys in a topic; a key has 1 to 255 bytes, a meta is
// a JSON object of at most 4 KiB.
func Presence(opts ...PresenceOption) TopicOption {
	return func(p *Pattern) error {
		rules := &presenceRules{tick: 250 * time.Millisecond, limit: 1000}
		for _, o := range opts {
			if err := o(rules); err != nil {
				return err
			}
		}
		p.presence = rules
		return nil
	}
}

// PresenceTick sets how long changes are collected before they are told, to a tenth
// of a second: 100 ms to a minute. The default, 250 ms, is hardly seen and makes one
// message of a crowd; 1.5 s is what Phoenix takes between its nodes.
func PresenceTick(d time.Duration) PresenceOption {
	return func(r *presenceRules) error {
		if d < wheelTick || d > time.Minute {
			return fmt.Errorf("PresenceTick(%v): want 100ms to 1m", d)
		}
		r.tick = d
		return nil
	}
}

// PresenceLimit sets the number of keys above which a topic's members are counted
// only: 1,000 by default, 0 for counts alone. A list goes to everyone who joins, so
// its cost grows with the square of the crowd.
func PresenceLimit(keys int) PresenceOption {
	return func(r *presenceRules) error {
		if keys < 0 {
			return fmt.Errorf("PresenceLimit(%d): want 0 or more", keys)
		}
		r.limit = keys
		return nil
	}
}

// PresenceOf tracks every member at its join, as f says: its key, "" for not at all,
// and its meta, as in [Client.Track]. f is called after the join function, on the
// same goroutine; it must not change the membership. What Track would refuse, and a
// panic, refuses the join; on "global", which cannot be refused, it ends the
// connection as "internal".
func PresenceOf(f func(c *Client, topic string) (key string, meta any)) PresenceOption {
	return func(r *presenceRules) error {
		r.of = f
		return nil
	}
}

// Track makes the client present in topic under key, with meta: any value that is a
// JSON object, nil for an empty one. Its fields phx_ref and phx_ref_prev are set by
// the server. The client must have joined topic, or be joining it: what a join
// function tracks takes effect with the join, if that succeeds.
//
// It does not wait for the members and keeps no part of meta. The error is
// [ErrTracked] when the client has tracked key in topic already (so has one that
// the join function is asked about again, after its token was refreshed),
// [ErrNotJoined], [ErrNoPresence], [ErrClosed], that of encoding meta, or an
// [*Error] with [CodeInvalidData] for a key, meta or number of keys over the bounds
// that [Presence] names.
func (c *Client) Track(topic, key string, meta any) error {
	return c.link.present(trackNew, topic, key, meta)
}

// Retrack replaces the meta that the client has tracked under key. The members see
// one diff: the new meta joins, with phx_ref_prev, and the old one leaves. The error is
// [ErrNotTracked], or one of Track's.
func (c *Client) Retrack(topic, key string, meta any) error {
	return c.link.present(trackAgain, topic, key, meta)
}

// Untrack ends what Track began. A key that the client has not tracked is no error,
// and nothing is sent. Without a membership it gives [ErrNotJoined].
func (c *Client) Untrack(topic, key string) error {
	return c.link.present(trackNot, topic, key, nil)
}

// Presence returns who is present in topic on all nodes: for each key its metas, phx_ref
// included. The map is the caller's, the metas must not be changed. A topic without
// members or without [Presence] has nobody.
//
// Where the topic has members the list is at hand, and as late as theirs: what happens
// on another node is known a tick later. Elsewhere the other nodes are asked; that
// takes until all have answered, or ctx ends, or for 10 s if it has no deadline. The
// error is a [*PartialError] beside what the others said; after [Server.Shutdown] it is
// [ErrServerClosed].
func (s *Server) Presence(ctx context.Context, topic string) (map[string][]json.RawMessage, error) {
	if s.node.closed.Load() {
		return map[string][]json.RawMessage{}, ErrServerClosed
	}
	if p := s.node.hub.patternOf(topic); p == nil || p.presence == nil {
		return map[string][]json.RawMessage{}, nil
	}
	if t := s.node.hub.lookup(topic); t != nil && t.await(ctx) == nil {
		return t.presence.(*rollCall).who(), nil
	}
	return s.node.hub.present(ctx, topic)
}
