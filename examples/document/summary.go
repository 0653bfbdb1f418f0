package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-58bc6ac1/realtime"
)

// replayChunk is how many messages are in memory at a time.
const replayChunk = 500

// summarizer makes a proposed summary the head of its document (document.md section
// 12.6). A summary holds a document's state at the message that its summarize
// message refers to.
type summarizer struct {
	store store
	log   realtime.OpLog
}

// refuseSummary is answered as a summaryNack with the text.
func refuseSummary(text string) error {
	return &realtime.Error{Code: realtime.CodeInvalidData, Text: text, Retry: realtime.RetryNever}
}

// accept checks a proposal and returns the handle of the new head. It is called
// while the document goes on.
func (s summarizer) accept(ctx context.Context, r realtime.SummaryRequest) (handle string, err error) {
	repo := repo{s.store, r.Tenant}
	proposed, err := repo.commit(r.Handle)
	if errors.Is(err, errNotFound) {
		return "", refuseSummary("Unknown summary handle")
	}
	if err != nil {
		return "", err
	}
	uploaded, err := repo.tree(proposed.Tree)
	if err != nil {
		return "", err
	}
	head, err := s.headFor(ctx, r)
	if err != nil {
		return "", err
	}
	objects, err := s.root(ctx, r, head, uploaded)
	if err != nil {
		return "", err
	}
	by := serverSignature()
	next := commit{Tree: objects[len(objects)-1].sha, Message: r.Message, Author: by, Committer: by}
	if head != "" {
		next.Parents = []string{head}
	}
	made := newCommit(next)
	if err := s.store.put(r.Tenant, append(objects, made)...); err != nil {
		return "", err
	}
	err = s.store.move(r.Tenant, r.Document, head, made.sha)
	if errors.Is(err, errMoved) {
		return "", refuseSummary("Summary is not based on the latest one")
	}
	return made.sha, err
}

// headFor returns the document's head, if the proposal is based on it.
//
// The head moves before the acknowledgement is in the log. Between the two the
// process can be killed, and then clients still know the summary before: a proposal
// based on what the log says was acknowledged last is good, too.
func (s summarizer) headFor(ctx context.Context, r realtime.SummaryRequest) (string, error) {
	head, err := s.store.head(r.Tenant, r.Document)
	if err != nil && !errors.Is(err, errNotFound) {
		return "", err
	}
	if r.Head == head {
		return head, nil
	}
	log, err := s.log.Head(ctx, realtime.DocumentID{Tenant: r.Tenant, Document: r.Document})
	if err != nil {
		return "", err
	}
	if acknowledged := log.Summaries[0].Handle; acknowledged == "" || r.Head != acknowledged {
		return "", refuseSummary("Summary is not based on the latest one")
	}
	return head, nil
}

// root returns the objects of the new head's tree, and last the tree itself.
func (s summarizer) root(ctx context.Context, r realtime.SummaryRequest, head string, uploaded []entry) ([]object, error) {
	before, err := s.protocolOf(r.Tenant, head)
	if err != nil {
		return nil, err
	}
	if r.ReferenceSequenceNumber < before.at.SequenceNumber {
		return nil, refuseSummary("Summary is older than the latest one")
	}
	app, hasApp := entryNamed(uploaded, partApp)
	own, hasProtocol := entryNamed(uploaded, partProtocol)
	if hasApp && hasProtocol {
		return s.whole(r, app, own)
	}
	if hasApp || hasProtocol {
		return nil, refuseSummary("Summary has .app or .protocol without the other")
	}
	if err := s.replay(ctx, r, before); err != nil {
		return nil, err
	}
	objects := before.objects()
	tree := objects[len(objects)-1]
	return append(objects, newTree(append(slices.Clone(uploaded), tree.in(partProtocol)))), nil
}

// whole is root for an upload that brings its own .protocol tree.
func (s summarizer) whole(r realtime.SummaryRequest, app, own entry) ([]object, error) {
	repo := repo{s.store, r.Tenant}
	entries, err := repo.tree(app.SHA)
	if err != nil {
		return nil, absentPart(err)
	}
	theirs, err := repo.tree(own.SHA)
	if err != nil {
		return nil, absentPart(err)
	}
	if _, twice := entryNamed(entries, partProtocol); twice {
		return nil, refuseSummary("Summary has two .protocol trees")
	}
	p, err := repo.protocol(theirs)
	if err != nil || p.at.SequenceNumber != r.ReferenceSequenceNumber {
		return nil, refuseSummary("Summary has the .protocol of another message")
	}
	return []object{newTree(append(slices.Clone(entries), own))}, nil
}

// absentPart is for a part that is no tree: a client may have named a blob so.
func absentPart(err error) error {
	if errors.Is(err, errNotFound) {
		return refuseSummary("Summary has an .app or .protocol that is no tree")
	}
	return err
}

// replay advances what clients had agreed on at the head to the message that the
// proposal refers to.
func (s summarizer) replay(ctx context.Context, r realtime.SummaryRequest, p *protocol) error {
	id := realtime.DocumentID{Tenant: r.Tenant, Document: r.Document}
	for p.at.SequenceNumber < r.ReferenceSequenceNumber {
		messages, err := s.log.Read(ctx, id, p.at.SequenceNumber, r.ReferenceSequenceNumber, replayChunk)
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			return fmt.Errorf("log ends at %d, before %d", p.at.SequenceNumber, r.ReferenceSequenceNumber)
		}
		for _, m := range messages {
			if err := p.apply(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// protocolOf returns what the head says, or without one how every document begins.
func (s summarizer) protocolOf(tenant, head string) (*protocol, error) {
	if head == "" {
		return new(protocol), nil
	}
	repo := repo{s.store, tenant}
	root, err := repo.root(head)
	if err != nil {
		return nil, err
	}
	own, _ := entryNamed(root, partProtocol)
	entries, err := repo.tree(own.SHA)
	if errors.Is(err, errNotFound) {
		return new(protocol), nil // a head that was set by hand
	}
	if err != nil {
		return nil, err
	}
	return repo.protocol(entries)
}
