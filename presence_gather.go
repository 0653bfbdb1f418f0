package realtime

import (
	"encoding/json"
	"slices"
	"sync"
)

// answers are those that are waited for.
type answers struct {
	from map[string]bool // by the part of the name that stays
	done chan struct{}   // closed when there are none left
}

func awaitAnswers(nodes []string) *answers {
	a := &answers{map[string]bool{}, make(chan struct{})}
	for _, n := range nodes {
		a.from[nodeBase(n)] = true
	}
	return a
}

// got notes that node has answered, or is gone.
func (a *answers) got(node string) {
	if a != nil && a.from[node] {
		if delete(a.from, node); len(a.from) == 0 {
			close(a.done)
		}
	}
}

// gathers are questions about who is in topics that have nobody here.
type gathers struct {
	mu  sync.Mutex // guards the following
	all map[*gather]bool
}

// gather is one of them. Guarded by the lock of gathers.
type gather struct {
	topic string
	heard hearsay
	*answers
}

func (g *gathers) begin(topic string, nodes []string) *gather {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := &gather{topic: topic, answers: awaitAnswers(nodes)}
	if g.all == nil {
		g.all = map[*gather]bool{}
	}
	g.all[one] = true
	return one
}

func (g *gathers) hear(topic, node string, t *tidings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for one := range g.all {
		if one.topic == topic && one.from[node] {
			one.heard.hear(node, t)
			if one.heard.complete(node) {
				one.got(node)
			}
		}
	}
}

func (g *gathers) lose(node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for one := range g.all {
		one.got(node)
	}
}

// end returns who is there, and which nodes have not answered.
func (g *gathers) end(one *gather) (people map[string][]json.RawMessage, missing []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, one)
	people = map[string][]json.RawMessage{}
	for _, w := range one.heard.nodes {
		for _, e := range w.entries {
			people[e.key] = append(people[e.key], e.text)
		}
	}
	for node := range one.from {
		missing = append(missing, node)
	}
	slices.Sort(missing)
	return people, missing
}
