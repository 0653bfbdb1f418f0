package main

import (
	"context"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// The chat keeps this much, so that a reload or a lost network misses nothing.
const (
	historySize = 100
	historyLife = time.Hour
)

// addTopics registers every topic and its events.
func addTopics(rt *realtime.Server) {
	chat := rt.Topic("chat:{room}", realtime.Join(anyone), realtime.History(historySize, historyLife))
	chat.Handle("message", relay(rt))
	chat.Handle("echo", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
		return m.Data, nil
	})
	chat.Handle("fail", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
		return nil, &realtime.Error{Code: "demo_failure", Text: "This event always fails", Retry: realtime.RetryNever}
	})
	chat.Handle("boom", func(context.Context, *realtime.Client, realtime.Message) (any, error) {
		panic("boom was asked for")
	})
	chat.Handle("sleep", sleep)

	private := rt.Topic("private:{user}", realtime.Join(onlyOwner))
	private.Handle("message", relay(rt))

	global := rt.Topic("global", realtime.Join(anyone))
	global.Handle("message", relay(rt))
	global.Handle("user_response", acknowledge)
}

// anyone admits whoever has a token.
func anyone(_ context.Context, c *realtime.Client, _ realtime.Message) (any, error) {
	return map[string]string{"user": c.User()}, nil
}

// onlyOwner admits the user that the topic is named after.
func onlyOwner(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
	if c.User() != m.Param("user") {
		return nil, realtime.Reject("This channel belongs to someone else")
	}
	return nil, nil
}

// relay publishes what came to every member, the sender included. The data goes
// on as it is, so that scripts may send what they like, and a name in it is only
// what the sender claims: an application would put c.User() there itself.
func relay(rt *realtime.Server) realtime.Handler {
	return func(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
		return nil, rt.Publish(ctx, m.Topic, "message", m.Data)
	}
}

// sleep answers after two seconds. Meanwhile pings and other topics are served.
func sleep(ctx context.Context, _ *realtime.Client, _ realtime.Message) (any, error) {
	select {
	case <-time.After(2 * time.Second):
		return map[string]bool{"slept": true}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ack is the answer to a user's response.
type ack struct {
	Type    string `json:"type"` // the reply's type on realtime.flat
	Session string `json:"session_id"`
	Status  string `json:"status"`
}

// acknowledge confirms that the response of a user to an agent has arrived.
func acknowledge(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
	var in struct {
		Session string `json:"session_id"`
	}
	if err := m.Decode(&in); err != nil {
		return nil, err
	}
	if in.Session == "" {
		return nil, &realtime.Error{Code: realtime.CodeInvalidData, Text: "session_id is missing", Retry: realtime.RetryNever}
	}
	return ack{Type: "ack", Session: in.Session, Status: "received"}, nil
}
