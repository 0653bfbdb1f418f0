package main

import (
	"errors"
	"sync"
)

var (
	errNotFound = errors.New("not found")
	errTaken    = errors.New("document exists")
	errMoved    = errors.New("head is another")
	errTooLarge = errors.New("tree too large")
)

// store keeps the objects of each tenant, which documents it has, and the head of
// each: the commit that clients load. An implementation is safe for concurrent use,
// and what a method has done is durable when it returns, if anything is.
type store interface {
	// put keeps all of the objects or none. The caller does not change their
	// content afterwards. Keeping one twice is no error.
	put(tenant string, objects ...object) error

	// get returns an object's content, which the caller does not change, or
	// errNotFound.
	get(tenant string, k kind, sha string) ([]byte, error)

	// create adds a document with its head, "" for none yet, or returns errTaken.
	create(tenant, document, head string) error

	// head returns a document's head, "" for none yet, or errNotFound.
	head(tenant, document string) (string, error)

	// move sets the head, if it still is old, and otherwise returns errMoved.
	// With old "" there may be no such document yet, and then it is created.
	move(tenant, document, old, head string) error

	close() error
}

// memoryStore keeps everything in memory, for as long as the process lives.
type memoryStore struct {
	mu      sync.RWMutex // guards the following
	objects map[objectKey][]byte
	heads   map[headKey]string
}

type objectKey struct {
	tenant string
	kind   kind
	sha    string
}

type headKey struct{ tenant, document string }

func newMemoryStore() *memoryStore {
	return &memoryStore{objects: make(map[objectKey][]byte), heads: make(map[headKey]string)}
}

func (s *memoryStore) put(tenant string, objects ...object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range objects {
		s.objects[objectKey{tenant, o.kind, o.sha}] = o.content
	}
	return nil
}

func (s *memoryStore) get(tenant string, k kind, sha string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	content, ok := s.objects[objectKey{tenant, k, sha}]
	if !ok {
		return nil, errNotFound
	}
	return content, nil
}

func (s *memoryStore) create(tenant, document, head string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := headKey{tenant, document}
	if _, taken := s.heads[key]; taken {
		return errTaken
	}
	s.heads[key] = head
	return nil
}

func (s *memoryStore) head(tenant, document string) (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	head, ok := s.heads[headKey{tenant, document}]
	if !ok {
		return "", errNotFound
	}
	return head, nil
}

func (s *memoryStore) move(tenant, document, old, head string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := headKey{tenant, document}
	if s.heads[key] != old {
		return errMoved
	}
	s.heads[key] = head
	return nil
}

func (s *memoryStore) close() error { return nil }
