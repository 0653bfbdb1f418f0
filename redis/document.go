package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

//go:embed document.lua
var documentLua string

//go:embed document_read.lua
var documentReadLua string

var (
	documentScript     = rueidis.NewLuaScript(documentLua)
	documentReadScript = rueidis.NewLuaScript(documentReadLua)
)

// documentPlace is where a document is kept: what a lane does for it.
type documentPlace interface {
	key(kind, name string) string
	exec(ctx context.Context, doing string, script *rueidis.Lua, keys, args []string) (rueidis.RedisMessage, error)
	subscribe(ctx context.Context, channel string, onMessage func(string), onReset func()) (stop func(), err error)
	publishCommand(ctx context.Context) (string, error)
}

// Documents returns the order of the documents that all nodes of this broker's server
// have in common. A document stays until its keys are deleted: its state and all
// messages that are younger than the newest 1,000, or not part of the last but one
// acknowledged summary. It is as durable as the server. Its keys have no expiry: a
// server that evicts such keys when its memory is full (a maxmemory-policy allkeys-…)
// ruins documents.
func (b *Broker) Documents() realtime.DocumentOrder { return b.documents }

// placeOf returns where a document is kept.
func (b *Broker) placeOf(name string) (documentPlace, error) { return b.lane(name) }

// documents implements [realtime.DocumentOrder]. Every step is one script, which
// publishes a notice of what came of it under the next number. A node that attends a
// document tells the notices in the order of their numbers: those of its own steps when
// the script returns, the others as they arrive. What does not arrive is read from the
// stream of the document's messages.
type documents struct {
	// Set by newDocuments, never changed.
	place   func(name string) (documentPlace, error)
	timeout time.Duration // how long a step waits for the notices before its own
	origin  string        // names this node's steps
	ctx     context.Context
	cancel  context.CancelFunc
	repairs sync.WaitGroup

	steps atomic.Uint64

	mu    sync.Mutex // guards the following
	feeds map[realtime.DocumentID]*feed
}

func newDocuments(place func(name string) (documentPlace, error), origin string, timeout time.Duration) *documents {
	d := &documents{place: place, origin: origin, timeout: timeout, feeds: map[realtime.DocumentID]*feed{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// close ends what runs on its own. Nothing is told any more.
func (d *documents) close() {
	d.cancel()
	d.repairs.Wait()
}

// documentAt is a document and where it is kept.
type documentAt struct {
	documentPlace
	id      realtime.DocumentID
	keys    []string // as the script names them; the last is the channel
	channel string
}

// documentKeys are the kinds of a document's keys, in the order of the script.
var documentKeys = [...]string{"doc.state", "doc.rsns", "doc.writers", "doc.places", "doc.objects", "doc.ends",
	"doc.pending", "doc.messages", "doc"}

const streamKey = 7 // the index of the messages' key

// nameOf returns the name of a document in its keys, which no other has.
func nameOf(id realtime.DocumentID) string {
	return strconv.Itoa(len(id.Tenant)) + ":" + id.Tenant + ":" + id.Document
}

func (d *documents) at(id realtime.DocumentID) (*documentAt, error) {
	name := nameOf(id)
	place, err := d.place(name)
	if err != nil {
		return nil, err
	}
	a := &documentAt{documentPlace: place, id: id, keys: make([]string, len(documentKeys))}
	for i, kind := range documentKeys {
		a.keys[i] = a.key(kind, name)
	}
	a.channel = a.keys[len(a.keys)-1]
	return a, nil
}

var (
	errClientTwice = errors.New("redis: the client is in the document already")
	errNotTold     = errors.New("what came before has not arrived")
)

// untold is the error of a step of which nobody knows here whether it was taken.
func untold(err error) error {
	return fmt.Errorf("redis: take a step of a document: %w: %w", realtime.ErrBrokerDown, err)
}

// Take implements [realtime.DocumentOrder].
func (d *documents) Take(ctx context.Context, id realtime.DocumentID, step *realtime.DocumentStep) (*realtime.DocumentOutcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	args, err := stepArguments(step)
	if err != nil {
		return nil, err
	}
	a, err := d.at(id)
	if err != nil {
		return nil, err
	}
	var all *realtime.DocumentOutcome
	for { // a step that many clients leave by is taken in portions
		f := d.feed(id)
		before := f.place()
		r, err := d.run(ctx, a, args)
		switch {
		case err != nil:
			return nil, err
		case r.twice:
			return nil, errClientTwice
		}
		if err := d.told(ctx, f, r, before); err != nil {
			return nil, untold(err)
		}
		if all = r.addTo(all); !r.more {
			return all, nil
		}
	}
}

// run runs the script.
func (d *documents) run(ctx context.Context, a *documentAt, args []string) (*stepReply, error) {
	command, err := a.publishCommand(ctx)
	if err != nil {
		return nil, untold(err)
	}
	args[argPublish] = command
	args[argToken] = d.origin + " " + strconv.FormatUint(d.steps.Add(1), 10)
	m, err := a.exec(ctx, "take a step of a document", documentScript, a.keys, args)
	if err != nil {
		return nil, err
	}
	return readReply(m)
}

// told waits until this node's own feed has told what a step published; f is nil if
// there is none.
func (d *documents) told(ctx context.Context, f *feed, r *stepReply, before feedPlace) error {
	if f == nil {
		return nil
	}
	if r.notice == nil {
		f.checked(r, before)
		return nil
	}
	f.offer(r.notice)
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, errNotTold)
	defer cancel()
	return f.wait(ctx, r.notice.number)
}

// Attend implements [realtime.DocumentOrder].
func (d *documents) Attend(ctx context.Context, id realtime.DocumentID, tell func(*realtime.DocumentNews)) (
	*realtime.DocumentStanding, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	a, err := d.at(id)
	if err != nil {
		return nil, nil, err
	}
	f := newFeed(d, a, tell)
	unsubscribe, err := a.subscribe(ctx, a.channel, f.arrive, f.reset)
	if err != nil {
		return nil, nil, err
	}
	r, err := d.run(ctx, a, onlyArguments("stand"))
	if err != nil {
		unsubscribe()
		return nil, nil, err
	}
	d.add(f)
	f.begin(r)
	return r.standing, func() {
		d.remove(f)
		f.stop()
		unsubscribe()
	}, nil
}

func (d *documents) feed(id realtime.DocumentID) *feed {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.feeds[id]
}

func (d *documents) add(f *feed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.feeds[f.at.id] = f
}

func (d *documents) remove(f *feed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.feeds[f.at.id] == f {
		delete(d.feeds, f.at.id)
	}
}

// checkLoop checks the documents every so often, until close.
func (d *documents) checkLoop(every time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			d.check(d.ctx)
		case <-d.ctx.Done():
			return
		}
	}
}

// check asks where every document stands that this node attends: a notice that was
// lost with none after it is noticed so, and data that are gone.
func (d *documents) check(ctx context.Context) {
	d.mu.Lock()
	var feeds []*feed
	for _, f := range d.feeds {
		feeds = append(feeds, f)
	}
	d.mu.Unlock()
	var batch sync.WaitGroup
	for i, f := range feeds {
		batch.Go(func() { f.check(ctx) })
		if i%checkBatch == checkBatch-1 {
			batch.Wait()
		}
	}
	batch.Wait()
}

// pageBytes bounds what is read at once.
const pageBytes = 4 << 20

// Read implements [realtime.DocumentOrder].
func (d *documents) Read(ctx context.Context, id realtime.DocumentID, after, to int64, limit int) ([]realtime.SequencedMessage, error) {
	if err := ctx.Err(); err != nil || limit < 1 {
		return nil, err
	}
	a, err := d.at(id)
	if err != nil {
		return nil, err
	}
	records, err := d.records(ctx, a, after, to, limit)
	if err != nil {
		return nil, err
	}
	page := make([]realtime.SequencedMessage, len(records))
	for i, r := range records {
		page[i] = r.news.Messages[0]
	}
	return page, nil
}

// records reads a page of the stream.
func (d *documents) records(ctx context.Context, a *documentAt, after, to int64, limit int) ([]record, error) {
	m, err := a.exec(ctx, "read messages of a document", documentReadScript, a.keys[streamKey:streamKey+1], []string{
		strconv.FormatInt(max(after, 0), 10), strconv.FormatInt(to, 10), strconv.Itoa(limit), strconv.Itoa(pageBytes)})
	if err != nil {
		return nil, err
	}
	return readRecords(m)
}
