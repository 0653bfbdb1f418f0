package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// Publisher publishes to the topics of servers from a process that is none: a worker,
// a cron job, an administrator's tool. It has no goroutines and nothing to close.
type Publisher struct {
	config *config
	lanes  []*lane
}

// NewPublisher returns a publisher that uses client, which stays the caller's. The
// prefix, the shards and the partitions must be those of the servers' brokers. It
// panics where [New] does.
func NewPublisher(client rueidis.Client, opts ...Option) *Publisher {
	c, err := newConfig(client, opts)
	if err != nil {
		panic(err)
	}
	p := &Publisher{c, newLanes(c)}
	for _, l := range p.lanes {
		l.health.blind = true
	}
	return p
}

// PublishOption changes one call of [Publisher.Publish].
type PublishOption func(*publishing)

type publishing struct {
	keep   realtime.Retention
	except string
}

// Keep says how much of the topic is kept, as the servers declare it with
// realtime.History. It is needed for a topic that has history, but that nobody has joined
// or published to within the last day (five minutes, if it never had an event): nothing
// else tells then that it has. What a topic's servers said of it goes before Keep, so
// that a worker that is older than they are does no harm.
func Keep(keep realtime.Retention) PublishOption {
	return func(p *publishing) { p.keep = keep }
}

// Except leaves out one connection, by its id.
func Except(connection string) PublishOption {
	return func(p *publishing) { p.except = connection }
}

// Publish sends an event with payload as JSON to the members of topic on all nodes. It
// returns when Redis has it: numbered and stored, if the topic has history. It blocks
// for at most the timeout. An error with [realtime.ErrBrokerDown] is no news of a fault
// in what was published, and the event may have been published nevertheless if the
// answer was lost: whoever tries again may publish twice.
//
// Neither the names nor the payload are held against the limits of the servers.
func (p *Publisher) Publish(ctx context.Context, topic, event string, payload any, opts ...PublishOption) error {
	if topic == "" || event == "" {
		return errors.New("redis: publish: a topic and an event are needed")
	}
	var how publishing
	for _, o := range opts {
		o(&how)
	}
	doing := "publish to " + topic
	text, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("redis: %s: %w", doing, err)
	}
	l := p.config.laneOf(p.lanes, topic)
	e := &realtime.Event{Topic: topic, Name: event, Data: text, Except: how.except, Time: time.Now()}
	encoded, err := body(l.ids.next(), e)
	if err != nil {
		return fmt.Errorf("redis: %s: %w", doing, err)
	}
	size := ""
	if how.keep.Keeps() {
		size = strconv.Itoa(how.keep.Size)
	}
	_, err = l.append(ctx, topic, encoded, how.keep, "?"+size)
	return err
}
