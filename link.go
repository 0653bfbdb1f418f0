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

func (s *session) push(topic, event string, payload any) error {
	data, err := eventData(event, payload)
	if err != nil {
		return err
	}
	return s.post(&outbound{kind: kindEvent, topic: topic, event: event, data: data})
}

// post sends m if its topic is joined, and keeps it back while it is being
// joined.
func (s *session) post(m *outbound) error {
	f := seal(s.enc, m)
	if f == nil {
		return ErrNotSupported
	}
	s.mu.Lock()
	ch := s.findLocked(m.topic)
	switch {
	case s.isEnding():
		s.mu.Unlock()
		return ErrClosed
	case ch == nil || ch.member == nil && !ch.joining:
		s.mu.Unlock()
		return fmt.Errorf("%w: %q", ErrNotJoined, m.topic)
	case ch.joining:
		slow := len(ch.held) >= s.node.bounds.messages
		if !slow {
			ch.held = append(ch.held, f)
		}
		s.mu.Unlock()
		if slow {
			s.end(ReasonSlowConsumer, nil, nil)
			return ErrClosed
		}
		return nil
	}
	res := s.out.push(f) // under the lock: nothing follows the end of a membership
	s.mu.Unlock()
	switch res {
	case pushWake:
		s.pool.flush(&s.outlet)
	case pushSlow:
		s.end(ReasonSlowConsumer, nil, nil)
		return ErrClosed
	case pushClosed:
		return ErrClosed
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
		why = &Error{Code: string(ReasonDisconnected), Text: "Unsubscribed by the server", Retry: RetryNever}
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
