package nats_test

import (
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/nats"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// calm is for tests without faults: with the heartbeat of the others a connection is
// made anew if a busy machine is silent for a second.
var calm = nats.Heartbeat(10 * time.Second)

func TestBroker(t *testing.T) {
	h := newHost(t)
	realtimetest.Broker(t, func() realtime.Broker { return h.node(calm) })
}

func TestTwoBrokers(t *testing.T) {
	h := newHost(t)
	realtimetest.SharedBrokers(t, func() (a, b realtime.SharedBroker) { return h.node(calm), h.node(calm) }, noOneOrder)
}

// noOneOrder is what NATS does not have: see the package's documentation.
var noOneOrder = realtimetest.Unmet{
	Part:   "both nodes see one order, without history",
	Reason: "a NATS server does not give the messages of a subject one order: each subscriber has that of each publisher",
}
