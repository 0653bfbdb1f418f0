package redis_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// TestATopicThatCannotBeComparedDoesNotHinderOthers has somebody write over one topic's
// hash; the others, of which events were lost on the way, are mended all the same.
func TestATopicThatCannotBeComparedDoesNotHinderOthers(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr)
	a, b := open(t, s.URL(), quick...), open(t, "redis://"+p.Addr, quick...)
	w := watching(t, b)
	var ears []*ear
	for i := range 8 {
		ears = append(ears, listen(t, b, fmt.Sprint("good", i), kept))
	}
	listen(t, b, "bad", kept)
	if _, err := s.CLI("SET", "realtime:{p0}:m:bad", "x"); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	w.await(t, realtime.BrokerDown)
	for i := range ears {
		publishUntil(t, a, fmt.Sprint("good", i), "missed", kept)
	}
	p.Heal()
	for _, l := range ears {
		l.hears("missed")
	}
}

// TestTheOtherServersOfAClusterAreComparedWithoutTheOne has one of three servers
// stopped, and events of topics on the others lost on the way.
func TestTheOtherServersOfAClusterAreComparedWithoutTheOne(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "cluster-require-full-coverage no", "cluster-node-timeout 60000")
	addrs := c.Addrs()
	url := "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr=")
	b := open(t, url, quick...)
	w := watching(t, b)
	topics := strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z")
	var ears []*ear
	for _, topic := range topics {
		ears = append(ears, listen(t, b, topic, kept))
		publishUntil(t, b, topic, "before", kept)
	}
	c.Masters[1].Stop()
	defer c.Masters[1].Cont()
	w.await(t, realtime.BrokerDegraded)
	for _, one := range c.Masters {
		if one != c.Masters[1] {
			if err := one.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	worked := 0
	for i, topic := range topics {
		if publish(b, topic, "during", kept) == nil {
			worked++
			ears[i].until("the new epoch and the event", func(got []*realtime.Event) bool {
				return hasGap(got) && got[len(got)-1].Name == "during"
			})
		}
	}
	if worked == 0 {
		t.Error("no topic worked with one of three servers stopped")
	}
}
