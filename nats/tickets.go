package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-58bc6ac1/realtime"
)

const (
	// ticketLife is the longest that a ticket can have.
	ticketLife = 10 * time.Minute

	// ticketBytes bounds the tickets outstanding, about 100,000 of them.
	ticketBytes = 64 << 20
)

// tickets is a [realtime.TicketStore]: a stream in memory with a subject for each
// ticket. The server forgets them, and lets one only take each.
type tickets struct {
	js      jetstream.JetStream
	name    string
	prefix  string // of the subjects
	shape   func(*jetstream.StreamConfig)
	timeout time.Duration
	made    atomic.Pointer[jetstream.Stream]
}

// ticket is what is stored.
type ticket struct {
	Identity *realtime.Identity `json:"identity"`
	Expires  time.Time          `json:"expires"`
}

// open returns the stream, and makes it when the first ticket comes.
func (t *tickets) open(ctx context.Context) (jetstream.Stream, error) {
	if s := t.made.Load(); s != nil {
		return *s, nil
	}
	replicas := jetstream.StreamConfig{Replicas: 1}
	if t.shape != nil {
		t.shape(&replicas)
	}
	s, err := t.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: t.name, Description: "Tickets of realtime connections", Subjects: []string{t.prefix + ">"},
		MaxAge: ticketLife, MaxBytes: ticketBytes, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew,
		Storage: jetstream.MemoryStorage, Replicas: replicas.Replicas, Placement: replicas.Placement,
	})
	if err != nil {
		return nil, fmt.Errorf("make the stream %s: %w", t.name, err)
	}
	t.made.Store(&s)
	return s, nil
}

// Put implements [realtime.TicketStore].
func (t *tickets) Put(ctx context.Context, key string, id *realtime.Identity, life time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	body, err := json.Marshal(ticket{id, time.Now().Add(life)})
	if err != nil {
		return fmt.Errorf("nats: store a ticket: %w", err)
	}
	if _, err = t.open(ctx); err == nil {
		_, err = t.js.Publish(ctx, t.prefix+token(key), body)
	}
	if e := new(jetstream.APIError); errors.As(err, &e) && e.ErrorCode == codeMaxBytes {
		return fmt.Errorf("nats: %w: %w", realtime.ReasonOverloaded, err)
	}
	if err != nil {
		t.made.Store(nil) // it may be that the server has lost it
		return fmt.Errorf("nats: store a ticket: %w: %w", realtime.ReasonInternal, err)
	}
	return nil
}

// codeMaxBytes is the server's number for a stream that is full.
const codeMaxBytes = 10077

// Take implements [realtime.TicketStore].
func (t *tickets) Take(ctx context.Context, key string) (*realtime.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	s, err := t.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("nats: take a ticket: %w: %w", realtime.ReasonInternal, err)
	}
	m, err := s.GetLastMsgForSubject(ctx, t.prefix+token(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("nats: %w: unknown or used ticket", realtime.ReasonTokenInvalid)
	}
	if err != nil {
		t.made.Store(nil)
		return nil, fmt.Errorf("nats: take a ticket: %w: %w", realtime.ReasonInternal, err)
	}
	if err := s.DeleteMsg(ctx, m.Sequence); err != nil { // of two who delete it one succeeds
		return nil, fmt.Errorf("nats: %w: the ticket is used: %w", realtime.ReasonTokenInvalid, err)
	}
	var one ticket
	if err := json.Unmarshal(m.Data, &one); err != nil || one.Identity == nil {
		return nil, fmt.Errorf("nats: %w: a ticket that cannot be read: %w", realtime.ReasonInternal, err)
	}
	if late := time.Since(one.Expires); late >= 0 {
		return nil, fmt.Errorf("nats: %w: the ticket is %v too old", realtime.ReasonTokenExpired, late)
	}
	return one.Identity, nil
}
