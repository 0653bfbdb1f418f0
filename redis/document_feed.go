package redis

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// feed tells the notices of one document in the order of their numbers, each once,
// wherever they come from.
type feed struct {
	// Set by newFeed, never changed.
	documents *documents
	at        *documentAt
	tell      func(*realtime.DocumentNews) // called under the lock: it does not call back
	ctx       context.Context
	end       context.CancelFunc
	stopped   atomic.Bool

	mu      sync.Mutex // guards the following
	begun   bool
	over    bool   // nothing more is told
	born    string // as in the notices, "" before the first of all
	next    int64  // the number of the notice that is told next
	newest  int64  // the largest number that is known to be published
	sn      int64  // of the last message told
	last    []byte // its JSON, nil if this feed has not told it
	clients map[string]bool
	waiting map[int64]*notice // they came before one that is missing
	bytes   int               // of them
	turn    chan struct{}     // closed when next rises; nil if nobody waits
	recent  [64]told          // the last notices told, by their numbers
	late    *time.Timer       // the patience with what is missing

	// A repair reads what is missing, and tells it; nobody else tells anything
	// meanwhile. again: what happened since makes another one necessary.
	repairing, again bool
}

// told is what a feed remembers of a notice: a copy has the same step.
type told struct {
	number int64
	step   stepName
}

const (
	// lateTime is the patience with a notice that others have overtaken: those of own
	// steps come over another connection, so that this happens all the time. What
	// comes later yet is read, and its signal is lost.
	lateTime = time.Second

	// What waits for a missing notice is bounded: it is read again instead.
	maxWaiting      = 4096
	maxWaitingBytes = 32 << 20
)

var (
	errAnotherDocument = errors.New("redis: the document is not the same any more")
	errMessagesGone    = errors.New("redis: messages of the document are gone")
)

func newFeed(d *documents, at *documentAt, tell func(*realtime.DocumentNews)) *feed {
	f := &feed{documents: d, at: at, tell: tell, waiting: map[int64]*notice{}, clients: map[string]bool{}}
	f.ctx, f.end = context.WithCancel(d.ctx)
	return f
}

// begin begins to tell, after what r says of the document.
func (f *feed) begin(r *stepReply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun, f.born, f.next, f.sn = true, r.born, r.number+1, r.outcome.SequenceNumber
	for _, c := range r.standing.Clients {
		f.clients[c.ID] = true
	}
	for number, n := range f.waiting {
		if number < f.next || n.born != f.born && f.born != "" {
			f.dropLocked(n)
		}
	}
	if f.again {
		f.repairLocked()
	}
	f.drainLocked()
}

// stop has nothing told any more, and waits for the call that is under way.
func (f *feed) stop() {
	f.stopped.Store(true)
	f.end()
	f.mu.Lock() // held while telling
	defer f.mu.Unlock()
}

// arrive takes what was published.
func (f *feed) arrive(text string) {
	n, err := readNotice(text)
	if err != nil { // it is read from the stream instead
		f.reset()
		return
	}
	f.offer(n)
}

// reset notes that notices may have been lost.
func (f *feed) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.repairLocked()
}

// offer takes a notice, whichever way it came.
func (f *feed) offer(n *notice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.begun && f.born != "" && n.born != f.born:
		f.loseLocked(errAnotherDocument)
	case f.begun && n.number < f.next:
		if known := f.recent[n.number%int64(len(f.recent))]; known.number == n.number && known.step != n.step {
			f.loseLocked(errAnotherDocument) // a failover took back what was told
		}
	default:
		f.keepLocked(n)
	}
	f.drainLocked()
}

func (f *feed) keepLocked(n *notice) {
	if old := f.waiting[n.number]; old != nil {
		if !old.short {
			return
		}
		f.dropLocked(old)
	}
	f.waiting[n.number] = n
	f.bytes += n.bytes
	f.newest = max(f.newest, n.number)
	if len(f.waiting) > maxWaiting || f.bytes > maxWaitingBytes {
		clear(f.waiting)
		f.bytes = 0
		f.repairLocked()
	}
}

func (f *feed) dropLocked(n *notice) {
	delete(f.waiting, n.number)
	f.bytes -= n.bytes
}

// drainLocked tells what has its turn.
func (f *feed) drainLocked() {
	for f.begun && !f.repairing && !f.over {
		n := f.waiting[f.next]
		if n == nil {
			break
		}
		if n.short || n.after != f.sn {
			f.fillLocked(n)
			break
		}
		f.dropLocked(n)
		f.tellLocked(n)
	}
	f.expectLocked()
}

// expectLocked sees to it that what is missing does not stay missing.
func (f *feed) expectLocked() {
	if f.newest < f.next || !f.begun || f.repairing || f.over || f.late != nil {
		return
	}
	missing := f.next
	f.late = time.AfterFunc(lateTime, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.late = nil
		if f.next == missing && !f.repairing {
			f.repairLocked()
			return
		}
		f.expectLocked()
	})
}

func (f *feed) tellLocked(n *notice) {
	for _, news := range n.news {
		f.newsLocked(news, n.step)
	}
	f.recent[n.number%int64(len(f.recent))] = told{n.number, n.step}
	f.born = n.born
	f.passLocked(n.number + 1)
}

// newsLocked tells one news, unless the feed has stopped.
func (f *feed) newsLocked(news *realtime.DocumentNews, step stepName) {
	if n := len(news.Messages); n > 0 {
		f.sn, f.last = news.Messages[n-1].SequenceNumber, news.Messages[n-1].JSON
	}
	if news.Joined != "" {
		f.clients[news.Joined] = true
	}
	delete(f.clients, news.Left)
	news.Taken = step.origin == f.documents.origin
	if !f.over && !f.stopped.Load() {
		f.tell(news)
	}
}

func (f *feed) passLocked(next int64) {
	f.next = next
	if f.turn != nil {
		close(f.turn)
		f.turn = nil
	}
}

// loseLocked tells that nothing more will be told.
func (f *feed) loseLocked(why error) {
	if f.over {
		return
	}
	if !f.stopped.Load() {
		f.tell(&realtime.DocumentNews{Lost: why})
	}
	f.over = true
	clear(f.waiting)
	f.passLocked(f.next)
}

// wait returns when the notice with a number was told, or none will be.
func (f *feed) wait(ctx context.Context, number int64) error {
	for {
		f.mu.Lock()
		if f.next > number || f.over || f.stopped.Load() {
			f.mu.Unlock()
			return nil
		}
		if f.turn == nil {
			f.turn = make(chan struct{})
		}
		turn := f.turn
		f.mu.Unlock()
		select {
		case <-turn:
		case <-f.ctx.Done():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// check asks where the document stands.
func (f *feed) check(ctx context.Context) {
	before := f.place()
	r, err := f.documents.run(ctx, f.at, onlyArguments("head"))
	if err == nil { // else the next check is as good
		f.checked(r, before)
	}
}

// feedPlace is what a feed knew when it asked: the answer may be older than what was
// told meanwhile.
type feedPlace struct {
	born string
	next int64
}

func (f *feed) place() feedPlace {
	if f == nil {
		return feedPlace{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return feedPlace{f.born, f.next}
}

// checked takes the answer to a question that was asked at a place.
func (f *feed) checked(r *stepReply, before feedPlace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.begun || f.repairing || f.over:
	case before.born != "" && r.born != before.born || r.number < before.next-1:
		f.loseLocked(errAnotherDocument)
	default:
		f.newest = max(f.newest, r.number)
		f.expectLocked()
	}
}
