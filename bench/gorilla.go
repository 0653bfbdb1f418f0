package main

import (
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

func init() {
	register(&peer{
		name: "gorilla", every: 2, speak: raw,
		note:       "gorilla/websocket v1.5.3, prepared messages, reader and writer goroutine and a channel of 256 per connection as in its chat example",
		compresses: true,
		start: func(compress bool) (server, error) {
			return &gorillaServer{upgrader: websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024, EnableCompression: compress}}, nil
		},
	})
}

type gorillaServer struct {
	upgrader websocket.Upgrader
	rooms    rooms[*gorillaClient]
}

type gorillaClient struct {
	conn  *websocket.Conn
	queue chan gorillaMessage
}

// gorillaMessage is either for all members or for one.
type gorillaMessage struct {
	prepared *websocket.PreparedMessage
	text     []byte
}

func (s *gorillaServer) Serve(l net.Listener) error {
	return serveHTTP(l, func(w http.ResponseWriter, r *http.Request) {
		conn, err := s.upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c := &gorillaClient{conn: conn, queue: make(chan gorillaMessage, 256)}
		topic := topicOf(r)
		s.rooms.join(topic, c)
		go c.writeLoop()
		go s.readLoop(topic, c)
	})
}

func (s *gorillaServer) Publish(topic int, payload []byte) {
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, payload)
	if err != nil {
		return // the load's totals tell
	}
	s.rooms.each(topic, func(c *gorillaClient) { c.push(gorillaMessage{prepared: m}) })
}

// push closes a client whose queue is full; its read loop then ends.
func (c *gorillaClient) push(m gorillaMessage) {
	select {
	case c.queue <- m:
	default:
		_ = c.conn.NetConn().Close()
	}
}

func (s *gorillaServer) readLoop(topic int, c *gorillaClient) {
	defer c.conn.Close()
	defer close(c.queue) // after leave: nobody pushes any more
	defer s.rooms.leave(topic, c)
	for {
		_, text, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		c.push(gorillaMessage{text: text})
	}
}

func (c *gorillaClient) writeLoop() {
	defer c.conn.Close()
	ping := time.NewTicker(54 * time.Second)
	defer ping.Stop()
	for {
		var err error
		select {
		case m, open := <-c.queue:
			if !open {
				return
			}
			_ = c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if m.prepared != nil {
				err = c.conn.WritePreparedMessage(m.prepared)
			} else {
				err = c.conn.WriteMessage(websocket.TextMessage, m.text)
			}
		case <-ping.C:
			err = c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(10*time.Second))
		}
		if err != nil {
			return
		}
	}
}
