package realtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var _ net.Conn = (*pollConn)(nil)

// newPollConn returns one that counts pings and dropped bytes.
func newPollConn() (p *pollConn, pings, drops *int) {
	p, pings, drops = new(pollConn), new(int), new(int)
	p.init("192.0.2.1", func() { *pings++ }, func(n int) { *drops += n })
	return p, pings, drops
}

func written(text string) []byte {
	return append(appendHeader(nil, frameText, false, len(text)), text...)
}

// polled takes what waits and settles it as delivered.
func polled(p *pollConn, most time.Duration) (string, bool) {
	batch, gone := p.take(context.Background(), most)
	p.settle(batch, true)
	return string(batch), gone
}

func TestWhatIsWrittenWaitsForAPoll(t *testing.T) { // phoenix.md appendix A
	p, pings, drops := newPollConn()
	long := strings.Repeat("x", 1<<17)
	var b []byte
	for _, f := range [][]byte{written(`["1"]`), pingFrame, append(appendHeader(nil, frameBinary, false, 300), make([]byte, 300)...),
		pong([]byte("x")).wire, written(strings.Repeat("y", 200)), written(long)} {
		b = append(b, f...)
	}
	if n, err := p.Write(b); n != len(b) || err != nil {
		t.Fatalf("write: %d, %v, want %d", n, err, len(b))
	}
	if *pings != 1 || *drops != 300 {
		t.Errorf("%d pings and %d dropped bytes, want 1 and 300", *pings, *drops)
	}
	want := `"[\"1\"]","` + strings.Repeat("y", 200) + `","` + long + `"`
	if got, gone := polled(p, 0); got != want || gone {
		t.Errorf("polled %.60q…, %v, want %.60q…", got, gone, want)
	}
	if got, _ := polled(p, 0); got != "" {
		t.Errorf("polled %q again, want nothing", got)
	}
}

func TestHalfAFrameIsNoFrame(t *testing.T) {
	for _, b := range [][]byte{{0x81}, {0x81, 2, 'x'}, {0x81, 126}, {0x81, 126, 0}, {0x81, 127, 0, 0, 0, 0, 0, 0, 0}, {0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255, 'x'}} {
		p, _, _ := newPollConn()
		if n, err := p.Write(b); n != 0 || err != errBrokenFrame {
			t.Errorf("write % x: %d, %v, want errBrokenFrame", b, n, err)
		}
	}
}

func FuzzServerFrame(f *testing.F) {
	f.Add(written("hello"), 5)
	f.Add([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}, 70000)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if op, payload, size := serverFrame(b); size > len(b) || size != 0 && (size < 2+len(payload) || op > 15) {
			t.Errorf("serverFrame(% x) is %d, %d bytes of payload, %d", b, op, len(payload), size)
		}
		n = min(max(n, 0), 1<<17)
		whole := append(appendHeader(nil, frameBinary, false, n), make([]byte, n)...)
		if op, payload, size := serverFrame(append(whole, b...)); op != frameBinary || len(payload) != n || size != len(whole) {
			t.Errorf("a frame of %d bytes became %d bytes of payload, %d in all", n, len(payload), size)
		}
	})
}

func TestWriteBlocksWhileNobodyPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := newPollConn()
		full := written(strings.Repeat("x", pollBuffer))
		p.Write(full)
		p.SetWriteDeadline(time.Now().Add(30 * time.Second))
		start := time.Now()
		two := append(append([]byte(nil), pingFrame...), written("late")...)
		n, err := p.Write(two)
		if took := time.Since(start); n != len(pingFrame) || !errors.Is(err, os.ErrDeadlineExceeded) || took != 30*time.Second {
			t.Errorf("write: %d, %v after %v, want the ping alone and the deadline after 30 s", n, err, took)
		}
		p.SetWriteDeadline(time.Time{})
		wrote := make(chan error)
		go func() {
			_, err := p.Write(two[n:])
			wrote <- err
		}()
		synctest.Wait()
		if got, _ := polled(p, 0); len(got) != pollBuffer+2 {
			t.Errorf("polled %d bytes, want what was written first", len(got))
		}
		if err := <-wrote; err != nil {
			t.Errorf("write after the poll: %v", err)
		}
		if got, _ := polled(p, 0); got != `"late"` {
			t.Errorf("polled %q, want late", got)
		}
		p.Write(full)
		go func() {
			_, err := p.Write(full)
			wrote <- err
		}()
		synctest.Wait()
		p.Close()
		if err := <-wrote; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write that waits ends with %v, want net.ErrClosed", err)
		}
		if _, err := p.Write(full); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write after the end: %v, want net.ErrClosed", err)
		}
		if p.spent() {
			t.Error("spent, want one batch for the last poll")
		}
		if got, gone := polled(p, 0); len(got) != pollBuffer+2 || gone || p.spent() {
			t.Errorf("polled %d bytes after the end, want the %d that had been written", len(got), pollBuffer+2)
		}
		if got, gone := polled(p, 0); got != "" || !gone || !p.spent() {
			t.Errorf("polled %q, gone %v, want to be told of the end", got, gone)
		}
	})
}

func TestReadObeysItsDeadline(t *testing.T) { // as conn wakes its read loop
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := newPollConn()
		got := make(chan error)
		read := func() {
			_, err := p.Read(make([]byte, 1))
			got <- err
		}
		p.SetReadDeadline(time.Now().Add(time.Hour))
		go read()
		synctest.Wait()
		start := time.Now()
		p.SetReadDeadline(start.Add(time.Minute)) // moved while it waits
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("read: %v after %v, want the deadline after a minute", err, time.Since(start))
		}
		p.SetReadDeadline(time.Time{})
		go read()
		synctest.Wait()
		p.SetDeadline(time.Unix(1, 0))
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v, want the deadline at once", err)
		}
		go p.deliver(frameText, []byte("x"), time.Now().Add(time.Minute))
		synctest.Wait()
		go read()
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read past the deadline: %v, want that although there are bytes", err)
		}
		p.SetReadDeadline(time.Time{})
		go read()
		if err := <-got; err != nil {
			t.Errorf("read after taking the deadline back: %v", err)
		}
		p.Close()
		go read()
		if err := <-got; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after the end: %v, want net.ErrClosed", err)
		}
		if err := p.SetReadDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a deadline after the end: %v, want net.ErrClosed", err)
		}
	})
}

func TestDeliveredMessagesAreClientFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := newPollConn()
		var in frameReader
		in.init(p, 1<<20, false)
		sent := []string{"", "a", strings.Repeat("b", 126), strings.Repeat("c", 1<<16)}
		errs := make(chan error)
		go func() {
			for _, s := range sent {
				errs <- p.deliver(frameBinary, []byte(s), time.Now().Add(time.Second))
			}
		}()
		for _, want := range sent {
			op, got, err := in.next()
			if op != frameBinary || string(got) != want || err != nil {
				t.Errorf("read %d, %.20q, %v, want %.20q", op, got, err, want)
			}
			if err := <-errs; err != nil {
				t.Errorf("deliver: %v", err)
			}
		}
		in.release()
	})
}

func TestDeliverWaitsForTheReader(t *testing.T) { // phoenix.md appendix A: status 408
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := newPollConn()
		start := time.Now()
		for _, text := range []string{"first", "second"} { // the second waits for the first
			if err := p.deliver(frameText, []byte(text), start.Add(10*time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("deliver %s: %v, want the deadline", text, err)
			}
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("waited %v, want 10 s", took)
		}
		ended := make(chan error)
		go func() { ended <- p.deliver(frameText, []byte("third"), time.Now().Add(time.Hour)) }()
		synctest.Wait()
		var in frameReader
		in.init(p, 1<<20, false)
		for _, want := range []string{"first", "third"} { // what was taken in comes, what was not does not
			if _, got, err := in.next(); string(got) != want || err != nil {
				t.Errorf("read %q, %v, want %q", got, err, want)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("deliver: %v", err)
		}
		for _, end := range []func(){func() { p.fail(io.EOF) }, func() { p.Close() }} {
			go func() { ended <- p.deliver(frameText, []byte("x"), time.Now().Add(time.Hour)) }()
			synctest.Wait()
			end()
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("deliver at the end: %v, want net.ErrClosed", err)
			}
		}
		if _, _, err := in.next(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read %v, want the end", err)
		}
	})
}

func TestTheServersCloseIsAnsweredBehindWhatIsBeingRead(t *testing.T) { // RFC 6455 section 5.5.1
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := newPollConn()
		go p.deliver(frameText, []byte("under way"), time.Now().Add(time.Second))
		synctest.Wait()
		var in frameReader
		in.init(p, 1<<20, false)
		if _, err := in.peek(1); err != nil {
			t.Fatal(err)
		}
		p.Write(append(written("last"), closeFrame(1012, "shutdown").wire...))
		for _, want := range []opcode{frameText, frameClose} {
			if op, _, err := in.next(); op != want || err != nil {
				t.Errorf("read %d, %v, want %d", op, err, want)
			}
		}
		in.release()
		if err := p.deliver(frameText, nil, time.Now().Add(time.Second)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("deliver after the close: %v, want net.ErrClosed", err)
		}
		for _, want := range []string{`"last"`, ""} {
			if got, gone := polled(p, time.Second); got != want || gone != (want == "") {
				t.Errorf("polled %q, gone %v, want %q and then the end", got, gone, want)
			}
		}
	})
}

func TestAnUndeliveredBatchIsTheNextPolls(t *testing.T) {
	p, _, _ := newPollConn()
	p.Write(append(written("1"), written("2")...))
	batch, _ := p.take(context.Background(), 0)
	p.Write(written("3"))
	p.settle(batch, false)
	batch, _ = p.take(context.Background(), 0)
	if got, want := string(batch), `"1","2","3"`; got != want {
		t.Errorf("polled %s, want %s", got, want)
	}
	p.settle(batch, false)
	if got, _ := polled(p, 0); got != `"1","2","3"` {
		t.Errorf("polled %s, want the same again", got)
	}
}

func TestAPollWaitsForTheWriteOfTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := newPollConn()
		p.Write(written("1"))
		batch, _ := p.take(context.Background(), 0) // being written
		p.Write(written("2"))
		got := make(chan string)
		go func() {
			text, _ := polled(p, time.Second)
			got <- text
		}()
		synctest.Wait()
		p.settle(batch, false)
		if text := <-got; text != `"1","2"` {
			t.Errorf("polled %s, want both in their order", text)
		}
	})
}

func TestANewerPollEndsAnOlderOne(t *testing.T) { // one poll at a time
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := newPollConn()
		got := make(chan string, 3)
		for i := range 3 {
			go func() {
				text, gone := polled(p, time.Minute)
				got <- fmt.Sprintf("%d %q %v", i, text, gone)
			}()
			synctest.Wait()
		}
		p.Write(written("x"))
		for _, want := range []string{`0 "" false`, `1 "" false`, `2 "\"x\"" false`} {
			if text := <-got; text != want {
				t.Errorf("got %s, want %s", text, want)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			batch, gone := p.take(ctx, time.Minute)
			p.settle(batch, true)
			got <- fmt.Sprintf("%q %v", batch, gone)
		}()
		synctest.Wait()
		if p.unpolled(time.Now().Add(time.Hour)) != 0 {
			t.Error("counted as unpolled while a poll waits")
		}
		cancel()
		if text := <-got; text != `"" false` {
			t.Errorf("a poll whose client has gone got %s", text)
		}
		time.Sleep(time.Second)
		if got := p.unpolled(time.Now()); got != time.Second {
			t.Errorf("unpolled for %v, want 1 s", got)
		}
	})
}
