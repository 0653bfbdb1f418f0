package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/seed-58bc6ac1/realtime"
)

// addGlobal gives clients of realtime.flat, which can name no topic, a way into
// those of the others:
//
//	{"type":"enter","topic":"pres:1","key":"dora","meta":{}}
//	{"type":"say","topic":"room:1","event":"shout","payload":{"m":1}}
func (a *app) addGlobal() {
	global := a.rt.Topic("global")
	global.Handle("enter", enter)
	global.Handle("say", a.say)
}

// enter joins a room or a topic with presence.
func enter(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
	var in struct {
		Topic string `json:"topic"`
		presenceOf
	}
	if err := m.Decode(&in); err != nil {
		return nil, err
	}
	// Not "global": a handler that waits for its own topic waits for ever.
	seen := strings.HasPrefix(in.Topic, "pres:")
	if !seen && !strings.HasPrefix(in.Topic, "room:") {
		return nil, realtime.Reject("There is no entering this topic")
	}
	if err := c.Subscribe(ctx, in.Topic); err != nil {
		return nil, err
	}
	if seen {
		if err := in.track(c, in.Topic); err != nil {
			return nil, err
		}
	}
	return map[string]string{"type": "entered", "topic": in.Topic}, nil
}

// say publishes to a topic that the client is in.
func (a *app) say(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
	var in struct {
		Topic   string          `json:"topic"`
		Event   string          `json:"event"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := m.Decode(&in); err != nil {
		return nil, err
	}
	if !slices.Contains(c.Topics(), in.Topic) || in.Topic == "global" {
		return nil, realtime.Reject("Enter the topic first")
	}
	if in.Payload == nil {
		in.Payload = json.RawMessage(`{}`)
	}
	return nil, a.rt.Publish(ctx, in.Topic, in.Event, in.Payload)
}
