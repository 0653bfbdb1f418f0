package realtime

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// crowd is a hub full of members whose clients have no sockets: what is queued
// for them stays until somebody empties their queues.
type crowd struct {
	hub     *hub
	pattern *Pattern
	names   []string
	members []*member // member i is in topic i modulo the number of topics

	bytes   float64       // on the heap for each member
	slowest time.Duration // of all joins
}

// newCrowd joins n members to so many topics. Their clients, and the names, are not
// counted as theirs.
func newCrowd(b *testing.B, n, topics int) *crowd {
	b.Helper()
	h, p := newLooseHub(b)
	c := &crowd{hub: h, pattern: p, names: make([]string, topics), members: make([]*member, n)}
	for i := range c.names {
		c.names[i] = c.name(i)
	}
	clients := make([]Client, n)
	bounds := &queueBounds{messages: 256, bytes: 1 << 20}
	for i := range clients {
		q := &clients[i].out
		clients[i].enc, q.bounds, q.busy = envelopeCodec{}, bounds, true
	}
	order := rand.Perm(n)
	before := heapBytes()
	last := time.Now()
	for i, who := range order {
		c.join(b, i, &clients[who])
		now := time.Now()
		c.slowest = max(c.slowest, now.Sub(last))
		last = now
	}
	c.bytes = float64(heapBytes()-before) / float64(n)
	runtime.KeepAlive(order)
	return c
}

// heapBytes returns how many bytes are in use after a collection.
func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// name makes the name of a topic anew, as it is for each message from outside.
func (c *crowd) name(topic int) string {
	return string(strconv.AppendInt(append(make([]byte, 0, 16), "room:"...), int64(topic), 10))
}

func (c *crowd) join(b *testing.B, i int, client *Client) {
	c.members[i] = &member{client: client}
	if err := c.hub.join(context.Background(), c.pattern, c.names[i%len(c.names)], c.members[i], nil, func(joined) {}); err != nil {
		b.Fatal(err)
	}
}

// turnover has arbitrary members leave and join again, and returns what each
// leave and each join took.
func (c *crowd) turnover(b *testing.B) (leave, join time.Duration) {
	which := rand.Perm(len(c.members))[:min(len(c.members), 50_000)]
	start := time.Now()
	for _, i := range which {
		if !c.hub.leave(c.members[i]) {
			b.Fatal("there was no membership")
		}
	}
	leave = time.Since(start)
	start = time.Now()
	for _, i := range which {
		c.join(b, i, c.members[i].client)
	}
	n := time.Duration(len(which))
	return leave / n, time.Since(start) / n
}

// publish publishes to a topic.
func (c *crowd) publish(b *testing.B, topic int) {
	if err := c.hub.publish(context.Background(), &Event{Topic: c.name(topic), Name: "n", Data: json.RawMessage("1")}); err != nil {
		b.Fatal(err)
	}
}

// empty empties the queues of a topic's members.
func (c *crowd) empty(topic int) {
	for i := topic; i < len(c.members); i += len(c.names) {
		q := &c.members[i].client.out
		q.items, q.first, q.bytes = nil, [2]*frame{}, 0
	}
}

// BenchmarkHub is what members and topics cost without sockets, one line for each
// shape of the crowd. ns/op is a publish to one arbitrary topic, its name included;
// ns/delivery is that for each of its members. Joins and leaves are arbitrary members'
// at full size, µs/slowest is the slowest of all joins while the crowd came,
// collections included. ns/bare is what no hub can avoid: to find the topic in one
// plain map, and to lock the queue of each of its members. It grows with the
// crowd as the processor's caches are left behind.
//
// HUB_MEMBERS=1000000 gives the number of members, in place of three smaller ones:
//
//	HUB_MEMBERS=1000000 go test -run '^$' -bench BenchmarkHub -benchmem .
func BenchmarkHub(b *testing.B) {
	sizes := []int{1_000, 10_000, 100_000}
	if s := os.Getenv("HUB_MEMBERS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 10 {
			b.Fatalf("HUB_MEMBERS=%q, want a number from 10 on", s)
		}
		sizes = []int{n}
	}
	for _, shape := range []struct {
		name    string
		members int // of a topic, 0 for all
	}{{"alone", 1}, {"by-ten", 10}, {"together", 0}} {
		for _, n := range sizes {
			each := shape.members
			if each == 0 {
				each = n
			}
			b.Run(shape.name+"/members="+strconv.Itoa(n), func(b *testing.B) { benchmarkCrowd(b, n, n/each) })
		}
	}
}

func benchmarkCrowd(b *testing.B, n, topics int) {
	c := newCrowd(b, n, topics)
	leave, join := c.turnover(b)
	bare := c.bare(b)
	b.ReportAllocs()
	each := n / topics
	for b.Loop() {
		topic := rand.IntN(topics)
		c.publish(b, topic)
		if each > 100 { // to empty a large topic takes as long again
			b.StopTimer()
		}
		c.empty(topic)
		if each > 100 {
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(each), "ns/delivery")
	b.ReportMetric(float64(bare.Nanoseconds()), "ns/bare")
	b.ReportMetric(c.bytes, "B/member")
	b.ReportMetric(float64(join.Nanoseconds()), "ns/join")
	b.ReportMetric(float64(leave.Nanoseconds()), "ns/leave")
	b.ReportMetric(float64(c.slowest.Nanoseconds())/1e3, "µs/slowest")
}

// bare returns what a publish would take with nothing but the lookup of a name and
// a lock for each member.
func (c *crowd) bare(b *testing.B) time.Duration {
	topics := map[string][]*Client{}
	for i, m := range c.members {
		name := c.names[i%len(c.names)]
		topics[name] = append(topics[name], m.client)
	}
	times := max(1, min(100_000, 3_000_000/(len(c.members)/len(c.names))))
	start := time.Now()
	found := 0
	for range times {
		for _, client := range topics[c.name(rand.IntN(len(c.names)))] {
			client.out.mu.Lock()
			found += len(client.out.items)
			client.out.mu.Unlock()
		}
	}
	if found != 0 {
		b.Fatal("a queue is not empty")
	}
	return time.Since(start) / time.Duration(times)
}
