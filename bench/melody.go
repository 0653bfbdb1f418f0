package main

import (
	"net"
	"net/http"

	"github.com/olahol/melody"
)

func init() {
	register(&peer{
		name: "melody", every: 2, speak: raw, note: "olahol/melody v1.1.4, BroadcastMultiple, message size 4 KiB (512 does not hold every request)",
		compresses: true,
		start: func(compress bool) (server, error) {
			s := &melodyServer{hub: melody.New()}
			s.hub.Upgrader.EnableCompression = compress
			s.hub.Config.MaxMessageSize = 4096
			s.hub.HandleConnect(func(c *melody.Session) { s.rooms.join(topicOf(c.Request), c) })
			s.hub.HandleDisconnect(func(c *melody.Session) { s.rooms.leave(topicOf(c.Request), c) })
			s.hub.HandleMessage(func(c *melody.Session, text []byte) { _ = c.Write(text) })
			return s, nil
		},
	})
}

type melodyServer struct {
	hub   *melody.Melody
	rooms rooms[*melody.Session]
}

func (s *melodyServer) Serve(l net.Listener) error {
	return serveHTTP(l, func(w http.ResponseWriter, r *http.Request) { _ = s.hub.HandleRequest(w, r) })
}

// Publish does what BroadcastMultiple does, without a copy of the member list.
func (s *melodyServer) Publish(topic int, payload []byte) {
	s.rooms.each(topic, func(c *melody.Session) { _ = c.Write(payload) })
}
