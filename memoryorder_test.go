package realtime_test

import (
	"context"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestMemoryOrder(t *testing.T) {
	node := realtime.NewMemoryOrder()
	realtimetest.DocumentOrder(t, func() (a, b realtime.DocumentOrder) { return node(), node() })
}

// TestHistoriesAreTheSameInEveryOrder, and have everything in them: or a comparison
// with another order would prove nothing.
func TestHistoriesAreTheSameInEveryOrder(t *testing.T) {
	node, seen := realtime.NewMemoryOrder(), map[string]int{}
	realtimetest.CompareDocumentOrders(t, 300, realtime.NewMemoryOrder(), func() realtime.DocumentOrder { return watchedOrder{node(), seen} })
	for _, what := range []string{"join", "leave", "op", "noop", "noop of server", "summarize", "summaryAck", "summaryNack", "nonexistent_client", "gap",
		"op_not_allowed", "invalid_rsn", "rsn_below_msn", "summary_scope", "malformed", "throttled", "absorbed", "counts", "expelled", "buried"} {
		if seen[what] < 10 {
			t.Errorf("%s happens %d times in 300 histories", what, seen[what])
		}
	}
}

// watchedOrder counts what happens.
type watchedOrder struct {
	realtime.DocumentOrder
	seen map[string]int
}

func (o watchedOrder) Take(ctx context.Context, id realtime.DocumentID, step *realtime.DocumentStep) (*realtime.DocumentOutcome, error) {
	out, err := o.DocumentOrder.Take(ctx, id, step)
	for _, m := range out.Messages {
		switch o.seen[m.Type]++; {
		case m.Type == "noop" && m.ClientID == "":
			o.seen["noop of server"]++
		case step.Kind == realtime.StepIdle:
			o.seen["expelled"]++
		case step.Kind == realtime.StepBury:
			o.seen["buried"]++
		}
	}
	if out.Refusal != nil {
		o.seen[out.Refusal.Reason]++
	}
	if out.Counts {
		o.seen["counts"]++
	} else if out.Absorbed {
		o.seen["absorbed"]++
	}
	return out, err
}
