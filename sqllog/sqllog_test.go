package sqllog_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
	"github.com/seed-58bc6ac1/realtime/sqllog"
)

// closingLog is a log with its database.
type closingLog struct {
	*sqllog.Log
	db *sql.DB
}

func (l closingLog) Close() error { return l.db.Close() }

func open(driver, source string, dialect sqllog.Dialect, opts ...sqllog.Option) (closingLog, error) {
	db, err := sql.Open(driver, source)
	if err != nil {
		return closingLog{}, err
	}
	log, err := sqllog.Open(context.Background(), db, dialect, opts...)
	if err != nil {
		db.Close()
		return closingLog{}, err
	}
	return closingLog{log, db}, nil
}

func openSQLite(path string) (closingLog, error) {
	return open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)", sqllog.SQLite)
}

// backend is one database to test with.
type backend struct {
	name    string
	dialect sqllog.Dialect
	driver  string
	source  func(t testing.TB) string // a new place
}

var backends = []backend{
	{name: "PostgreSQL", dialect: sqllog.PostgreSQL, driver: "postgres", source: postgres},
	{name: "SQLite", dialect: sqllog.SQLite, driver: "sqlite", source: func(t testing.TB) string {
		return "file:" + filepath.Join(t.TempDir(), "log.db") + "?_pragma=busy_timeout(10000)"
	}},
}

// onEach runs a test with every database.
func onEach(t *testing.T, test func(t *testing.T, b backend)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) { test(t, b) })
	}
}

func (b backend) mustOpen(t testing.TB, source string, opts ...sqllog.Option) closingLog {
	t.Helper()
	log, err := open(b.driver, source, b.dialect, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

func TestLogIsAnOpLog(t *testing.T) {
	onEach(t, func(t *testing.T, b backend) {
		b.source(t) // skips, if there is none
		realtimetest.DurableOpLog(t, func(t *testing.T) func() realtime.OpLog {
			source := b.source(t)
			return func() realtime.OpLog { return b.mustOpen(t, source) }
		})
	})
}

func crashes() int {
	if testing.Short() {
		return 5
	}
	return 50
}

func TestKilledProcessLosesNothingInSQLite(t *testing.T) {
	realtimetest.CrashOpLog(t, crashes(), func(dir string) (realtime.OpLog, error) {
		return openSQLite(filepath.Join(dir, "log.db"))
	})
}

func TestKilledProcessLosesNothingInPostgreSQL(t *testing.T) {
	source := postgres(t)
	t.Setenv(postgresSource, source) // for the process that is killed
	prefix := "crash_"
	realtimetest.CrashOpLog(t, crashes(), func(string) (realtime.OpLog, error) {
		return open("postgres", source, sqllog.PostgreSQL, sqllog.TablePrefix(prefix))
	})
}

func newID() realtime.DocumentID {
	return realtime.DocumentID{Tenant: "acme" + rand.Text(), Document: "doc1"}
}

// op returns a message with a number and 200 bytes of JSON.
func op(number int64) realtime.SequencedMessage {
	text := fmt.Sprintf(`{"sequenceNumber":%d,"contents":"`, number)
	return realtime.SequencedMessage{SequenceNumber: number, ClientID: "client", Type: "op",
		JSON: []byte(text + strings.Repeat("x", 198-len(text)) + `"}`)}
}

// Two processes have two logs with connections of their own.
func TestTwoLogsShareTheTables(t *testing.T) {
	onEach(t, func(t *testing.T, b backend) {
		source := b.source(t)
		logs := []closingLog{b.mustOpen(t, source), b.mustOpen(t, source)}
		id := newID()
		const appends = 20
		var won [2]atomic.Int64
		var all sync.WaitGroup
		for i, log := range logs {
			all.Go(func() {
				for number := range int64(appends) {
					err := log.Append(t.Context(), id, []realtime.SequencedMessage{op(number + 1)})
					if err == nil {
						won[i].Add(1)
					} else if !errors.Is(err, realtime.ErrSequenceTaken) {
						t.Errorf("Append: %v", err)
					}
				}
			})
		}
		all.Wait()
		if got := won[0].Load() + won[1].Load(); got != appends {
			t.Errorf("%d appends were stored, want %d", got, appends)
		}
		for _, log := range logs {
			if head, err := log.Head(t.Context(), id); err != nil || head.SequenceNumber != appends {
				t.Errorf("the head is at %d (error %v), want %d", head.SequenceNumber, err, appends)
			}
		}
	})
}

func TestTablesAreCreatedByManyAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, b backend) {
		source := b.source(t)
		prefix := "many_" + strings.ToLower(rand.Text()) + "_"
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				log, err := open(b.driver, source, b.dialect, sqllog.TablePrefix(prefix))
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				log.Close()
			})
		}
		all.Wait()
	})
}

func TestPrefixesAreLogsOfTheirOwn(t *testing.T) {
	onEach(t, func(t *testing.T, b backend) {
		source, id := b.source(t), newID()
		one := b.mustOpen(t, source, sqllog.TablePrefix("one_"))
		two := b.mustOpen(t, source, sqllog.TablePrefix("two_"))
		if err := one.Append(t.Context(), id, []realtime.SequencedMessage{op(1)}); err != nil {
			t.Fatal(err)
		}
		if head, err := two.Head(t.Context(), id); err != nil || head.SequenceNumber != 0 {
			t.Errorf("the other log is at %d (error %v), want 0", head.SequenceNumber, err)
		}
	})
}

func TestSchemaMakesTheTables(t *testing.T) {
	onEach(t, func(t *testing.T, b backend) {
		source := b.source(t)
		prefix := "mine_" + strings.ToLower(rand.Text()) + "_"
		log := b.mustOpen(t, source, sqllog.TablePrefix(prefix), sqllog.ExistingTables())
		if _, err := log.Head(t.Context(), newID()); err == nil {
			t.Fatal("a log without tables has a head")
		}
		text, err := sqllog.Schema(b.dialect, prefix)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		if err := log.Append(t.Context(), newID(), []realtime.SequencedMessage{op(1)}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMistakesAreRefused(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	lax, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "log.db")+"?_pragma=synchronous(NORMAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer lax.Close()
	memory, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for _, c := range []struct {
		name    string
		db      *sql.DB
		dialect sqllog.Dialect
		opts    []sqllog.Option
		want    string
	}{
		{"no database", nil, sqllog.SQLite, nil, "nil database"},
		{"no dialect", db, 0, nil, "no dialect 0"},
		{"an option that is nil", db, sqllog.SQLite, []sqllog.Option{nil}, "nil option"},
		{"a quote in a prefix", db, sqllog.SQLite, []sqllog.Option{sqllog.TablePrefix(`a"; DROP TABLE b; --`)}, "table prefix"},
		{"capitals in a prefix", db, sqllog.SQLite, []sqllog.Option{sqllog.TablePrefix("Realtime_")}, "table prefix"},
		{"a long prefix", db, sqllog.SQLite, []sqllog.Option{sqllog.TablePrefix(strings.Repeat("a", 41))}, "table prefix"},
		{"a database that need not be on the disk", lax, sqllog.SQLite, nil, "synchronous is 1"},
		{"a database in memory", memory, sqllog.SQLite, nil, `journal_mode is "memory"`},
	} {
		_, err := sqllog.Open(t.Context(), c.db, c.dialect, c.opts...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := sqllog.Schema(sqllog.SQLite, "x y"); err == nil {
		t.Error("Schema took a prefix with a space")
	}
	if _, err := sqllog.Schema(0, "x"); err == nil {
		t.Error("Schema took no dialect")
	}
}

// Each append is committed when it returns. "documents" append at the same time.
func BenchmarkAppend(b *testing.B) {
	for _, one := range backends {
		for _, documents := range []int{1, 10, 50} {
			b.Run(fmt.Sprintf("%s/documents=%d", one.name, documents), func(b *testing.B) {
				log := one.mustOpen(b, one.source(b))
				log.db.SetMaxOpenConns(50) // PostgreSQL has room for 100
				log.db.SetMaxIdleConns(50)
				tenant := rand.Text()
				b.ReportAllocs()
				var next atomic.Int64
				var all sync.WaitGroup
				b.ResetTimer()
				for n := range documents {
					id := realtime.DocumentID{Tenant: tenant, Document: fmt.Sprint(n)}
					all.Go(func() {
						for number := int64(1); next.Add(1) <= int64(b.N); number++ {
							if err := log.Append(context.Background(), id, []realtime.SequencedMessage{op(number)}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			})
		}
	}
}
