package redis

import (
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// newTestFeed returns a feed of a document that stands at r, and what it tells.
func newTestFeed(t *testing.T, r *stepReply) (f *feed, news *[]*realtime.DocumentNews) {
	d := newDocuments(nil, "here", time.Second)
	t.Cleanup(d.close)
	news = &[]*realtime.DocumentNews{}
	f = newFeed(d, &documentAt{id: testDocument}, func(n *realtime.DocumentNews) { *news = append(*news, n) })
	if r != nil {
		f.begin(r)
	}
	return f, news
}

func newReply(born string, number int64) *stepReply {
	return &stepReply{born: born, number: number, standing: &realtime.DocumentStanding{}}
}

func signalNotice(born string, number int64, step string) *notice {
	return &notice{born: born, number: number, step: stepName{"there", step}, news: []*realtime.DocumentNews{{Signal: []byte(step)}}}
}

func wantSignals(t *testing.T, news []*realtime.DocumentNews, want string) {
	t.Helper()
	got := ""
	for _, n := range news {
		got += string(n.Signal)
		if n.Lost != nil {
			got += "lost"
		}
	}
	if got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestAnAnswerFromBeforeTheDocumentIsNoOtherDocument(t *testing.T) {
	f, news := newTestFeed(t, newReply("", 0))
	before := f.place()
	f.offer(signalNotice("born", 1, "a"))
	f.checked(newReply("", 0), before) // asked and answered before the notice
	wantSignals(t, *news, "a")
	f.checked(newReply("", 0), f.place())
	wantSignals(t, *news, "alost")
}

func TestAFeedTellsNoticesInTheirOrderAndOnce(t *testing.T) {
	f, news := newTestFeed(t, nil)
	f.offer(signalNotice("born", 4, "d")) // before it has begun
	f.offer(signalNotice("born", 2, "before"))
	f.begin(newReply("born", 2))
	f.offer(signalNotice("born", 6, "f"))
	wantSignals(t, *news, "")
	f.offer(signalNotice("born", 3, "c"))
	f.offer(signalNotice("born", 4, "d"))
	f.offer(signalNotice("born", 3, "c"))
	wantSignals(t, *news, "cd")
	f.offer(signalNotice("born", 5, "e"))
	wantSignals(t, *news, "cdef")
}

func TestAnotherStepWithANumberThatWasToldIsAnotherDocument(t *testing.T) {
	f, news := newTestFeed(t, newReply("born", 2))
	f.offer(signalNotice("born", 3, "c"))
	f.offer(signalNotice("born", 3, "x"))
	f.offer(signalNotice("born", 4, "d"))
	wantSignals(t, *news, "clost")
}

func TestANoticeOfAnotherBirthIsAnotherDocument(t *testing.T) {
	f, news := newTestFeed(t, newReply("born", 2))
	f.offer(signalNotice("again", 3, "c"))
	wantSignals(t, *news, "lost")
}

func TestAFeedThatHasStoppedTellsNothing(t *testing.T) {
	f, news := newTestFeed(t, newReply("born", 2))
	f.stop()
	f.offer(signalNotice("born", 3, "c"))
	f.offer(signalNotice("again", 3, "c"))
	wantSignals(t, *news, "")
}

func TestStopWaitsForTheCallThatIsUnderWay(t *testing.T) {
	f, _ := newTestFeed(t, newReply("born", 2))
	inside, goOn, told, stopped := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	f.tell = func(*realtime.DocumentNews) {
		close(inside)
		<-goOn
		close(told)
	}
	go f.offer(signalNotice("born", 3, "c"))
	<-inside
	go func() {
		f.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("it was stopped before it had told")
	case <-f.ctx.Done(): // the stop is under way
	}
	close(goOn)
	<-stopped
	select {
	case <-told:
	default:
		t.Error("it was stopped before it had told")
	}
}
