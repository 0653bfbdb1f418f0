package realtime

import (
	"context"
	"log/slog"
	"reflect"
	"testing"
	"time"
)

// lonelyBroker is a shared broker that nobody shares.
type lonelyBroker struct{ *memoryBroker }

func (lonelyBroker) Watch(f func(BrokerStatus)) (stop func()) {
	f(BrokerStatus{})
	return func() {}
}

// FuzzNodeMessages has a node take whatever another may send it.
func FuzzNodeMessages(f *testing.F) {
	target := appendTarget(nil, Target{User: "ann", Tenant: "t"})
	f.Add(nodeClose, appendRecord(target, "Banned", "backoff", "90000"))
	f.Add(nodePush, append(appendRecord(target, "room:1", "ping", ""), "1"...))
	f.Add(nodeQuestion, append([]byte{7, 100, askClients}, append(appendRecord(nil, "room:1", "ping"), "null"...)...))
	f.Add(nodeQuestion, []byte("\x07\x64\x01room:1"))
	f.Add(nodeAnswer, append([]byte{1, 0, 0}, appendRecord(nil, "C", "ann", "closed", "")...))
	f.Add(nodeAnswer, append([]byte{2, 0, 0}, appendRecord(nil, "C", "ann", "s", "t", "realtime.v1")...))
	f.Add(nodeAnswer, []byte{3, 0, 0, 12})
	f.Add(nodeAnswer, []byte{3, 0, 2, 'n', 'o'})
	f.Add(nodeHello, hello{true, 15000, 1}.append(nil))
	f.Add(nodeGone, []byte(nodeA))
	f.Add(nodeBye, []byte{})
	f.Add(nodeSpent, []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		s, err := New(WithBroker(lonelyBroker{newMemoryBroker()}), Anonymous(), WithLogger(slog.New(slog.DiscardHandler)),
			WithRateLimit(PerUser(10, 20), PerIP(10, 20)))
		if err != nil {
			t.Fatal(err)
		}
		s.Topic("room:{n}")
		n := s.node
		hi := hello{ttl: 15000}.append(nil)
		n.cluster.receive(&Event{Data: appendMail(nodeB, []memo{{nodeHello, hi}})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		waits := []*gathering{n.query.ask(ctx, askClients, nil), n.query.ask(ctx, askMembers, nil), n.query.ask(ctx, askCount, nil)}
		n.cluster.receive(&Event{Data: appendMail(nodeB, []memo{{kind, body}})})
		cancel() // for what is not answered
		s.remote.answers(waits[0])
		for _, one := range waits[1:] {
			one.wait(func(string, []byte) error { return nil })
		}
		over, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		if err := s.Shutdown(over); err != nil {
			t.Error(err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, "a", "", "b"), "c"))
	f.Add([]byte{0, 65, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for range 100 {
			fields, rest, ok := cutRecord(b, 0)
			if !ok {
				return
			}
			again, none, ok := cutRecord(appendRecord(nil, fields...), len(fields))
			if !ok || len(none) != 0 || len(again) != len(fields) || len(fields) > 0 && !reflect.DeepEqual(again, fields) {
				t.Errorf("%q became %q", fields, again)
			}
			b = rest
		}
	})
}
