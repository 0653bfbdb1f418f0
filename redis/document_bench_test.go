package redis

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// cpuOf returns the seconds of processor time that the server has used.
func cpuOf(b *testing.B, s *redistest.Server) (seconds float64) {
	info, err := s.CLI("info", "cpu")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			n, _ := strconv.ParseFloat(value, 64)
			seconds += n
		}
	}
	return seconds
}

// BenchmarkDocumentOps is one document that many writers write to, on one node or on
// two that both attend it; ops/s is what one Redis gives.
func BenchmarkDocumentOps(b *testing.B) {
	for _, each := range []int{1, 10, 100} {
		for _, who := range [][2]int{{1, 1}, {1, 64}, {2, 64}} {
			count, writers := who[0], who[1]
			b.Run(fmt.Sprintf("ops=%d/nodes=%d/writers=%d", each, count, writers), func(b *testing.B) {
				s := redistest.Start(b)
				var nodes []*lossyNode
				for range count {
					n := newLossyNode(b, s.URL())
					nodes = append(nodes, n)
					_, stop, err := n.Attend(b.Context(), testDocument, func(*realtime.DocumentNews) {})
					if err != nil {
						b.Fatal(err)
					}
					defer stop()
				}
				for w := range writers {
					if _, err := nodes[w%count].Take(b.Context(), testDocument, testStep(realtime.StepJoin, fmt.Sprint(w))); err != nil {
						b.Fatal(err)
					}
				}
				cpu, start := cpuOf(b, s), time.Now()
				b.ResetTimer()
				var left atomic.Int64
				left.Store(int64(b.N))
				var all sync.WaitGroup
				for w := range writers {
					all.Go(func() {
						for csn := int64(1); left.Add(-1) >= 0; csn += int64(each) {
							out, err := nodes[w%count].Take(b.Context(), testDocument, testOps(fmt.Sprint(w), csn, int64(writers), each))
							if err != nil || len(out.Messages) != each {
								b.Errorf("%+v, %v", out, err)
								return
							}
						}
					})
				}
				all.Wait()
				b.StopTimer()
				ops := float64(b.N * each)
				b.ReportMetric(ops/time.Since(start).Seconds(), "ops/s")
				b.ReportMetric((cpuOf(b, s)-cpu)/ops*1e6, "redis-µs/op")
			})
		}
	}
}
