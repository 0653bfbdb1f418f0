package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// channelNamed admits everyone, and says which pattern the topic belongs to.
func channelNamed(name string) realtime.Handler {
	return func(context.Context, *realtime.Client, realtime.Message) (any, error) {
		return map[string]string{"chan": name}, nil
	}
}

// addRooms declares the rooms, whose events do each one of the things that a
// channel can do.
func (a *app) addRooms() {
	room := a.rt.Topic("room:*", realtime.Join(joinRoom), realtime.Left(a.leftRoom))
	for event, h := range map[string]realtime.Handler{
		"echo":       func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) { return m.Data, nil },
		"ok":         answer(nil, nil),
		"fail":       answer(realtime.Status{Name: "error", Response: map[string]string{"why": "because"}}, nil),
		"fail_bare":  answer(realtime.Status{Name: "error"}, nil),
		"custom":     answer(realtime.Status{Name: "ignored", Response: map[string]int{"n": 1}}, nil),
		"silent":     answer(realtime.Nothing, nil),
		"stop":       answer(realtime.Nothing, realtime.ErrStop),
		"stop_reply": answer(map[string]bool{"bye": true}, realtime.ErrStop),
		"stop_bad":   answer(realtime.Status{Name: "error"}, realtime.ErrCrash),
		"boom":       crash,
		"later":      later,
		"sleep":      sleep,
		"twice":      twice,
		"shout":      a.broadcast("shout"),
		"shout_from": a.broadcastFrom("shout"),
		"icpt":       a.broadcast("icpt"),
		"mute":       a.broadcast("mute"),
		"bin":        bin,
		"bin_shout":  a.binShout,
	} {
		room.Handle(event, h)
	}
	room.Intercept("icpt", addExtra)
	room.Intercept("mute", answer(realtime.Nothing, nil))
}

// answer is a handler that always returns the same.
func answer(response any, err error) realtime.Handler {
	return func(context.Context, *realtime.Client, realtime.Message) (any, error) { return response, err }
}

// byeKey is the key of a value that a client has while it wants to be told of its
// leaving the topic.
type byeKey struct{ topic string }

// joinRoom does what the join's payload asks for. A payload that asks for nothing
// of this kind is as good as any.
func joinRoom(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
	var in struct {
		Deny, Reply       json.RawMessage
		Crash, After, Bye bool
	}
	_ = json.Unmarshal(m.Data, &in)
	switch {
	case in.Deny != nil:
		return nil, &realtime.Error{
			Code: string(realtime.ReasonForbidden), Text: "The join asked to be refused", Retry: realtime.RetryNever,
			Data: map[string]json.RawMessage{"reason": in.Deny},
		}
	case in.Crash:
		panic("a crash was asked for")
	case in.Reply != nil:
		return in.Reply, nil
	case in.After:
		return nil, c.Push(m.Topic, "joined", map[string]string{"status": "connected"})
	case in.Bye:
		c.Set(byeKey{m.Topic}, true)
	}
	return nil, nil
}

// leftRoom is called at the end of every membership.
func (a *app) leftRoom(c *realtime.Client, topic string, why realtime.Reason) {
	a.logLeft(c, topic, why)
	if c.Value(byeKey{topic}) == nil {
		return
	}
	c.Set(byeKey{topic}, nil)
	// A client whose connection has gone hears no good-bye.
	_ = c.Push(topic, "you_left", map[string]string{"message": "bye!"})
}

func (a *app) logLeft(c *realtime.Client, topic string, why realtime.Reason) {
	a.log.Info("left", "conn", c.ID(), "topic", topic, "reason", string(why))
}

func crash(context.Context, *realtime.Client, realtime.Message) (any, error) {
	panic("a crash was asked for")
}

// later answers when the handler has long returned.
func later(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
	reply := m.Later()
	time.AfterFunc(50*time.Millisecond, func() {
		_ = reply.Send(map[string]bool{"late": true}, nil) // who has gone needs no answer
	})
	return nil, nil
}

// sleep answers after two seconds. Meanwhile heartbeats and other topics are
// served.
func sleep(ctx context.Context, _ *realtime.Client, _ realtime.Message) (any, error) {
	select {
	case <-time.After(2 * time.Second):
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func twice(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
	if err := c.Push(m.Topic, "one", struct{}{}); err != nil {
		return nil, err
	}
	return nil, c.Push(m.Topic, "two", struct{}{})
}

// broadcast publishes what came to every member, the sender included.
func (a *app) broadcast(event string) realtime.Handler {
	return func(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
		return nil, a.rt.Publish(ctx, m.Topic, event, m.Data)
	}
}

// broadcastFrom publishes what came to every member but the sender.
func (a *app) broadcastFrom(event string) realtime.Handler {
	return func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return nil, a.rt.Publish(ctx, m.Topic, event, m.Data, realtime.Except(c))
	}
}

// addExtra is what each member makes of the broadcast event icpt.
func addExtra(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
	fields := map[string]json.RawMessage{}
	if err := m.Decode(&fields); err != nil {
		return nil, err
	}
	fields["extra"] = json.RawMessage("1")
	return fields, nil
}

// bin pushes bytes and answers with bytes: those that came, and two more. Clients
// of V1 cannot be pushed any.
func bin(_ context.Context, c *realtime.Client, m realtime.Message) (any, error) {
	err := c.Push(m.Topic, "binpush", realtime.Binary{0, 1})
	if err != nil && !errors.Is(err, realtime.ErrNotSupported) {
		return nil, err
	}
	return realtime.Binary(append(slices.Clone(m.Binary), 3, 4)), nil
}

func (a *app) binShout(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
	return nil, a.rt.Publish(ctx, m.Topic, "binb", realtime.Binary{7})
}
