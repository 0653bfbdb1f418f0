package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// frame is one data frame of the server.
type frame struct {
	binary bool
	bytes  []byte
}

// peer is one socket. All that it gets is kept in order.
type peer struct {
	t      *testing.T
	conn   *websocket.Conn
	packed bool       // MessagePack in binary frames, instead of JSON in text frames
	frames chan frame // closed at the end
	err    error      // why it ended; set before frames is closed

	deaf atomic.Bool // it reads one message more, and then no longer
}

// narrow takes no more than a little from the network before it is read: a client
// that stops reading shows soon.
var narrow = &http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			err = tcp.SetReadBuffer(64 << 10)
		}
		return conn, err
	},
}}

// dial opens a socket of a version: 2.0.0 is JSON, 3.0.0 MessagePack.
func (s *site) dial(t *testing.T, version string) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, s.node()+"/socket/websocket?vsn="+version, &websocket.DialOptions{HTTPClient: narrow})
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	conn.SetReadLimit(64 << 20)
	p := &peer{t: t, conn: conn, packed: version == "3.0.0", frames: make(chan frame, 1<<15)}
	go p.readLoop(t.Context())
	go p.beatLoop(t.Context())
	t.Cleanup(func() { _ = conn.CloseNow() })
	return p
}

func (p *peer) readLoop(ctx context.Context) {
	defer close(p.frames)
	for {
		kind, text, err := p.conn.Read(ctx)
		if err != nil {
			p.err = err
			return
		}
		if isBeat(text) {
			continue
		}
		p.frames <- frame{binary: kind == websocket.MessageBinary, bytes: text}
		if p.deaf.Load() {
			<-ctx.Done()
			return
		}
	}
}

// beatLoop sends the heartbeats that keep a connection open while its test waits for
// others. Their answers are dropped.
func (p *peer) beatLoop(ctx context.Context) {
	const beat = `[null,"beat","phoenix","heartbeat",{}]`
	kind, text := websocket.MessageText, []byte(beat)
	if p.packed {
		kind, text = websocket.MessageBinary, packJSON(beat)
	}
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if p.conn.Write(ctx, kind, text) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// isBeat says whether a message answers one of them, in either format.
func isBeat(text []byte) bool {
	return len(text) < 100 && bytes.Contains(text, []byte("beat")) && bytes.Contains(text, []byte("phoenix"))
}

// send writes one message, given as JSON, in the format of the socket.
func (p *peer) send(text string) {
	p.t.Helper()
	if p.packed {
		p.write(websocket.MessageBinary, packJSON(text))
		return
	}
	p.write(websocket.MessageText, []byte(text))
}

func (p *peer) write(kind websocket.MessageType, bytes []byte) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := p.conn.Write(ctx, kind, bytes); err != nil {
		p.t.Fatalf("write %.100q: %v", bytes, err)
	}
}

// next returns the next message as JSON.
func (p *peer) next() string {
	p.t.Helper()
	select {
	case f, more := <-p.frames:
		if !more {
			p.t.Fatalf("the connection ended: %v, want a message", p.err)
		}
		return p.text(f)
	case <-time.After(patience):
		p.t.Fatal("no message came")
		panic("not reached")
	}
}

func (p *peer) text(f frame) string {
	p.t.Helper()
	if f.binary != p.packed {
		p.t.Fatalf("got a frame that is binary: %v, want %v", f.binary, p.packed)
	}
	if !p.packed {
		return string(f.bytes)
	}
	text, err := unpackJSON(f.bytes)
	if err != nil {
		p.t.Fatalf("% x: %v", f.bytes, err)
	}
	return text
}

// nothing waits for the time of silence, in which no message may come and the
// connection may not end.
func (p *peer) nothing() {
	p.t.Helper()
	p.nothingFor(silence)
}

func (p *peer) nothingFor(span time.Duration) {
	p.t.Helper()
	select {
	case f, more := <-p.frames:
		if !more {
			p.t.Fatalf("the connection ended: %v", p.err)
		}
		p.t.Fatalf("got %.600s, want nothing", p.text(f))
	case <-time.After(span):
	}
}

// wantEnd waits for the end of the connection. Messages before it are dropped.
func (p *peer) wantEnd() {
	p.t.Helper()
	late := time.After(patience)
	for {
		select {
		case _, more := <-p.frames:
			if !more {
				return
			}
		case <-late:
			p.t.Fatal("the connection is still open")
		}
	}
}

// cut ends the connection without a close frame.
func (p *peer) cut() { _ = p.conn.CloseNow() }

// envelope is one message of the Phoenix protocol, version 2.
type envelope struct {
	joinRef, ref *string
	topic, event string
	payload      json.RawMessage
}

func (e *envelope) UnmarshalJSON(text []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	if len(parts) != 5 {
		return fmt.Errorf("an array of %d, want 5", len(parts))
	}
	for i, into := range []any{&e.joinRef, &e.ref, &e.topic, &e.event} {
		if err := json.Unmarshal(parts[i], into); err != nil {
			return err
		}
	}
	e.payload = parts[4]
	return nil
}
