package main

import (
	"bytes"
	"compress/flate"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// The two candidates of this file are no libraries. They say how little work is
// possible on this machine: sockets in one epoll loop, no goroutine and no
// buffer per connection, frames built once.
//
// limit makes one write(2) per frame and socket. limitco lets messages queue
// while it sweeps and writes up to 16 of them at once.
func init() {
	register(&peer{
		name: "limit", speak: raw, note: "no library: one prepared frame, one write(2) per socket",
		compresses: true,
		start:      func(compress bool) (server, error) { return newLimit(1, compress), nil },
	})
	register(&peer{
		name: "limitco", speak: raw, note: "no library: up to 16 queued frames per write(2)",
		compresses: true,
		start: func(compress bool) (server, error) {
			l := newLimit(16, compress)
			go l.sweepLoop() // ends with the process
			return l, nil
		},
	})
}

type limit struct {
	batch  int
	topics sync.Map // int -> *limitTopic
	wake   chan struct{}
	flate  *flate.Writer // nil without compression

	mu    sync.Mutex
	dirty []*limitTopic // topics with pending frames

	// Owned by Serve.
	socks map[int32]*limitSock
}

type limitSock struct {
	topic *limitTopic // nil before the handshake
	rest  []byte      // an unfinished frame
}

type limitTopic struct {
	mu      sync.Mutex // guards members; held while writing to them
	members []int

	queue   sync.Mutex // guards pending
	pending [][]byte
}

func (l *limit) topic(n int) *limitTopic {
	t, ok := l.topics.Load(n)
	if !ok {
		t, _ = l.topics.LoadOrStore(n, new(limitTopic))
	}
	return t.(*limitTopic)
}

func newLimit(batch int, compress bool) *limit {
	l := &limit{batch: batch, wake: make(chan struct{}, 1)}
	if compress {
		l.flate, _ = flate.NewWriter(nil, flate.BestSpeed) // the error is for levels that do not exist
	}
	return l
}

func (l *limit) frame(payload []byte) []byte {
	if l.flate == nil {
		return appendFrame(make([]byte, 0, len(payload)+10), opText, payload, false)
	}
	var b bytes.Buffer // whose Write has no errors
	l.flate.Reset(&b)
	_, _ = l.flate.Write(payload)
	_ = l.flate.Flush()
	return appendFrame(nil, bitRSV1|opText, b.Bytes()[:b.Len()-len(deflateTail)], false)
}

// Publish implements server.
func (l *limit) Publish(topic int, payload []byte) {
	frame := l.frame(payload)
	t := l.topic(topic)
	if l.batch == 1 {
		t.write(frame)
		return
	}
	t.queue.Lock()
	t.pending = append(t.pending, frame)
	first := len(t.pending) == 1
	t.queue.Unlock()
	if !first {
		return
	}
	l.mu.Lock()
	l.dirty = append(l.dirty, t)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *limit) sweepLoop() {
	var work []*limitTopic
	var out []byte
	for range l.wake {
		for {
			l.mu.Lock()
			work, l.dirty = l.dirty, work[:0]
			l.mu.Unlock()
			if len(work) == 0 {
				break
			}
			for _, t := range work {
				out = l.sweep(t, out)
			}
		}
	}
}

func (l *limit) sweep(t *limitTopic, out []byte) []byte {
	t.queue.Lock()
	frames := t.pending
	t.pending = nil
	t.queue.Unlock()
	for some := range slices.Chunk(frames, l.batch) {
		out = out[:0]
		for _, frame := range some {
			out = append(out, frame...)
		}
		t.write(out)
	}
	return out
}

// write sends p to every member. A member whose socket is full loses all of it;
// one that took a part cannot go on and is shut down.
func (t *limitTopic) write(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, fd := range t.members {
		if n, err := write(fd, p); err == nil && n < len(p) {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR) // the epoll loop closes it
		}
	}
}

// Serve is an epoll loop.
func (l *limit) Serve(listener net.Listener) error {
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	defer file.Close() // and so keeps it from being collected
	listening := int(file.Fd())
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	add := func(fd int) error {
		return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}
	if err := add(listening); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	l.socks = make(map[int32]*limitSock)
	events, buffer := make([]unix.EpollEvent, 128), make([]byte, 64<<10)
	for {
		n, err := unix.EpollWait(epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, event := range events[:max(n, 0)] {
			if event.Fd != int32(listening) {
				l.readable(event.Fd, buffer)
				continue
			}
			fd, _, err := unix.Accept4(listening, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				continue
			}
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			l.socks[int32(fd)] = new(limitSock)
			if err := add(fd); err != nil {
				return fmt.Errorf("epoll: %w", err)
			}
		}
	}
}

func (l *limit) readable(fd int32, buffer []byte) {
	s := l.socks[fd]
	n, err := read(int(fd), buffer)
	if err == unix.EAGAIN {
		return
	}
	ok := err == nil && n > 0
	switch {
	case !ok:
	case s.topic == nil:
		ok = l.upgrade(int(fd), s, buffer[:n])
	default:
		ok = s.echo(int(fd), buffer[:n])
	}
	if !ok {
		l.drop(fd, s)
	}
}

func (l *limit) drop(fd int32, s *limitSock) {
	if s.topic != nil {
		s.topic.mu.Lock()
		if i := slices.Index(s.topic.members, int(fd)); i >= 0 {
			s.topic.members = slices.Delete(s.topic.members, i, i+1)
			members.Add(-1)
		}
		s.topic.mu.Unlock()
	}
	delete(l.socks, fd)
	unix.Close(int(fd))
}

var (
	topicQuery   = regexp.MustCompile(`^GET /ws\?topic=(\d+) `)
	handshakeKey = regexp.MustCompile(`\r\nSec-WebSocket-Key: (\S+)\r\n`)
)

// upgrade expects the whole handshake in one read, as the load sends it.
func (l *limit) upgrade(fd int, s *limitSock, request []byte) bool {
	topic, key := topicQuery.FindSubmatch(request), handshakeKey.FindSubmatch(request)
	if topic == nil || key == nil {
		return false
	}
	n, err := strconv.Atoi(string(topic[1]))
	if err != nil {
		return false
	}
	sum := sha1.Sum(append(slices.Clip(key[1]), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	answer := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	answer = base64.StdEncoding.AppendEncode(answer, sum[:])
	if l.flate != nil {
		answer = append(answer, "\r\nSec-WebSocket-Extensions: "+deflateTerms...)
	}
	answer = append(answer, "\r\n\r\n"...)
	if _, err := write(fd, answer); err != nil {
		return false
	}
	s.topic = l.topic(n)
	s.topic.mu.Lock()
	s.topic.members = append(s.topic.members, fd)
	s.topic.mu.Unlock()
	members.Add(1)
	return true
}

// echo answers every message in p with itself, all in one write, and a close
// frame with the end of the connection.
func (s *limitSock) echo(fd int, p []byte) bool {
	if len(s.rest) > 0 {
		p = append(s.rest, p...)
	}
	var out []byte
	closing := false
	for len(p) >= 6 && !closing {
		head, size := 6, int(p[1]&0x7f)
		if size == 126 && len(p) >= 8 {
			head, size = 8, int(binary.BigEndian.Uint16(p[2:]))
		}
		if size >= 126 && head == 6 || len(p) < head+size {
			break
		}
		key, payload := p[head-4:head], p[head:head+size]
		for i := range payload {
			payload[i] ^= key[i&3]
		}
		closing = p[0]&0x0f == opClose
		out = appendFrame(out, p[0]&0x0f, payload, false)
		p = p[head+size:]
	}
	s.rest = append(s.rest[:0:0], p...)
	if len(out) > 0 {
		if n, err := write(fd, out); err != nil || n < len(out) {
			return false
		}
	}
	return !closing
}
