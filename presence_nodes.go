package realtime

import (
	"context"
	"encoding/json"
	"slices"
)

// This file ties the presence of topics to the other nodes.

// among has the presence of all topics be that of all nodes. It is called before the
// cluster starts.
func (h *hub) among(c *cluster, query *gatherer) {
	if c == nil {
		return
	}
	h.tell, h.query = newTellers(c, h.wheel), query
	query.answer(askPresence, h.peopleAsked)
	c.handle(presenceAsk, h.presenceAsked)
	c.handle(presenceAnswer, h.presenceTold)
	c.watch(h.presenceMoved)
	c.recovered(func() {
		for x := range h.exchanges {
			x.resume()
		}
	})
	c.reborn(func() {
		for x := range h.exchanges {
			x.announce()
		}
	})
}

// exchanges iterates over those of all topics here.
func (h *hub) exchanges(yield func(*exchange) bool) {
	for i := range h.shards {
		for _, t := range h.shards[i].list() {
			if x := t.exchange(); x != nil && !yield(x) {
				return
			}
		}
	}
}

func (h *hub) exchange(name string) *exchange {
	if t := h.lookup(name); t != nil {
		return t.exchange()
	}
	return nil
}

// presenceAsked answers a node that wants to know who is in a topic here. That nobody
// is here is known to hold for all lives that have begun by then.
func (h *hub) presenceAsked(from string, body []byte) {
	life := h.refs.last.Add(1)
	name := string(body)
	if x := h.exchange(name); x == nil || !x.answer(from) {
		nobody := tidings{kind: tidingsBye, life: life}
		h.tell.cluster.send(from, presenceAnswer, nobody.append(appendText(nil, name)))
	}
}

// presenceTold takes an answer.
func (h *hub) presenceTold(from string, body []byte) {
	name, code, ok := cutText(body)
	if !ok {
		h.tell.cluster.refuse(presenceAnswer, errTidings)
		return
	}
	t, err := decodeTidings(code)
	if err != nil {
		h.tell.cluster.refuse(presenceAnswer, err)
		return
	}
	if x := h.exchange(name); x != nil {
		x.hear(from, t)
	}
}

// presenceMoved notes that a node came, or is gone. One that is reborn is still there.
func (h *hub) presenceMoved(node string, here bool) {
	base := nodeBase(node)
	switch {
	case here:
		for x := range h.exchanges {
			x.meet(node)
		}
		return
	case slices.ContainsFunc(h.tell.cluster.nodes(), func(n string) bool { return nodeBase(n) == base }):
		return
	}
	for x := range h.exchanges {
		x.lose(base)
	}
}

// present asks the other nodes who is in a topic that has nobody here.
func (h *hub) present(ctx context.Context, topic string) (map[string][]json.RawMessage, error) {
	people := map[string][]json.RawMessage{}
	if h.query == nil {
		return people, nil
	}
	err := h.query.ask(ctx, askPresence, []byte(topic)).wait(func(_ string, part []byte) error {
		entries, err := decodeEntries(part)
		for _, e := range entries {
			people[e.key] = append(people[e.key], e.text)
		}
		return err
	})
	return people, err
}

// peopleAsked answers askPresence with those who are here.
func (h *hub) peopleAsked(_ context.Context, topic []byte, reply func([]byte) error) error {
	x := h.exchange(string(topic))
	if x == nil {
		return nil
	}
	for entries := x.people(); len(entries) > 0; {
		var some []*entry
		some, entries, _ = fill(entries, partBytes)
		if err := reply(appendEntryCodes(nil, some)); err != nil {
			return err
		}
	}
	return nil
}
