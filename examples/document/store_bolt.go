package main

import (
	"bytes"
	"time"

	"go.etcd.io/bbolt"
)

// lockTimeout is how long a second process on the same file waits before it gives
// up.
const lockTimeout = time.Second

// boltStore keeps everything in one file, synced to the disk before a method
// returns. Each tenant has a bucket with one bucket per kind of object, and one
// for the heads of its documents.
type boltStore struct{ db *bbolt.DB }

// headsBucket cannot be mistaken for a kind of object.
var headsBucket = []byte("heads")

func openBoltStore(path string) (*boltStore, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return nil, err
	}
	return &boltStore{db}, nil
}

func (s *boltStore) close() error { return s.db.Close() }

// update calls f with the named bucket of the tenant, and commits what it did if
// it returns nil.
func (s *boltStore) update(tenant string, name []byte, f func(*bbolt.Bucket) error) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		own, err := tx.CreateBucketIfNotExists([]byte(tenant))
		if err != nil {
			return err
		}
		bucket, err := own.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		return f(bucket)
	})
}

// read returns a copy of the value, or errNotFound.
func (s *boltStore) read(tenant string, name []byte, key string) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		own := tx.Bucket([]byte(tenant))
		if own == nil {
			return errNotFound
		}
		bucket := own.Bucket(name)
		if bucket == nil {
			return errNotFound
		}
		found := bucket.Get([]byte(key))
		if found == nil {
			return errNotFound
		}
		value = bytes.Clone(found) // the database's memory is ours only in here
		return nil
	})
	return value, err
}

func (s *boltStore) put(tenant string, objects ...object) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		own, err := tx.CreateBucketIfNotExists([]byte(tenant))
		if err != nil {
			return err
		}
		for _, o := range objects {
			bucket, err := own.CreateBucketIfNotExists([]byte(o.kind))
			if err != nil {
				return err
			}
			if err := bucket.Put([]byte(o.sha), o.content); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *boltStore) get(tenant string, k kind, sha string) ([]byte, error) {
	return s.read(tenant, []byte(k), sha)
}

func (s *boltStore) create(tenant, document, head string) error {
	return s.update(tenant, headsBucket, func(heads *bbolt.Bucket) error {
		if heads.Get([]byte(document)) != nil {
			return errTaken
		}
		return heads.Put([]byte(document), []byte(head))
	})
}

func (s *boltStore) head(tenant, document string) (string, error) {
	head, err := s.read(tenant, headsBucket, document)
	return string(head), err
}

func (s *boltStore) move(tenant, document, old, head string) error {
	return s.update(tenant, headsBucket, func(heads *bbolt.Bucket) error {
		if string(heads.Get([]byte(document))) != old {
			return errMoved
		}
		return heads.Put([]byte(document), []byte(head))
	})
}
