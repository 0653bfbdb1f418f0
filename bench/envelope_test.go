package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// The candidate "envelope" speaks the library's protocol as a client of it sees
// it: subprotocol, greeting, join with an answer, events and replies in an
// envelope. It shows that the dialect can say all of that, and takes part in
// TestEveryCandidateDoesEveryWork.
func init() {
	register(&peer{
		name:  "envelope",
		start: func(bool) (server, error) { return new(envelopeServer), nil },
		speak: dialect{
			Path:        "/ws",
			Subprotocol: "realtime.v1",
			Hello:       []string{`{"channel":"bench:{topic}","type":"subscribe","ref":"1"}`},
			Ready:       `"subscription_success"`,
			Echo:        `{"channel":"bench:0","type":"echo","data":{payload},"ref":"1"}`,
		},
	})
}

type envelopeServer struct{ rooms rooms[*websocket.Conn] }

type envelope struct {
	Channel string          `json:"channel"`
	Type    string          `json:"type"`
	Data    json.RawMessage `json:"data"`
	Ref     string          `json:"ref,omitempty"`
}

func (s *envelopeServer) Serve(l net.Listener) error {
	return serveHTTP(l, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-WebSocket-Protocol") != "realtime.v1" {
			http.Error(w, "no such protocol", http.StatusBadRequest)
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"realtime.v1"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		s.send(c, envelope{Channel: "global", Type: "connected"})
		for {
			_, text, err := c.Read(context.Background())
			var m envelope
			if err != nil || json.Unmarshal(text, &m) != nil {
				return
			}
			var topic int
			if _, err := fmt.Sscanf(m.Channel, "bench:%d", &topic); err != nil {
				return
			}
			switch m.Type {
			case "subscribe":
				s.rooms.join(topic, c)
				defer s.rooms.leave(topic, c)
				s.send(c, envelope{Channel: "global", Type: "subscription_success", Ref: m.Ref})
			case "echo":
				s.send(c, envelope{Channel: m.Channel, Type: "reply", Data: m.Data, Ref: m.Ref})
			}
		}
	})
}

// send gives up on a client that does not read for long.
func (s *envelopeServer) send(c *websocket.Conn, m envelope) {
	text, err := json.Marshal(m)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Write(ctx, websocket.MessageText, text)
}

func (s *envelopeServer) Publish(topic int, payload []byte) {
	s.rooms.each(topic, func(c *websocket.Conn) {
		s.send(c, envelope{Channel: fmt.Sprint("bench:", topic), Type: "message", Data: payload})
	})
}
