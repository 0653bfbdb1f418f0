package redis

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// unhurried is for tests without faults: nothing is late if the machine is busy.
var unhurried = Timeout(30 * time.Second)

func TestDocumentsOverRedisPassTheSuite(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	realtimetest.DocumentOrder(t, func() (a, b realtime.DocumentOrder) {
		return newLossyNode(t, s.URL(), unhurried), newLossyNode(t, s.URL(), unhurried)
	})
}

func TestDocumentsOverAClusterPassTheSuite(t *testing.T) {
	t.Parallel()
	addrs := redistest.StartCluster(t).Addrs()
	url := "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr=")
	realtimetest.DocumentOrder(t, func() (a, b realtime.DocumentOrder) {
		return newLossyNode(t, url, unhurried), newLossyNode(t, url, unhurried)
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
