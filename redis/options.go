package redis

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Option changes how a [Broker] or a [Publisher] uses Redis. All nodes and publishers
// of one application need the same prefix, shards and partitions: these say where a
// topic is.
type Option func(*config) error

type config struct {
	prefix     string
	timeout    time.Duration
	heartbeat  time.Duration
	clients    []rueidis.Client
	partitions int // 0: by the kind of server
	inFlight   int
}

func newConfig(client rueidis.Client, opts []Option) (*config, error) {
	c := &config{prefix: "realtime:", timeout: 3 * time.Second, heartbeat: 5 * time.Second, inFlight: 1024,
		clients: []rueidis.Client{client}}
	for _, o := range opts {
		if err := o(c); err != nil {
			return nil, err
		}
	}
	for _, one := range c.clients {
		if one == nil {
			return nil, errors.New("redis: a client is nil")
		}
	}
	if c.heartbeat < c.timeout/10 {
		return nil, fmt.Errorf("redis: a heartbeat of %v is too short for a timeout of %v", c.heartbeat, c.timeout)
	}
	return c, nil
}

// Prefix is what all keys and channels begin with, "realtime:" unless set: two
// applications on one server need two. Pub/sub does not know databases, so that
// another database does not replace another prefix. It has no braces.
func Prefix(prefix string) Option {
	return func(c *config) error {
		if len(prefix) > 100 {
			return fmt.Errorf("redis: a prefix of %d bytes is longer than 100", len(prefix))
		}
		if strings.ContainsAny(prefix, "{}") {
			return fmt.Errorf("redis: the prefix %q has a brace, which a Cluster takes for that of a hash tag", prefix)
		}
		c.prefix = prefix
		return nil
	}
}

// Timeout is how long a command may take, 3s unless set: longer than a failover that
// goes well, shorter than anyone waits for an answer. What takes longer counts as
// lost, and the server as out of reach until it answers again.
func Timeout(d time.Duration) Option {
	return func(c *config) error {
		if d < 10*time.Millisecond {
			return fmt.Errorf("redis: a timeout of %v is shorter than 10ms", d)
		}
		c.timeout = d
		return nil
	}
}

// Heartbeat is how often a node asks whether the server is there and where each topic
// stands that has members here, 5s unless set. An event whose copy was lost, with
// nothing published after it, is noticed within that time, and so is a new epoch. It
// costs one short script per topic.
func Heartbeat(d time.Duration) Option {
	return func(c *config) error {
		if d < 10*time.Millisecond {
			return fmt.Errorf("redis: a heartbeat of %v is shorter than 10ms", d)
		}
		c.heartbeat = d
		return nil
	}
}

// Shards spreads the topics over more servers that know nothing of each other, by a
// consistent hash: one more at the end of the list takes its share of topics from the
// others, whose epochs are new there; no other topic moves. Each may have Sentinel.
// For a Cluster one client is enough.
func Shards(more ...rueidis.Client) Option {
	return func(c *config) error {
		c.clients = append(c.clients, more...)
		return nil
	}
}

// Partitions is into how many groups a server's topics are divided, by hash. The
// topics of a group are in one slot of a Cluster and share one connection of each
// node for what is published; groups are spread over the Cluster's servers. It is 16
// for a Cluster, enough for some six servers, and 1 otherwise, where nothing is gained
// by more. Another number is another place for nearly every topic.
func Partitions(n int) Option {
	return func(c *config) error {
		if n < 1 || n > 1024 {
			return fmt.Errorf("redis: %d partitions, want 1 to 1024", n)
		}
		c.partitions = n
		return nil
	}
}

// InFlight is how many commands of this node may be under way at a time, 1024 unless
// set: what the client queues for one connection. Who comes then waits while the server is
// well, at most for the timeout, and gets an error at once when it is not.
func InFlight(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("redis: %d commands in flight, want at least 1", n)
		}
		c.inFlight = n
		return nil
	}
}
