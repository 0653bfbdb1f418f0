package realtime

import (
	"context"
	"strings"
	"testing"
	"time"
)

// newLooseSession is that of an authenticated connection of s whose socket takes
// everything and gives nothing.
func newLooseSession(s *Server) *session {
	up := &upgraded{nc: memoryConn{strings.NewReader("")}}
	c := newConn(s.node, s.main.terms, up, envelopeCodec{}, "/", "")
	c.to = newSession(c)
	c.identity.Store(&Identity{})
	c.pool.flush(&c.outlet)
	return c.to.(*session)
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
			c := newLooseSession(s)
			ch, e := c.channelFor(inbound{op: opJoin, topic: "room:1"})
			if e != nil {
				b.Fatal(e)
			}
			c.channels = append(c.channels, ch)
			if err := ch.join(task{}, nil); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				c.receive([]byte(message), false)
				if name != "ping" {
					<-handled
				}
			}
			c.endWith(ReasonConnectionLost, nil)
			c.ended(ReasonConnectionLost)
		})
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	b.ReportAllocs()
	s := newQuietServer(b)
	s.Topic("room:{id}")
	c := newLooseSession(s)
	ch, e := c.channelFor(inbound{op: opJoin, topic: "room:1"})
	if e != nil {
		b.Fatal(e)
	}
	for b.Loop() {
		c.out.await(time.Second)
		if err := ch.join(task{}, nil); err != nil {
			b.Fatal(err)
		}
		ch.leave(ReasonClientClosed)
	}
}
