package nats_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/nats"
	"github.com/seed-58bc6ac1/realtime/nats/embedded"
)

// newCluster starts three servers that know each other.
func newCluster(t *testing.T) []*embedded.Server {
	t.Helper()
	ports := freePorts(t, 3)
	var servers []*embedded.Server
	for n, port := range ports {
		var routes []string
		for _, other := range ports {
			if other != port {
				routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", other))
			}
		}
		s, err := embedded.Start(embedded.Store(t.TempDir()),
			embedded.Cluster("test", fmt.Sprint("n", n), "127.0.0.1", port, "secret", routes...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		servers = append(servers, s)
	}
	return servers
}

// freePorts returns ports that nobody listens at: servers of a cluster must know those
// of the others before they start.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// member returns a broker at one of the servers, when the cluster is ready for it.
func member(t *testing.T, s *embedded.Server, servers []*embedded.Server) *nats.Broker {
	t.Helper()
	urls := s.URL()
	for _, other := range servers {
		if other != s {
			urls += "," + other.URL()
		}
	}
	nc, err := client.Connect(urls, append(slices.Clone(fast), client.DontRandomize())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	var b *nats.Broker
	waitFor(t, func() bool {
		b, err = nats.New(nc, nats.Heartbeat(500*time.Millisecond), nats.Timeout(10*time.Second),
			nats.Stream(func(c *jetstream.StreamConfig) { c.Replicas = 3 }))
		return err == nil
	}, func() string { return fmt.Sprint("no broker: ", err) })
	t.Cleanup(func() { b.Close() })
	return b
}

// TestNothingIsLostWithoutOneOfThreeServers stops the stream's leader while two nodes
// publish.
func TestNothingIsLostWithoutOneOfThreeServers(t *testing.T) {
	servers := newCluster(t)
	var brokers []*nats.Broker
	var tapes []*tape
	for _, s := range servers {
		b := member(t, s, servers)
		brokers = append(brokers, b)
		tapes = append(tapes, record(t, b, "t", hour))
	}
	leader := leaderOf(t, servers[0])
	halfway := make(chan struct{}, 2)
	var publishers sync.WaitGroup
	for n := range 2 {
		publishers.Go(func() {
			for i := range 100 {
				if i == 30 {
					halfway <- struct{}{}
				}
				insist(t, brokers[n], "t", fmt.Sprintf("%d/%03d", n, i))
			}
		})
	}
	<-halfway
	<-halfway
	for i, s := range servers {
		if fmt.Sprint("n", i) == leader {
			s.Close()
		}
	}
	publishers.Wait()
	mustAgree(t, tapes, 200)
}

// leaderOf returns the name of the server that leads the stream.
func leaderOf(t *testing.T, s *embedded.Server) string {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(context.Background(), "realtime")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Cluster.Leader
}

// insist publishes until it is done: an error leaves open whether it was.
func insist(t *testing.T, b *nats.Broker, topic, name string) {
	waitFor(t, func() bool {
		err := publish(b, topic, hour, name)
		if err != nil && !errors.Is(err, realtime.ErrBrokerDown) {
			t.Errorf("Publish %s: %v", name, err)
		}
		return err == nil
	}, func() string { return "cannot publish " + name })
}

// mustAgree waits until all have at least n events, and checks that they are the same,
// in the order of their numbers, and that no publisher's is missing.
func mustAgree(t *testing.T, tapes []*tape, n int) {
	t.Helper()
	names := func(got []*realtime.Event) map[string]bool {
		all := map[string]bool{}
		for _, e := range got {
			all[e.Name] = true
		}
		return all
	}
	var first []*realtime.Event
	for i, p := range tapes {
		got := p.until(fmt.Sprintf("want %d names", n), func(got []*realtime.Event) bool { return len(names(got)) >= n })
		if i == 0 {
			first = got
		}
		for k, e := range got[:min(len(got), len(first))] {
			if e.Gap != nil || e.Offset != uint64(k+1) || e.Name != first[k].Name || e.Epoch != first[k].Epoch {
				t.Fatalf("tape %d has %s/%d %s where the first has %s/%d %s", i, e.Epoch, e.Offset, e.Name, first[k].Epoch, first[k].Offset, first[k].Name)
			}
		}
	}
}
