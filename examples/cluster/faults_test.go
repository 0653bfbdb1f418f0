//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// How long the fault run breaks things, and by which dice. CI has a step with a longer
// one than the tests.
var (
	stormTime = flag.Duration("for", 8*time.Second, "length of the fault run")
	stormSeed = flag.Uint64("seed", 0, "seed of the fault run; 0 takes one by the clock")
	// The lease of a dead node, a restart, and the patience of clients, on a busy machine.
	settleTime = flag.Duration("settle", 90*time.Second, "how long everything may take to be whole again after the last fault")
	talkers    = flag.Int("talkers", 40, "clients that talk in rooms")
	editors    = flag.Int("editors", 20, "clients that edit documents")
)

// childVariable makes the test binary be a node.
const childVariable = "CLUSTER_EXAMPLE_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// site is the cluster of a test.
type site struct {
	*fleet
	*store
	base string
	log  *lines
}

// newSite starts Redis, the nodes as processes, and the proxy.
func newSite(t *testing.T, nodes int) *site {
	t.Helper()
	s, err := openStore("")
	switch {
	case errors.Is(err, errNoRedis) && os.Getenv("CI") != "true":
		t.Skip("SKIPPED: ", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	f, err := newFleet(nodes, s, func(args ...string) *exec.Cmd {
		command := exec.Command(self, append(args, "-ttl", "3s")...)
		command.Env = append(os.Environ(), childVariable+"=1")
		command.Stderr = log
		return command
	})
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, log)
	}
	web := httptest.NewServer(routes(f, s))
	t.Cleanup(func() {
		f.close()
		web.CloseClientConnections()
		web.Close()
		if alarm := log.alarmed(); alarm != "" {
			t.Errorf("a node said %s", alarm)
		}
		if t.Failed() {
			t.Logf("the log of the nodes:\n%s", log)
		}
	})
	return &site{f, s, web.URL, log}
}

// lines keeps the end of what several processes write.
type lines struct {
	mu    sync.Mutex // guards the following
	kept  []string
	alarm string // what no node may ever say, and what came after it
	after int    // how many lines of that are still to come
}

// alarmLines are enough for a stack.
const alarmLines = 60

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	scan := bufio.NewScanner(strings.NewReader(string(text)))
	for scan.Scan() {
		line := scan.Text()
		if l.alarm == "" && (strings.Contains(line, "DATA RACE") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:")) {
			l.alarm, l.after = line, alarmLines
		} else if l.after > 0 {
			l.alarm, l.after = l.alarm+"\n"+line, l.after-1
		}
		if !strings.Contains(scan.Text(), "level=INFO") {
			l.kept = append(l.kept, scan.Text())
		}
	}
	l.kept = l.kept[max(0, len(l.kept)-400):]
	return len(text), nil
}

func (l *lines) alarmed() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alarm
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.kept, "\n")
}

// until waits until what says "". What it says last is why it does not come to that.
func until(t *testing.T, limit time.Duration, what func() string) bool {
	t.Helper()
	end := time.After(limit)
	look := time.NewTicker(20 * ms)
	defer look.Stop()
	for {
		why := what()
		if why == "" {
			return true
		}
		select {
		case <-look.C:
		case <-end:
			t.Errorf("after %v: %s", limit, why)
			return false
		}
	}
}

// marks says something in every room that everybody has to hear in the end, and
// returns where that stands.
func marks(t *testing.T, base string, l *ledger) map[string]place {
	t.Helper()
	newest := map[string]place{}
	until(t, *settleTime, func() string {
		for i := range rooms {
			room := fmt.Sprintf("room:%d", i)
			if _, ok := newest[room]; ok {
				continue
			}
			at, err := mark(t.Context(), base, room)
			if err != nil {
				return fmt.Sprintf("%s: %v", room, err)
			}
			newest[room] = at
		}
		return ""
	})
	return newest
}

// mark says one thing in a room and returns the room's newest position after it.
func mark(ctx context.Context, base, room string) (place, error) {
	token, err := mint("marker", "")
	if err != nil {
		return place{}, err
	}
	w, err := dialWire(ctx, base, "/ws", "realtime.v1", "bearer."+token)
	if err != nil {
		return place{}, err
	}
	defer w.hangUp()
	at := place{topic: room}
	for _, text := range []string{
		fmt.Sprintf(`{"channel":%q,"type":"subscribe","ref":"1"}`, room),
		fmt.Sprintf(`{"channel":%q,"type":"say","ref":"2","data":{"text":"mark-%s-%d"}}`, room, room, time.Now().UnixNano()),
		fmt.Sprintf(`{"channel":%q,"type":"history","ref":"3","data":{"from":9007199254740000,"limit":1}}`, room),
	} {
		if err := w.write(ctx, text); err != nil {
			return at, err
		}
		if err := w.answer(&at); err != nil {
			return at, err
		}
	}
	return at, nil
}

// answer reads up to the next answer, and the position in it if there is one.
func (w *wire) answer(at *place) error {
	for {
		select {
		case text, ok := <-w.frames:
			if !ok {
				return errBroken
			}
			var f frame
			if err := json.Unmarshal(text, &f); err != nil {
				return err
			}
			if strings.Contains(f.Type, "error") {
				return errors.New(string(text))
			}
			if f.Ref == "" {
				continue
			}
			var in struct {
				Response struct {
					Epoch  string
					Offset uint64
				}
			}
			if f.Type == "reply" && json.Unmarshal(f.Data, &in) == nil && in.Response.Epoch != "" {
				at.epoch, at.offset = in.Response.Epoch, in.Response.Offset
			}
			return nil
		case <-time.After(silence):
			return errSilent
		}
	}
}

// TestFaults breaks nodes, Redis, and what is between them, while sixty clients talk
// in rooms and edit documents. Redis keeps what it acknowledged on its disk, so that
// nothing may be lost, come twice, or in another order for anybody: an event whose
// publish was acknowledged reaches every client, and a client that misses something is
// told so.
//
//	go test -run TestFaults ./cluster -v -for 10m -seed 7
func TestFaults(t *testing.T) {
	seed := *stormSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	s := newSite(t, 3)
	c := gather(t, s.base, seed, *talkers, *editors, nil)
	if !until(t, *settleTime, c.started) {
		return
	}
	wind := &storm{t: t, fleet: s.fleet, store: s.store, count: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), *stormTime)
	defer cancel()
	begun := time.Now()
	wind.blow(ctx, seed, c.people())
	calm := time.Now()
	c.quiet.Store(true)
	newest := marks(t, s.base, c.ledger)
	until(t, *settleTime, c.whole(newest))
	whole := time.Since(calm)
	c.stop()
	c.living.Wait()
	events, ops := c.verdicts(newest)
	c.report(t, events, ops, fmt.Sprintf("seed %d, %v of faults, whole again after %v\n  faults: %s",
		seed, calm.Sub(begun).Round(time.Second), whole.Round(100*ms), wind))
}

// The run itself has to be able to fail: one client does not note one event.
func TestFaultRunFindsAnEventThatOneClientDropped(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	c := gather(t, s.base, 1, 5, 0, func(who, id string) bool { return who == "talker3" && id == "talker2-2" })
	until(t, *settleTime, c.started)
	until(t, *settleTime, func() string {
		if c.count.acked.Load() < 100 {
			return "too little was said"
		}
		return ""
	})
	c.quiet.Store(true)
	newest := marks(t, s.base, c.ledger)
	until(t, *settleTime, c.settled(newest))
	c.stop()
	c.living.Wait()
	if events, _ := c.verdicts(newest); events.losses != 1 || events.bad() != 1 {
		t.Errorf("found %+v, want one loss", events)
	}
}
