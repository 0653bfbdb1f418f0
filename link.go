package realtime

import (
	"context"
	"encoding/json"
	"fmt"
)

// session is the [link] of clients that have topics.

func (s *session) topics() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.channels))
	for _, ch := range s.channels {
		if ch.member != nil {
			names = append(names, ch.name)
		}
	}
	return names
}

// adopt implements [link].
func (s *session) adopt(token string) error {
	data, err := json.Marshal(map[string]string{"token": token})
	if err != nil {
		return err
	}
	id, err := s.identify(data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over { // from here on the seat is given back
		return ErrClosed
	}
	old := s.Identity()
	switch {
	case id.seat() == old.seat():
	case old.User != "" || old.Tenant != "":
		return errOtherUser
	default:
		if err := s.sitLocked(id); err != nil {
			return err
		}
	}
	s.identity.Store(id)
	s.recheckLocked()
	return nil
}

// sitLocked gives an anonymous connection the seat of a user.
func (s *session) sitLocked(id *Identity) error {
	n := s.node
	older, replaced, reason := n.seats.take(id.seat(), &s.Client)
	if reason != "" {
		return reason
	}
	n.seats.release("", &s.Client)
	n.tenanted.CompareAndSwap(false, id.Tenant != "")
	if replaced {
		older.link.disconnect(ReasonReplaced, nil, nil)
	}
	return nil
}

func (s *session) subscribe(ctx context.Context, topic string) error {
	in := inbound{op: opJoin, topic: topic}
	ch, e := s.channelFor(in)
	if e != nil {
		return e
	}
	result := make(chan error, 1)
	s.mu.Lock()
	switch here := s.findLocked(topic); {
	case s.isEnding():
		s.mu.Unlock()
		return ErrClosed
	case here != nil && (here.member != nil || here.joining): // a handler of topic's own would wait for itself
		s.mu.Unlock()
		return errAlready
	case here != nil:
		ch = here
	default:
		s.channels = append(s.channels, ch)
	}
	ch.putLocked(task{inbound: in, kind: taskAdmit, result: result})
	s.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.Context().Done():
		return ErrClosed
	}
}

func (s *session) unsubscribe(topic string, why *Error) error {
	ch := s.find(topic)
	if why == nil {
		why = errUnsubscribed
	}
	if ch == nil || topic == globalTopic || !ch.expel(why) {
		return fmt.Errorf("%w: %q", ErrNotJoined, topic)
	}
	return nil
}

func (s *session) ask(ctx context.Context, topic, event string, payload any) (json.RawMessage, error) {
	data, err := eventData(event, payload)
	if err != nil {
		return nil, err
	}
	answers := s.node.asks.ask(ctx, []*Client{&s.Client}, &outbound{kind: kindEvent, topic: topic, event: event, data: data})
	return answers[0].Data, answers[0].Err
}
