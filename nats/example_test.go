package nats_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/nats"
	"github.com/seed-58bc6ac1/realtime/nats/embedded"
)

// startNode is what main does in a program that needs nothing beside itself: a NATS
// server inside, a broker on it, a server of clients on that. self and others are
// where the nodes reach each other, known from flags or from the platform.
func startNode(ctx context.Context, dir, secret, name, self string, others []string) (rt *realtime.Server, stop func(), err error) {
	host, port, err := net.SplitHostPort(self)
	if err != nil {
		return nil, nil, err
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, nil, err
	}
	server, err := embedded.Start(embedded.Store(filepath.Join(dir, name)),
		embedded.Cluster("chat", name, host, number, secret, others...))
	if err != nil {
		return nil, nil, err
	}
	if err = server.Ready(ctx); err != nil {
		return nil, nil, err
	}
	nc, err := server.Connect()
	if err != nil {
		return nil, nil, err
	}
	broker, err := nats.New(nc, nats.Timeout(20*time.Second),
		nats.Stream(func(c *jetstream.StreamConfig) { c.Replicas = 3 })) // one of three may be lost
	if err != nil {
		return nil, nil, err
	}
	rt, err = realtime.New(realtime.Anonymous(), realtime.WithBroker(broker))
	if err != nil {
		return nil, nil, err
	}
	rt.Topic("chat:{room}", realtime.History(100, time.Hour))
	return rt, func() {
		rt.Shutdown(ctx)
		broker.Close()
		nc.Close()
		server.Close()
	}, nil
}

// A cluster in one binary: here three nodes in one process, to have an example that
// runs.
func Example_cluster() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	addresses := freeAddresses(3)
	nodes, stops := make(chan *realtime.Server), make(chan func(), len(addresses))
	for i, self := range addresses {
		var others []string
		for _, address := range addresses {
			if address != self {
				others = append(others, "nats://"+address)
			}
		}
		go func() {
			rt, stop, err := startNode(ctx, dir, "a secret of this cluster", fmt.Sprint("node", i), self, others)
			if err != nil {
				log.Fatal(err)
			}
			stops <- stop
			nodes <- rt
		}()
	}
	one, two := <-nodes, <-nodes
	<-nodes
	if err := one.Publish(ctx, "chat:lobby", "message", "hello"); err != nil {
		log.Fatal(err)
	}
	events, position, err := two.History(ctx, "chat:lobby", 0, 10)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(position.Offset, events[0].Name, string(events[0].Data))
	for range addresses {
		(<-stops)()
	}
	// Output:
	// 1 message "hello"
}

func freeAddresses(n int) (addresses []string) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
