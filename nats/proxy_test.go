package nats_test

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy is a bad network between a node and its server.
type proxy struct {
	to string
	l  net.Listener

	mu    sync.Mutex // guards the following
	shut  bool
	gate  chan struct{} // closed while bytes may pass
	back  chan struct{} // the same for those of the server
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: u.Host, l: l, gate: make(chan struct{}), back: make(chan struct{})}
	p.resume()
	go p.acceptLoop()
	t.Cleanup(func() {
		l.Close()
		p.resume()
		p.cut()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.l.Addr().String() }

func (p *proxy) acceptLoop() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		shut := p.shut
		p.mu.Unlock()
		out, err := net.Dial("tcp", p.to)
		if err != nil || shut {
			in.Close()
			if err == nil {
				out.Close()
			}
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		go p.copyLoop(in, out, &p.back)
		go p.copyLoop(out, in, &p.gate)
	}
}

func (p *proxy) copyLoop(to, from net.Conn, at *chan struct{}) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		gate := *at
		p.mu.Unlock()
		<-gate
		if _, failed := to.Write(b[:n]); err != nil || failed != nil {
			return
		}
	}
}

// cut ends all connections and lets none in, until heal.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = false
}

// stall keeps connections open and lets no byte pass, until resume.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate, p.back = make(chan struct{}), make(chan struct{})
}

// mute does that to what the server says only.
func (p *proxy) mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back = make(chan struct{})
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, gate := range []chan struct{}{p.gate, p.back} {
		select {
		case <-gate:
		default:
			close(gate)
		}
	}
}
