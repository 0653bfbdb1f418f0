package redis_test

import (
	"strings"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// TestSentinelFailsOver kills the master while two nodes publish.
func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	a, b := open(t, sentinelURL(s), quick...), open(t, sentinelURL(s), quick...)
	w := watching(t, a)
	watching(t, b)
	on, other := listen(t, a, "topic", kept), listen(t, b, "topic", kept)
	master, err := s.Master()
	if err != nil {
		t.Fatal(err)
	}
	var f traffic
	f.start("topic", a, b)
	on.want(20)
	master.Kill()
	w.await(t, realtime.BrokerDown)
	w.await(t, realtime.BrokerHealthy)
	f.end()
	publishUntil(t, a, "topic", "end", kept)
	for _, l := range []*ear{on, other} {
		names, gaps := checkStory(t, *l.from, l.hears("end"))
		if gaps > 1 {
			t.Errorf("%d gaps, want at most that of a new epoch: %s", gaps, story(l.hears("end")))
		}
		if gaps == 0 {
			f.checkLossless(t, names[:len(names)-1])
		}
	}
}

// TestOneServerOfAClusterIsDegraded stops one of three: its topics cannot be had,
// the others can.
func TestOneServerOfAClusterIsDegraded(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "cluster-require-full-coverage no", "cluster-node-timeout 60000")
	addrs := c.Addrs()
	url := "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr=")
	a, b := open(t, url, quick...), open(t, url, quick...)
	w := watching(t, b)
	var ears []*ear
	for _, topic := range strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z") {
		ears = append(ears, listen(t, b, topic, kept))
		publishUntil(t, a, topic, "before", kept)
	}
	c.Masters[1].Stop()
	w.await(t, realtime.BrokerDegraded)
	worked := 0
	for _, topic := range strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z") {
		if publish(a, topic, "during", kept) == nil {
			worked++
		}
	}
	if worked == 0 || worked == len(ears) {
		t.Errorf("%d of %d topics worked with one of three servers stopped", worked, len(ears))
	}
	c.Masters[1].Cont()
	w.await(t, realtime.BrokerHealthy)
	for i, topic := range strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z") {
		publishUntil(t, a, topic, "after", kept)
		if _, gaps := checkStory(t, *ears[i].from, ears[i].hears("after")); gaps > 0 {
			t.Errorf("%d gaps in %s", gaps, topic)
		}
	}
}
