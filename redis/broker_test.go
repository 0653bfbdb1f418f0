package redis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
	"github.com/seed-58bc6ac1/realtime/redis"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// open returns a broker that ends with the test.
func open(t testing.TB, url string, opts ...redis.Option) *redis.Broker {
	t.Helper()
	for start := time.Now(); ; {
		b, err := redis.Open(url, opts...)
		if err == nil {
			t.Cleanup(b.Close)
			return b
		}
		if time.Since(start) > patience { // a busy machine does not connect within a short timeout
			t.Fatal(err)
		}
	}
}

// calm is for tests without faults: nothing is lost if the machine is busy.
var calm = redis.Timeout(patience)

func newClient(t testing.TB, addrs ...string) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: addrs, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// suites runs both suites with brokers from open.
func suites(t *testing.T, open func() *redis.Broker) {
	t.Run("alone", func(t *testing.T) {
		realtimetest.Broker(t, func() realtime.Broker { return open() })
	})
	t.Run("two", func(t *testing.T) {
		realtimetest.SharedBrokers(t, func() (a, b realtime.SharedBroker) { return open(), open() })
	})
}

func TestBrokerOfOneServer(t *testing.T) {
	s := redistest.Start(t)
	suites(t, func() *redis.Broker { return open(t, s.URL(), calm) })
}

func TestBrokerOfAnotherClient(t *testing.T) {
	client := newClient(t, redistest.Start(t).Addr)
	suites(t, func() *redis.Broker {
		b := redis.New(client, redis.Partitions(3), redis.Prefix("other:"), redis.InFlight(2), calm)
		t.Cleanup(b.Close)
		return b
	})
}

func TestBrokerOfSeveralServers(t *testing.T) {
	first, second := newClient(t, redistest.Start(t).Addr), newClient(t, redistest.Start(t).Addr)
	suites(t, func() *redis.Broker {
		b := redis.New(first, redis.Shards(second), calm)
		t.Cleanup(b.Close)
		return b
	})
}

func TestBrokerOfACluster(t *testing.T) {
	c := redistest.StartCluster(t)
	addrs := c.Addrs()
	suites(t, func() *redis.Broker {
		return open(t, "redis://"+addrs[0]+"?addr="+strings.Join(addrs[1:], "&addr="), calm)
	})
}

func TestBrokerWithSentinel(t *testing.T) {
	s := redistest.StartSentinel(t)
	suites(t, func() *redis.Broker { return open(t, sentinelURL(s), calm) })
}

func sentinelURL(s *redistest.Sentinel) string {
	addrs := s.Addrs()
	return "redis://" + addrs[0] + "?master_set=" + s.Name + "&addr=" + strings.Join(addrs[1:], "&addr=")
}
