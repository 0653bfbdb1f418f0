package redis

import (
	"errors"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// A replica may lag when it is made the master: then the nodes have to be told that the
// document is another one; else they miss nothing.
func TestAFailoverLosesNoMessageInSilence(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	addrs := s.Addrs()
	url := "redis://" + addrs[0] + "?addr=" + addrs[1] + "&addr=" + addrs[2] + "&master_set=" + s.Name
	a, b := newLossyNode(t, url, Heartbeat(time.Second)), newLossyNode(t, url, Heartbeat(time.Second))
	take(t, a, testStep(realtime.StepJoin, "A"))
	w := attend(t, b)
	var failed chan error
	csn, newest := int64(1), int64(1)
	for deadline := time.Now().Add(60 * time.Second); csn <= 200 && time.Now().Before(deadline); {
		if csn == 50 && failed == nil {
			failed = make(chan error, 1)
			go func() { failed <- s.Failover() }()
		}
		out, err := a.Take(t.Context(), testDocument, testOps("A", csn, 1, 1))
		switch {
		case errors.Is(err, realtime.ErrBrokerDown):
			time.Sleep(20 * time.Millisecond) // there is no event to wait for
			continue
		case err != nil:
			t.Fatal(err)
		case out.Refusal != nil: // numbers were taken back, and the client's with them
			w.untilLost()
			return
		}
		newest = out.SequenceNumber
		csn++
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if csn <= 200 {
		t.Fatalf("after a minute there are %d ops", csn)
	}
	var lost bool
	w.until("end", func(news []*realtime.DocumentNews) bool {
		last := news[len(news)-1]
		lost = last.Lost != nil
		return lost || len(last.Messages) > 0 && last.Messages[len(last.Messages)-1].SequenceNumber == newest
	})
	if !lost {
		w.untilMessage(newest)
	}
}
