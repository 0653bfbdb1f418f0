package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// looseLink is the link of a client without a connection.
type looseLink struct {
	link
	mu    sync.Mutex
	ended []Reason
}

func (l *looseLink) disconnect(r Reason, _ *Error, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, r)
}

func (*looseLink) context() context.Context { return context.Background() }

func (l *looseLink) reasons() []Reason {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Reason(nil), l.ended...)
}

// party is a topic whose members are real sockets, with a reader at each end.
type party struct {
	topic   *topic
	pool    *flushPool
	members []*member
	peers   []net.Conn

	answered sync.WaitGroup // the peers' pings

	mu     sync.Mutex // held while delivering, as a broker does
	offset uint64
}

// newParty makes n members over loopback sockets, or pipes.
func newParty(t *testing.T, n int, pipes bool, policy policyName, bounds queueBounds) *party {
	t.Helper()
	p := &party{pool: newFlushPool(newMetrics(), 20*time.Second)}
	p.topic = &topic{kindred: &kindred{pool: p.pool, count: &topicCounters{published: &tally{}, deliveries: &tally{}}}}
	p.topic.stream = stream{"room:1", &rules{policy, &tally{}}}
	for range n {
		server, client := net.Pipe()
		if !pipes {
			server, client = tcpPair(t)
		}
		m := &member{topic: p.topic}
		m.at = int32(p.topic.members.add(m))
		m.client = &Client{id: fmt.Sprint(m.at), link: &looseLink{}}
		m.client.pool, m.client.enc, m.client.base = p.pool, envelopeCodec{}, time.Now()
		m.client.out.bounds = &bounds
		m.client.open(&upgraded{nc: server}, 1<<16)
		p.members = append(p.members, m)
		p.peers = append(p.peers, client)
		t.Cleanup(func() { server.Close(); client.Close() })
	}
	return p
}

// publish delivers one event with n bytes of data that its offset fixes.
func (p *party) publish(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offset++
	p.topic.deliver(&Event{Topic: "room:1", Name: "n", Data: partyData(p.offset, n), Offset: p.offset, Time: time.Now()})
}

func partyData(offset uint64, n int) json.RawMessage {
	return json.RawMessage(`"` + strings.Repeat(string(rune('a'+offset%26)), n) + `"`)
}

// readLoop answers pings until the peer has closed, as a connection does.
func (p *party) readLoop(tr *transport) error {
	for {
		if err := tr.wait(); err != nil {
			return err
		}
		for {
			op, payload, err := tr.in.next()
			if err != nil {
				return err
			}
			switch op {
			case framePing:
				tr.send(pong(payload))
				p.answered.Done()
			case frameClose:
				return nil
			}
			if tr.in.buffered() == 0 {
				break
			}
		}
	}
}

// guest is what one reader has seen.
type guest struct {
	next    uint64 // offset of the event to come
	pongs   int
	pings   int
	gaps    int
	lossy   bool // the queue is short: a pong may find it full
	closing bool
	closed  bool
}

// check holds one frame against what must come.
func (g *guest) check(op opcode, payload []byte) error {
	switch {
	case g.closed:
		return fmt.Errorf("opcode %x after the close frame", op)
	case op == frameClose:
		if code, text := parseClose(payload); !g.closing || code != 4011 || text != "bye" {
			return fmt.Errorf("close frame %d %q, closing %v", code, text, g.closing)
		}
		g.closed = true
		return nil
	case op == framePing:
		g.pings++
		return nil
	case op == framePong:
		n, err := strconv.Atoi(string(payload))
		if err != nil || n < g.pongs || n > g.pongs && !g.lossy {
			return fmt.Errorf("pong %q, want %d", payload, g.pongs)
		}
		g.pongs = n + 1
		return nil
	}
	var m told
	if err := json.Unmarshal(payload, &m); err != nil {
		return fmt.Errorf("%w in %.80q", err, payload)
	}
	switch {
	case g.closing:
		return fmt.Errorf("%s after closing", m.Type)
	case m.Type == "closing":
		g.closing = true
	case m.Type == "gap":
		var d struct{ Dropped, From, To uint64 }
		json.Unmarshal(m.Data, &d)
		if d.From != g.next || d.Dropped != d.To-d.From+1 {
			return fmt.Errorf("gap %+v, want one from %d", d, g.next)
		}
		g.next = d.To + 1
		g.gaps++
	case m.Offset != g.next:
		return fmt.Errorf("event %d, want %d", m.Offset, g.next)
	case string(m.Data) != string(partyData(m.Offset, len(m.Data)-2)):
		return fmt.Errorf("event %d holds bytes of others", m.Offset)
	default:
		g.next++
	}
	return nil
}

// readAll reads until the close frame, answers it, and makes sure that nothing
// follows. slow is called before every read of the socket.
func (g *guest) readAll(nc net.Conn, slow func()) error {
	r := newPeerReader(slowReader{nc, slow})
	for !g.closed {
		op, payload, err := r.next()
		if err != nil {
			return fmt.Errorf("after event %d: %w", g.next-1, err)
		}
		if err := g.check(op, payload); err != nil {
			return err
		}
	}
	nc.Write(wire(nil).frame(fClose, closeText(4011, "")))
	if op, payload, err := r.next(); err != io.EOF {
		return fmt.Errorf("after the close frame: opcode %x %.20q, %w", op, payload, err)
	}
	return nil
}

type slowReader struct {
	io.Reader
	wait func()
}

func (s slowReader) Read(p []byte) (int, error) {
	s.wait()
	return s.Reader.Read(p[:min(len(p), 1+rand.IntN(3000))])
}

// TestFramesOfManyWritersDoNotMix is the interleaving test: publishers, pings from
// both sides, frames that split, slow readers, and a close at the end, over
// sockets and pipes, with members written to by the publisher and by the pool.
func TestFramesOfManyWritersDoNotMix(t *testing.T) {
	for _, tt := range []struct {
		name    string
		members int
		pipes   bool
		bounds  queueBounds
	}{
		{"few over TCP", 4, false, queueBounds{messages: 1 << 20, bytes: 1 << 30}},
		{"few over pipes", 4, true, queueBounds{messages: 1 << 20, bytes: 1 << 30}},
		{"more than a publisher writes to", inlineMembers + 4, false, queueBounds{messages: 1 << 20, bytes: 1 << 30}},
		{"more over pipes", inlineMembers + 4, true, queueBounds{messages: 1 << 20, bytes: 1 << 30}},
		{"with drops", 4, false, queueBounds{messages: 30, bytes: 1 << 18}},
		{"with drops over pipes", 4, true, queueBounds{messages: 30, bytes: 1 << 18}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newParty(t, tt.members, tt.pipes, dropOldest, tt.bounds)
			guests := p.run(t, 120/tt.members, nil)
			gaps, pongs, pings := 0, 0, 0
			for i, g := range guests {
				if g.next != p.offset+1 {
					t.Errorf("member %d knows of %d events, want %d", i, g.next-1, p.offset)
				}
				if got := p.members[i].client.link.(*looseLink).reasons(); len(got) != 0 {
					t.Errorf("member %d was disconnected: %v, want no reason", i, got)
				}
				gaps, pongs, pings = gaps+g.gaps, pongs+g.pongs, pings+g.pings
			}
			if pongs == 0 || pings == 0 {
				t.Errorf("%d pongs and %d pings came, want some", pongs, pings)
			}
			if lossy := tt.bounds.messages < 1000; lossy != (gaps > 0) {
				t.Errorf("%d gaps, want some: %v", gaps, lossy)
			}
		})
	}
}

// run publishes from four goroutines, each rounds events, and returns what the
// readers saw. bypass, if not nil, is called with each member while that goes on.
func (p *party) run(t *testing.T, rounds int, bypass func(*transport)) []*guest {
	t.Helper()
	var readers, writers, loops sync.WaitGroup
	guests := make([]*guest, len(p.members))
	stop := make(chan struct{})
	p.answered.Add(rounds * len(p.members))
	for i, m := range p.members {
		tr := &m.client.transport
		guests[i] = &guest{next: 1, lossy: m.client.out.bounds.messages < 1000}
		loops.Go(func() {
			if err := p.readLoop(tr); err != nil && bypass == nil {
				t.Errorf("member %d: server reads: %v", i, err)
			}
			tr.out.await(10 * time.Second)
			tr.nc.Close()
		})
		readers.Go(func() {
			reads := 0
			err := guests[i].readAll(p.peers[i], func() {
				if reads++; i%2 == 0 && reads%8 == 0 {
					time.Sleep(100 * time.Microsecond) // a slow reader
				}
			})
			if err != nil {
				p.peers[i].Close()
				if bypass == nil {
					t.Errorf("member %d: %v", i, err)
				}
			}
		})
		writers.Go(func() {
			for n := range rounds {
				p.peers[i].Write(wire(nil).frame(fPing, fmt.Sprint(n)))
				tr.send(&frame{wire: pingFrame})
			}
		})
		if bypass != nil {
			loops.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						bypass(tr)
						runtime.Gosched()
					}
				}
			})
		}
	}
	for w := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			for range rounds {
				n := r.IntN(2000)
				if r.IntN(8) == 0 {
					n = r.IntN(200_000) // does not fit into a socket at once
				}
				p.publish(n)
			}
		})
	}
	writers.Wait()
	if bypass == nil {
		p.answered.Wait() // nothing is answered once the end has begun
	}
	close(stop)
	for _, m := range p.members {
		m.client.finish(false, textOf(`{"channel":"global","type":"closing","data":{}}`), closeFrame(4011, "bye"))
	}
	p.mu.Lock()
	p.topic.deliver(&Event{Topic: "room:1", Name: "late", Data: json.RawMessage("1"), Offset: p.offset + 1})
	p.mu.Unlock()
	readers.Wait()
	loops.Wait()
	return guests
}

func textOf(payload string) *frame {
	return &frame{wire: append(appendHeader(nil, frameText, false, len(payload)), payload...)}
}

// The mutant: a second flusher that does not ask whether one is at work. It takes
// frames under the queue's lock, so the race detector has nothing to say; only
// the order of bytes on the wire goes wrong, and the readers must notice.
func TestASecondFlusherIsNoticed(t *testing.T) {
	for _, pipes := range []bool{false, true} {
		p := newParty(t, 4, pipes, closeSlow, queueBounds{messages: 1 << 20, bytes: 1 << 30})
		guests := p.run(t, 40, func(tr *transport) {
			var b batch
			tr.out.mu.Lock()
			if len(tr.out.items) > 0 {
				tr.out.takeSomeLocked(&b)
			}
			tr.out.mu.Unlock()
			for _, f := range b.frames {
				half := len(f.wire) / 2
				tr.nc.Write(f.wire[:half])
				runtime.Gosched()
				tr.nc.Write(f.wire[half:])
			}
			b.release()
		})
		noticed := 0
		for _, g := range guests {
			if !g.closed || g.next != p.offset+1 {
				noticed++
			}
		}
		if noticed == 0 {
			t.Errorf("pipes %v: no reader noticed anything", pipes)
		}
	}
}

func TestPoolHasNoWorkersWhenNothingWaits(t *testing.T) {
	p := newParty(t, inlineMembers+8, false, closeSlow, queueBounds{messages: 256, bytes: 1 << 20})
	for range 50 {
		p.publish(10)
	}
	for i, nc := range p.peers {
		g := &guest{next: 1}
		r := newPeerReader(nc)
		for range 50 {
			op, payload, err := r.next()
			if err == nil {
				err = g.check(op, payload)
			}
			if err != nil {
				t.Fatalf("member %d: %v", i, err)
			}
		}
	}
	for range 1000 {
		p.pool.mu.Lock()
		running, waiting, head := p.pool.running, p.pool.waiting, p.pool.head
		p.pool.mu.Unlock()
		if running == 0 && waiting == 0 && head == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d workers and %d connections in the pool, want none", p.pool.running, p.pool.waiting)
}

// Frames that wait together go out in few writes, none longer than coalesce.
func TestWaitingFramesShareAWrite(t *testing.T) {
	server, client := net.Pipe()
	defer client.Close()
	tr := newLooseTransport(server, 20*time.Second)
	tr.out.busy = true // so that they wait
	for range 100 {
		tr.send(textFrame('a', 1000))
	}
	tr.send(textFrame('b', 2*coalesce))
	tr.send(textFrame('c', 1))
	var sizes []int
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4*coalesce)
		for sum := 0; sum < 100*1004+2*coalesce+10+3; {
			n, err := client.Read(b)
			if err != nil {
				return
			}
			sizes = append(sizes, n)
			sum += n
		}
	}()
	w := flushers.Get().(*flusher)
	w.batch.frames = append([]*frame(nil), tr.out.items...)
	if err := w.writeBlocking(&tr.outlet, w.batch.frames); err != nil {
		t.Fatal(err)
	}
	<-done
	want := []int{65 * 1004, 35 * 1004, 2*coalesce + 10, 3}
	if fmt.Sprint(sizes) != fmt.Sprint(want) {
		t.Errorf("writes of %v bytes, want %v", sizes, want)
	}
}

func TestCutFindsTheFrameThatWasNotWhollyWritten(t *testing.T) {
	tr := &outlet{enc: envelopeCodec{}}
	frames := []*frame{{wire: []byte("aaa")}, {wire: []byte("bb")}, {wire: []byte("cccc")}}
	for n, want := range []struct {
		left int
		rest string
	}{{3, ""}, {2, "aa"}, {2, "a"}, {2, ""}, {1, "b"}, {1, ""}, {0, "ccc"}, {0, "cc"}, {0, "c"}, {0, ""}} {
		tr.rest = nil
		left := tr.cut(frames, n)
		if len(left) != want.left || string(tr.rest) != want.rest {
			t.Errorf("%d bytes written: %d frames left and %q, want %d and %q", n, len(left), tr.rest, want.left, want.rest)
		}
	}
}

func BenchmarkFlush(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("frames=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			server, client := tcpPair(b)
			go io.Copy(io.Discard, client)
			tr := newLooseTransport(server, 20*time.Second)
			f := textFrame('a', 128)
			for b.Loop() {
				for range n - 1 {
					tr.out.push(f)
				}
				tr.out.mu.Lock()
				tr.out.busy = false
				tr.out.mu.Unlock()
				tr.send(f)
				tr.out.await(time.Second)
			}
		})
	}
}
