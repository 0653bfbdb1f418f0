// Package redis carries topics, their history, tickets and documents from node to
// node through Redis 6.2 or later: a single server, one with Sentinel, a Cluster, or
// several independent servers that share the topics among them.
//
//	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"redis:6379"}})
//	…
//	rt, err := realtime.New(realtime.WithBroker(redis.New(client)), …)
//
// Redis's own publishing loses what a subscriber does not receive at once. Here every
// event of a topic with history has a number, given by the script that stores it, so
// that a node that missed some reads them from the store, in order, and a hole that
// cannot be filled is told to the members.
package redis
