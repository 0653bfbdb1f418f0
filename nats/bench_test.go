package nats_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/nats"
	"github.com/seed-58bc6ac1/realtime/nats/embedded"
)

// BenchmarkPublish publishes events that one member on the same node gets, with a
// server in the same process.
func BenchmarkPublish(b *testing.B) {
	for name, keep := range map[string]realtime.Retention{"stored": hour, "plain": {}} {
		for _, topics := range []int64{1, 64} {
			b.Run(fmt.Sprintf("%s/topics=%d", name, topics), func(b *testing.B) { benchmarkPublish(b, keep, topics) })
		}
	}
}

func benchmarkPublish(b *testing.B, keep realtime.Retention, topics int64) {
	s, err := embedded.Start(embedded.Store(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	nc, err := s.Connect()
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	broker, err := nats.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	ctx := context.Background()
	for n := range topics {
		_, stop, err := broker.Subscribe(ctx, fmt.Sprint("t", n), keep, func(*realtime.Event) {})
		if err != nil {
			b.Fatal(err)
		}
		defer stop()
	}
	var next atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e := &realtime.Event{Topic: fmt.Sprint("t", next.Add(1)%topics), Name: "n", Data: json.RawMessage(`{"text":"hello"}`), Time: time.Now()}
			if err := broker.Publish(ctx, e, keep); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
