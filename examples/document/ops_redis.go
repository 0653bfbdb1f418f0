package main

import (
	"context"
	"errors"
	"sync"

	"github.com/seed-58bc6ac1/realtime"
)

// sharedOps reads the messages of documents that the nodes order together. The REST API
// wants a log; there is one, but nobody writes to it but the order.
type sharedOps struct {
	order realtime.DocumentOrder // not the one that the server attends documents with

	mu sync.Mutex // a document is attended by one at a time
}

func (o *sharedOps) Read(ctx context.Context, id realtime.DocumentID, after, to int64, limit int) ([]realtime.SequencedMessage, error) {
	return o.order.Read(ctx, id, after, to, limit)
}

// Head attends the document for as long as it takes to be told how it stands.
func (o *sharedOps) Head(ctx context.Context, id realtime.DocumentID) (realtime.LogHead, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	standing, stop, err := o.order.Attend(ctx, id, func(*realtime.DocumentNews) {})
	if err != nil {
		return realtime.LogHead{}, err
	}
	stop()
	return standing.LogHead, nil
}

var errOrdered = errors.New("the order of the documents alone writes messages")

func (o *sharedOps) Append(context.Context, realtime.DocumentID, []realtime.SequencedMessage) error {
	return errOrdered
}

func (o *sharedOps) Trim(context.Context, realtime.DocumentID, int64) error { return errOrdered }
