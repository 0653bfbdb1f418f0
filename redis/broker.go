package redis

import "github.com/redis/rueidis"

// Broker orders and carries events through Redis.
type Broker struct{ client rueidis.Client }

// New returns the broker that uses client, which stays the caller's to close.
func New(client rueidis.Client) *Broker { return &Broker{client: client} }
