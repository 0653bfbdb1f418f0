package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// How clients notice that nobody is there any more: they ask every second, and give up
// when nothing at all came for longer.
const (
	beat    = time.Second
	silence = 5 * time.Second
)

// wire is one connection of a client, until it breaks.
type wire struct {
	conn   *websocket.Conn
	frames chan []byte   // closed at its end
	done   chan struct{} // closed by hang up
}

// dial connects through the proxy.
func dialWire(ctx context.Context, base, path string, protocols ...string) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(base, "http", "ws", 1)+path, &websocket.DialOptions{Subprotocols: protocols})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(64 << 20)
	w := &wire{conn: conn, frames: make(chan []byte), done: make(chan struct{})}
	go w.readLoop()
	return w, nil
}

func (w *wire) readLoop() {
	defer close(w.frames)
	for {
		_, frame, err := w.conn.Read(context.Background())
		if err != nil {
			return
		}
		select {
		case w.frames <- frame:
		case <-w.done:
			return
		}
	}
}

func (w *wire) write(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	return w.conn.Write(ctx, websocket.MessageText, []byte(text))
}

// hangUp ends the connection without ceremony.
func (w *wire) hangUp() {
	close(w.done)
	_ = w.conn.CloseNow()
}

var (
	errBroken = errors.New("the line broke")
	errSilent = errors.New("the node fell silent")
	errCut    = errors.New("the client's network broke")
)

// person is what clients of both kinds have in common.
type person struct {
	base  string
	name  string
	cut   chan struct{} // breaks the client's network
	count *figures
}

// figures count what happened to all clients.
type figures struct {
	connects, broken, silent, cut, refused         atomic.Int64 // connections
	fresh, complete, replayed, reload              atomic.Int64 // subscriptions
	said, acked, unsaid                            atomic.Int64 // events
	made, closedChannels, nacks, refusals, ghosted atomic.Int64 // documents
}

// note counts why a connection ended.
func (f *figures) note(err error) {
	switch {
	case errors.Is(err, errSilent):
		f.silent.Add(1)
	case errors.Is(err, errCut):
		f.cut.Add(1)
	case errors.Is(err, errBroken):
		f.broken.Add(1)
	default:
		f.refused.Add(1)
	}
}
