package nats_test

import (
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestBroker(t *testing.T) {
	h := newHost(t)
	realtimetest.Broker(t, func() realtime.Broker { return h.node() })
}

func TestTwoBrokers(t *testing.T) {
	h := newHost(t)
	realtimetest.SharedBrokers(t, func() (a, b realtime.SharedBroker) { return h.node(), h.node() }, noOneOrder)
}

// noOneOrder is what NATS does not have: see the package's documentation.
var noOneOrder = realtimetest.Unmet{
	Part:   "both nodes see one order, without history",
	Reason: "a NATS server does not give the messages of a subject one order: each subscriber has that of each publisher",
}
