package main

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis"
)

// dialPause is between two attempts to reach Redis.
const dialPause = 200 * time.Millisecond

// openBroker returns the option that makes a process one node of many, and what ends
// it. A node that starts while Redis is away waits for it, until ctx ends.
func openBroker(ctx context.Context, url string) (realtime.Option, func(), error) {
	for {
		broker, err := redis.Open(url)
		if err == nil {
			return realtime.WithBroker(broker), broker.Close, nil
		}
		select {
		case <-time.After(dialPause):
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("connecting to Redis: %w", err)
		}
	}
}
