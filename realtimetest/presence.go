package realtimetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// roster is who is present in one topic, as a client puts it together from states
// and diffs: what phoenix.js does (phoenix.md section 4.4).
type roster map[string]metas

type metas []meta

type meta struct {
	ref  string
	text json.RawMessage
}

func (ms metas) without(others metas) (left metas) {
	for _, m := range ms {
		if !slices.ContainsFunc(others, func(o meta) bool { return o.ref == m.ref }) {
			left = append(left, m)
		}
	}
	return left
}

// people decodes a state, or a half of a diff. A field that is none, as the type of
// realtime.flat, is passed over.
func people(data json.RawMessage) roster {
	var fields map[string]json.RawMessage
	json.Unmarshal(data, &fields)
	r := roster{}
	for key, value := range fields {
		var p struct{ Metas []json.RawMessage }
		if json.Unmarshal(value, &p) != nil || len(p.Metas) == 0 {
			continue
		}
		for _, text := range p.Metas {
			var m struct {
				Ref string `json:"phx_ref"`
			}
			json.Unmarshal(text, &m)
			r[key] = append(r[key], meta{m.Ref, bytes.Clone(text)})
		}
	}
	return r
}

// apply merges a diff: whoever joins, then whoever leaves.
func (r roster) apply(joins, leaves roster) {
	for key, came := range joins {
		r[key] = append(r[key].without(came), came...)
	}
	for key, gone := range leaves {
		if r[key] = r[key].without(gone); len(r[key]) == 0 {
			delete(r, key)
		}
	}
}

// notePresenceLocked keeps what m says of who is present.
func (c *Client) notePresenceLocked(m Message) {
	switch m.Type {
	case "presence_state":
		c.rosters[m.Channel] = people(m.Data)
	case "presence_diff":
		var d struct{ Joins, Leaves json.RawMessage }
		if json.Unmarshal(m.Data, &d) == nil && c.rosters[m.Channel] != nil {
			c.rosters[m.Channel].apply(people(d.Joins), people(d.Leaves))
		}
	}
}

// Presence returns who is present in topic, by the presence events that have come so
// far, taken out of the inbox or not: for each key its metas, in no order.
func (c *Client) Presence(topic string) map[string][]json.RawMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]json.RawMessage{}
	for key, metas := range c.rosters[topic] {
		for _, m := range metas {
			all[key] = append(all[key], m.text)
		}
	}
	return all
}

// WantPresence waits until exactly keys are present in topic, as [Client.Presence]
// tells it, and takes the presence events of topic out of the inbox. Changes are told
// once per tick, so a list that was right already is no news.
func (c *Client) WantPresence(topic string, keys ...string) {
	c.t.Helper()
	want := slices.Sorted(slices.Values(keys))
	c.await(fmt.Sprintf("presence of %q in %s", want, topic), patience, func() bool {
		c.inbox = slices.DeleteFunc(c.inbox, func(m Message) bool {
			return m.Channel == topic && (m.Type == "presence_state" || m.Type == "presence_diff")
		})
		return c.rosters[topic] != nil && slices.Equal(slices.Sorted(maps.Keys(c.rosters[topic])), want)
	})
}
