package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// talker is a client of realtime.v1: it is in some rooms, says something in them, and
// comes back wherever the proxy sends it, with the positions that it had.
type talker struct {
	person
	random   *rand.Rand
	pace     time.Duration // between two things that it says
	readings map[string]*reading
	quiet    func() bool          // whether it is to say no more
	faulty   func(id string) bool // drops what it is asked to drop: for the test of the test

	// Of the connection.
	*wire
	heard   time.Time
	joined  map[string]bool
	waiting map[string]string // ref -> id of what was said
	refs    int

	mu     sync.Mutex                            // guards the following, which others look at
	people map[string]map[string]map[string]bool // room -> user -> refs
}

// frame is one message of realtime.v1.
type frame struct {
	Channel string          `json:"channel"`
	Type    string          `json:"type"`
	Ref     string          `json:"ref"`
	Offset  uint64          `json:"offset"`
	Data    json.RawMessage `json:"data"`
}

// live goes from connection to connection until ctx ends.
func (t *talker) live(ctx context.Context) {
	for ctx.Err() == nil {
		err := t.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		t.count.note(err)
		select {
		case <-time.After(20*time.Millisecond + time.Duration(t.random.Int64N(int64(300*time.Millisecond)))):
		case <-ctx.Done():
		}
	}
}

// connection is one of them, and returns why it ended.
func (t *talker) connection(ctx context.Context) error {
	token, err := mint(t.name, "")
	if err != nil {
		return err
	}
	if t.wire, err = dialWire(ctx, t.base, "/ws", "realtime.v1", "bearer."+token); err != nil {
		return err
	}
	defer t.hangUp()
	t.heard, t.joined, t.waiting = time.Now(), map[string]bool{}, map[string]string{}
	t.count.connects.Add(1)
	speak, asks := time.NewTicker(t.pace), time.NewTicker(beat)
	defer speak.Stop()
	defer asks.Stop()
	for {
		select {
		case text, ok := <-t.frames:
			if !ok {
				return errBroken
			}
			t.heard = time.Now()
			var f frame
			if err := json.Unmarshal(text, &f); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
			if err := t.take(ctx, f); err != nil {
				return err
			}
		case <-speak.C:
			err = t.say(ctx)
		case <-asks.C:
			if time.Since(t.heard) > silence {
				return errSilent
			}
			err = t.write(ctx, `{"type":"ping"}`)
		case <-t.cut:
			return errCut
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return errBroken
		}
	}
}

// send writes one message.
func (t *talker) send(ctx context.Context, channel, event, ref string, data any) error {
	text, err := json.Marshal(map[string]any{"channel": channel, "type": event, "ref": ref, "data": data})
	if err != nil {
		return err
	}
	return t.write(ctx, string(text))
}

// subscribe joins a room, at the position that the talker has there.
func (t *talker) subscribe(ctx context.Context, room string) error {
	data := map[string]any{}
	if r := t.readings[room]; r.begun {
		data["recover"] = map[string]any{"epoch": r.epoch, "offset": r.offset}
	}
	return t.send(ctx, room, "subscribe", "join", data)
}

// say says something in one of the rooms.
func (t *talker) say(ctx context.Context) error {
	if len(t.joined) == 0 || t.quiet() {
		return nil
	}
	rooms := slices.Sorted(maps.Keys(t.joined))
	room := rooms[t.random.IntN(len(rooms))]
	t.refs++
	id, ref := fmt.Sprintf("%s-%d", t.name, t.refs), fmt.Sprint(t.refs)
	t.waiting[ref] = room + " " + id
	t.count.said.Add(1)
	return t.send(ctx, room, "say", ref, map[string]string{"text": id})
}

// take acts on one message, as docs/protocols.md section 7 says.
func (t *talker) take(ctx context.Context, f frame) error {
	switch {
	case f.Type == "connected" && f.Channel == "global":
		for room := range t.readings {
			if err := t.subscribe(ctx, room); err != nil {
				return errBroken
			}
		}
	case f.Type == "subscription_success" && f.Channel == "global":
		return t.subscribed(f.Data)
	case f.Type == "subscription_error" || f.Type == "unsubscribed":
		t.count.refused.Add(1)
		return t.lost(ctx, f.Data)
	case f.Type == "reply" && f.Ref != "":
		if room, id, ok := t.asked(f.Ref); ok {
			t.count.acked.Add(1)
			t.readings[room].ledger.ack(room, id)
		}
	case f.Type == "error" && f.Ref != "":
		if _, _, ok := t.asked(f.Ref); ok {
			t.count.unsaid.Add(1)
		}
	case f.Type == "gap" && f.Channel != "global": // which keeps no history
		return t.gap(f)
	case f.Type == "presence_state" || f.Type == "presence_diff":
		return t.presence(f)
	case f.Offset > 0:
		var said line
		if err := json.Unmarshal(f.Data, &said); err != nil {
			return err
		}
		if t.faulty == nil || !t.faulty(said.Text) {
			t.readings[f.Channel].event(f.Offset, said.Text)
		}
	}
	return nil
}

// lost tries again what was refused for now.
func (t *talker) lost(ctx context.Context, data json.RawMessage) error {
	var why struct{ Channel, Code string }
	if err := json.Unmarshal(data, &why); err != nil {
		return err
	}
	delete(t.joined, why.Channel)
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
	return t.subscribe(ctx, why.Channel)
}

// asked returns what was said under ref.
func (t *talker) asked(ref string) (room, id string, ok bool) {
	text, ok := t.waiting[ref]
	delete(t.waiting, ref)
	_, _ = fmt.Sscan(text, &room, &id)
	return room, id, ok
}

func (t *talker) subscribed(data json.RawMessage) error {
	var in struct {
		Channel, Epoch, Recovery string
		Offset                   uint64
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	r := t.readings[in.Channel]
	t.joined[in.Channel] = true
	switch in.Recovery {
	case "fresh":
		t.count.fresh.Add(1)
		r.starts(in.Epoch, in.Offset)
	case "complete":
		t.count.complete.Add(1)
		r.continues(in.Epoch, in.Offset, true)
	case "replayed":
		t.count.replayed.Add(1)
		r.continues(in.Epoch, in.Offset, false)
	case "reload":
		t.count.reload.Add(1)
		r.reload(in.Epoch, in.Offset)
	}
	return nil
}

func (t *talker) gap(f frame) error {
	var in struct {
		Policy, Epoch    string
		Offset, From, To uint64
	}
	if err := json.Unmarshal(f.Data, &in); err != nil {
		return err
	}
	if in.Policy == "reload" {
		t.readings[f.Channel].reload(in.Epoch, in.Offset)
	} else {
		t.readings[f.Channel].gap(in.From, in.To)
	}
	return nil
}

// presence keeps who is there, by the rules of docs/protocols.md section 5.
func (t *talker) presence(f frame) error {
	type list map[string]struct {
		Metas []struct {
			Ref string `json:"phx_ref"`
		}
	}
	var diff struct{ Joins, Leaves list }
	into := any(&diff)
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.Type == "presence_state" {
		t.people[f.Channel] = map[string]map[string]bool{}
		into = &diff.Joins
	}
	if err := json.Unmarshal(f.Data, into); err != nil {
		return err
	}
	room := t.people[f.Channel]
	for user, come := range diff.Joins {
		if room[user] == nil {
			room[user] = map[string]bool{}
		}
		for _, meta := range come.Metas {
			room[user][meta.Ref] = true
		}
	}
	for user, gone := range diff.Leaves {
		for _, meta := range gone.Metas {
			delete(room[user], meta.Ref)
		}
		if len(room[user]) == 0 {
			delete(room, user)
		}
	}
	return nil
}

// sees returns who is in the room with how many connections, as the talker knows it.
func (t *talker) sees(room string) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[string]int{}
	for user, refs := range t.people[room] {
		seen[user] = len(refs)
	}
	return seen
}
