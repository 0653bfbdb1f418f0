package redis

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

func TestDocumentsOverRedisPassTheSuite(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	realtimetest.DocumentOrder(t, func() (a, b realtime.DocumentOrder) {
		return newLossyNode(t, s.URL()), newLossyNode(t, s.URL())
	})
}

func TestDocumentsOverAClusterPassTheSuite(t *testing.T) {
	t.Parallel()
	addrs := redistest.StartCluster(t).Addrs()
	url := "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr=")
	realtimetest.DocumentOrder(t, func() (a, b realtime.DocumentOrder) {
		return newLossyNode(t, url), newLossyNode(t, url)
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
	t.Parallel()
	s := redistest.Start(t)
	realtimetest.CompareDocumentOrders(t, seeds(t, 200), realtime.NewMemoryOrder(), func() realtime.DocumentOrder {
		return newLossyNode(t, s.URL())
	})
}
