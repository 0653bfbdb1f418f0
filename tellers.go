package realtime

import (
	"context"
	"sync"
	"time"
)

// presenceTopic, with a topic's name behind it, carries the tidings about it.
const presenceTopic = "\x00presence:"

// The messages between nodes about presence: the name of a topic each, and in an
// answer, tidings.
const (
	presenceAsk    = nodePresence
	presenceAnswer = nodePresence + 1
)

// tellers are the goroutines that tell other nodes of presence, and what they need
// for it.
type tellers struct {
	cluster *cluster
	wheel   *wheel
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu     sync.Mutex // guards the following; no other lock is taken while it is held
	closed bool
}

func newTellers(c *cluster, w *wheel) *tellers {
	t := &tellers{cluster: c, wheel: w}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// run has f run by a goroutine, if there is time left.
func (t *tellers) run(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.work.Add(1)
	go func() {
		defer t.work.Done()
		f()
	}()
	return true
}

// close waits a moment for what is being told.
func (t *tellers) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	timer := time.AfterFunc(farewellTime, t.cancel)
	defer timer.Stop()
	t.work.Wait()
	t.cancel()
}

// publish tells all nodes that have the topic.
func (t *tellers) publish(b Broker, topic string, one *tidings) bool {
	ctx, cancel := context.WithTimeout(t.ctx, mailTime)
	defer cancel()
	e := &Event{Topic: presenceTopic + topic, Name: "presence", Data: appendPost(t.cluster.id(), one), Binary: true, Time: time.Now()}
	if err := b.Publish(ctx, e, Retention{}); err != nil {
		t.cluster.metrics.brokerErrors.Inc()
		t.cluster.log.Debug("realtime: presence for other nodes", "topic", topic, "error", err)
		return false
	}
	return true
}

// answer tells one node. It waits while too much is on its way.
func (t *tellers) answer(node, topic string, one *tidings) {
	if roomy := t.cluster.box.room(); roomy != nil {
		ctx, cancel := context.WithTimeout(t.ctx, mailTime)
		defer cancel()
		select {
		case <-roomy:
		case <-ctx.Done():
		}
	}
	t.cluster.send(node, presenceAnswer, one.append(appendText(nil, topic)))
}
