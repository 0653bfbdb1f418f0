package main

import (
	"net"
	"net/http"

	"github.com/lxzan/gws"
)

func init() {
	register(&peer{
		name: "gws", speak: raw, note: "lxzan/gws v1.8.9, its Broadcaster",
		compresses: true,
		start: func(compress bool) (server, error) {
			s := new(gwsServer)
			s.upgrader = gws.NewUpgrader(s, &gws.ServerOption{PermessageDeflate: gws.PermessageDeflate{Enabled: compress}})
			return s, nil
		},
	})
}

type gwsServer struct {
	gws.BuiltinEventHandler
	upgrader *gws.Upgrader
	rooms    rooms[*gws.Conn]
}

func (s *gwsServer) Serve(l net.Listener) error {
	return serveHTTP(l, func(w http.ResponseWriter, r *http.Request) {
		c, err := s.upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		topic := topicOf(r)
		c.Session().Store("topic", topic)
		s.rooms.join(topic, c)
		go c.ReadLoop() // so that net/http lets go of the request
	})
}

func (s *gwsServer) OnClose(c *gws.Conn, _ error) {
	topic, _ := c.Session().Load("topic")
	s.rooms.leave(topic.(int), c)
}

func (s *gwsServer) Publish(topic int, payload []byte) {
	b := gws.NewBroadcaster(gws.OpcodeText, payload)
	defer b.Close()
	s.rooms.each(topic, func(c *gws.Conn) { _ = b.Broadcast(c) }) // a failed client leaves by its read loop
}

func (s *gwsServer) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	_ = c.WriteMessage(m.Opcode, m.Bytes())
}

func (s *gwsServer) OnPing(c *gws.Conn, payload []byte) { _ = c.WritePong(payload) }
