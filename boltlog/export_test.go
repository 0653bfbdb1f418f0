package boltlog

import (
	"testing"
	"time"
)

// SetLockTimeout has Open wait for d until the end of the test.
func SetLockTimeout(t *testing.T, d time.Duration) {
	before := lockTimeout
	lockTimeout = d
	t.Cleanup(func() { lockTimeout = before })
}
