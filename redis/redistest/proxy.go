package redistest

import (
	"io"
	"net"
	"sync"
	"time"
)

// Proxy carries bytes between whoever connects to Addr and one server, until it is
// told to do that badly. Its methods may be called from any goroutine.
type Proxy struct {
	Addr string

	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards the following
	state proxyState
	delay time.Duration
	open  map[*carried]struct{}
}

type proxyState uint8

const (
	carrying proxyState = iota
	cutOff
	halfOpen
	proxyClosed
)

// NewProxy listens on a free port of the loopback address for connections to
// target, which need not be there yet. The caller calls Close.
func NewProxy(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Addr: listener.Addr().String(), target: target, listener: listener, open: map[*carried]struct{}{}}
	p.running.Go(p.acceptLoop)
	return p, nil
}

// Cut ends all connections with a reset, and every new one as soon as it comes.
func (p *Proxy) Cut() {
	p.become(cutOff)
	p.closeAll()
}

// HalfOpen lets connections live and nothing pass: what either side sends is read
// and thrown away, and new connections are accepted and treated in the same way.
func (p *Proxy) HalfOpen() { p.become(halfOpen) }

// Heal ends Cut and HalfOpen. Connections that were half open have lost bytes, so
// they end with a reset.
func (p *Proxy) Heal() {
	if p.become(carrying) == halfOpen {
		p.closeAll()
	}
}

// Delay has every byte arrive this much later than it was sent, in both
// directions; 0 ends that.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Connections returns how many connections there are at the moment.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// Close ends the proxy and waits for its goroutines.
func (p *Proxy) Close() {
	p.become(proxyClosed)
	_ = p.listener.Close()
	p.closeAll()
	p.running.Wait()
}

func (p *Proxy) become(state proxyState) (before proxyState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before = p.state; before != proxyClosed {
		p.state = state
	}
	return before
}

func (p *Proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for one := range p.open {
		one.reset()
	}
}

// now returns how things are.
func (p *Proxy) now() (proxyState, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.delay
}

func (p *Proxy) acceptLoop() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.carry(conn.(*net.TCPConn)) })
	}
}

// carry serves one connection until either side ends it, or the proxy does.
func (p *Proxy) carry(client *net.TCPConn) {
	one := &carried{client: client}
	if !p.add(one) {
		one.reset()
		return
	}
	defer p.remove(one)
	if state, _ := p.now(); state == halfOpen {
		_, _ = io.Copy(io.Discard, client) // until Heal resets it, or its owner gives up
		return
	}
	if server, err := net.Dial("tcp", p.target); err != nil || !one.reaches(server.(*net.TCPConn)) {
		one.reset()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(one.server, one.client, one) })
	both.Go(func() { p.pump(one.client, one.server, one) })
	both.Wait()
}

func (p *Proxy) add(one *carried) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == cutOff || p.state == proxyClosed {
		return false
	}
	p.open[one] = struct{}{}
	return true
}

func (p *Proxy) remove(one *carried) {
	one.reset()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, one)
}

// late is what was read, and when it is to arrive.
type late struct {
	bytes []byte
	at    time.Time
}

// pump moves bytes in one direction. The end of one direction is that of both:
// nothing here needs half a connection.
func (p *Proxy) pump(from, to net.Conn, one *carried) {
	waiting := make(chan late, 1024)
	var writer sync.WaitGroup
	writer.Go(func() {
		for piece := range waiting {
			time.Sleep(time.Until(piece.at))
			if state, _ := p.now(); state == halfOpen {
				continue
			}
			if _, err := to.Write(piece.bytes); err != nil {
				one.reset()
			}
		}
		one.finish()
	})
	for {
		piece := make([]byte, 32<<10)
		n, err := from.Read(piece)
		if _, delay := p.now(); n > 0 {
			waiting <- late{piece[:n], time.Now().Add(delay)}
		}
		if err != nil {
			if err != io.EOF {
				one.reset()
			}
			break
		}
	}
	close(waiting)
	writer.Wait()
}

// carried is one connection through the proxy.
type carried struct {
	client *net.TCPConn

	mu     sync.Mutex // guards the following
	server *net.TCPConn
	done   bool
}

// reaches is told of the connection to the server. It returns false if the proxy
// has ended this one in the meantime.
func (c *carried) reaches(server *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = server
	return !c.done
}

// reset ends both sides as a crash does.
func (c *carried) reset() { c.end(0) }

// finish ends both sides once what was written has been sent.
func (c *carried) finish() { c.end(-1) }

func (c *carried) end(linger int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	for _, conn := range []*net.TCPConn{c.client, c.server} {
		if conn != nil {
			_ = conn.SetLinger(linger) // fails on one that is closed
			_ = conn.Close()
		}
	}
}
