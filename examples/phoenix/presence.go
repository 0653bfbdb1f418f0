package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/seed-58bc6ac1/realtime"
)

// keyOf is the key of a value that a client has while it is in the topic: the key
// under which its presence is tracked there.
type keyOf struct{ topic string }

// addPresence declares the topics whose members see each other.
func (a *app) addPresence() {
	pres := a.rt.Topic("pres:*", realtime.Presence(), realtime.Join(joinPresence), realtime.Left(a.leftPresence))
	pres.Handle("boom", crash)
	pres.Handle("update", func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return nil, presenceError(c.Retrack(m.Topic, key(c, m.Topic), m.Data))
	})
	pres.Handle("untrack", func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return nil, presenceError(c.Untrack(m.Topic, key(c, m.Topic)))
	})
	pres.Handle("track_again", func(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return nil, presenceError(c.Track(m.Topic, key(c, m.Topic), m.Data))
	})
}

// joinPresence admits everyone, and tracks those who bring a key.
func joinPresence(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
	var in presenceOf
	if err := m.Decode(&in); err != nil {
		return nil, err
	}
	return nil, in.track(c, m.Topic)
}

// presenceOf is how a client says what it is to be seen as.
type presenceOf struct {
	Key  string          `json:"key"`
	Meta json.RawMessage `json:"meta"`
}

func (p presenceOf) track(c *realtime.Client, topic string) error {
	if p.Key == "" {
		return nil
	}
	if p.Meta == nil {
		p.Meta = json.RawMessage(`{}`)
	}
	c.Set(keyOf{topic}, p.Key)
	return presenceError(c.Track(topic, p.Key, p.Meta))
}

// leftPresence is called at the end of every membership.
func (a *app) leftPresence(c *realtime.Client, topic string, why realtime.Reason) {
	a.logLeft(c, topic, why)
	c.Set(keyOf{topic}, nil)
}

// key returns the client's key in the topic, "" if it brought none.
func key(c *realtime.Client, topic string) string {
	key, _ := c.Value(keyOf{topic}).(string)
	return key
}

// presenceError tells the client what it could have known.
func presenceError(err error) error {
	switch {
	case errors.Is(err, realtime.ErrTracked):
		return &realtime.Error{Code: "already_tracked", Text: "This key is tracked already", Retry: realtime.RetryNever}
	case errors.Is(err, realtime.ErrNotTracked):
		return &realtime.Error{Code: "not_tracked", Text: "Nothing is tracked", Retry: realtime.RetryNever}
	}
	return err
}
