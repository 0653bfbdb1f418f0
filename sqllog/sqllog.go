// Package sqllog keeps the messages of documents in PostgreSQL or SQLite, through
// database/sql and the driver of your choice:
//
//	db, err := sql.Open("pgx", "postgres://app@db.internal/app")
//	…
//	log, err := sqllog.Open(ctx, db, sqllog.PostgreSQL)
//	rt.Documents("document:{tenant}:{document}", realtime.DocumentTenants(tenants), realtime.DocumentLog(log))
//
// The database decides who is first: a message's number is part of a primary key,
// and an append counts on from the row of its document or fails. So several
// processes may share the tables.
//
// An append is one transaction, committed when it returns. With PostgreSQL that
// is as durable as its synchronous_commit says. With SQLite the log switches the
// file to its write-ahead log (WAL) and wants synchronous=FULL, the default, so
// that each append is on the disk. SQLite has one writer: appends of one process
// wait for each other, and those of several processes need a busy_timeout in the
// name of the data source. For one process alone the module boltlog is faster
// where many documents are busy, since they share their syncs.
package sqllog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"

	"github.com/seed-58bc6ac1/realtime"
)

// Log is a [realtime.OpLog] in a database. Its methods may be called from any
// goroutine. It keeps nothing open: whoever opened the database closes it.
type Log struct {
	db      *sql.DB
	dialect Dialect
	text    statements
	writer  chan struct{} // SQLite: whoever sends writes; else nil
}

// Option is one setting of [Open].
type Option func(*config) error

type config struct {
	prefix string
	create bool
}

// defaultPrefix keeps the tables apart from those of the application.
const defaultPrefix = "realtime_"

// TablePrefix is what the names of the tables begin with, instead of
// "realtime_": lower-case letters, digits and underscores, 40 at most. It may
// name a schema, as in "documents.".
func TablePrefix(prefix string) Option {
	return func(c *config) error {
		c.prefix = prefix
		return checkPrefix(prefix)
	}
}

// ExistingTables leaves the tables to you: [Schema] says how to make them.
// Without it Open creates those that are missing, which takes the right to do so.
func ExistingTables() Option {
	return func(c *config) error {
		c.create = false
		return nil
	}
}

// A prefix becomes part of statements, so nothing that needs quotes is one.
var prefixForm = regexp.MustCompile(`^([a-z_][a-z0-9_]{0,39}\.)?[a-z_][a-z0-9_]{0,39}$|^[a-z_][a-z0-9_]{0,39}\.$|^$`)

func checkPrefix(prefix string) error {
	if !prefixForm.MatchString(prefix) {
		return fmt.Errorf("sqllog: table prefix %q: want lower-case letters, digits and underscores", prefix)
	}
	return nil
}

// Open returns the log in db, and creates its tables if they are not there. It
// blocks for that. The context is for this call only.
func Open(ctx context.Context, db *sql.DB, dialect Dialect, opts ...Option) (*Log, error) {
	c := config{prefix: defaultPrefix, create: true}
	if db == nil {
		return nil, errors.New("sqllog: nil database")
	}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("sqllog: nil option")
		}
		if err := opt(&c); err != nil {
			return nil, err
		}
	}
	l := &Log{db: db, dialect: dialect}
	var err error
	if l.text, err = newStatements(dialect, c.prefix); err != nil {
		return nil, err
	}
	if dialect == SQLite {
		l.writer = make(chan struct{}, 1)
		if err := l.checkFile(ctx); err != nil {
			return nil, fmt.Errorf("sqllog: %w", err)
		}
	}
	if c.create {
		if err := l.write(ctx, l.createTables); err != nil {
			return nil, fmt.Errorf("sqllog: create tables: %w", err)
		}
	}
	return l, nil
}

// checkFile has readers and the writer not wait for each other, and makes sure
// that a commit is on the disk.
func (l *Log) checkFile(ctx context.Context) error {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode=WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("SQLite's journal_mode is %q and cannot be changed to wal; is it a file on a local disk?", mode)
	}
	var synchronous int
	if err := conn.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous); err != nil {
		return err
	}
	if synchronous < 2 {
		return fmt.Errorf("SQLite's synchronous is %d: an append could be lost with the power; set it to FULL in the name of the data source", synchronous)
	}
	return nil
}

func (l *Log) createTables(ctx context.Context, tx *sql.Tx) error {
	for _, statement := range l.text.schema {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// write calls f in a transaction and commits it, unless f fails.
func (l *Log) write(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	if l.writer != nil {
		select {
		case l.writer <- struct{}{}:
			defer func() { <-l.writer }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return l.transact(ctx, l.dialect.writing(), f)
}

func (l *Log) transact(ctx context.Context, opts *sql.TxOptions, f func(context.Context, *sql.Tx) error) error {
	tx, err := l.db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := f(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Append implements [realtime.OpLog].
func (l *Log) Append(ctx context.Context, id realtime.DocumentID, messages []realtime.SequencedMessage) error {
	if err := ctx.Err(); err != nil || len(messages) == 0 {
		return err
	}
	a := addition{l.text, id, messages, make([]realtime.LogEffect, len(messages))}
	for i, m := range messages {
		var err error
		if a.effects[i], err = m.Effect(); err != nil {
			return err
		}
		if m.SequenceNumber != messages[0].SequenceNumber+int64(i) {
			return realtime.ErrSequenceTaken
		}
	}
	err := l.write(ctx, a.store)
	if err != nil && !errors.Is(err, realtime.ErrSequenceTaken) {
		return fmt.Errorf("sqllog: append: %w", err)
	}
	return err
}

// Read implements [realtime.OpLog].
func (l *Log) Read(ctx context.Context, id realtime.DocumentID, after, to int64, limit int) ([]realtime.SequencedMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, nil
	}
	page, err := l.read(ctx, id, after, to, limit)
	if err != nil {
		return nil, fmt.Errorf("sqllog: read: %w", err)
	}
	return page, nil
}

// Head implements [realtime.OpLog].
func (l *Log) Head(ctx context.Context, id realtime.DocumentID) (realtime.LogHead, error) {
	var head realtime.LogHead
	err := l.transact(ctx, l.dialect.reading(), func(ctx context.Context, tx *sql.Tx) (err error) {
		head, err = l.head(ctx, tx, id)
		return err
	})
	if err != nil {
		return realtime.LogHead{}, fmt.Errorf("sqllog: head: %w", err)
	}
	return head, nil
}

// Trim implements [realtime.OpLog]: the messages are deleted when it returns. It
// works in steps, so that appends to other documents do not wait for the whole.
func (l *Log) Trim(ctx context.Context, id realtime.DocumentID, below int64) error {
	for {
		dropped := int64(0)
		err := l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
			result, err := tx.ExecContext(ctx, l.text.trim, []byte(id.Tenant), []byte(id.Document), below)
			if err != nil {
				return err
			}
			dropped, err = result.RowsAffected()
			return err
		})
		if err != nil {
			return fmt.Errorf("sqllog: trim: %w", err)
		}
		if dropped == 0 {
			return nil
		}
	}
}
