package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stage is how far a client has come.
type stage uint8

const (
	stageUpgrading stage = iota // the handshake's answer is awaited
	stageJoining                // the ready text is awaited
	stageReady
	stageInspecting // ready, and the next message is looked at
	stageGone       // closed by either side
)

// client is one raw socket of the load generator.
type client struct {
	fd      int32
	stage   stage
	deaf    bool // a stalled reader: its socket is never read again
	walk    walker
	got     uint64  // messages since the last reset
	pending int     // requests of the echo work that may still be sent
	sentAt  int64   // of the last request
	text    []byte  // what has arrived of the handshake or of a message that is looked at; nil otherwise
	author  *author // nil for a client of no document
}

// script is the dialect made ready to send: bytes only.
type script struct {
	upgrade func(topic int) []byte
	hello   func(topic int) []byte // all hello frames in a row; nil if there are none
	ready   []byte
	deflate bool
	lines   bool
	ping    []byte
	pong    []byte // a whole frame
	authors bool   // the ready message is connect_document_success
}

// The sample nonce of RFC 6455 and its answer.
const (
	nonce  = "dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func newScript(d dialect, addr string, compress bool) *script {
	s := &script{ready: []byte(d.Ready), deflate: compress, lines: d.Lines, ping: []byte(d.Ping), authors: d.Authors}
	s.upgrade = func(topic int) []byte {
		var b bytes.Buffer
		fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", fill(d.Path, topic), addr)
		fmt.Fprintf(&b, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", nonce)
		if d.Subprotocol != "" {
			fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", d.Subprotocol)
		}
		if compress {
			fmt.Fprintf(&b, "Sec-WebSocket-Extensions: %s\r\n", deflateTerms)
		}
		for _, line := range d.Header {
			fmt.Fprintf(&b, "%s\r\n", line)
		}
		b.WriteString("\r\n")
		return b.Bytes()
	}
	if len(d.Hello) > 0 {
		s.hello = func(topic int) (frames []byte) {
			for _, text := range d.Hello {
				frames = appendFrame(frames, opText, []byte(fill(text, topic)), true)
			}
			return frames
		}
	}
	if d.Ping != "" {
		s.pong = appendFrame(nil, opText, []byte(d.Pong), true)
	}
	return s
}

func fill(text string, topic int) string {
	if strings.Contains(text, "{token}") {
		text = strings.ReplaceAll(text, "{token}", documentToken(topic))
	}
	return strings.ReplaceAll(text, "{topic}", strconv.Itoa(topic))
}

// open connects a client and sends its handshake.
func (l *load) open(index, topic int, deaf bool) error {
	if index > 0 && index%perSource == 0 {
		l.source++
	}
	fd, err := l.dial(deaf)
	if err != nil {
		return err
	}
	c := &l.clients[index]
	*c = client{fd: int32(fd), deaf: deaf, text: c.text[:0]}
	if err := l.watch(fd, index); err != nil {
		return err
	}
	return l.send(c, l.script.upgrade(topic))
}

// perSource is after how many clients the source address changes. Linux gives
// out every other port first, 14,116 by default; once these are used up each
// connect searches all of them in vain, which costs half a millisecond.
const perSource = 10000

// dial tries a further source address when the ports of one are used up.
func (l *load) dial(deaf bool) (int, error) {
	for {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("socket: %w", err)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if deaf {
			// The least receive buffer and small segments keep the server's send buffer
			// below 70 KiB. With the segments of loopback it starts at 4 MB, and 20,000
			// messages go by before the server notices the stall.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536)
		}
		if l.source > 0 {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + l.source)}})
		}
		if err == nil {
			err = unix.Connect(fd, l.server)
		}
		if err == nil {
			return fd, unix.SetNonblock(fd, true)
		}
		unix.Close(fd)
		if err != unix.EADDRNOTAVAIL || l.source == 8 {
			return 0, fmt.Errorf("connect: %w", err)
		}
		l.source++
	}
}

// send writes all of p. What a client sends fits its socket: a full one means
// that the server has stopped reading, which ends the run.
func (l *load) send(c *client, p []byte) error {
	n, err := write(int(c.fd), p)
	if err == nil && n < len(p) {
		err = fmt.Errorf("short write, %d of %d bytes", n, len(p))
	}
	if err == unix.EPIPE || err == unix.ECONNRESET {
		l.gone(c)
		return nil
	}
	return err
}

// gone ends a client. Its counts stay.
func (l *load) gone(c *client) {
	if c.stage == stageGone {
		return
	}
	if c.stage == stageReady || c.stage == stageInspecting {
		l.ready--
	} else {
		l.waiting--
	}
	c.stage = stageGone
	unix.Close(int(c.fd))
}

// receive handles what one read has brought.
func (l *load) receive(c *client, p []byte) error {
	if c.stage == stageUpgrading {
		c.text = append(c.text, p...)
		end := bytes.Index(c.text, []byte("\r\n\r\n"))
		if end < 0 {
			return nil
		}
		head := c.text[:end]
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte(accept)) {
			return fmt.Errorf("handshake answered with %.200q", head)
		}
		if l.script.deflate && !containsAll(head, deflateAccepted) {
			return fmt.Errorf("compression was not agreed on: %.200q", head)
		}
		p = bytes.Clone(c.text[end+4:])
		c.text = c.text[:0]
		if err := l.upgraded(c); err != nil {
			return err
		}
	}
	return l.frames(c, p)
}

func containsAll(text []byte, parts [][]byte) bool {
	return !slices.ContainsFunc(parts, func(part []byte) bool { return !bytes.Contains(text, part) })
}

func (l *load) upgraded(c *client) error {
	c.stage = stageJoining
	if len(l.script.ready) == 0 {
		l.joined(c)
	}
	if l.script.hello == nil {
		return nil
	}
	return l.send(c, l.script.hello(l.topicOf(c)))
}

func (l *load) joined(c *client) {
	c.stage = stageReady
	c.text = nil
	l.waiting--
	l.ready++
	if c.deaf {
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, int(c.fd), nil)
	}
}

// frames is the hot path: it walks headers and skips payloads.
func (l *load) frames(c *client, p []byte) error {
	messages := uint64(0)
	for len(p) > 0 {
		piece, end, rest := c.walk.next(p)
		p = rest
		op := c.walk.opcode()
		if op >= opClose {
			if err := l.control(c, op, piece, end); err != nil || c.stage == stageGone {
				return err
			}
			continue
		}
		if c.stage != stageReady {
			if err := l.lookAt(c, piece, end); err != nil {
				return err
			}
			continue
		}
		if c.author != nil {
			if err := l.documentMessage(c, piece, end); err != nil || c.stage == stageGone {
				return err
			}
			continue
		}
		if l.script.lines {
			messages += uint64(bytes.Count(piece, lineFeed))
		}
		if l.stamps {
			l.readStamps(piece)
		}
		if end && c.walk.final() {
			if l.script.ping != nil && bytes.Equal(piece, l.script.ping) {
				if err := l.send(c, l.script.pong); err != nil {
					return err
				}
				continue
			}
			messages++
		}
	}
	if c.walk.bad {
		return fmt.Errorf("the server sent a masked frame")
	}
	c.got += messages
	l.fresh += messages
	if c.author != nil && c.author.due > 0 {
		return l.submit(c)
	}
	if c.pending > 0 && messages > 0 {
		return l.request(c, int(messages))
	}
	return nil
}

// lookAt collects a message before the client is ready and looks for the text
// that makes it so; or a message of a client that inspects.
func (l *load) lookAt(c *client, piece []byte, end bool) error {
	c.text = append(c.text, piece...)
	if !end || !c.walk.final() {
		return nil
	}
	text := c.text
	if c.walk.rsv1() {
		var err error
		if text, err = inflate(c.text); err != nil {
			return err
		}
	}
	switch {
	case c.stage == stageInspecting:
		c.stage, c.text = stageReady, nil
		c.got++
		l.fresh++
		if c.walk.rsv1() && holdsRows(text) {
			l.inspected++
		}
	case bytes.Contains(text, l.script.ready):
		if l.script.authors {
			var err error
			if c.author, err = newAuthor(text); err != nil {
				return err
			}
		}
		l.joined(c)
	default:
		c.text = c.text[:0]
	}
	return nil
}

// holdsRows reports whether text is JSON that has a payload of newRows in it,
// whole and as it was published.
func holdsRows(text []byte) bool {
	start := bytes.Index(text, []byte("{"+stampMark))
	if start < 0 || len(text) < start+rowsSize || !json.Valid(text) {
		return false
	}
	var got struct{ Seq uint64 }
	rows := text[start : start+rowsSize]
	if json.Unmarshal(rows, &got) != nil {
		return false
	}
	want := newRows(got.Seq)
	after := bytes.Index(rows, []byte(`"seq"`)) // all but the time
	return bytes.Equal(rows[after:], want[after:])
}

func (l *load) control(c *client, op byte, piece []byte, end bool) error {
	switch {
	case op == opPing && end: // cut pings are rare and unanswered ones forgiven
		return l.send(c, appendFrame(nil, opPong, piece, true))
	case op == opClose && end:
		l.gone(c)
	}
	return nil
}

// readStamps adds the latency of every message whose time stands in piece. A
// stamp that is cut by the end of a read is left out.
func (l *load) readStamps(piece []byte) {
	for {
		i := bytes.Index(piece, stampBytes)
		if i < 0 || len(piece) < i+len(stampBytes)+stampDigits {
			return
		}
		piece = piece[i+len(stampBytes):]
		at := int64(0)
		for _, digit := range piece[:stampDigits] {
			at = at*10 + int64(digit-'0')
		}
		l.latency.add(l.now - at)
	}
}

var (
	lineFeed   = []byte("\n")
	stampBytes = []byte(stampMark)
)

// request answers n replies with as many further requests.
func (l *load) request(c *client, n int) error {
	if l.trips && c.sentAt != 0 {
		l.latency.add(l.now - c.sentAt)
	}
	n = min(n, c.pending)
	c.pending -= n
	c.sentAt = time.Now().UnixNano()
	if l.leave != nil && c.pending%2 == 1 {
		return l.send(c, l.leave)
	}
	return l.send(c, l.echo[:n*l.echoSize])
}
