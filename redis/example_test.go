package redis_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis"
)

// serve is the main part of every node. run stands for the program's own http.Server,
// which serves until ctx ends; the clients are drained before the broker is closed.
func serve(ctx context.Context, secret []byte, run func(context.Context, http.Handler) error) error {
	broker, err := redis.Open("rediss://app:secret@redis.example.com:6379")
	if err != nil {
		return err // it could not be reached
	}
	defer broker.Close() // after rt.Shutdown
	rt, err := realtime.New(
		realtime.WithJWT(realtime.HS256("key-1", secret)),
		realtime.WithBroker(broker),
	)
	if err != nil {
		return err
	}
	rt.Topic("session:{id}", realtime.History(1000, time.Hour), realtime.Presence())
	return errors.Join(run(ctx, rt), rt.Shutdown(context.WithoutCancel(ctx)))
}

// Every node is the same program.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := func(ctx context.Context, app http.Handler) error {
		return http.ListenAndServe("127.0.0.1:8080", app) // and until ctx ends: see the README
	}
	if err := serve(ctx, []byte("a secret of at least thirty-two bytes"), run); err != nil {
		log.Fatal(err)
	}
}

// A worker publishes what an agent says, token by token, without being a server.
func ExamplePublisher() {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"redis.example.com:6379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := stream(context.Background(), redis.NewPublisher(client), "session:7", "the answer of an agent"); err != nil {
		log.Print(err) // errors.Is(err, realtime.ErrBrokerDown): later
	}
}

func stream(ctx context.Context, publisher *redis.Publisher, topic, answer string) error {
	keep := redis.Keep(realtime.Retention{Size: 1000, Age: time.Hour}) // as the nodes declare it
	for token := range strings.FieldsSeq(answer) {
		if err := publisher.Publish(ctx, topic, "stream_output", token, keep); err != nil {
			return err // errors.Is(err, realtime.ErrBrokerDown): Redis is out of reach
		}
	}
	return publisher.Publish(ctx, topic, "turn_complete", nil, keep)
}
