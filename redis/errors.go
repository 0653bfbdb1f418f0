package redis

import (
	"fmt"

	"github.com/seed-58bc6ac1/realtime"
)

// down is err as the reason why something could not be done at the moment, with
// [realtime.ErrBrokerDown] in its chain.
func down(doing string, err error) error {
	return fmt.Errorf("redis: %s: %w: %w", doing, realtime.ErrBrokerDown, err)
}
