package redis

import (
	"context"
	"sync"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
)

// lossyNode is a node to which not everything comes that others publish.
type lossyNode struct {
	*documents

	mu     sync.Mutex // guards the following
	loses  func(text string) bool
	resets []func()
}

// lossyPlace is where a document is kept, for a lossyNode.
type lossyPlace struct {
	documentPlace
	node *lossyNode
}

func (p *lossyPlace) subscribe(ctx context.Context, channel string, onMessage func(string), onReset func()) (func(), error) {
	p.node.mu.Lock()
	p.node.resets = append(p.node.resets, onReset)
	p.node.mu.Unlock()
	return p.documentPlace.subscribe(ctx, channel, func(text string) {
		p.node.mu.Lock()
		loses := p.node.loses
		p.node.mu.Unlock()
		if loses == nil || !loses(text) {
			onMessage(text)
		}
	}, onReset)
}

func newLossyNode(t testing.TB, url string, opts ...Option) *lossyNode {
	t.Helper()
	b, err := Open(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	n := &lossyNode{documents: b.documents}
	n.place = func(name string) (documentPlace, error) {
		at, err := b.placeOf(name)
		return &lossyPlace{at, n}, err
	}
	return n
}

// losing has the notices lost for which loses is true.
func (n *lossyNode) losing(loses func(text string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loses = loses
}

// reset tells the feeds that the connection was lost, and is back.
func (n *lossyNode) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.resets {
		f()
	}
}

var _ realtime.DocumentOrder = (*lossyNode)(nil)
