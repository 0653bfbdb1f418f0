package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
)

// ErrNotSupported is returned for what the client's protocol cannot do.
var ErrNotSupported = errors.New("realtime: not supported by the client's protocol")

// Answer is one client's answer to an Ask.
type Answer struct {
	Client     *Client // nil if it is connected to another node
	Connection string  // as [Client.ID] returns it
	User       string
	Node       string          // that the client is connected to, see [Server.Node]
	Data       json.RawMessage // nil with an error
	Err        error           // why there is none: the context's, ErrClosed, ErrNotJoined, ErrNotSupported
}

// asks holds the questions that wait for answers. A client answers each at most
// once; late and unknown answers are ignored.
type asks struct {
	metrics *metrics

	mu   sync.Mutex // guards the following
	open map[string]*question
}

// question waits for the answers of several connections.
type question struct {
	topic   string
	answers []Answer
	index   map[*Client]int // those who have not answered yet
	done    chan struct{}   // closed when nobody is left
}

// ask sends m to each of cs, with an id of its own, and waits until all have
// answered or ctx ends. The answers are in the order of cs.
func (a *asks) ask(ctx context.Context, cs []*Client, m *outbound) []Answer {
	m.ask = newID()
	q := a.start(m.ask, m.topic, cs)
	for _, c := range cs {
		var err error
		if !c.enc.answers() {
			err = ErrNotSupported
		} else {
			err = c.link.post(m)
		}
		if err != nil {
			a.settle(m.ask, c, Answer{Client: c, Err: err})
		}
	}
	select {
	case <-q.done:
	case <-ctx.Done():
	}
	return a.finish(m.ask, q, ctx.Err())
}

func (a *asks) start(id, topic string, cs []*Client) *question {
	q := &question{topic: topic, answers: make([]Answer, len(cs)), index: make(map[*Client]int, len(cs)), done: make(chan struct{})}
	for i, c := range cs {
		q.answers[i].Client = c
		q.index[c] = i
	}
	if len(cs) == 0 {
		close(q.done)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = map[string]*question{}
	}
	a.open[id] = q
	return q
}

// settle notes one answer; the first counts.
func (a *asks) settle(id string, c *Client, one Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.open[id]
	if q == nil {
		return
	}
	i, waiting := q.index[c]
	if !waiting {
		return
	}
	q.answers[i] = one
	if delete(q.index, c); len(q.index) == 0 {
		close(q.done)
	}
}

// answer notes what a client sent.
func (a *asks) answer(c *Client, id string, data json.RawMessage) {
	a.settle(id, c, Answer{Client: c, Data: data})
}

// drop settles, with why, what c still owes on topic, which it has left; "" stands
// for every topic.
func (a *asks) drop(c *Client, topic string, why error) {
	a.mu.Lock()
	var owed []string
	for id, q := range a.open {
		if _, ok := q.index[c]; ok && (topic == "" || q.topic == topic) {
			owed = append(owed, id)
		}
	}
	a.mu.Unlock()
	for _, id := range owed {
		a.settle(id, c, Answer{Client: c, Err: why})
	}
}

func (a *asks) finish(id string, q *question, late error) []Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, id)
	for _, i := range q.index {
		q.answers[i].Err = late
	}
	for i := range q.answers {
		one := &q.answers[i]
		one.Connection, one.User = one.Client.id, one.Client.User()
		outcome := "answered"
		if one.Err != nil {
			outcome = "unanswered"
		}
		a.metrics.asks.WithLabelValues(outcome).Inc()
	}
	return q.answers
}
