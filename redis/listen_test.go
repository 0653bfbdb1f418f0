package redis_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis"
)

// patience bounds what takes a moment on an idle machine.
const patience = 30 * time.Second

// ear notes what one subscriber is given.
type ear struct {
	t    *testing.T
	from *realtime.Position
	stop func()

	mu   sync.Mutex // guards the following
	got  []*realtime.Event
	news chan struct{} // closed, and replaced, with each
}

// listen subscribes; it tries again while the broker is down.
func listen(t *testing.T, b *redis.Broker, topic string, keep realtime.Retention) *ear {
	t.Helper()
	l := &ear{t: t, news: make(chan struct{})}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		var err error
		l.from, l.stop, err = b.Subscribe(context.Background(), topic, keep, l.hear)
		if err == nil {
			t.Cleanup(l.stop)
			return l
		}
		if !errors.Is(err, realtime.ErrBrokerDown) || time.Since(start) > patience {
			t.Fatalf("Subscribe: %v", err)
		}
	}
}

func (l *ear) hear(e *realtime.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, e)
	close(l.news)
	l.news = make(chan struct{})
}

// until waits until what was heard is enough.
func (l *ear) until(what string, enough func([]*realtime.Event) bool) []*realtime.Event {
	l.t.Helper()
	late := time.After(patience)
	for {
		l.mu.Lock()
		got, news := append([]*realtime.Event(nil), l.got...), l.news
		l.mu.Unlock()
		if enough(got) {
			return got
		}
		select {
		case <-news:
		case <-late:
			l.t.Fatalf("not %s within %v; heard %s", what, patience, story(got))
		}
	}
}

func (l *ear) want(n int) []*realtime.Event {
	l.t.Helper()
	return l.until(fmt.Sprintf("%d events", n), func(got []*realtime.Event) bool { return len(got) >= n })
}

// hears waits for an event of that name.
func (l *ear) hears(name string) []*realtime.Event {
	l.t.Helper()
	return l.until("the event "+name, func(got []*realtime.Event) bool { return len(got) > 0 && got[len(got)-1].Name == name })
}

// story is the end of what was heard, for failures.
func story(got []*realtime.Event) string {
	text := fmt.Sprintf("%d events", len(got))
	for _, e := range got[max(0, len(got)-10):] {
		if e.Gap != nil {
			text += fmt.Sprintf(", gap %d-%d to %s/%d", e.Gap.From, e.Gap.To, e.Epoch, e.Offset)
		} else {
			text += fmt.Sprintf(", %s at %s/%d", e.Name, e.Epoch, e.Offset)
		}
	}
	return text
}

// checkStory checks that a stream with history is whole from a position on, but for
// gaps that are told, and returns the names in order and whether there were gaps.
func checkStory(t *testing.T, from realtime.Position, got []*realtime.Event) (names []string, gaps int) {
	t.Helper()
	at := from
	for i, e := range got {
		switch {
		case e.Gap == nil && e.Epoch == at.Epoch && e.Offset == at.Offset+1:
			names = append(names, e.Name)
		case e.Gap != nil && e.Gap.From > 0 && e.Epoch == at.Epoch && e.Gap.From == at.Offset+1 && e.Gap.To == e.Offset:
			gaps++
		case e.Gap != nil && e.Gap.From == 0 && e.Epoch != at.Epoch:
			gaps++
		default:
			t.Fatalf("event %d does not follow %v: %s", i, at, story(got[:i+1]))
		}
		at = realtime.Position{Epoch: e.Epoch, Offset: e.Offset}
	}
	return names, gaps
}
