package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rawPeer is a client that sees frames as they are, close frames included.
type rawPeer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// dialRaw opens a V2 socket.
func dialRaw(t *testing.T, s *site) *rawPeer {
	t.Helper()
	host := strings.TrimPrefix(s.base, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	p := &rawPeer{t: t, conn: conn, in: bufio.NewReader(conn)}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = upgrades()
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(p.in, r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: got %v (%v), want 101", resp, err)
	}
	return p
}

// write sends one short frame, masked with zeroes.
func (p *rawPeer) write(opcode byte, payload string) {
	p.t.Helper()
	if len(payload) > 125 {
		p.t.Fatalf("a frame of %d bytes is not short", len(payload))
	}
	head := []byte{0x80 | opcode, 0x80 | byte(len(payload)), 0, 0, 0, 0}
	if _, err := p.conn.Write(append(head, payload...)); err != nil {
		p.t.Fatal(err)
	}
}

// next reads one whole frame.
func (p *rawPeer) next() (opcode byte, payload []byte) {
	p.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		p.t.Fatal(err)
	}
	length := int(head[1])
	if length == 126 {
		var long [2]byte
		if _, err := io.ReadFull(p.in, long[:]); err != nil {
			p.t.Fatal(err)
		}
		length = int(binary.BigEndian.Uint16(long[:]))
	}
	if head[0]&0x80 == 0 || length > 1<<16 {
		p.t.Fatalf("head % x: want a whole, unmasked frame", head)
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(p.in, payload); err != nil {
		p.t.Fatal(err)
	}
	return head[0] & 0x0f, payload
}

// wantEnd reads the end of the connection, and nothing before it.
func (p *rawPeer) wantEnd() {
	p.t.Helper()
	rest, err := io.ReadAll(p.in)
	if len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Errorf("got % x and %v, want the end", rest, err)
	}
}
