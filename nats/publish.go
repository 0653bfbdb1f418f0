package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/seed-58bc6ac1/realtime"
)

const (
	// overhead is more than what a message is besides its event.
	overhead = 512

	// nearly is how long a publisher that was overtaken waits for the event that was
	// faster, before it asks for it.
	nearly = 10 * time.Millisecond
)

// publishStored stores e. It returns when the members here have it.
func (b *Broker) publishStored(ctx context.Context, e *realtime.Event, body []byte, keep realtime.Retention) error {
	select {
	case b.inflight <- struct{}{}:
		defer func() { <-b.inflight }()
	default:
		return fmt.Errorf("%w: %d events are on their way", realtime.ErrBrokerDown, cap(b.inflight))
	}
	if err := b.connected(); err != nil {
		return fmt.Errorf("%w: %w", realtime.ErrBrokerDown, err)
	}
	if most := b.nc.MaxPayload(); int64(len(body)+overhead) > most {
		return fmt.Errorf("%w: %d bytes, the server allows %d", client.ErrMaxPayload, len(body), most)
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.timeout)
	defer cancel()
	s := b.stream(e.Topic)
	defer b.leave(s)
	if err := s.publish(ctx, e, body, keep); err != nil {
		return fmt.Errorf("%w: %w", realtime.ErrBrokerDown, err)
	}
	return nil
}

// publish has its turn among the publishers of the topic here.
func (s *stream) publish(ctx context.Context, e *realtime.Event, body []byte, keep realtime.Retention) error {
	if err := s.b.store.fit(ctx, keep.Size); err != nil {
		return err
	}
	if err := enter(ctx, s.turn); err != nil {
		return err
	}
	defer exit(s.turn)
	id := newID()
	s.mu.Lock()
	s.own = own{id: id}
	s.mu.Unlock()
	for {
		at, err := s.guess(ctx)
		if err != nil {
			return err
		}
		r := record{position: position{epoch: at.epoch, offset: at.offset + 1, id: id}, kind: kindEvent, previous: at.id, event: body}
		if r.seq, err = s.send(ctx, &r, at.seq); err == nil {
			return s.home(ctx, &r, e)
		}
		done, err := s.learn(ctx, id, at, err)
		if err != nil {
			return err
		}
		if done.epoch != "" {
			e.Epoch, e.Offset = done.epoch, done.offset
			return nil
		}
	}
}

// send leaves time to find out what became of the event if there is no answer.
func (s *stream) send(ctx context.Context, r *record, expect uint64) (seq uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.b.config.timeout/3)
	defer cancel()
	return s.b.store.append(ctx, s.subject, r, expect, 0)
}

// guess returns the position after which the next event should come. If it is wrong
// the server refuses the event.
func (s *stream) guess(ctx context.Context) (position, error) {
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	if at.epoch != "" {
		return at, nil
	}
	last, ok, err := s.b.store.last(ctx, s.subject)
	if err == nil && !ok {
		return begin(), nil
	}
	return last.position, err
}

// home delivers an event that the server has stored.
func (s *stream) home(ctx context.Context, r *record, e *realtime.Event) error {
	e.Epoch, e.Offset = r.epoch, r.offset
	s.b.mention(r.seq)
	s.mu.Lock()
	switch {
	case s.sub == nil:
		s.at = r.position
	case !s.takeLocked(r, e):
		s.heard = max(s.heard, r.seq)
		s.mendLocked()
		s.mu.Unlock()
		s.mend(ctx) // it is stored: what fails here is done by a mendLoop
		return nil
	}
	s.mu.Unlock()
	return nil
}

// learn finds out why an event was refused, or whether it was stored without an
// answer: then its position is returned. It brings at up to date.
func (s *stream) learn(ctx context.Context, id uint64, tried position, cause error) (done position, err error) {
	if errors.Is(cause, errNoStream) || errors.Is(cause, client.ErrNoResponders) {
		if err := s.b.store.open(ctx); err != nil {
			return done, err
		}
	}
	if err := s.b.connected(); err != nil {
		return done, fmt.Errorf("%w (%w)", cause, err)
	}
	s.await(ctx, tried)
	s.mu.Lock()
	live, moved := s.sub != nil, s.at != tried
	if live && !moved {
		s.mendLocked()
	}
	s.mu.Unlock()
	switch {
	case !live:
		done, err = s.search(ctx, id, tried)
	case !moved:
		err = s.mend(ctx)
	}
	if err != nil {
		return done, fmt.Errorf("%w (%w)", cause, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own.taken {
		done = s.own.at
	}
	return done, nil
}

// await waits a moment for the event that was faster: it is on its way here.
func (s *stream) await(ctx context.Context, tried position) {
	s.mu.Lock()
	if s.sub == nil || s.at != tried {
		s.mu.Unlock()
		return
	}
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	moved := s.moved
	s.mu.Unlock()
	t := time.NewTimer(nearly)
	defer t.Stop()
	select {
	case <-moved:
	case <-t.C:
	case <-ctx.Done():
	}
}

// search does the same for a topic that has no members here.
func (s *stream) search(ctx context.Context, id uint64, tried position) (done position, err error) {
	last, _, err := s.b.store.last(ctx, s.subject)
	if err != nil {
		return done, err
	}
	for from, more := tried.seq+1, last.seq > tried.seq; more; {
		var page []stored
		if page, more, err = s.b.store.page(ctx, s.subject, from, maxPage); err != nil {
			return done, err
		}
		for _, m := range page {
			if from = m.seq + 1; m.id == id && m.kind == kindEvent {
				done = m.position
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sub == nil {
		s.at = last.position // zero, if there is nothing
	}
	return done, nil
}
