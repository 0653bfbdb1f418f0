package realtimetest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-58bc6ac1/realtime"
)

// nodeDocuments is a node's part in the documents of its cluster.
type nodeDocuments struct {
	realtime.DocumentOrder
	node *Node
	off  atomic.Bool // the node hears nothing

	mu    sync.Mutex // guards the following
	after bool       // see LoseAnswers
	ears  []*documentEar
}

// documentEar hears of one document, later if the node is cut off.
type documentEar struct {
	tell func(*realtime.DocumentNews)

	mu   sync.Mutex // guards the following; held while telling
	late []*realtime.DocumentNews
}

// Documents returns the node's part in an order of documents that the cluster has in
// memory. Cut and Hang keep the node from it, and Heal tells it what it has missed.
func (n *Node) Documents() realtime.DocumentOrder { return &n.documents }

// LoseAnswers has the steps of documents that this node takes while it is cut off come
// through, without a word to it before Heal: it must not take them for nothing.
func (n *Node) LoseAnswers(lose bool) {
	n.documents.mu.Lock()
	defer n.documents.mu.Unlock()
	n.documents.after = lose
}

// Take implements [realtime.DocumentOrder].
func (d *nodeDocuments) Take(ctx context.Context, id realtime.DocumentID, step *realtime.DocumentStep) (*realtime.DocumentOutcome, error) {
	err := d.reach(ctx)
	d.mu.Lock()
	after := d.after
	d.mu.Unlock()
	if err != nil && !after {
		return nil, err
	}
	out, failed := d.DocumentOrder.Take(context.WithoutCancel(ctx), id, step)
	if err != nil {
		return nil, err
	}
	return out, failed
}

// reach waits until the node is not stuck, and fails if it is cut off.
func (d *nodeDocuments) reach(ctx context.Context) error {
	if err := d.node.pass(ctx); err != nil {
		return err
	}
	defer d.node.cluster.mu.Unlock()
	return d.node.fault
}

// Attend implements [realtime.DocumentOrder].
func (d *nodeDocuments) Attend(ctx context.Context, id realtime.DocumentID, tell func(*realtime.DocumentNews)) (*realtime.DocumentStanding, func(), error) {
	if err := d.reach(ctx); err != nil {
		return nil, nil, err
	}
	e := &documentEar{tell: tell}
	standing, stop, err := d.DocumentOrder.Attend(ctx, id, func(n *realtime.DocumentNews) { e.hear(n, d.off.Load()) })
	if err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ears = append(d.ears, e)
	return standing, func() { stop(); d.forget(e) }, nil
}

func (d *nodeDocuments) forget(e *documentEar) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ears = slices.DeleteFunc(d.ears, func(one *documentEar) bool { return one == e })
}

// Read implements [realtime.DocumentOrder].
func (d *nodeDocuments) Read(ctx context.Context, id realtime.DocumentID, after, to int64, limit int) ([]realtime.SequencedMessage, error) {
	if err := d.reach(ctx); err != nil {
		return nil, err
	}
	return d.DocumentOrder.Read(ctx, id, after, to, limit)
}

func (e *documentEar) hear(n *realtime.DocumentNews, later bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.late = append(e.late, n); later {
		return
	}
	late := e.late
	e.late = nil
	for _, n := range late {
		e.tell(n)
	}
}

// catchUp tells the node what it has missed.
func (d *nodeDocuments) catchUp() {
	d.mu.Lock()
	ears := slices.Clone(d.ears)
	d.mu.Unlock()
	for _, e := range ears {
		e.mu.Lock()
		late := e.late
		e.late = nil
		for _, n := range late {
			e.tell(n)
		}
		e.mu.Unlock()
	}
}
