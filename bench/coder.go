package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

func init() {
	register(&peer{
		name: "naive", every: 2, speak: raw,
		note:       "a naive hub on coder/websocket v1.8.15: channel of 256 and writer goroutine per connection as in its chat example, where the channel holds 16",
		compresses: true,
		start: func(compress bool) (server, error) {
			s := &coderServer{accept: websocket.AcceptOptions{InsecureSkipVerify: true}}
			if compress {
				s.accept.CompressionMode = websocket.CompressionNoContextTakeover
			}
			return s, nil
		},
	})
}

type coderServer struct {
	accept websocket.AcceptOptions
	rooms  rooms[*coderClient]
}

type coderClient struct {
	conn  *websocket.Conn
	queue chan []byte
}

func (s *coderServer) Serve(l net.Listener) error {
	return serveHTTP(l, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &s.accept)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		c := &coderClient{conn: conn, queue: make(chan []byte, 256)}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		topic := topicOf(r)
		s.rooms.join(topic, c)
		defer s.rooms.leave(topic, c)
		go func() {
			defer cancel()
			c.readLoop(ctx)
		}()
		c.writeLoop(ctx)
	})
}

func (s *coderServer) Publish(topic int, payload []byte) {
	s.rooms.each(topic, func(c *coderClient) { c.push(payload) })
}

func (c *coderClient) push(text []byte) {
	select {
	case c.queue <- text:
	default:
		go c.conn.Close(websocket.StatusPolicyViolation, "connection too slow to keep up with messages")
	}
}

func (c *coderClient) readLoop(ctx context.Context) {
	for {
		_, text, err := c.conn.Read(ctx)
		if err != nil {
			return
		}
		c.push(text)
	}
}

func (c *coderClient) writeLoop(ctx context.Context) {
	for {
		select {
		case text := <-c.queue:
			if err := c.write(ctx, text); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (c *coderClient) write(ctx context.Context, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return c.conn.Write(ctx, websocket.MessageText, text)
}
