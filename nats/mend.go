package nats

import (
	"context"
	"errors"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

const (
	// menders is how many topics are compared with the server at the same time.
	menders = 8

	// secondLook is how long after the first one a topic is looked at again before its
	// history counts as lost: a leader that was just elected may know less than the
	// one before, for a moment.
	secondLook = 250 * time.Millisecond

	// lag is how long a replica is given to catch up.
	lag = 20 * time.Millisecond
)

// errOther says that the server's stream is not the one that was delivered.
var errOther = errors.New("the stream has another history than before")

// mendLocked has the stream compared with the server's, by a mendLoop.
func (s *stream) mendLocked() {
	s.stale = true
	if s.queued {
		return
	}
	select {
	case s.b.broken <- s:
		s.queued = true
	default: // the heartbeat comes back to it
	}
}

// mendLoop mends what is queued. What fails stays stale until the next heartbeat.
func (b *Broker) mendLoop() {
	for {
		select {
		case s := <-b.broken:
			s.mu.Lock()
			s.queued = false
			s.mu.Unlock()
			ctx, cancel := context.WithTimeout(b.ended, b.config.timeout)
			s.mend(ctx)
			cancel()
		case <-b.ended.Done():
			return
		}
	}
}

// mend delivers what has been missed, until nothing is known to be missing.
func (s *stream) mend(ctx context.Context) error {
	if err := enter(ctx, s.mending); err != nil {
		return err
	}
	defer exit(s.mending)
	for doubts, looks := 0, 0; ; {
		s.mu.Lock()
		before, needed := s.at, s.stale && s.sub != nil
		s.mu.Unlock()
		if !needed {
			return nil
		}
		last, ok, err := s.b.store.last(ctx, s.subject)
		if errors.Is(err, errNoStream) {
			err = s.b.store.open(ctx)
		}
		if err != nil {
			return err
		}
		err = s.catchUp(ctx, before, last, ok)
		if errors.Is(err, errOther) && doubts > 0 {
			err = s.restart(ctx, before, last.seq)
		}
		switch {
		case err == nil:
			s.settle(last.seq, &looks)
		case errors.Is(err, errOther):
			doubts++
			err = pause(ctx, secondLook)
		case errors.Is(err, errStale), errors.Is(err, errConflict):
			err = pause(ctx, lag)
		}
		if err != nil {
			return err
		}
	}
}

// settle ends the mending if all that was heard of is here. A message that the server
// has mentioned and does not have any more is waited for a few times.
func (s *stream) settle(last uint64, looks *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard > s.at.seq && s.at.seq == last {
		if *looks++; *looks > 3 {
			s.heard = s.at.seq
		}
	}
	s.stale = s.heard > s.at.seq
}

// catchUp delivers what came after before, last being the newest; ok is false if
// there is nothing at all.
func (s *stream) catchUp(ctx context.Context, before position, last stored, ok bool) error {
	switch {
	case !ok:
		return errOther
	case last.epoch != before.epoch:
		s.follow(before, last.position)
		return nil
	case last.offset == before.offset && last.id == before.id:
		s.mu.Lock()
		if s.at == before {
			s.at.seq = last.seq
		}
		s.mu.Unlock()
		return nil
	case last.offset <= before.offset, last.seq <= before.seq:
		return errOther
	}
	return s.fill(ctx, before.seq+1, last.position)
}

// restart begins a new epoch in place of what the server has, whose newest message is
// number seq.
func (s *stream) restart(ctx context.Context, before position, seq uint64) error {
	first := record{position: begin(), kind: kindPosition}
	var err error
	if first.seq, err = s.b.store.append(ctx, s.subject, &first, seq, 0); err != nil {
		return err
	}
	s.follow(before, first.position)
	return nil
}

// follow goes on from a position of another epoch: what is between is unknown.
func (s *stream) follow(before, at position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at != before || s.sub == nil {
		return // something came meanwhile: it is looked at again
	}
	s.at, s.since, s.seqs = at, time.Now(), nil
	s.movedLocked()
	s.deliverLocked(&realtime.Event{Topic: s.topic, Gap: &realtime.Gap{}, Epoch: at.epoch, Offset: at.offset})
}

// fill reads from a sequence on until last was delivered.
func (s *stream) fill(ctx context.Context, from uint64, last position) error {
	for more := true; more; {
		var page []stored
		var err error
		if page, more, err = s.b.store.page(ctx, s.subject, from, maxPage); err != nil {
			return err
		}
		for i := range page {
			if err := s.put(&page[i].record); err != nil {
				return err
			}
			from = page[i].seq + 1
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.epoch == last.epoch && s.at.offset < last.offset {
		return errStale
	}
	return nil
}

// put delivers a record that was read, after a gap if it is not the next one.
func (s *stream) put(r *record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sub == nil || r.epoch != s.at.epoch || r.offset < s.at.offset || s.takeLocked(r, nil) {
		return nil // of another epoch: last is of that, too, and looked at again
	}
	missing := r.offset - 1
	if r.kind == kindPosition {
		missing = r.offset
	}
	if missing <= s.at.offset {
		return errOther // it is the next one, but not after the one that was delivered
	}
	gap := s.gapTo(missing)
	s.at, s.seqs = position{epoch: r.epoch, offset: missing, id: r.previous, seq: r.seq - 1}, nil
	if r.kind == kindPosition {
		s.at.id = r.id
	}
	s.movedLocked()
	s.deliverLocked(gap)
	s.takeLocked(r, nil)
	return nil
}

// keep writes the position of a topic with members anew, before the server forgets it.
func (s *stream) keep(ctx context.Context) error {
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	r := record{position: at, kind: kindPosition}
	life := time.Duration(0)
	if at.offset == 0 {
		life = memoryUnused
	}
	seq, err := s.b.store.append(ctx, s.subject, &r, at.seq, life)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		r.seq = seq
		s.takeLocked(&r, nil)
	} else {
		s.mendLocked()
	}
	return err
}

// fades reports whether the position of a topic with members needs to be kept.
func (s *stream) fades(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	life := memory
	if s.at.offset == 0 {
		life = memoryUnused
	}
	return s.sub != nil && now.Sub(s.since) > life/3
}

// pause waits, for less if ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
