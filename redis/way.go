package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// way is how commands get to one partition of one server, within bounds.
type way struct {
	// Set by newLanes, never changed.
	client    rueidis.Client
	prefix    string // of keys and channels, hash tag included
	timeout   time.Duration
	heartbeat time.Duration
	slots     chan struct{} // one for each command in flight
	health    *health
	ids       *ids

	sharding sync.Mutex // guards the following
	sharded  bool
	detected bool
}

// key returns the key or channel of one kind that belongs to name.
func (w *way) key(kind, name string) string { return w.prefix + kind + ":" + name }

// exec runs a script that writes, within the bounds. doing is for the error,
// which has ErrBrokerDown in its chain if the server cannot be had at the moment: the
// script ran then, or it did not.
func (w *way) exec(ctx context.Context, doing string, script *rueidis.Lua, keys, args []string) (rueidis.RedisMessage, error) {
	return w.do(ctx, doing, func(ctx context.Context) rueidis.RedisResult {
		return script.Exec(ctx, w.client, keys, args)
	})
}

// do makes one call to the server: at once an error if that is down, and bounded in
// time and number.
func (w *way) do(ctx context.Context, doing string, call func(context.Context) rueidis.RedisResult) (rueidis.RedisMessage, error) {
	if err := w.health.refuses(); err != nil {
		return rueidis.RedisMessage{}, unavailable(doing, err)
	}
	bound, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	if err := w.enter(bound); err != nil {
		return rueidis.RedisMessage{}, unavailable(doing, err)
	}
	defer func() { <-w.slots }()
	m, err := call(bound).ToMessage()
	if err == nil || rueidis.IsRedisNil(err) {
		return m, nil
	}
	if ctx.Err() != nil { // the caller's patience is no measure of the server
		w.health.doubt()
		return m, unavailable(doing, context.Cause(ctx))
	}
	return m, w.failed(doing, err)
}

var errCrowded = errors.New("too many commands are under way")

// enter waits for a slot while the server is well.
func (w *way) enter(ctx context.Context) error {
	select {
	case w.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-w.health.down():
		return w.health.refuses()
	case <-ctx.Done():
		return errCrowded
	}
}

// failed notes why a call failed, and returns it as the caller is to see it.
func (w *way) failed(doing string, err error) error {
	err = explain(err, w.timeout)
	kind := severity(err)
	w.health.note(kind, err)
	if kind == harmless {
		return fmt.Errorf("redis: %s: %w", doing, err)
	}
	return unavailable(doing, err)
}

// usesShards reports whether what is published stays on the servers of its slot:
// Redis 7 in Cluster mode can do that.
func (w *way) usesShards(ctx context.Context) (bool, error) {
	if w.client.Mode() != rueidis.ClientModeCluster {
		return false, nil
	}
	w.sharding.Lock()
	defer w.sharding.Unlock()
	if w.detected {
		return w.sharded, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	info, err := w.client.Do(ctx, w.client.B().Info().Section("server").Build()).ToString()
	if err != nil {
		return false, fmt.Errorf("ask for the server's version: %w", err)
	}
	w.sharded, w.detected = majorVersion(info) >= 7, true
	return w.sharded, nil
}

// majorVersion finds it in the answer to INFO; 0 if it is not told.
func majorVersion(info string) int {
	_, rest, _ := strings.Cut(info, "redis_version:")
	major, _, _ := strings.Cut(rest, ".")
	n, _ := strconv.Atoi(major)
	return n
}
