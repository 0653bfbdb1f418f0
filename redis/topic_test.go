package redis

import (
	"testing"
	"testing/synctest"

	"github.com/seed-58bc6ac1/realtime"
)

// TestAPublisherDoesNotWaitForAnEpochThatIsOver has the stream begin anew while an event
// of the old one has not come.
func TestAPublisherDoesNotWaitForAnEpochThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &topic{name: "t", own: map[publishID]*publication{}, moved: make(chan struct{})}
		one.history = &history{topic: "t", emit: one.emit}
		one.history.begin("A", 0, publishID{})
		one.join(&subscription{func(*realtime.Event) {}})
		one.announce(publishID{1}, &realtime.Event{})
		over := make(chan struct{})
		go func() {
			defer close(over)
			one.await(t.Context(), "A", 2)
		}()
		synctest.Wait()
		one.learn(one.history.mark(), &answer{epoch: "B", offset: 2, whole: true})
		synctest.Wait()
		select {
		case <-over:
		default:
			t.Error("it waits for an epoch that is over")
			one.leave(one.subs[0])
			one.mu.Lock()
			one.moveLocked()
			one.mu.Unlock()
		}
	})
}
