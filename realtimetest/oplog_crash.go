package realtimetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// crashPlace names the directory of the log to the process that is to be killed.
const crashPlace = "REALTIMETEST_CRASH_PLACE"

const (
	crashDocuments = 4
	crashBatch     = 3 // messages of one append
)

// CrashOpLog tests that a log loses nothing that it has acknowledged, and shows
// no half of an append, when its process is killed without notice: kills times,
// at random moments, always with the same log. open opens the log in a directory;
// the log is an [io.Closer].
//
// The process is the test binary itself, started to run t alone. So CrashOpLog is
// all that a test function does, and t is not a sub-test.
//
// What the operating system has of a killed process is not lost. That a log
// survives the loss of power, too, this cannot show.
func CrashOpLog(t *testing.T, kills int, open func(dir string) (realtime.OpLog, error)) {
	if dir := os.Getenv(crashPlace); dir != "" {
		err := writeUntilKilled(open, dir)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	c := &crashTest{T: t, dir: t.TempDir(), open: open, acknowledged: map[string]int64{}}
	for range kills {
		c.kill()
		c.check()
	}
	stored := int64(0)
	for _, number := range c.acknowledged {
		stored += number
	}
	if stored == 0 {
		t.Errorf("nothing was acknowledged in %d runs", kills)
	}
	t.Logf("%d kills, %d messages acknowledged", kills, stored)
}

// crashMessage returns the message with a number: pages of a file are not of one
// size, and the message has to fit none of them.
func crashMessage(document string, number int64) realtime.SequencedMessage {
	m := op(number)
	m.JSON = fmt.Appendf(nil, `{"document":%q,"sequenceNumber":%d,"contents":%q}`, document, number, strings.Repeat("x", int(number*997%5000)))
	return m
}

// writeUntilKilled appends to several documents at the same time and says what
// was acknowledged.
func writeUntilKilled(open func(dir string) (realtime.OpLog, error), dir string) error {
	log, err := open(dir)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for n := range crashDocuments {
		go func() { failed <- writeOne(log, fmt.Sprint(n)) }()
	}
	return <-failed
}

func writeOne(log realtime.OpLog, document string) error {
	ctx, id := context.Background(), realtime.DocumentID{Tenant: "crash", Document: document}
	head, err := log.Head(ctx, id)
	for number := head.SequenceNumber; err == nil; number += crashBatch {
		var batch []realtime.SequencedMessage
		for i := range int64(crashBatch) {
			batch = append(batch, crashMessage(document, number+1+i))
		}
		if err = log.Append(ctx, id, batch); errors.Is(err, realtime.ErrSequenceTaken) {
			// A database server may have finished what the last process began.
			if head, err = log.Head(ctx, id); head.SequenceNumber > number {
				number = head.SequenceNumber - crashBatch
				continue
			}
			return realtime.ErrSequenceTaken
		}
		if err == nil { // one write, so that lines of several goroutines do not mix
			_, err = fmt.Fprintf(os.Stdout, "stored %s %d\n", document, number+crashBatch)
		}
	}
	return err
}

type crashTest struct {
	*testing.T
	dir          string
	open         func(dir string) (realtime.OpLog, error)
	acknowledged map[string]int64 // document to number
}

// kill runs the process up to a random moment.
func (c *crashTest) kill() {
	c.Helper()
	child := exec.Command(os.Args[0], "-test.run=^"+c.Name()+"$", "-test.count=1")
	child.Env = append(os.Environ(), crashPlace+"="+c.dir)
	said := &bytes.Buffer{}
	child.Stderr = said
	out, err := child.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := child.Start(); err != nil {
		c.Fatal(err)
	}
	end := sync.OnceFunc(func() { child.Process.Kill() })
	defer child.Wait() // a second one does nothing
	defer end()

	// The moment: some acknowledgements after the start, and then somewhere in the
	// appends that follow. Now and then it comes while the log is being opened.
	wait, after := rand.IntN(40), time.Duration(rand.Int64N(int64(3*time.Millisecond)))
	if rand.IntN(10) == 0 {
		wait, after = 0, time.Duration(rand.Int64N(int64(50*time.Millisecond)))
	}
	late := time.AfterFunc(patience, end)
	defer late.Stop()
	if wait == 0 {
		time.AfterFunc(after, end)
	}
	lines, seen := bufio.NewScanner(out), 0
	for lines.Scan() {
		var document string
		var number int64
		if n, _ := fmt.Sscanf(lines.Text(), "stored %s %d", &document, &number); n != 2 {
			continue // what the test binary says of itself
		}
		c.acknowledged[document] = max(c.acknowledged[document], number)
		if seen++; seen == wait {
			time.AfterFunc(after, end)
		}
	}
	if child.Wait(); said.Len() > 0 {
		c.Fatalf("the process ended by itself: %s", said)
	}
}

// check opens what the process has left.
func (c *crashTest) check() {
	c.Helper()
	log, err := c.open(c.dir)
	if err != nil {
		c.Fatalf("opening the log after the crash: %v", err)
	}
	defer log.(io.Closer).Close()
	for n := range crashDocuments {
		document := fmt.Sprint(n)
		t := &logTest{T: c.T, log: log, id: realtime.DocumentID{Tenant: "crash", Document: document}}
		got := t.readAll()
		if last := int64(len(got)); last < c.acknowledged[document] || last%crashBatch != 0 {
			c.Fatalf("document %s has %d messages, want whole appends of %d and the %d that were acknowledged",
				document, last, crashBatch, c.acknowledged[document])
		}
		for i, m := range got {
			t.wantMessages([]realtime.SequencedMessage{m}, []realtime.SequencedMessage{crashMessage(document, int64(i)+1)})
		}
		if head := t.head().SequenceNumber; head < int64(len(got)) {
			c.Fatalf("the head of document %s is at %d, and there are %d messages", document, head, len(got))
		}
	}
}
