package nats

import (
	"context"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// read implements Read for topics with history.
func (b *Broker) read(ctx context.Context, topic string, keep realtime.Retention, after uint64, limit int) ([]*realtime.Event, realtime.Position, error) {
	if err := b.connected(); err != nil {
		return nil, realtime.Position{}, err
	}
	s := b.stream(topic)
	defer b.leave(s)
	for {
		events, newest, err := s.read(ctx, keep, after, limit)
		if err != errStale {
			return events, newest, err
		}
		if err := pause(ctx, lag); err != nil {
			return nil, newest, err
		}
	}
}

func (s *stream) read(ctx context.Context, keep realtime.Retention, after uint64, limit int) ([]*realtime.Event, realtime.Position, error) {
	last, ok, err := s.b.store.last(ctx, s.subject)
	if err != nil || !ok {
		return nil, realtime.Position{}, err
	}
	newest := realtime.Position{Epoch: last.epoch, Offset: last.offset}
	if after >= last.offset || limit <= 0 {
		return nil, newest, nil
	}
	first := after + 1
	if size := uint64(keep.Size); last.offset > size {
		first = max(first, last.offset-size+1)
	}
	events, err := s.events(ctx, last.position, first, limit, keep.Age)
	return events, newest, err
}

// events reads up to limit events from the offset first on, up to last, none older
// than age.
func (s *stream) events(ctx context.Context, last position, first uint64, limit int, age time.Duration) (events []*realtime.Event, err error) {
	oldest := time.Time{}
	if age > 0 {
		oldest = time.Now().Add(-age)
	}
	most := maxPage
	from := s.seqOf(last.epoch, first)
	if from > 0 {
		most = limit + positions
	}
	for {
		page, more, err := s.b.store.page(ctx, s.subject, from, most)
		if err != nil {
			return nil, err
		}
		for i := range page {
			m := &page[i]
			if from = m.seq + 1; m.kind != kindEvent || m.epoch != last.epoch || m.offset < first {
				continue
			}
			e, err := m.eventOf(s.topic)
			if err == nil && !e.Time.Before(oldest) {
				events = append(events, e)
			}
			if len(events) == limit || m.offset >= last.offset {
				return events, nil
			}
		}
		if !more {
			if from <= last.seq {
				return nil, errStale
			}
			return events, nil
		}
	}
}
