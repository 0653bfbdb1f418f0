package redis_test

import (
	"strings"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// rights are those that the README names.
const rights = "+@scripting +@hash +@stream +@string +@sortedset +@pubsub +@connection +info +time +del +exists +pexpire +pttl ~realtime:* &realtime:*"

func TestAUserWithTheNamedRightsCanDoAll(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	if _, err := s.CLI(strings.Fields("ACL SETUSER app on >secret " + rights)...); err != nil {
		t.Fatal(err)
	}
	url := "redis://app:secret@" + s.Addr
	realtimetest.Broker(t, func() realtime.Broker { return open(t, url) })
	realtimetest.DocumentOrder(t, func() (a, b realtime.DocumentOrder) {
		return open(t, url).Documents(), open(t, url).Documents()
	})
	b := open(t, url, quick...)
	w := watching(t, b)
	if _, err := s.CLI("ACL", "SETUSER", "app", "-@scripting"); err != nil {
		t.Fatal(err)
	}
	w.await(t, realtime.BrokerDown)
	if err := w.last().Err; !strings.Contains(err.Error(), "may not do this") {
		t.Errorf("it is down because of %v, want that it says so", err)
	}
}
