// Throughput compares what a Broker publishes with what redis-benchmark does with
// PUBLISH: events a second, and the server's processor time for each. It starts a
// server, and takes turns, so that other work on the machine hits all alike:
//
//	go run ./throughput [-rounds 5] [-seconds 2] [-bytes 200] [-publishers 64]
//
// Both have one connection, on which as many commands are under way as there are
// publishers. The program of redis-benchmark does nothing else; a broker encodes an
// event, has it numbered and stored by a script, and a goroutine wait for each.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each has its turn; the median counts")
	seconds := flag.Float64("seconds", 2, "the length of a turn")
	size := flag.Int("bytes", 200, "of JSON in an event")
	publishers := flag.Int("publishers", 64, "at a time")
	flag.Parse()
	if err := run(*rounds, time.Duration(*seconds*float64(time.Second)), *size, *publishers); err != nil {
		log.Fatal(err)
	}
}

// turn is what one candidate did in its time.
type turn struct{ rate, cpu float64 } // events a second, microseconds of the server for each

// candidate publishes for a while, and returns how many events and for how long.
type candidate struct {
	name string
	run  func(d time.Duration) (n int, took time.Duration, err error)
}

func run(rounds int, d time.Duration, size, publishers int) error {
	server, err := redistest.New()
	if err != nil {
		return err
	}
	defer server.Close()
	broker, err := redis.Open(server.URL())
	if err != nil {
		return err
	}
	defer broker.Close()
	text := `{"text":"` + strings.Repeat("x", max(0, size-11)) + `"}`
	candidates := []candidate{
		{"redis-benchmark PUBLISH", func(d time.Duration) (int, time.Duration, error) {
			return benchmark(server.Addr, text, publishers, d)
		}},
		{"a plain topic", func(d time.Duration) (int, time.Duration, error) {
			return publish(broker, "plain", text, realtime.Retention{}, publishers, d)
		}},
		{"a topic with history", func(d time.Duration) (int, time.Duration, error) {
			return publish(broker, "kept", text, realtime.Retention{Size: 1000, Age: time.Hour}, publishers, d)
		}},
	}
	turns := make([][]turn, len(candidates))
	for range rounds {
		for i, c := range candidates {
			one, err := measure(server, c, d)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			turns[i] = append(turns[i], one)
		}
	}
	fmt.Printf("%d bytes, %d publishers, median of %d turns of %v\n", size, publishers, rounds, d)
	first := median(turns[0])
	for i, c := range candidates {
		m := median(turns[i])
		fmt.Printf("%-24s %8.0f events/s (%4.2f ×)   %5.2f µs of the server each (%4.2f ×)\n", c.name, m.rate, m.rate/first.rate, m.cpu, m.cpu/first.cpu)
	}
	return nil
}

func measure(server *redistest.Server, c candidate, d time.Duration) (turn, error) {
	before, err := cpu(server)
	if err != nil {
		return turn{}, err
	}
	n, took, err := c.run(d)
	if err != nil {
		return turn{}, err
	}
	after, err := cpu(server)
	return turn{rate: float64(n) / took.Seconds(), cpu: (after - before).Seconds() * 1e6 / float64(n)}, err
}

func median(turns []turn) turn {
	var rates, cpus []float64
	for _, t := range turns {
		rates, cpus = append(rates, t.rate), append(cpus, t.cpu)
	}
	slices.Sort(rates)
	slices.Sort(cpus)
	return turn{rates[len(rates)/2], cpus[len(cpus)/2]}
}

// cpu is the processor time that the server has used so far.
func cpu(server *redistest.Server) (time.Duration, error) {
	info, err := server.CLI("INFO", "cpu")
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, line := range strings.Fields(info) {
		for _, name := range []string{"used_cpu_sys:", "used_cpu_user:"} {
			if text, ok := strings.CutPrefix(line, name); ok {
				one, err := strconv.ParseFloat(text, 64)
				if err != nil {
					return 0, err
				}
				sum += one
			}
		}
	}
	return time.Duration(sum * float64(time.Second)), nil
}

// benchmark has redis-benchmark publish about as long as d.
func benchmark(addr, text string, publishers int, d time.Duration) (int, time.Duration, error) {
	host, port, _ := strings.Cut(addr, ":")
	n := int(d.Seconds() * 150_000)
	start := time.Now()
	out, err := exec.Command("redis-benchmark", "-h", host, "-p", port, "-q", "-c", "1", "-P", strconv.Itoa(publishers),
		"-n", strconv.Itoa(n), "PUBLISH", "realtime:{p0}:c:plain", text).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, out)
	}
	return n, time.Since(start), nil
}

func publish(b *redis.Broker, topic, text string, keep realtime.Retention, publishers int, d time.Duration) (int, time.Duration, error) {
	var all sync.WaitGroup
	var n atomic.Int64
	var failed atomic.Pointer[error]
	start := time.Now()
	for range publishers {
		all.Go(func() {
			for time.Since(start) < d {
				e := &realtime.Event{Topic: topic, Name: "message", Data: json.RawMessage(text), Time: time.Now()}
				if err := b.Publish(context.Background(), e, keep); err != nil {
					failed.Store(&err)
					return
				}
				n.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, 0, *err
	}
	return int(n.Load()), time.Since(start), nil
}
