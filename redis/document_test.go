package redis

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestDocumentsOverRedisPassTheSuite(t *testing.T) {
	client, _ := startRedis(t)
	nodes := 0
	realtimetest.DocumentOrder(t, func() (a, b realtime.DocumentOrder) {
		nodes += 2
		return newTestNode(t, client, fmt.Sprint("n", nodes), "x"), newTestNode(t, client, fmt.Sprint("m", nodes), "x")
	})
}

// seeds is how many histories a test goes through: REALTIME_SEEDS, or few.
func seeds(t *testing.T, few uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("REALTIME_SEEDS"), 10, 64); err == nil {
		return n
	}
	if testing.Short() {
		return few / 10
	}
	return few
}

func TestEveryHistoryIsThatOfTheSequencerByteForByte(t *testing.T) {
	client, _ := startRedis(t)
	nodes := 0
	realtimetest.CompareDocumentOrders(t, seeds(t, 300), realtime.NewMemoryOrder(), func() realtime.DocumentOrder {
		nodes++
		return newTestNode(t, client, fmt.Sprint("n", nodes), "x")
	})
}
