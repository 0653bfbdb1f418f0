// Package boltlog keeps the messages of documents in one file:
//
//	log, err := boltlog.Open("/var/lib/app/documents.db")
//	…
//	defer log.Close()
//	rt.Documents("document:{tenant}:{document}", realtime.DocumentTenants(tenants), realtime.DocumentLog(log))
//
// The file is a database of go.etcd.io/bbolt, the store beneath etcd: maintained
// by that project, written in Go alone, one file of a format that has not changed
// since 2014. Its pages are copied on write, so a crash leaves the state before a
// commit or the one after it, and there is nothing to repair.
//
// A message is on the disk (fsync) when its append returns. Appends to several
// documents that arrive while the disk is busy share the next fsync, so that many
// busy documents cost little more than one; no append waits in order to be
// shared. One document has at most as many appends per second as the disk has
// syncs.
//
// One process has the file open at a time. It is a module of its own so that
// servers without it do not depend on the database.
package boltlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/seed-58bc6ac1/realtime"
)

// lockTimeout is how long Open waits for another process to close the file: long
// enough for one that is being replaced, short enough to notice a mistake. Tests
// change it.
var lockTimeout = 5 * time.Second

// maxPage bounds the bytes of one page of messages.
const maxPage = 4 << 20

// Log is a [realtime.OpLog] in a file. Its methods may be called from any
// goroutine; after Close they fail.
type Log struct {
	db      *bbolt.DB
	commits committer
}

// Open opens the log in the file at path, and makes it if there is none, readable
// by the user alone. It fails if another process has the file open for longer
// than 5 seconds.
func Open(path string) (*Log, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTimeout,
		// A list of free pages costs more with every page that Trim has freed; a map
		// does not.
		FreelistType: bbolt.FreelistMapType,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("boltlog: %s is open in another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("boltlog: open %s: %w", path, err)
	}
	l := &Log{db: db}
	l.commits.commit = l.commit
	err = db.Update(prepare)
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("boltlog: open %s: %w", path, err)
	}
	return l, nil
}

// syncDirectory makes the name of a new file durable; the database syncs what is
// in it.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" { // directories cannot be synced there
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Close waits for appends that are being written and closes the file.
func (l *Log) Close() error { return l.db.Close() }

// Backup writes a copy of the file as it stands now to w, while the log is in
// use. The space of messages that are trimmed meanwhile is reused only
// afterwards.
func (l *Log) Backup(w io.Writer) error {
	return l.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// Append implements [realtime.OpLog]. A context that ends while the disk is busy
// with other appends ends this one; once it is being written it is waited for.
func (l *Log) Append(ctx context.Context, id realtime.DocumentID, messages []realtime.SequencedMessage) error {
	if err := ctx.Err(); err != nil || len(messages) == 0 {
		return err
	}
	a, err := newAddition(id, messages)
	if err != nil {
		return err
	}
	return l.commits.do(ctx, a)
}

// commit stores several additions in one transaction. One that is refused does
// not keep the others from being stored.
func (l *Log) commit(additions []*addition) {
	err := l.db.Update(func(tx *bbolt.Tx) error {
		for _, a := range additions {
			if err := a.store(tx.Bucket(documentsBucket)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, a := range additions {
		if err != nil {
			a.err = fmt.Errorf("boltlog: append: %w", err)
		}
	}
}

// Read implements [realtime.OpLog].
func (l *Log) Read(ctx context.Context, id realtime.DocumentID, after, to int64, limit int) ([]realtime.SequencedMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var page []realtime.SequencedMessage
	err := l.view(id, func(d document) (err error) {
		page, err = d.read(after, to, limit)
		return err
	})
	return page, err
}

// Head implements [realtime.OpLog].
func (l *Log) Head(ctx context.Context, id realtime.DocumentID) (realtime.LogHead, error) {
	if err := ctx.Err(); err != nil {
		return realtime.LogHead{}, err
	}
	var head realtime.LogHead
	err := l.view(id, func(d document) (err error) {
		head, err = d.head()
		return err
	})
	return head, err
}

// view calls f with a document, unless nobody has written to it.
func (l *Log) view(id realtime.DocumentID, f func(document) error) error {
	err := l.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(documentsBucket).Bucket(bucketName(id)); b != nil {
			return f(document{b})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("boltlog: %w", err)
	}
	return nil
}

// Trim implements [realtime.OpLog]: the messages are gone when it returns. The
// file does not shrink, but its space is used again. It works in steps, so that
// appends to other documents do not wait for the whole.
func (l *Log) Trim(ctx context.Context, id realtime.DocumentID, below int64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		more := false
		err := l.db.Update(func(tx *bbolt.Tx) (err error) {
			if b := tx.Bucket(documentsBucket).Bucket(bucketName(id)); b != nil {
				more, err = document{b}.trim(below)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("boltlog: trim: %w", err)
		}
		if !more {
			return nil
		}
	}
}
