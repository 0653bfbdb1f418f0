package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// debts are steps of documents that are taken sooner or later, whatever becomes of
// their session: leaves, answers to summaries, and burials. To take one twice is as good
// as once. Those of a document are taken one by one.
type debts struct {
	common DocumentOrder
	log    *slog.Logger
	node   func() string                                    // the name of this node
	show   func(id DocumentID, messages []SequencedMessage) // those that no session has shown the host
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex // guards the following
	owed   map[DocumentID][]*DocumentStep
	shown  map[DocumentID]int64 // of what is owed something: the newest message that the host was shown
	closed bool
	work   sync.WaitGroup
}

// payTime bounds how long a closing waits for what is owed: after it, the others find
// out by themselves that the node has gone.
const payTime = 2 * time.Second

// appendTime is how long one submission may take to be stored.
const appendTime = 5 * time.Second

// owedTime is when what could not be stored is tried again.
const owedTime = time.Second

func newDebts(common DocumentOrder, n *node) *debts {
	d := &debts{common: common, log: n.log, node: n.cluster.id, owed: map[DocumentID][]*DocumentStep{}, shown: map[DocumentID]int64{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// owe has a step taken. It does not block.
func (d *debts) owe(id DocumentID, step *DocumentStep) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	owed := d.owed[id]
	d.owed[id] = append(owed, step)
	if len(owed) == 0 {
		d.work.Add(1)
		go d.payLoop(id)
	}
}

// later runs f on a goroutine that close waits for.
func (d *debts) later(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		go f()
		return
	}
	d.work.Go(f)
}

// payLoop takes the steps that one document is owed.
func (d *debts) payLoop(id DocumentID) {
	defer d.work.Done()
	for step := d.next(id, false); step != nil; step = d.next(id, true) {
		told := false // or an outage fills the log
		for err := d.pay(id, step); err != nil; err = d.pay(id, step) {
			if !told {
				told = true
				d.log.Warn("realtime: document", "tenant", id.Tenant, "document", id.Document, "error", err)
			}
			select {
			case <-time.After(owedTime):
			case <-d.ctx.Done():
				return
			}
		}
	}
}

// next returns the first step of a document, without the one before it if that is paid.
func (d *debts) next(id DocumentID, paid bool) *DocumentStep {
	d.mu.Lock()
	defer d.mu.Unlock()
	if paid {
		d.owed[id] = d.owed[id][1:]
	}
	if len(d.owed[id]) == 0 {
		delete(d.owed, id)
		delete(d.shown, id)
		return nil
	}
	return d.owed[id][0]
}

func (d *debts) pay(id DocumentID, step *DocumentStep) error {
	ctx := newDeadline(d.ctx, appendTime)
	defer ctx.end()
	step.Node = d.node()
	out, err := d.common.Take(ctx, id, step)
	if err != nil {
		return fmt.Errorf("take what is owed: %w", err)
	}
	d.mu.Lock()
	shown := d.shown[id]
	d.mu.Unlock()
	if len(out.Messages) > 0 && out.Messages[0].SequenceNumber > shown {
		d.show(id, out.Messages)
	}
	return nil
}

// seen notes that a session has shown the host the messages up to a number.
func (d *debts) seen(id DocumentID, sn int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.owed[id]) > 0 {
		d.shown[id] = sn
	}
}

// close waits a while for what is owed, and gives up the rest.
func (d *debts) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	late := time.AfterFunc(payTime, d.cancel)
	defer late.Stop()
	d.work.Wait()
	d.cancel()
}
