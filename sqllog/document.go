package sqllog

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-58bc6ac1/realtime"
)

const (
	// maxPage bounds the bytes of one page of messages, the last one apart.
	maxPage = 4 << 20

	// insertRows is how many messages one statement stores: ten parameters each,
	// and databases have room for some ten thousand.
	insertRows = 100
)

// addition is one append.
type addition struct {
	text     statements
	id       realtime.DocumentID
	messages []realtime.SequencedMessage
	effects  []realtime.LogEffect
}

// store writes the addition. The row of the document comes first: whoever changes
// it has the others wait, and they then find another number there. (For SQLite,
// too, a transaction that begins by reading may be refused when it writes.)
func (a addition) store(ctx context.Context, tx *sql.Tx) error {
	if err := a.advance(ctx, tx); err != nil {
		return err
	}
	for rows := range slices.Chunk(a.messages, insertRows) {
		if err := a.insert(ctx, tx, rows); err != nil {
			return err
		}
	}
	for i, m := range a.messages {
		if err := a.apply(ctx, tx, m.SequenceNumber, a.effects[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a addition) advance(ctx context.Context, tx *sql.Tx) error {
	before := a.messages[0].SequenceNumber - 1
	last := a.messages[len(a.messages)-1]
	var result sql.Result
	var err error
	if before == 0 {
		result, err = a.exec(ctx, tx, a.text.create, last.SequenceNumber, last.MinimumSequenceNumber, rand.Text()[:12])
	} else {
		result, err = a.exec(ctx, tx, a.text.advance, last.SequenceNumber, last.MinimumSequenceNumber, before)
	}
	if err != nil {
		return err
	}
	changed, err := result.RowsAffected()
	if err == nil && changed == 0 {
		err = realtime.ErrSequenceTaken
	}
	return err
}

func (a addition) exec(ctx context.Context, tx *sql.Tx, statement string, args ...any) (sql.Result, error) {
	return tx.ExecContext(ctx, statement, append([]any{[]byte(a.id.Tenant), []byte(a.id.Document)}, args...)...)
}

func (a addition) insert(ctx context.Context, tx *sql.Tx, messages []realtime.SequencedMessage) error {
	var text strings.Builder
	text.WriteString(a.text.insert)
	args := []any{[]byte(a.id.Tenant), []byte(a.id.Document)}
	for i, m := range messages {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString("(" + a.text.mark + "1, " + a.text.mark + "2")
		for _, arg := range []any{m.SequenceNumber, m.MinimumSequenceNumber, []byte(m.ClientID), m.ClientSequenceNumber,
			m.ReferenceSequenceNumber, []byte(m.Type), m.Timestamp, []byte(m.JSON)} {
			args = append(args, arg)
			text.WriteString(", " + a.text.mark + strconv.Itoa(len(args)))
		}
		text.WriteString(")")
	}
	_, err := tx.ExecContext(ctx, text.String(), args...)
	return err
}

// apply stores what a message changes in the head. The messages are there
// already, those of the same append included.
func (a addition) apply(ctx context.Context, tx *sql.Tx, number int64, e realtime.LogEffect) error {
	var err error
	switch {
	case e.Joined != "":
		_, err = a.exec(ctx, tx, a.text.open, []byte(e.Joined), number)
	case e.Left != "":
		_, err = a.exec(ctx, tx, a.text.close, []byte(e.Left))
	case e.Summary.Handle != "":
		_, err = a.exec(ctx, tx, a.text.summary, number, []byte(e.Summary.Handle), e.Summary.SequenceNumber)
	}
	return err
}

func (l *Log) read(ctx context.Context, id realtime.DocumentID, after, to int64, limit int) (page []realtime.SequencedMessage, err error) {
	if to < 0 {
		to = math.MaxInt64
	}
	rows, err := l.db.QueryContext(ctx, l.text.read, []byte(id.Tenant), []byte(id.Document), after, to, int64(limit), int64(maxPage))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m realtime.SequencedMessage
		var client, kind []byte
		if err := rows.Scan(&m.SequenceNumber, &m.MinimumSequenceNumber, &client, &m.ClientSequenceNumber,
			&m.ReferenceSequenceNumber, &kind, &m.Timestamp, (*[]byte)(&m.JSON)); err != nil {
			return nil, err
		}
		m.ClientID, m.Type = string(client), string(kind)
		page = append(page, m)
	}
	return page, rows.Err()
}

func (l *Log) head(ctx context.Context, tx *sql.Tx, id realtime.DocumentID) (realtime.LogHead, error) {
	var head realtime.LogHead
	names := []any{[]byte(id.Tenant), []byte(id.Document)}
	err := tx.QueryRowContext(ctx, l.text.head, names...).Scan(&head.SequenceNumber, &head.MinimumSequenceNumber, &head.Epoch)
	if errors.Is(err, sql.ErrNoRows) {
		return realtime.LogHead{}, nil
	}
	if err == nil {
		err = each(ctx, tx, l.text.clients, names, func(rows *sql.Rows) error {
			var client []byte
			err := rows.Scan(&client)
			head.Open = append(head.Open, string(client))
			return err
		})
	}
	if err == nil {
		n := 0
		err = each(ctx, tx, l.text.summaries, names, func(rows *sql.Rows) error {
			var handle []byte
			mark := &head.Summaries[n]
			n++
			err := rows.Scan(&handle, &mark.SequenceNumber, &mark.Covered)
			mark.Handle = string(handle)
			return err
		})
	}
	return head, err
}

// each calls f for every row of an answer.
func each(ctx context.Context, tx *sql.Tx, query string, args []any, f func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
