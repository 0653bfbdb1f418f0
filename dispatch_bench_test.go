package realtime

import (
	"context"
	"strings"
	"testing"
	"time"
)

// newLooseConn is an authenticated connection of s whose socket takes everything
// and gives nothing.
func newLooseConn(s *Server) *conn {
	c := &conn{node: s.node, to: dispatcher{}, started: time.Now()}
	c.id, c.link, c.enc, c.pool, c.base = newID(), (*clientLink)(c), envelopeCodec{}, s.node.pool, s.node.base
	c.out.bounds = &s.node.bounds
	c.identity.Store(&Identity{})
	c.open(&upgraded{nc: memoryConn{strings.NewReader("")}}, 1<<16)
	return c
}

// BenchmarkDispatch is one message from its bytes to its handler, with and
// without a reply to a socket that costs nothing.
func BenchmarkDispatch(b *testing.B) {
	for name, message := range map[string]string{
		"event":   `{"channel":"room:1","type":"say","data":{"text":"hello"}}`,
		"request": `{"channel":"room:1","type":"say","data":{"text":"hello"},"ref":"17"}`,
		"ping":    `{"channel":"global","type":"ping","data":{"timestamp":1700000000000}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			s := newQuietServer(b, WithQueue(1<<20, 1<<30), WithRateLimit(PerConnection(1e9, 1_000_000_000)))
			handled := make(chan struct{}, 1)
			s.Topic("room:{id}").Handle("say", func(context.Context, *Client, Message) (any, error) {
				handled <- struct{}{}
				return nil, nil
			})
			c := newLooseConn(s)
			ch, e := c.channelFor(inbound{op: opJoin, topic: "room:1"})
			if e != nil {
				b.Fatal(e)
			}
			c.channels = append(c.channels, ch)
			if err := ch.join(task{}); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				c.to.receive(c, []byte(message), false)
				if name != "ping" {
					<-handled
				}
			}
			c.endWith(ReasonConnectionLost, nil)
			c.leaveAll()
		})
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	b.ReportAllocs()
	s := newQuietServer(b)
	s.Topic("room:{id}")
	c := newLooseConn(s)
	ch, e := c.channelFor(inbound{op: opJoin, topic: "room:1"})
	if e != nil {
		b.Fatal(e)
	}
	for b.Loop() {
		c.out.await(time.Second)
		if err := ch.join(task{}); err != nil {
			b.Fatal(err)
		}
		ch.leave(ReasonClientClosed)
	}
}
