package main

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

// redisVariable makes every server under test a node that keeps its documents in Redis.
const redisVariable = "DOCUMENT_EXAMPLE_REDIS"

func onRedis() bool { return os.Getenv(redisVariable) != "" }

// TestTheChecksHoldOnRedis runs the checks once more, with documents that are ordered by
// a Redis server. The clients of a program are on two nodes.
func TestTheChecksHoldOnRedis(t *testing.T) {
	if onRedis() || testing.Short() {
		t.Skip("once is enough")
	}
	redistest.Start(t) // or skip
	// Without those that keep containers busy for long: one of them reports an error if an
	// op takes five seconds, and sends 1,500 at once, each of which goes to Redis and back.
	again := exec.Command(os.Args[0], "-test.run=^TestCheck", "-test.skip=^TestCheck12[6-9]", "-test.count=1")
	again.Env = append(os.Environ(), redisVariable+"=1")
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// startNodes starts n programs that have one Redis in common. Clients dial one after the
// other; for the REST API there is the first.
func startNodes(t *testing.T, n int, args ...string) *site {
	t.Helper()
	args = append([]string{"-redis", redistest.Start(t).URL()}, args...)
	s := startOne(t, args...)
	for range n - 1 {
		s.also = append(s.also, startOne(t, args...).base)
	}
	return s
}

// redisOptions are the options of a server under test that is a node.
func redisOptions(t *testing.T, url string) []realtime.Option {
	t.Helper()
	broker, err := redis.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return []realtime.Option{realtime.WithBroker(broker), realtime.WithNodeTTL(nodeTTL)}
}

var stored sync.Map // the URLs of servers, by the directories of tests

// storeFlags are those of a program that keeps its documents when it is killed.
func storeFlags(t *testing.T, directory string) []string {
	if !onRedis() {
		return []string{"-data", directory}
	}
	url, ok := stored.Load(directory)
	if !ok {
		url = redistest.Start(t).URL()
		stored.Store(directory, url)
	}
	return []string{"-redis", url.(string)}
}

// cluster starts n nodes on a Redis whose configuration is the test's.
func cluster(t *testing.T, n int, config ...string) (*redistest.Server, []*site) {
	t.Helper()
	t.Parallel()
	server := redistest.Start(t, config...)
	var nodes []*site
	for range n {
		nodes = append(nodes, startOne(t, "-redis", server.URL()))
	}
	return server, nodes
}

// settle reads until the member has a message.
func (m *member) settle(sn int64) {
	m.t.Helper()
	for m.head < sn {
		m.next()
	}
}

// write has all members write at once, and wants all of them to get the same bytes.
func write(t *testing.T, members []*member, count int) {
	t.Helper()
	last := members[0].head
	for _, m := range members {
		last = max(last, m.head)
	}
	from := last
	for _, m := range members {
		m.settle(from)
	}
	var wait sync.WaitGroup
	for _, m := range members {
		wait.Go(func() {
			for range count {
				m.submit(m.made(from))
			}
			m.settle(from + int64(count*len(members)))
		})
	}
	wait.Wait()
	for _, m := range members[1:] {
		for sn := from + 1; sn <= from+int64(count*len(members)); sn++ {
			if a, b := differs(string(m.known(sn)), string(members[0].known(sn))), m.known(sn); a != "" {
				t.Fatalf("message %d is %s on one node, on another %s", sn, b, members[0].known(sn))
			}
		}
	}
}

func TestNodesHaveOneOrder(t *testing.T) {
	_, nodes := cluster(t, 3)
	var members []*member
	for i, n := range nodes {
		members = append(members, n.over(t, []string{"2.0.0", "3.0.0"}[i%2], "acme", "doc1").connect("write"))
	}
	write(t, members, 200)
}

func TestNodesLoseTheirRedisAndGoOn(t *testing.T) {
	for name, trouble := range map[string]func(t *testing.T, s *redistest.Server){
		"paused": func(t *testing.T, s *redistest.Server) {
			s.Stop()
			time.Sleep(4 * time.Second) // longer than a command may take
			s.Cont()
		},
		"killed": func(t *testing.T, s *redistest.Server) {
			s.Kill()
			s.Restart()
		},
		"cut off": func(t *testing.T, s *redistest.Server) {
			if _, err := s.CLI("client", "kill", "type", "normal"); err != nil {
				t.Error(err)
			}
			if _, err := s.CLI("client", "kill", "type", "pubsub"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, nodes := cluster(t, 2, redistest.Durable)
			a, b := nodes[0].writer(t), nodes[1].writer(t)
			a.settle(2)
			write(t, []*member{a, b}, 20)
			done := make(chan struct{})
			go func() {
				defer close(done)
				trouble(t, s)
			}()
			insist(a, 50)
			<-done
			for _, m := range []*member{a, b} {
				m.settle(max(a.head, b.head))
				insist(m, 10)
			}
			write(t, []*member{a, b}, 20)
		})
	}
}

// insist submits ops one by one, each until it is seen: a client that is told that a
// document is unavailable submits again.
func insist(m *member, count int) {
	m.t.Helper()
	for range count {
		op := m.made(m.head)
		for csn := m.csn; ; {
			m.submit(op)
			if m.seesOwn(csn) {
				break
			}
			time.Sleep(50 * time.Millisecond) // there is no event to wait for
		}
	}
}

// seesOwn reads up to the member's own op, or a nack, which is no.
func (m *member) seesOwn(csn int) bool {
	m.t.Helper()
	for {
		got := m.next()
		if strings.HasPrefix(got, "nack ") {
			if !strings.Contains(got, `"unavailable"`) {
				m.t.Fatalf("got %s", got)
			}
			return false
		}
		if strings.HasPrefix(got, "op ") {
			one := m.decode(m.known(m.head))
			if one.ClientID != nil && *one.ClientID == m.id && one.ClientSequenceNumber == int64(csn) {
				return true
			}
		}
	}
}

func TestDocumentThatIsGoneBeginsAnew(t *testing.T) {
	s, nodes := cluster(t, 2)
	a, b := nodes[0].writer(t), nodes[1].writer(t)
	a.settle(2)
	write(t, []*member{a, b}, 20)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{a, b} {
		m.until("phx_close")
	}
	a, b = nodes[0].writer(t), nodes[1].writer(t)
	a.settle(2)
	write(t, []*member{a, b}, 20)
}

// node is a process of its own that can be killed.
func TestKilledNodesClientsLeave(t *testing.T) {
	t.Parallel()
	url := redistest.Start(t).URL()
	other, dies := startOne(t, "-redis", url), spawnWith(t, "-redis", url)
	a := other.writer(t)
	b := dies.writer(t)
	r := dies.reader(t)
	a.settle(2)
	write(t, []*member{a, b}, 20)
	start := time.Now()
	dies.kill()
	a.settle(43)
	if took := time.Since(start); took > 3*nodeTTL {
		t.Errorf("the leave came after %v", took)
	}
	if one := a.decode(a.known(43)); one.Type != "leave" {
		t.Errorf("message 43 is %s", a.known(43))
	}
	for !strings.Contains(a.next(), r.id) { // the signal of its leave
	}
	c := other.writer(t)
	if got := c.ids(); len(got) != 2 {
		t.Errorf("%q are there, want A and C", got)
	}
}
