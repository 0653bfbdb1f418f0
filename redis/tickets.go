package redis

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// maxTickets bounds the tickets outstanding in one partition, about 50 MB: one that
// nobody redeems lies there until its life is over.
const maxTickets = 100_000

// maxTicketBytes bounds what is stored for one: a token's claims are most of it, and
// those came in a header.
const maxTicketBytes = 64 << 10

// KEYS: ticket, all tickets by the end of their life.
var (
	// ARGV: identity, life in ms, bound.
	putTicket = rueidis.NewLuaScript(`
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ms)
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], ms + ARGV[2], KEYS[1])
redis.call('PEXPIRE', KEYS[2], 3600000)
return 1`)

	takeTicket = rueidis.NewLuaScript(`
redis.call('ZREM', KEYS[2], KEYS[1])
return redis.call('GETDEL', KEYS[1])`)
)

// Tickets returns the store of one-time tickets that all nodes have in common. A
// ticket is good for one handshake, whatever node it comes to; with the server out of
// reach there are none ([realtime.ErrBrokerDown]).
func (b *Broker) Tickets() realtime.TicketStore { return ticketStore{b} }

type ticketStore struct{ *Broker }

func (s ticketStore) keys(key string) (*lane, []string, error) {
	l, err := s.lane("ticket:" + key)
	if err != nil {
		return nil, nil, err
	}
	return l, []string{l.key("t", key), l.key("tickets", "")}, nil
}

// Put implements [realtime.TicketStore].
func (s ticketStore) Put(ctx context.Context, key string, id *realtime.Identity, life time.Duration) error {
	l, keys, err := s.keys(key)
	if err != nil {
		return err
	}
	text, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("redis: keep a ticket: %w", err)
	}
	if len(text) > maxTicketBytes {
		return fmt.Errorf("redis: keep a ticket: its identity has %d bytes, more than %d", len(text), maxTicketBytes)
	}
	m, err := l.exec(ctx, "keep a ticket", putTicket, keys, []string{string(text), millis(life), strconv.Itoa(maxTickets)})
	if err != nil {
		return err
	}
	if n, _ := m.AsInt64(); n == 0 {
		return fmt.Errorf("redis: keep a ticket: %w: %d are outstanding", realtime.ReasonOverloaded, maxTickets)
	}
	return nil
}

// Take implements [realtime.TicketStore].
func (s ticketStore) Take(ctx context.Context, key string) (*realtime.Identity, error) {
	l, keys, err := s.keys(key)
	if err != nil {
		return nil, err
	}
	m, err := l.exec(ctx, "redeem a ticket", takeTicket, keys, nil)
	if err != nil {
		return nil, err
	}
	if m.IsNil() {
		return nil, fmt.Errorf("%w: unknown, used or expired ticket", realtime.ReasonTokenInvalid)
	}
	text, err := m.ToString()
	if err != nil {
		return nil, fmt.Errorf("redis: redeem a ticket: %w: %w", realtime.ReasonInternal, err)
	}
	return parseIdentity([]byte(text))
}

// parseIdentity reads what Put stored. A field that this version does not know would
// be a limit that it does not keep: it is refused.
func parseIdentity(text []byte) (*realtime.Identity, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	id := &realtime.Identity{}
	if err := d.Decode(&id); err != nil {
		return nil, fmt.Errorf("redis: the identity of a ticket: %w: %w", realtime.ReasonInternal, err)
	}
	if _, err := d.Token(); err != io.EOF || id == nil {
		return nil, fmt.Errorf("redis: the identity of a ticket: %w: more than that", realtime.ReasonInternal)
	}
	return id, nil
}
