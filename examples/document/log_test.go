package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/seed-58bc6ac1/realtime"
)

// brittleLog is a log that fails as often as it is told to.
type brittleLog struct {
	realtime.OpLog
	fail atomic.Int64
}

func (l *brittleLog) Append(ctx context.Context, id realtime.DocumentID, messages []realtime.SequencedMessage) error {
	if l.fail.Add(-1) >= 0 {
		return errors.New("the disk is full")
	}
	return l.OpLog.Append(ctx, id, messages)
}
