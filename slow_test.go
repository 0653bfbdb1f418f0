package realtime_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// gapData is the data of a gap.
type gapData struct {
	Dropped  int
	Policy   string
	From, To int
}

// drain reads what waits on a topic: the numbers in it, and the gaps with the
// number of events before each.
func drain(t *testing.T, c *realtimetest.Client, topic string, last int) (numbers []int, gaps map[int]gapData) {
	t.Helper()
	gaps = map[int]gapData{}
	for {
		m := c.Recv()
		if m.Channel != topic {
			t.Fatalf("got %s, want only %s", m, topic)
		}
		if m.Type == "gap" {
			var g gapData
			if err := json.Unmarshal(m.Data, &g); err != nil {
				t.Fatal(err)
			}
			gaps[len(numbers)] = g
			if g.To == last {
				return numbers, gaps
			}
			continue
		}
		var n int
		if err := json.Unmarshal(m.Data, &n); err != nil {
			t.Fatal(err)
		}
		if numbers = append(numbers, n); n == last {
			return numbers, gaps
		}
	}
}

// stall lets a slow client's queue overflow: it reads nothing while total events
// are published, and the one that was being written is 1.
func stall(t *testing.T, s *realtime.Server, c *realtimetest.Client, topic string, total int) {
	t.Helper()
	c.StopReading()
	publish(t, s, topic, "n", 1)
	synctest.Wait() // the writer has taken it and waits
	for n := 2; n <= total; n++ {
		publish(t, s, topic, "n", n)
	}
	synctest.Wait()
}

func TestDropOldestLeavesAGapBeforeTheNewest(t *testing.T) { // envelope.md section 5: gap
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(10, 1<<20))
		s.Topic("chat:{room}", realtime.Overflow(realtime.DropOldest))
		c := dial(t, s)
		c.Join("chat:a")
		stall(t, s, c, "chat:a", 50)
		c.Resume()
		numbers, gaps := drain(t, c, "chat:a", 50)
		g, ok := gaps[1]
		if !ok || len(gaps) != 1 || g.Policy != "drop_oldest" || g.From != 0 || g.To != 0 || g.Dropped+len(numbers) != 50 {
			t.Errorf("got %d events and gaps %v, want one gap after the first, and 50 in all", len(numbers), gaps)
		}
		for i, n := range numbers[1:] {
			if want := g.Dropped + 2 + i; n != want {
				t.Errorf("event %d after the gap is %d, want %d", i, n, want)
			}
		}
		publish(t, s, "chat:a", "n", 51)
		c.WantPush("chat:a", "n", 51)
	})
}

func TestDropNewestLeavesAGapBehindTheOldest(t *testing.T) { // envelope.md section 5: gap
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(10, 1<<20))
		s.Topic("log:{name}", realtime.History(100, 0), realtime.Overflow(realtime.DropNewest))
		c := dial(t, s)
		c.Join("log:a")
		stall(t, s, c, "log:a", 50)
		c.Resume()
		numbers, gaps := drain(t, c, "log:a", 50)
		g := gaps[len(numbers)]
		if len(gaps) != 1 || g.Policy != "drop_newest" || g.From != len(numbers)+1 || g.To != 50 || g.Dropped != 50-len(numbers) {
			t.Errorf("got %v and gaps %v, want one gap at the end, to 50", numbers, gaps)
		}
		for i, n := range numbers {
			if n != i+1 {
				t.Errorf("event %d is %d", i, n)
			}
		}
		publish(t, s, "log:a", "n", 51)
		if m := c.WantPush("log:a", "n", 51); m.Offset != 51 {
			t.Errorf("got %s, want offset 51", m)
		}
	})
}

func TestKeepLatestKeepsTheNewestOfEachKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(8, 1<<20))
		s.Topic("cursors:{doc}", realtime.Overflow(realtime.KeepLatest(func(_ string, data json.RawMessage) string {
			var p struct{ Who string }
			_ = json.Unmarshal(data, &p)
			return p.Who
		})))
		c := dial(t, s)
		c.Join("cursors:a")
		c.StopReading()
		for n := range 100 {
			for _, who := range []string{"ada", "bob", "eve"} {
				publish(t, s, "cursors:a", "at", map[string]any{"who": who, "n": n})
			}
			synctest.Wait()
		}
		c.Resume()
		synctest.Wait()
		last := map[string]int{}
		for len(last) < 3 || last["eve"] < 99 {
			m := c.Recv()
			var p struct {
				Who string
				N   int
			}
			if err := json.Unmarshal(m.Data, &p); err != nil {
				t.Fatal(err)
			}
			if m.Type == "at" {
				if p.N < last[p.Who] {
					t.Errorf("%s at %d came after %d", p.Who, p.N, last[p.Who])
				}
				last[p.Who] = p.N
			}
		}
		if last["ada"] != 99 || last["bob"] != 99 {
			t.Errorf("the last are %v, want 99 for all", last)
		}
	})
}

func TestCloseSlowClosesTheSlowAndNobodyElse(t *testing.T) { // envelope.md sections 6 and 9
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan realtime.Reason, 1)
		s := newServer(t, realtime.WithQueue(10, 1<<20), realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
		s.Topic("chat:{room}") // the default without history
		slow, quick := dial(t, s), dial(t, s)
		slow.Join("chat:a")
		quick.Join("chat:a")
		slow.StopReading()
		for n := range 50 {
			publish(t, s, "chat:a", "n", n)
			quick.WantPush("chat:a", "n", n)
		}
		slow.Resume()
		told := slow.WantClosed(realtime.ReasonSlowConsumer)
		if told.Code != 4008 || told.Retry != realtime.RetryNow || told.MinMS != 0 || told.Jitter != 1000 {
			t.Errorf("closing is %+v, want 4008, now, 0 and 1000 ms", told)
		}
		if why := <-ended; why != realtime.ReasonSlowConsumer {
			t.Errorf("ended as %s, want slow_consumer", why)
		}
	})
}

func TestASlowClientThatNeverReadsIsGoneSoon(t *testing.T) { // envelope.md section 6: at most 5 s
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(10, 1<<20))
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		stall(t, s, c, "chat:a", 50)
		time.Sleep(5100 * time.Millisecond)
		if n := openConnections(t, s); n != 0 {
			t.Errorf("%d connections are left, want none", n)
		}
	})
}

func TestCatchUpLosesNothingWhileTheHistoryReachesBack(t *testing.T) { // envelope.md section 9
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(10, 1<<20))
		s.Topic("log:{name}", realtime.History(1000, 0)) // the default with history
		c := dial(t, s)
		c.Join("log:a")
		stall(t, s, c, "log:a", 500)
		for client := range s.Clients("log:a") {
			if q := client.Queue(); q.Behind != 1 || q.Messages > 10 {
				t.Errorf("the queue is %+v, want one topic behind and at most 10 messages", q)
			}
		}
		c.Resume()
		wantNumbers(t, c, "log:a", 1, 500)
		publishNumbers(t, s, "log:a", 501, 505)
		wantNumbers(t, c, "log:a", 501, 505)
		c.WantNothing()
		for client := range s.Clients("log:a") {
			if q := client.Queue(); q.Behind != 0 || q.Messages != 0 {
				t.Errorf("the queue is %+v, want it empty", q)
			}
		}
	})
}

func TestCatchUpTellsWhatTheHistoryHasForgotten(t *testing.T) { // envelope.md section 5: gap
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithQueue(10, 1<<20))
		s.Topic("log:{name}", realtime.History(20, 0))
		c := dial(t, s)
		c.Join("log:a")
		stall(t, s, c, "log:a", 500)
		c.Resume()
		numbers, gaps := drain(t, c, "log:a", 500)
		if len(gaps) != 1 {
			t.Fatalf("got gaps %v, want one", gaps)
		}
		for at, g := range gaps {
			if g.Policy != "catch_up" || g.From != at+1 || g.To != 480 || g.Dropped != g.To-g.From+1 || len(numbers)-at != 20 {
				t.Errorf("after %d of %d events a gap %+v, want it up to 480 with 20 events behind it", at, len(numbers), g)
			}
		}
	})
}

func TestCatchUpUnderALivelyPublisher(t *testing.T) { // envelope.md section 9
	synctest.Test(t, func(t *testing.T) {
		const total = 3000
		s := newServer(t, realtime.WithQueue(5, 1<<20))
		s.Topic("log:{name}", realtime.History(total, 0))
		c := dial(t, s)
		c.Join("log:a")
		var all sync.WaitGroup
		all.Go(func() {
			for n := 1; n <= total; n++ {
				if err := s.Publish(context.Background(), "log:a", "n", n); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
		all.Go(func() {
			for range 20 {
				c.StopReading()
				time.Sleep(time.Millisecond)
				c.Resume()
				time.Sleep(time.Millisecond)
			}
		})
		wantNumbers(t, c, "log:a", 1, total)
		all.Wait()
		c.WantNothing()
	})
}

func TestWaterMarksCallBack(t *testing.T) { // DESIGN section 5
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan bool, 10)
		s := newServer(t, realtime.WithWaterMarks(5, 20, func(_ *realtime.Client, high bool) { calls <- high }))
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		stall(t, s, c, "chat:a", 40)
		if high := <-calls; !high {
			t.Error("the first call is low, want high")
		}
		for client := range s.Clients("chat:a") {
			time.Sleep(3 * time.Second)
			if q := client.Queue(); q.Messages < 20 || q.Bytes == 0 || q.Age < 3*time.Second {
				t.Errorf("the queue is %+v, want at least 20 messages of 3 s", q)
			}
		}
		c.Resume()
		if high := <-calls; high {
			t.Error("the second call is high, want low")
		}
		synctest.Wait()
		if len(calls) != 0 {
			t.Errorf("%d calls more, want none", len(calls))
		}
	})
}

func TestAClientThatTakesNoByteIsGivenUp(t *testing.T) { // WithWriteTimeout
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan realtime.Reason, 1)
		s := newServer(t, realtime.WithWriteTimeout(5*time.Second), realtime.WithDisconnected(func(_ *realtime.Client, why realtime.Reason) { ended <- why }))
		c := dial(t, s)
		c.Connected()
		c.StopReading()
		start := time.Now()
		publish(t, s, "global", "x", 1)
		if why := <-ended; why != realtime.ReasonSlowConsumer || time.Since(start) != 5*time.Second {
			t.Errorf("ended as %s after %v, want slow_consumer after 5 s", why, time.Since(start))
		}
	})
}
