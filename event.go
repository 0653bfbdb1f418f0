package realtime

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
)

// EventType ties the name of an event to the type of its data, for publishers,
// handlers, and the generator of client types.
type EventType[T any] struct{ name string }

// EventInfo is one registered event.
type EventInfo struct {
	Name string
	Type reflect.Type // of the data
}

// eventTypes are the events that NewEvent made, in the process.
var eventTypes struct {
	mu    sync.Mutex // guards the following
	infos []EventInfo
}

// NewEvent registers an event, usually as a package variable:
//
//	var StreamOutput = realtime.NewEvent[StreamOutputData]("stream_output")
//
// The same name may be registered again with the same type. It panics on a name
// that cannot be sent, or one that has another type already.
func NewEvent[T any](name string) EventType[T] {
	if err := checkName(name, maxEventBytes); err != nil {
		panic(fmt.Sprintf("realtime: NewEvent: %v", err))
	}
	t := reflect.TypeFor[T]()
	eventTypes.mu.Lock()
	defer eventTypes.mu.Unlock()
	for _, info := range eventTypes.infos {
		if info.Name == name {
			if info.Type != t {
				panic(fmt.Sprintf("realtime: NewEvent(%q): its data is %v already, not %v", name, info.Type, t))
			}
			return EventType[T]{name}
		}
	}
	eventTypes.infos = append(eventTypes.infos, EventInfo{name, t})
	return EventType[T]{name}
}

// Events returns every registered event, by name. The slice is the caller's.
func Events() []EventInfo {
	eventTypes.mu.Lock()
	defer eventTypes.mu.Unlock()
	infos := slices.Clone(eventTypes.infos)
	slices.SortFunc(infos, func(a, b EventInfo) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return infos
}

// Name returns the event's name on the wire.
func (e EventType[T]) Name() string { return e.name }

// Publish is [Server.Publish] with data of the event's type.
func (e EventType[T]) Publish(ctx context.Context, s *Server, topic string, data T, opts ...PublishOption) error {
	return s.Publish(ctx, topic, e.name, data, opts...)
}

// Push is [Client.Push] with data of the event's type.
func (e EventType[T]) Push(c *Client, topic string, data T) error { return c.Push(topic, e.name, data) }

// Handle is [Pattern.Handle] with the data decoded. Data that is not of the
// event's type is answered as "invalid_data" and does not reach h.
func (e EventType[T]) Handle(p *Pattern, h func(ctx context.Context, c *Client, data T, m Message) (any, error)) {
	p.Handle(e.name, func(ctx context.Context, c *Client, m Message) (any, error) {
		var data T
		if err := m.Decode(&data); err != nil {
			return nil, err
		}
		return h(ctx, c, data, m)
	})
}
