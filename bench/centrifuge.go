//go:build !quick

// With what it depends on this candidate takes a third of the time to build,
// which make bench-quick does not have.

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/centrifugal/centrifuge"
)

func init() {
	speak := dialect{
		Path: "/connection/websocket",
		Hello: []string{
			`{"id":1,"connect":{}}`,
			`{"id":2,"subscribe":{"channel":"bench:{topic}"}}`,
		},
		Ready: `"id":2,`,
		Join:  `{"id":4,"subscribe":{"channel":"bench:{topic}"}}`,
		Leave: `{"id":5,"unsubscribe":{"channel":"bench:{topic}"}}`,
		Echo:  `{"id":3,"rpc":{"method":"echo","data":{payload}}}`,
		Lines: true,
		Ping:  `{}`,
		Pong:  `{}`,
	}
	register(&peer{
		name: "centrifuge", every: 2, speak: speak, note: "centrifugal/centrifuge v0.38.0, JSON protocol, defaults",
		start: func(bool) (server, error) { return newCentrifugeServer(centrifuge.ConnectReply{}) },
	})
	register(&peer{
		name: "centrifuge5", speak: speak, variant: true, note: "the same with a write delay of 5 ms, frames without bound and replies past the queue",
		start: func(bool) (server, error) {
			return newCentrifugeServer(centrifuge.ConnectReply{
				WriteDelay: 5 * time.Millisecond, MaxMessagesInFrame: -1, ReplyWithoutQueue: true,
			})
		},
	})
}

type centrifugeServer struct{ node *centrifuge.Node }

func newCentrifugeServer(reply centrifuge.ConnectReply) (server, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, fmt.Errorf("centrifuge: %w", err)
	}
	reply.Credentials = &centrifuge.Credentials{UserID: ""}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return reply, nil
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{}, nil)
		})
		c.OnRPC(func(e centrifuge.RPCEvent, done centrifuge.RPCCallback) {
			done(centrifuge.RPCReply{Data: e.Data}, nil)
		})
	})
	return &centrifugeServer{node: node}, node.Run()
}

func (s *centrifugeServer) Serve(l net.Listener) error {
	h := centrifuge.NewWebsocketHandler(s.node, centrifuge.WebsocketConfig{
		CheckOrigin: func(*http.Request) bool { return true },
	})
	return serveHTTP(l, h.ServeHTTP)
}

func (s *centrifugeServer) Publish(topic int, payload []byte) {
	_, _ = s.node.Publish("bench:"+strconv.Itoa(topic), payload) // the load's totals tell
}
