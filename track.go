package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
)

// present implements [link].
func (s *session) present(what tracking, topic, key string, meta any) error {
	fields, err := checkTracking(what, key, meta)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.findLocked(topic)
	switch {
	case s.isEnding():
		return ErrClosed
	case ch == nil || ch.member == nil && ch.coming == nil:
		return fmt.Errorf("%w: %q", ErrNotJoined, topic)
	case ch.pattern.presence == nil:
		return fmt.Errorf("%w: %q", ErrNoPresence, topic)
	case ch.member == nil:
		return s.expectLocked(ch.coming, what, key, fields)
	}
	// Under the lock, without which the membership might end.
	return ch.member.topic.presence.(*rollCall).change(ch.member, what, key, fields)
}

// checkTracking returns the meta's fields. It runs the host's code, so no lock is
// held.
func checkTracking(what tracking, key string, meta any) ([]byte, error) {
	if what == trackNot {
		return nil, nil
	}
	if err := checkPresenceKey(key); err != nil {
		return nil, err
	}
	if meta == nil {
		meta = json.RawMessage("{}")
	}
	text, err := marshal(meta)
	if err != nil {
		return nil, err
	}
	return metaFields(text)
}

// expectLocked notes what a member to be has tracked.
func (s *session) expectLocked(m *member, what tracking, key string, fields []byte) error {
	if m.present == nil {
		m.present = &attendee{}
	}
	_, err := m.present.change(what, key, func(*entry) *entry {
		return newEntry(key, s.node.hub.refs.next(), "", fields)
	})
	return err
}

// attend ends the time in which a member to be can be tracked, and tracks it by
// itself if the topic wants that.
func (ch *channel) attend(m *member) error {
	rules, s := ch.pattern.presence, ch.session
	if rules == nil {
		return nil
	}
	var key string
	var fields []byte
	var err error
	if rules.of != nil {
		key, fields, err = ch.introduce(rules)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch.coming = nil
	if err != nil || key == "" {
		return err
	}
	if err := s.expectLocked(m, trackNew, key, fields); !errors.Is(err, ErrTracked) {
		return err
	}
	return nil // the join function has been more exact
}

// introduce asks who the client is to be to the others.
func (ch *channel) introduce(rules *presenceRules) (key string, fields []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicked{value: r, stack: debug.Stack()}
		}
	}()
	key, meta := rules.of(&ch.session.Client, ch.name)
	if key == "" {
		return "", nil, nil
	}
	fields, err = checkTracking(trackNew, key, meta)
	return key, fields, err
}
