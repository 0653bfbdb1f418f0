package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loadOrder asks the load process for one of
//
//	connect  open Count more clients, Parallel at a time, client i in topic i mod Topics; the first Deaf of them stall
//	reset    zero all counts; Stamps turns latency on or off
//	count    the counts since the reset
//	echo     every client sends Each requests, Window outstanding
//	joins    every client leaves and joins in turn, Each messages in all, each answered before the next
//	inspect  every client looks whether its next message is a compressed one of newRows
//	submit   the first Writers clients of each document submit for Seconds, Each ops at a time, Window submissions outstanding
//	churn    Count times: connect, join, close, Parallel at a time
type loadOrder struct {
	Op       string  `json:"op"`
	Addr     string  `json:"addr,omitempty"`
	Speak    dialect `json:"speak"`
	Count    int     `json:"count,omitempty"`
	Topics   int     `json:"topics,omitempty"`
	Parallel int     `json:"parallel,omitempty"`
	Deaf     int     `json:"deaf,omitempty"`
	Stamps   bool    `json:"stamps,omitempty"`
	Each     int     `json:"each,omitempty"`
	Window   int     `json:"window,omitempty"`
	Writers  int     `json:"writers,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	Compress bool    `json:"compress,omitempty"` // connect and churn: with permessage-deflate
}

type loadAnswer struct {
	Error   string  `json:"error,omitempty"`
	Ready   int     `json:"ready"`
	Total   uint64  `json:"total"`
	Min     uint64  `json:"min"` // least and most messages of one client that reads
	Max     uint64  `json:"max"`
	Bytes   uint64  `json:"bytes"` // that were read, with frame headers
	Samples uint64  `json:"samples"`
	P50     int64   `json:"p50_ns"`
	P99     int64   `json:"p99_ns"`
	P999    int64   `json:"p999_ns"`
	Seconds float64 `json:"seconds"`
	CPU     int64   `json:"cpu_ns"` // of the load process so far

	Inspected int `json:"inspected"` // clients whose message was as it should be
}

// load is the load generator: one thread, one epoll loop, one read buffer.
type load struct {
	epoll    int
	arrivals *counter
	answers  *json.Encoder
	server   *unix.SockaddrInet4
	source   int // last byte of the source address, less one; 0 leaves it to the kernel

	script  *script
	topics  int
	clients []client
	ready   int
	waiting int // opened and not ready yet

	stamps  bool // take latencies from the times in payloads
	trips   bool // take latencies of round trips
	latency histogram
	now     int64  // when the current read returned
	fresh   uint64 // arrivals not yet added to the counter
	bytes   uint64 // read since the last reset

	echo      []byte // as many requests as a window holds
	echoSize  int
	leave     []byte // sent in place of every other request, unless nil
	inspected int    // since the last reset
	submits   submitting

	events []unix.EpollEvent
	buffer []byte
	typed  []byte // orders, as far as they have arrived
	ended  bool   // stdin is closed
}

const stdinIndex = -1

// loadMain is the load process. It allocates while it connects and never
// collects, so that no collection disturbs a measurement.
func loadMain(out io.Writer) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(4 << 30)
	if _, err := raiseFiles(); err != nil {
		return err
	}
	arrivals, err := mapCounter(counterFD)
	if err != nil {
		return err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	l := &load{
		epoll: epoll, arrivals: arrivals, answers: json.NewEncoder(out),
		events: make([]unix.EpollEvent, 128), buffer: make([]byte, 256<<10),
	}
	if err := l.watch(0, stdinIndex); err != nil {
		return err
	}
	return l.run(func() bool { return l.ended })
}

func (l *load) watch(fd, index int) error {
	err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

// run handles what the sockets bring until done says so. The orders of the
// driver come the same way, and some of them run the loop in turn.
func (l *load) run(done func() bool) error {
	for !done() {
		n, err := unix.EpollWait(l.epoll, l.events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		typed := false
		for _, event := range l.events[:n] {
			if event.Fd == stdinIndex {
				typed = true
				continue
			}
			if err := l.readable(&l.clients[event.Fd]); err != nil {
				return err
			}
		}
		if l.fresh > 0 {
			l.arrivals.add(l.fresh)
			l.fresh = 0
		}
		if typed {
			if err := l.readOrders(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *load) readable(c *client) error {
	if c.stage == stageGone {
		return nil
	}
	n, err := read(int(c.fd), l.buffer)
	switch {
	case err == unix.EAGAIN:
		return nil
	case err != nil || n == 0:
		l.gone(c)
		return nil
	}
	l.bytes += uint64(n)
	if l.stamps || l.trips {
		l.now = time.Now().UnixNano()
	}
	return l.receive(c, l.buffer[:n])
}

func (l *load) readOrders() error {
	n, err := read(0, l.buffer)
	if err != nil || n == 0 {
		l.ended = true
		return nil
	}
	l.typed = append(l.typed, l.buffer[:n]...)
	for {
		line, rest, found := bytes.Cut(l.typed, lineFeed)
		if !found {
			return nil
		}
		var order loadOrder
		if err := json.Unmarshal(line, &order); err != nil {
			return fmt.Errorf("order: %w", err)
		}
		l.typed = bytes.Clone(rest)
		answer, err := l.obey(order)
		if err != nil {
			answer.Error = err.Error()
		}
		if err := l.answers.Encode(answer); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func (l *load) obey(order loadOrder) (loadAnswer, error) {
	start := time.Now()
	var err error
	switch order.Op {
	case "connect":
		err = l.connect(order)
	case "reset":
		l.reset(order.Stamps)
	case "count":
	case "echo":
		err = l.runEcho(order, frameOf(strings.ReplaceAll(order.Speak.Echo, "{payload}", string(newPayload(0)))), nil)
	case "joins":
		err = l.runEcho(order, frameOf(fill(order.Speak.Join, 0)), frameOf(fill(order.Speak.Leave, 0)))
	case "inspect":
		err = l.inspect()
	case "submit":
		err = l.runSubmit(order)
	case "churn":
		err = l.churn(order)
	default:
		err = fmt.Errorf("unknown order %q", order.Op)
	}
	answer := l.counts()
	answer.Seconds = time.Since(start).Seconds()
	return answer, err
}

func (l *load) reset(stamps bool) {
	l.stamps, l.trips = stamps, false
	l.latency, l.bytes, l.inspected = histogram{}, 0, 0
	for i := range l.clients {
		l.clients[i].got = 0
	}
}

func (l *load) counts() loadAnswer {
	a := loadAnswer{Ready: l.ready, Min: math.MaxUint64, Bytes: l.bytes, Inspected: l.inspected, Samples: l.latency.total,
		P50: l.latency.quantile(0.5), P99: l.latency.quantile(0.99), P999: l.latency.quantile(0.999)}
	for i := range l.clients {
		if c := &l.clients[i]; !c.deaf {
			a.Total += c.got
			a.Min = min(a.Min, c.got)
			a.Max = max(a.Max, c.got)
		}
	}
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		a.CPU = unix.TimevalToNsec(r.Utime) + unix.TimevalToNsec(r.Stime)
	}
	return a
}

// aim takes the address and the dialect from an order.
func (l *load) aim(order loadOrder) error {
	var port int
	if _, err := fmt.Sscanf(order.Addr, "127.0.0.1:%d", &port); err != nil {
		return fmt.Errorf("address %q: %w", order.Addr, err)
	}
	l.server = &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	l.script = newScript(order.Speak, order.Addr, order.Compress)
	l.topics = max(order.Topics, 1)
	return nil
}

func (l *load) topicOf(c *client) int {
	index := (uintptr(unsafe.Pointer(c)) - uintptr(unsafe.Pointer(&l.clients[0]))) / unsafe.Sizeof(client{})
	return int(index) % l.topics
}

func (l *load) connect(order loadOrder) error {
	if err := l.aim(order); err != nil {
		return err
	}
	first := len(l.clients)
	want := first + order.Count
	l.clients = append(l.clients, make([]client, order.Count)...)
	for next := first; l.ready < want; {
		for ; next < want && l.waiting < order.Parallel; next++ {
			l.waiting++
			if err := l.open(next, next%l.topics, next-first < order.Deaf); err != nil {
				return fmt.Errorf("client %d: %w", next, err)
			}
		}
		opened, before := next, l.ready
		err := l.run(func() bool { return l.ended || l.ready > before || l.ready+l.waiting < opened })
		if err != nil || l.ended {
			return err
		}
		if l.ready+l.waiting < opened {
			return fmt.Errorf("a client was closed while %d were ready", l.ready)
		}
	}
	return nil
}

func frameOf(text string) []byte { return appendFrame(nil, opText, []byte(text), true) }

// inspect returns at once.
func (l *load) inspect() error {
	l.inspected = 0
	for i := range l.clients {
		if l.clients[i].stage != stageReady {
			return fmt.Errorf("client %d is not connected", i)
		}
		l.clients[i].stage = stageInspecting
	}
	return nil
}

// runEcho has every client send request, or in turns leave and request, and
// returns when each has its last reply.
func (l *load) runEcho(order loadOrder, request, leave []byte) error {
	l.echo, l.echoSize, l.leave = bytes.Repeat(request, order.Window), len(request), leave
	l.reset(false)
	l.trips = order.Stamps && order.Window == 1 // with more outstanding a reply has no start of its own
	var want uint64
	for i := range l.clients {
		c := &l.clients[i]
		if c.stage != stageReady {
			return fmt.Errorf("client %d is not connected", i)
		}
		want += uint64(order.Each)
		c.pending, c.sentAt = order.Each, 0
		if err := l.request(c, order.Window); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	base, alive := l.arrivals.arrived.Load(), l.ready
	err := l.run(func() bool {
		return l.ended || l.ready < alive || l.arrivals.arrived.Load()-base >= want
	})
	if err == nil && l.ready < alive {
		err = fmt.Errorf("a client was closed")
	}
	return err
}

// churn connects, joins and leaves. A client says goodbye with a close frame
// and waits until the server has closed.
func (l *load) churn(order loadOrder) error {
	if err := l.aim(order); err != nil {
		return err
	}
	if l.ready+l.waiting > 0 {
		return fmt.Errorf("churn with clients connected")
	}
	bye := appendFrame(nil, opClose, []byte{0x03, 0xe8}, true) // 1000
	l.clients = make([]client, order.Parallel)
	state := make([]churning, order.Parallel)
	opened, closed := 0, 0
	for {
		for i := range l.clients {
			c := &l.clients[i]
			switch {
			case state[i] == churnOpen && c.stage == stageReady:
				state[i] = churnSaidBye
				if err := l.send(c, bye); err != nil {
					return err
				}
			case state[i] == churnOpen && c.stage == stageGone:
				return fmt.Errorf("a client was closed before it had joined")
			case state[i] == churnSaidBye && c.stage == stageGone:
				state[i] = churnIdle
				closed++
			}
			if state[i] == churnIdle && opened < order.Count {
				state[i] = churnOpen
				l.waiting++
				if err := l.open(i, opened%l.topics, false); err != nil {
					return fmt.Errorf("client %d: %w", opened, err)
				}
				opened++
			}
		}
		if closed == order.Count {
			return nil
		}
		passes := 0
		err := l.run(func() bool { passes++; return passes > 1 || l.ended })
		if err != nil || l.ended {
			return err
		}
	}
}

// churning is what a churn's slot is at.
type churning uint8

const (
	churnIdle churning = iota
	churnOpen
	churnSaidBye
)

// read and write skip the runtime's bookkeeping: the sockets never block.
func read(fd int, p []byte) (int, error) {
	return counted(unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))))
}

func write(fd int, p []byte) (int, error) {
	return counted(unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))))
}

func counted(n, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
