package redis_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
	"github.com/seed-58bc6ac1/realtime/redis"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// seat is one of two servers, on a way to Redis that can be cut.
type seat struct {
	proxy  *redistest.Proxy
	broker *redis.Broker
	server *realtime.Server
	watch  *watch
}

func newSeat(t *testing.T, s *redistest.Server) *seat {
	t.Helper()
	p := redistest.StartProxy(t, s.Addr)
	one := &seat{proxy: p, broker: open(t, "redis://"+p.Addr, quick...)}
	one.server = realtimetest.NewServer(t, realtime.WithBroker(one.broker), realtime.Anonymous())
	t.Cleanup(p.Heal) // before the server ends
	one.server.Topic("kept:{id}", realtime.History(100_000, time.Hour)).Handle("say", one.say)
	one.server.Topic("plain:{id}").Handle("say", one.say)
	one.watch = watching(t, one.broker)
	return one
}

// say publishes what a client sends before it answers.
func (s *seat) say(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
	return nil, s.server.Publish(ctx, m.Topic, "said", m.Data)
}

// talk has events published until it is told to stop, and notes which were taken.
type talk struct {
	stop  atomic.Bool
	all   sync.WaitGroup
	mu    sync.Mutex // guards the following
	taken []string
	slow  time.Duration // the longest publish
}

func (k *talk) start(topic string, seats ...*seat) {
	for i, s := range seats {
		k.all.Go(func() {
			for n := 0; !k.stop.Load(); n++ {
				k.publish(s, topic, fmt.Sprintf("%d/%06d", i, n))
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
}

func (k *talk) publish(s *seat, topic, name string) {
	start := time.Now()
	err := s.server.Publish(context.Background(), topic, "e", name)
	took := time.Since(start)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slow = max(k.slow, took)
	if err == nil {
		k.taken = append(k.taken, name)
	}
}

func (k *talk) end() {
	k.stop.Store(true)
	k.all.Wait()
}

// reader follows one topic at one client, across connections.
type reader struct {
	topic   string
	at      realtime.Position
	names   map[string]bool
	reloads int
	holes   int
}

func newReader(topic string, j realtimetest.Joined) *reader {
	return &reader{topic: topic, at: realtime.Position{Epoch: j.Epoch, Offset: j.Offset}, names: map[string]bool{}}
}

// until reads on to the event with that data.
func (r *reader) until(t *testing.T, c *realtimetest.Client, last string) {
	t.Helper()
	for {
		m := c.Recv()
		if m.Channel != r.topic {
			continue
		}
		if r.take(t, m) == last {
			return
		}
	}
}

func (r *reader) take(t *testing.T, m realtimetest.Message) (name string) {
	t.Helper()
	if m.Type == "gap" {
		var g struct {
			From, To, Offset uint64
			Epoch            string
		}
		if err := json.Unmarshal(m.Data, &g); err != nil {
			t.Fatal(err)
		}
		if g.Epoch != "" {
			r.at, r.reloads = realtime.Position{Epoch: g.Epoch, Offset: g.Offset}, r.reloads+1
			return ""
		}
		if g.From != r.at.Offset+1 {
			t.Fatalf("%s after offset %d", m, r.at.Offset)
		}
		r.at.Offset, r.holes = g.To, r.holes+1
		return ""
	}
	if m.Offset != r.at.Offset+1 {
		t.Fatalf("%s after offset %d", m, r.at.Offset)
	}
	r.at.Offset = m.Offset
	json.Unmarshal(m.Data, &name)
	r.names[name] = true
	return name
}

// lossless are faults over which Redis keeps what it has taken.
var lossless = map[string]func(t *testing.T, s *redistest.Server, near *seat){
	"connections killed": func(t *testing.T, s *redistest.Server, _ *seat) {
		for _, kind := range []string{"pubsub", "normal", "pubsub"} {
			if _, err := s.CLI("CLIENT", "KILL", "TYPE", kind); err != nil {
				t.Error(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	},
	"cut": func(t *testing.T, _ *redistest.Server, near *seat) {
		near.proxy.Cut()
		near.watch.await(t, realtime.BrokerDown)
		near.proxy.Heal()
	},
	"half open": func(t *testing.T, _ *redistest.Server, near *seat) {
		near.proxy.HalfOpen()
		near.watch.await(t, realtime.BrokerDown)
		near.proxy.Heal()
	},
	"stopped": func(t *testing.T, s *redistest.Server, near *seat) {
		s.Stop()
		near.watch.await(t, realtime.BrokerDown)
		s.Cont()
	},
	"killed": func(t *testing.T, s *redistest.Server, near *seat) {
		s.Kill()
		near.watch.await(t, realtime.BrokerDown)
		if err := s.Restart(); err != nil {
			t.Error(err)
		}
	},
}

// TestClientsOfTwoServersMissNothing has both servers publish through a fault, clients
// that stay, and one that comes back to the other server each time.
func TestClientsOfTwoServersMissNothing(t *testing.T) {
	t.Parallel()
	for name, fault := range lossless {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, redistest.Durable, "appendfsync always")
			seats := []*seat{newSeat(t, s), newSeat(t, s)}
			var clients []*realtimetest.Client
			var readers []*reader
			for _, one := range seats {
				c := realtimetest.Dial(t, one.server)
				clients, readers = append(clients, c), append(readers, newReader("kept:a", c.Join("kept:a")))
			}
			hops := realtimetest.Dial(t, seats[0].server)
			hopper := newReader("kept:a", hops.Join("kept:a"))
			var k talk
			k.start("kept:a", seats...)
			time.Sleep(50 * time.Millisecond)
			fault(t, s, seats[0])
			for _, one := range seats {
				one.watch.await(t, realtime.BrokerHealthy)
			}
			for i := range 4 {
				mark := fmt.Sprint("mark ", i)
				k.mustPublish(t, seats[i%2], "kept:a", mark)
				hopper.until(t, hops, mark)
				hops.Close()
				hops = realtimetest.Dial(t, seats[(i+1)%2].server)
				j := hops.Rejoin("kept:a", hopper.at)
				if j.Recovery != realtime.RecoveryComplete && j.Recovery != realtime.RecoveryReplayed {
					t.Errorf("hop %d: recovery is %q", i, j.Recovery)
				}
			}
			k.end()
			k.mustPublish(t, seats[1], "kept:a", "end")
			for i, r := range append(readers, hopper) {
				r.until(t, append(clients, hops)[i], "end")
				k.check(t, r)
				if r.reloads+r.holes > 0 {
					t.Errorf("reader %d: %d reloads and %d holes although all is kept", i, r.reloads, r.holes)
				}
			}
			if k.slow > 10*time.Second {
				t.Errorf("a publish took %v with a timeout of 500ms", k.slow)
			}
			t.Logf("%d events, the slowest publish took %v", len(k.taken), k.slow)
		})
	}
}

func (k *talk) mustPublish(t *testing.T, s *seat, topic, name string) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := s.server.Publish(t.Context(), topic, "e", name)
		if err == nil {
			return
		}
		if !errors.Is(err, realtime.ErrBrokerDown) || time.Since(start) > patience {
			t.Fatalf("Publish: %v", err)
		}
	}
}

// check checks that all came that was taken.
func (k *talk) check(t *testing.T, r *reader) {
	t.Helper()
	missing := 0
	for _, name := range k.taken {
		if !r.names[name] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d events did not come", missing, len(k.taken))
	}
}

// TestClientsReloadAfterAFlush has all data gone under members of both servers.
func TestClientsReloadAfterAFlush(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	seats := []*seat{newSeat(t, s), newSeat(t, s)}
	var k talk
	for i, one := range seats {
		c := realtimetest.Dial(t, one.server)
		r := newReader("kept:a", c.Join("kept:a"))
		defer func() {
			r.until(t, c, "end")
			if r.reloads != 1 || r.holes > 0 {
				t.Errorf("reader %d: %d reloads and %d holes, want one reload", i, r.reloads, r.holes)
			}
		}()
	}
	k.mustPublish(t, seats[0], "kept:a", "before")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	k.mustPublish(t, seats[0], "kept:a", "after")
	k.mustPublish(t, seats[1], "kept:a", "end")
}

// TestTheBroadcastOfAHandlerComesBeforeItsReply says a lot on both servers at a time.
func TestTheBroadcastOfAHandlerComesBeforeItsReply(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	seats := []*seat{newSeat(t, s), newSeat(t, s)}
	var k talk
	k.start("kept:a", seats...)
	defer k.end()
	for _, topic := range []string{"kept:a", "plain:a"} {
		c := realtimetest.Dial(t, seats[0].server)
		c.Join(topic)
		for i := range 100 {
			said := ""
			for ref := c.Push(topic, "say", i); ; {
				m := c.Recv()
				if m.Type == "said" {
					said = string(m.Data)
				}
				if m.Ref == ref {
					if m.Type == "error" || said != fmt.Sprint(i) {
						t.Fatalf("%s: the last said is %s when %s comes", topic, said, m)
					}
					break
				}
			}
		}
	}
}

// TestServersWithoutRedis has servers begin, be used and end while it is not there.
func TestServersWithoutRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	client := newClient(t, s.Addr)
	s.Stop()
	defer s.Cont()
	b := redis.New(client, quick...)
	t.Cleanup(b.Close)
	start := time.Now()
	server, err := realtime.New(realtime.WithBroker(b), realtime.Anonymous())
	if err != nil {
		t.Fatal(err)
	}
	server.Topic("kept:{id}", realtime.History(100, 0))
	server.Topic("plain:{id}")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("New took %v", took)
	}
	c := realtimetest.Dial(t, server)
	start = time.Now()
	c.WantError(c.Push("kept:a", "subscribe", nil), realtime.CodeUnavailable)
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("the join failed after %v with a timeout of 500ms", took)
	}
	wantHealth(t, server, "down")
	c.Join("plain:a")
	if err := server.Publish(t.Context(), "plain:a", "said", 1); err != nil {
		t.Error(err)
	}
	c.WantPush("plain:a", "said", 1)
	s.Cont()
	wantHealth(t, server, "healthy")
	c.WantPush("plain:a", "gap", nil)
	c.Join("kept:a")
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	start = time.Now()
	c.Close()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	b.Close()
	t.Logf("it took %v to end", time.Since(start))
}

func wantHealth(t *testing.T, s *realtime.Server, want string) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		w := httptest.NewRecorder()
		s.Health().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if strings.Contains(w.Body.String(), want) {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("the health is %s, want %s", w.Body, want)
		}
	}
}
