package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file ties the presence of topics to the other nodes.

// among has the presence of all topics be that of all nodes. It is called before the
// cluster starts.
func (h *hub) among(c *cluster) {
	if c == nil {
		return
	}
	h.tell = newTellers(c, h.wheel)
	c.handle(presenceAsk, h.presenceAsked)
	c.handle(presenceAnswer, h.presenceTold)
	c.watch(h.presenceMoved)
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
	h.gathers.hear(name, nodeBase(from), t)
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
	h.gathers.lose(base)
}

// present asks all nodes who is in a topic that has nobody here.
func (h *hub) present(ctx context.Context, topic string) (map[string][]json.RawMessage, error) {
	if h.tell == nil {
		return map[string][]json.RawMessage{}, nil
	}
	c := h.tell.cluster
	nodes := c.nodes()
	one := h.gathers.begin(topic, nodes)
	if len(nodes) == 0 {
		close(one.done)
	}
	err := h.ask(ctx, one)
	people, missing := h.gathers.end(one)
	if err != nil {
		err = fmt.Errorf("realtime: presence of %s on %s: %w", topic, strings.Join(missing, ", "), err)
	}
	return people, err
}

// ask asks until all have answered, or ctx ends.
func (h *hub) ask(ctx context.Context, one *gather) error {
	timer := time.NewTicker(askTime)
	defer timer.Stop()
	for {
		h.tell.cluster.send("", presenceAsk, []byte(one.topic))
		select {
		case <-one.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
}
