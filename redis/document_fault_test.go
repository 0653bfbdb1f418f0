package redis

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// keysOf returns the keys of the document, in the order of the script.
func keysOf(t testing.TB, n *lossyNode) []string {
	t.Helper()
	a, err := n.at(testDocument)
	if err != nil {
		t.Fatal(err)
	}
	return a.keys
}

// dump returns everything the server keeps, key by key.
func dump(t testing.TB, c rueidis.Client) map[string]string {
	t.Helper()
	keys, err := c.Do(t.Context(), c.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, k := range keys {
		if all[k], err = c.Do(t.Context(), c.B().Dump().Key(k).Build()).ToString(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(k, "probe") {
			delete(all, k)
		}
	}
	return all
}

func clientOf(t testing.TB, s *redistest.Server) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func cli(t testing.TB, s *redistest.Server, args ...string) string {
	t.Helper()
	out, err := s.CLI(args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

// busyDocument is one in which every kind of step has something to do.
func busyDocument(t testing.TB, n *lossyNode) {
	take(t, n, testStep(realtime.StepJoin, "A"))
	other := testStep(realtime.StepJoin, "B")
	other.Node = "dead"
	take(t, n, other)
	take(t, n, testOps("A", 1, 2, 2))
	asks := testSummarize("B", 1, 2)
	asks.Node = "dead"
	take(t, n, asks)
	take(t, n, &realtime.DocumentStep{Kind: realtime.StepRefer, Client: "A", RSN: 5})
	take(t, n, &realtime.DocumentStep{Kind: realtime.StepRefer, Client: "B", RSN: 3})
	at := time.Now()
	take(t, n, &realtime.DocumentStep{Kind: realtime.StepIdle, Timeout: time.Second, Period: time.Second, Now: at})
}

// everyStep is one of each kind, each of which changes a busyDocument.
func everyStep() []*realtime.DocumentStep {
	bury := testStep(realtime.StepBury, "")
	bury.Nodes = []string{"dead"}
	refer := testStep(realtime.StepRefer, "A")
	refer.RSN = 5
	idle := testStep(realtime.StepIdle, "")
	idle.Timeout, idle.Period, idle.Now = time.Second, time.Second, time.Now().Add(time.Minute)
	return []*realtime.DocumentStep{testStep(realtime.StepJoin, "C"), testStep(realtime.StepLeave, "A"), testOps("A", 3, 5, 3), refer,
		testStep(realtime.StepNoop, ""), idle, testAck(5, 2), bury, testStep(realtime.StepSignal, "A")}
}

func TestAStepThatTheServerRefusesChangesNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	n, c := newLossyNode(t, s.URL()), clientOf(t, s)
	for _, fault := range []struct{ name, begin, end string }{
		{"memory", "maxmemory 1", "maxmemory 0"},
		{"replicas", "min-replicas-to-write 3", "min-replicas-to-write 0"},
	} {
		for _, step := range everyStep() {
			t.Run(fmt.Sprint(fault.name, " step ", step.Kind), func(t *testing.T) {
				cli(t, s, "flushall")
				busyDocument(t, n)
				w, before := attend(t, n), dump(t, c)
				cli(t, s, append([]string{"config", "set"}, strings.Fields(fault.begin)...)...)
				_, err := n.Take(t.Context(), testDocument, step)
				cli(t, s, append([]string{"config", "set"}, strings.Fields(fault.end)...)...)
				if !errors.Is(err, realtime.ErrBrokerDown) {
					t.Fatalf("error %v, want %v", err, realtime.ErrBrokerDown)
				}
				if after := dump(t, c); !maps.Equal(before, after) {
					t.Error("the refused step left something")
				}
				out := take(t, n, step)
				for i, m := range out.Messages {
					if want := w.standing.SequenceNumber + 1 + int64(i); m.SequenceNumber != want {
						t.Errorf("message %d after the fault, want %d", m.SequenceNumber, want)
					}
				}
				if maps.Equal(before, dump(t, c)) {
					t.Error("the step changes nothing: the test tests nothing")
				}
			})
		}
	}
}

// A number that is taken is the one thing at which the script can fail by itself.
func TestAnErrorInTheScriptLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	n, c := newLossyNode(t, s.URL()), clientOf(t, s)
	for _, step := range everyStep() {
		t.Run(fmt.Sprint("step ", step.Kind), func(t *testing.T) {
			cli(t, s, "flushall")
			busyDocument(t, n)
			cli(t, s, "xadd", keysOf(t, n)[streamKey], "1000-0", "m", "foreign", "t", "foreign 1")
			before := dump(t, c)
			_, err := n.Take(t.Context(), testDocument, step)
			if numbers := step.Kind != realtime.StepSignal && step.Kind != realtime.StepRefer; (err != nil) != numbers {
				t.Fatalf("error %v of a step %d", err, step.Kind)
			}
			if errors.Is(err, realtime.ErrBrokerDown) {
				t.Errorf("error %v: the server is not down", err)
			}
			if err != nil && !maps.Equal(before, dump(t, c)) {
				t.Error("the failed step left something")
			}
		})
	}
}

func TestAServerBusyWithAScriptIsDownForDocuments(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "busy-reply-threshold 50")
	n, c, probe := newLossyNode(t, s.URL(), Timeout(time.Second)), clientOf(t, s), clientOf(t, s)
	busyDocument(t, n)
	for range 2 {
		var busy sync.WaitGroup
		busy.Go(func() { c.Do(t.Context(), c.B().Eval().Script("while true do end").Numkeys(0).Build()) })
		for !isBusy(probe.Do(t.Context(), probe.B().Ping().Build()).Error()) {
			time.Sleep(time.Millisecond) // the server has no event for it
		}
		start := time.Now()
		if _, err := n.Take(t.Context(), testDocument, testOps("A", 3, 5, 1)); !errors.Is(err, realtime.ErrBrokerDown) {
			t.Errorf("error %v, want %v", err, realtime.ErrBrokerDown)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		cli(t, s, "script", "kill")
		busy.Wait()
	}
	eventually(t, n, testOps("A", 3, 5, 1), 6)
}

func isBusy(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "BUSY") }

// eventually takes a step until the server is well again; it gets the number sn.
func eventually(t *testing.T, n *lossyNode, step *realtime.DocumentStep, sn int64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		out, err := n.Take(t.Context(), testDocument, step)
		if err == nil {
			if got := out.Messages[0].SequenceNumber; got != sn {
				t.Errorf("message %d, want %d", got, sn)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // there is no event to wait for
	}
}

func TestAStoppedServerDoesNotHoldUpSteps(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	n := newLossyNode(t, s.URL(), Timeout(500*time.Millisecond))
	busyDocument(t, n)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err := n.Take(t.Context(), testDocument, testOps("A", 3, 5, 1))
	if took := time.Since(start); !errors.Is(err, realtime.ErrBrokerDown) || took > 10*time.Second {
		t.Errorf("error %v after %v, want %v soon", err, took, realtime.ErrBrokerDown)
	}
	if err := s.Cont(); err != nil {
		t.Fatal(err)
	}
	// The step may have been taken when the server went on: then it is a duplicate.
	for deadline := time.Now().Add(30 * time.Second); ; {
		if _, err = n.Take(t.Context(), testDocument, testOps("A", 3, 5, 1)); err == nil || time.Now().After(deadline) {
			break
		}
	}
	page, err := n.Read(t.Context(), testDocument, 5, -1, 10)
	if err != nil || len(page) != 1 || page[0].ClientSequenceNumber != 3 {
		t.Errorf("after it: %v, %v, want one op", page, err)
	}
}

func TestADocumentThatIsFlushedIsLost(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := newLossyNode(t, s.URL(), Heartbeat(time.Hour)), newLossyNode(t, s.URL(), Heartbeat(400*time.Millisecond))
	busyDocument(t, a)
	here, there := attend(t, a), attend(t, b)
	cli(t, s, "flushall")
	there.untilLost() // by its heartbeat
	take(t, a, testStep(realtime.StepJoin, "new"))
	here.untilLost() // by its own step
	if got := attend(t, b).standing; got.SequenceNumber != 1 || got.Epoch == there.standing.Epoch || len(got.Clients) != 1 {
		t.Errorf("the new document stands at %+v", got)
	}
}

// A failover to a replica that lags takes back what was told.
func TestADocumentThatGoesBackIsLost(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := clientOf(t, s)
	for _, how := range []string{"by a step", "by a heartbeat", "by a repair", "by a repair later"} {
		t.Run(how, func(t *testing.T) {
			cli(t, s, "flushall")
			a, b := newLossyNode(t, s.URL(), Heartbeat(time.Hour)), newLossyNode(t, s.URL(), Heartbeat(time.Hour))
			busyDocument(t, a)
			before := dump(t, c)
			w := attend(t, b)
			take(t, a, testOps("A", 3, 5, 1))
			w.untilMessage(6)
			for k, v := range before {
				if err := c.Do(t.Context(), c.B().Restore().Key(k).Ttl(0).SerializedValue(v).Replace().Build()).Error(); err != nil {
					t.Fatal(err)
				}
			}
			switch how {
			case "by a step": // with the number that the other one had
				take(t, a, testStep(realtime.StepLeave, "A"))
			case "by a heartbeat":
				b.check(t.Context())
			case "by a repair":
				b.reset()
			case "by a repair later":
				b.losing(func(string) bool { return true })
				take(t, a, testStep(realtime.StepLeave, "A"))
				take(t, a, testStep(realtime.StepLeave, "B"))
				b.reset()
			}
			if err := w.untilLost(); !errors.Is(err, errAnotherDocument) {
				t.Errorf("lost by %v", err)
			}
		})
	}
}

func TestWhatDoesNotArriveIsReadFromTheStream(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := newLossyNode(t, s.URL()), newLossyNode(t, s.URL(), Heartbeat(300*time.Millisecond))
	take(t, a, testStep(realtime.StepJoin, "A"))
	w := attend(t, b)
	one := 0
	b.losing(func(string) bool { one++; return one%3 == 0 })
	for csn := int64(1); csn <= 60; csn += 2 {
		take(t, a, testOps("A", csn, 1, 2))
	}
	w.untilMessage(61) // the last notice was lost: the heartbeat finds it
	reader := testStep(realtime.StepJoin, "R")
	reader.Writer = false
	b.losing(func(string) bool { return true })
	take(t, a, reader)
	take(t, a, testStep(realtime.StepLeave, "A"))
	b.losing(nil)
	b.reset()
	w.untilMessage(62)
	news := w.until("reader", func(news []*realtime.DocumentNews) bool {
		return slices.ContainsFunc(news, func(n *realtime.DocumentNews) bool { return n.Joined == "R" })
	})
	left := slices.ContainsFunc(news, func(n *realtime.DocumentNews) bool {
		return n.Left == "A" && len(n.Messages) == 1 && n.Messages[0].SequenceNumber == 62
	})
	if !left {
		t.Errorf("not told who left: %s", describe(news))
	}
	for _, n := range news {
		if len(n.Messages) > 2 {
			t.Errorf("%d messages of different steps in one news", len(n.Messages))
		}
	}
}

func TestMessagesThatAreGoneBeforeTheyArriveAreLost(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := newLossyNode(t, s.URL()), newLossyNode(t, s.URL(), Heartbeat(time.Hour))
	take(t, a, testStep(realtime.StepJoin, "A"))
	w := attend(t, b)
	b.losing(func(string) bool { return true })
	csn := int64(1)
	submit := func(n int) {
		take(t, a, testOps("A", csn, -1, n))
		csn += int64(n)
	}
	submit(20)
	for range 2 {
		sn := take(t, a, testSummarize("A", csn, -1)).SequenceNumber
		csn++
		take(t, a, testAck(sn, sn-1))
	}
	for range 10 {
		submit(100)
	}
	b.losing(nil)
	b.reset()
	if err := w.untilLost(); !errors.Is(err, errMessagesGone) {
		t.Errorf("lost by %v, want %v", err, errMessagesGone)
	}
}

func TestANodeBehindABadNetworkMissesNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr)
	a, b := newLossyNode(t, s.URL()), newLossyNode(t, "redis://"+p.Addr, Timeout(time.Second), Heartbeat(time.Second))
	take(t, a, testStep(realtime.StepJoin, "A"))
	take(t, a, testStep(realtime.StepJoin, "B"))
	near, far := attend(t, a), attend(t, b)
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { // a client at the far node, that sends again what had no answer
		for csn := int64(1); csn <= 100; {
			if _, err := b.Take(t.Context(), testDocument, testOps("B", csn, 2, 1)); err == nil {
				csn++
			} else if !errors.Is(err, realtime.ErrBrokerDown) {
				t.Error(err)
				return
			} else {
				time.Sleep(5 * time.Millisecond)
			}
		}
	})
	for csn := int64(1); csn <= 300; csn++ {
		take(t, a, testOps("A", csn, 2, 1))
		switch csn {
		case 50, 150, 250:
			p.Cut()
		case 75, 175, 275:
			p.Heal()
		}
	}
	all.Wait()
	if got, want := far.untilMessage(402), near.untilMessage(402); len(got) != len(want) {
		t.Errorf("the far node was told %d messages, the near one %d", len(got), len(want))
	}
}
