package sqllog

import (
	"database/sql"
	"fmt"
	"strings"
)

// Dialect is the database that the log is kept in.
type Dialect int

const (
	PostgreSQL Dialect = iota + 1 // 12 or later
	SQLite                        // 3.28 or later
)

// writing is how an append sees the database: it waits for the row of its
// document and goes on from there, so it must not see an older state.
func (d Dialect) writing() *sql.TxOptions {
	if d == PostgreSQL {
		return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	return nil
}

// reading is how several queries see one state. SQLite knows nothing else.
func (d Dialect) reading() *sql.TxOptions {
	if d == PostgreSQL {
		return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	return nil
}

// Names and texts are bytes for the database: a text in PostgreSQL has no NUL and
// nothing but UTF-8, and a client may choose the type of a message.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS {prefix}documents (
	tenant   {bytes} NOT NULL,
	document {bytes} NOT NULL,
	sn       {int} NOT NULL, -- of the newest message
	msn      {int} NOT NULL, -- of the same message
	epoch    TEXT NOT NULL,
	PRIMARY KEY (tenant, document)
)`,
	`CREATE TABLE IF NOT EXISTS {prefix}messages (
	tenant   {bytes} NOT NULL,
	document {bytes} NOT NULL,
	sn       {int} NOT NULL,
	msn      {int} NOT NULL,
	client   {bytes} NOT NULL, -- empty: of the server
	csn      {int} NOT NULL,
	rsn      {int} NOT NULL,
	type     {bytes} NOT NULL,
	stamp    {int} NOT NULL, -- milliseconds since 1970
	json     {bytes} NOT NULL,
	PRIMARY KEY (tenant, document, sn)
)`,
	`CREATE TABLE IF NOT EXISTS {prefix}clients ( -- those with a join and no leave
	tenant   {bytes} NOT NULL,
	document {bytes} NOT NULL,
	client   {bytes} NOT NULL,
	sn       {int} NOT NULL, -- of the join
	PRIMARY KEY (tenant, document, client)
)`,
	`CREATE TABLE IF NOT EXISTS {prefix}summaries (
	tenant    {bytes} NOT NULL,
	document  {bytes} NOT NULL,
	sn        {int} NOT NULL, -- of the acknowledgement
	handle    {bytes} NOT NULL,
	summarize {int} NOT NULL, -- number of the summarize message
	covered   {int} NOT NULL,
	PRIMARY KEY (tenant, document, sn)
)`,
}

// lockSchema has one process at a time create tables: in PostgreSQL IF NOT EXISTS
// does not keep two from colliding. The number is a random one.
const lockSchema = `SELECT pg_advisory_xact_lock(7318349394476917)`

// Schema returns the statements that make the tables, each with a semicolon, for
// those who make tables by other means; prefix as in [TablePrefix].
func Schema(dialect Dialect, prefix string) (string, error) {
	if err := checkPrefix(prefix); err != nil {
		return "", err
	}
	s, err := newStatements(dialect, prefix)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, statement := range s.schema {
		if statement != lockSchema {
			text.WriteString(statement + ";\n")
		}
	}
	return text.String(), nil
}

// statements are all that the log says to the database. Parameters 1 and 2 are
// the tenant and the document.
type statements struct {
	schema []string

	advance string // 3 new sn, 4 new msn, 5 old sn
	create  string // 3 sn, 4 msn, 5 epoch
	insert  string // without the rows
	mark    string // the sign of a parameter
	open    string // 3 client, 4 sn
	close   string // 3 client
	summary string // 3 sn, 4 handle, 5 sn of the summarize message

	read      string // 3 after, 4 to, 5 limit, 6 bytes
	head      string
	clients   string
	summaries string
	trim      string // 3 below
}

func newStatements(dialect Dialect, prefix string) (statements, error) {
	var words *strings.Replacer
	mark := "$"
	switch dialect {
	case PostgreSQL:
		words = strings.NewReplacer("{prefix}", prefix, "{bytes}", "BYTEA", "{int}", "BIGINT")
	case SQLite:
		mark = "?"
		words = strings.NewReplacer("{prefix}", prefix, "{bytes}", "BLOB", "{int}", "INTEGER", "$", mark)
	default:
		return statements{}, fmt.Errorf("sqllog: no dialect %d", dialect)
	}
	text := words.Replace
	s := statements{
		mark:    mark,
		advance: text(`UPDATE {prefix}documents SET sn = $3, msn = $4 WHERE tenant = $1 AND document = $2 AND sn = $5`),
		create: text(`INSERT INTO {prefix}documents (tenant, document, sn, msn, epoch) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant, document) DO NOTHING`),
		insert: text(`INSERT INTO {prefix}messages (tenant, document, sn, msn, client, csn, rsn, type, stamp, json) VALUES `),
		open: text(`INSERT INTO {prefix}clients (tenant, document, client, sn) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, document, client) DO UPDATE SET sn = excluded.sn`),
		close: text(`DELETE FROM {prefix}clients WHERE tenant = $1 AND document = $2 AND client = $3`),
		summary: text(`INSERT INTO {prefix}summaries (tenant, document, sn, handle, summarize, covered) VALUES ($1, $2, $3, $4, $5,
			COALESCE((SELECT rsn FROM {prefix}messages WHERE tenant = $1 AND document = $2 AND sn = $5), 0))`),
		// The inner queries find where the page ends without looking at the bytes
		// themselves: up to the message that goes over the bound.
		read: text(`SELECT sn, msn, client, csn, rsn, type, stamp, json FROM {prefix}messages
			WHERE tenant = $1 AND document = $2 AND sn > $3 AND sn <= (
				SELECT MAX(sn) FROM (
					SELECT sn, SUM(size) OVER (ORDER BY sn) - size AS sofar FROM (
						SELECT sn, LENGTH(json) AS size FROM {prefix}messages
						WHERE tenant = $1 AND document = $2 AND sn > $3 AND sn <= $4 ORDER BY sn LIMIT $5
					) AS sizes
				) AS page WHERE sofar < $6
			) ORDER BY sn`),
		head:    text(`SELECT sn, msn, epoch FROM {prefix}documents WHERE tenant = $1 AND document = $2`),
		clients: text(`SELECT client FROM {prefix}clients WHERE tenant = $1 AND document = $2 ORDER BY sn`),
		summaries: text(`SELECT handle, summarize, covered FROM {prefix}summaries
			WHERE tenant = $1 AND document = $2 ORDER BY sn DESC LIMIT 2`),
		trim: text(`DELETE FROM {prefix}messages WHERE tenant = $1 AND document = $2 AND sn < $3
			AND sn < 1000 + (SELECT MIN(sn) FROM {prefix}messages WHERE tenant = $1 AND document = $2)`),
	}
	if dialect == PostgreSQL {
		s.schema = append(s.schema, lockSchema)
	}
	for _, statement := range schema {
		s.schema = append(s.schema, text(statement))
	}
	return s, nil
}
