package boltlog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/boltlog"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestLogIsAnOpLog(t *testing.T) {
	realtimetest.DurableOpLog(t, func(t *testing.T) func() realtime.OpLog {
		path := filepath.Join(t.TempDir(), "log.db")
		return func() realtime.OpLog { return openLog(t, path) }
	})
}

func TestKilledProcessLosesNothing(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 5
	}
	realtimetest.CrashOpLog(t, kills, func(dir string) (realtime.OpLog, error) {
		return boltlog.Open(filepath.Join(dir, "log.db"))
	})
}

func openLog(t testing.TB, path string) *boltlog.Log {
	t.Helper()
	log, err := boltlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

func newLog(t testing.TB) *boltlog.Log {
	return openLog(t, filepath.Join(t.TempDir(), "log.db"))
}

// op returns a message with a number and 200 bytes of JSON.
func op(number int64) realtime.SequencedMessage {
	text := fmt.Sprintf(`{"sequenceNumber":%d,"contents":"`, number)
	return realtime.SequencedMessage{SequenceNumber: number, ClientID: "client", Type: "op",
		JSON: []byte(text + strings.Repeat("x", 198-len(text)) + `"}`)}
}

func wantHead(t *testing.T, log realtime.OpLog, id realtime.DocumentID, want int64) {
	t.Helper()
	head, err := log.Head(context.Background(), id)
	if err != nil || head.SequenceNumber != want {
		t.Errorf("%v is at %d (error %v), want %d", id, head.SequenceNumber, err, want)
	}
}

// A copy of the file is what a crash leaves of it: nothing is written at closing.
func TestFileHasEverythingBeforeItIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	log := openLog(t, path)
	id := realtime.DocumentID{Tenant: "acme", Document: "doc1"}
	for number := range int64(20) {
		if err := log.Append(t.Context(), id, []realtime.SequencedMessage{op(number + 1)}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(t.TempDir(), "copy.db")
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			t.Fatal(err)
		}
		wantHead(t, openLog(t, copied), id, number+1)
	}
}

func TestBackupIsALogOfItsOwn(t *testing.T) {
	log := newLog(t)
	id := realtime.DocumentID{Tenant: "acme", Document: "doc1"}
	if err := log.Append(t.Context(), id, []realtime.SequencedMessage{op(1), op(2)}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := log.Backup(file); err != nil {
		t.Fatal(err)
	}
	if err := log.Append(t.Context(), id, []realtime.SequencedMessage{op(3)}); err != nil {
		t.Fatal(err)
	}
	backup := openLog(t, path)
	wantHead(t, backup, id, 2)
	if err := backup.Append(t.Context(), id, []realtime.SequencedMessage{op(3)}); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsOpenedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	openLog(t, path)
	boltlog.SetLockTimeout(t, 50*time.Millisecond)
	if _, err := boltlog.Open(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened a second time: error %v, want that it is open", err)
	}
}

func TestOpenFailsWithTheFilesName(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{garbage, t.TempDir(), filepath.Join(t.TempDir(), "no", "such", "directory")} {
		if log, err := boltlog.Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%q) = %v, %v, want an error that names it", path, log, err)
		}
	}
}

func TestFileIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	openLog(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("the file's mode is %o, want 600", got)
	}
}

func TestClosedLogFails(t *testing.T) {
	log := newLog(t)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	id := realtime.DocumentID{Tenant: "acme", Document: "doc1"}
	if err := log.Append(t.Context(), id, []realtime.SequencedMessage{op(1)}); err == nil {
		t.Error("Append on a closed log returned nil")
	}
	if _, err := log.Read(t.Context(), id, 0, -1, 1); err == nil {
		t.Error("Read on a closed log returned nil")
	}
	if _, err := log.Head(t.Context(), id); err == nil {
		t.Error("Head on a closed log returned nil")
	}
	if err := log.Trim(t.Context(), id, 1); err == nil {
		t.Error("Trim on a closed log returned nil")
	}
}

func TestNamesThatDoNotFitAreRefused(t *testing.T) {
	log := newLog(t)
	long := realtime.DocumentID{Tenant: "acme", Document: strings.Repeat("d", 1<<16)}
	if err := log.Append(t.Context(), long, []realtime.SequencedMessage{op(1)}); err == nil {
		t.Error("a name of 64 KiB was stored")
	}
	wantHead(t, log, long, 0)
	client := realtime.SequencedMessage{SequenceNumber: 1, Type: "join",
		JSON: fmt.Appendf(nil, `{"data":"{\"clientId\":\"%s\"}"}`, strings.Repeat("c", 1<<16))}
	id := realtime.DocumentID{Tenant: "acme", Document: "doc1"}
	if err := log.Append(t.Context(), id, []realtime.SequencedMessage{client}); err == nil {
		t.Error("a client id of 64 KiB was stored")
	}
	wantHead(t, log, id, 0)
}

// Appends that wait together for the disk go together, and one of them that is
// refused costs the others nothing.
func TestRefusedAppendCostsTheOthersNothing(t *testing.T) {
	log := newLog(t)
	const documents, each = 20, 20
	var all sync.WaitGroup
	var refused atomic.Int32
	for n := range documents {
		id := realtime.DocumentID{Tenant: "acme", Document: fmt.Sprint(n % (documents / 2))}
		all.Go(func() { // two for each document
			for number := range int64(each) {
				switch err := log.Append(t.Context(), id, []realtime.SequencedMessage{op(number + 1)}); {
				case errors.Is(err, realtime.ErrSequenceTaken):
					refused.Add(1)
				case err != nil:
					t.Errorf("Append: %v", err)
				}
			}
		})
	}
	all.Wait()
	if got, want := refused.Load(), int32(documents*each/2); got != want {
		t.Errorf("%d appends were refused, want %d", got, want)
	}
	for n := range documents / 2 {
		wantHead(t, log, realtime.DocumentID{Tenant: "acme", Document: fmt.Sprint(n)}, each)
	}
}

// Each append is on the disk when it returns. "documents" append at the same time.
func BenchmarkAppend(b *testing.B) {
	for _, documents := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("documents=%d", documents), func(b *testing.B) {
			log := newLog(b)
			b.ReportAllocs()
			var next atomic.Int64
			var all sync.WaitGroup
			b.ResetTimer()
			for n := range documents {
				id := realtime.DocumentID{Tenant: "acme", Document: fmt.Sprint(n)}
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
