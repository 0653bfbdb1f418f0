package realtime_test

import (
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestMemoryOrder(t *testing.T) {
	node := realtime.NewMemoryOrder()
	realtimetest.DocumentOrder(t, func() (a, b realtime.DocumentOrder) { return node(), node() })
}
