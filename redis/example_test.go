package redis_test

import (
	"context"
	"log"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis"
)

// Every node is the same program.
func Example() {
	broker, err := redis.Open("rediss://app:secret@redis.example.com:6379")
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	rt, err := realtime.New(realtime.WithBroker(broker))
	if err != nil {
		log.Fatal(err)
	}
	rt.Topic("chat:{room}", realtime.History(1000, time.Hour))
}

// A worker tells the members of a topic how far it is, without being a server.
func ExamplePublisher() {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"redis.example.com:6379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	p := redis.NewPublisher(client)
	keep := redis.Keep(realtime.Retention{Size: 1000, Age: time.Hour}) // as the servers declare it
	if err := p.Publish(context.Background(), "job:42", "progress", map[string]int{"percent": 80}, keep); err != nil {
		log.Print(err) // errors.Is(err, realtime.ErrBrokerDown): later
	}
}
