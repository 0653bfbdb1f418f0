package redis

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// startRedis starts a server of the test's own, and returns a client and the port.
func startRedis(t testing.TB, args ...string) (rueidis.Client, string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no redis-server in PATH")
		}
		t.Skip("no redis-server in PATH")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	server := exec.Command(path, append([]string{"--port", port, "--save", "", "--bind", "127.0.0.1", "--dir", t.TempDir(), "--loglevel", "warning"}, args...)...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	return connectRedis(t, port), port
}

func connectRedis(t testing.TB, port string) rueidis.Client {
	t.Helper()
	var client rueidis.Client
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		client, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"127.0.0.1:" + port}, DisableCache: true})
		if err == nil {
			t.Cleanup(client.Close)
			return client
		}
	}
	t.Fatal(err)
	return nil
}

// testPlace keeps documents on one server. What is published can be held up and lost
// on the way to one node.
type testPlace struct {
	client rueidis.Client
	prefix string

	mu        sync.Mutex // guards the following
	lose      func(text string) bool
	resets    map[int]func()
	listeners int
}

func (p *testPlace) key(kind, name string) string { return p.prefix + "{p}:" + kind + ":" + name }

func (p *testPlace) usesShards(context.Context) (bool, error) { return false, nil }

func (p *testPlace) exec(ctx context.Context, doing string, script *rueidis.Lua, keys, args []string) (rueidis.RedisMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	m, err := script.Exec(ctx, p.client, keys, args).ToMessage()
	if err != nil {
		err = fmt.Errorf("redis: %s: %w: %w", doing, realtime.ErrBrokerDown, err)
	}
	return m, err
}

func (p *testPlace) subscribe(ctx context.Context, channel string, onMessage func(string), onReset func()) (func(), error) {
	c, release := p.client.Dedicate()
	stands := make(chan struct{}, 1)
	c.SetPubSubHooks(rueidis.PubSubHooks{
		OnSubscription: func(rueidis.PubSubSubscription) { stands <- struct{}{} },
		OnMessage: func(m rueidis.PubSubMessage) {
			p.mu.Lock()
			lose := p.lose
			p.mu.Unlock()
			if lose == nil || !lose(m.Message) {
				onMessage(m.Message)
			}
		},
	})
	if err := c.Do(ctx, c.B().Subscribe().Channel(channel).Build()).Error(); err != nil {
		release()
		return nil, err
	}
	<-stands
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resets == nil {
		p.resets = map[int]func(){}
	}
	p.listeners++
	key := p.listeners
	p.resets[key] = onReset
	return func() {
		p.mu.Lock()
		delete(p.resets, key)
		p.mu.Unlock()
		c.Close()
		release()
	}, nil
}

// losing has the notices lost for which lose is true.
func (p *testPlace) losing(lose func(text string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = lose
}

// reset tells the listeners that their connection was lost, and is back.
func (p *testPlace) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.resets {
		f()
	}
}

// testNode is one node: its documents, and its way to the server.
type testNode struct {
	*documents
	way *testPlace
}

func newTestNode(t testing.TB, client rueidis.Client, name, prefix string) *testNode {
	t.Helper()
	way := &testPlace{client: client, prefix: prefix}
	d := newDocuments(func(string) documentPlace { return way }, name, 10*time.Second)
	t.Cleanup(d.close)
	return &testNode{d, way}
}
