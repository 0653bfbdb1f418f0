package realtime

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestLeftIsCalledThoughTheConnectionEndsFirst(t *testing.T) {
	rt, err := New(WithLogger(slog.New(slog.DiscardHandler)), Anonymous())
	if err != nil {
		t.Fatal(err)
	}
	var left atomic.Int32
	room := rt.Topic("room:{n}", Left(func(*Client, string, Reason) { left.Add(1) }))
	again := make(chan error, 1)
	room.Handle("go", func(ctx context.Context, c *Client, m Message) (any, error) {
		again <- c.Subscribe(ctx, m.Topic) // from the topic's own handler
		if err := c.Unsubscribe(m.Topic, nil); err != nil {
			t.Error(err)
		}
		c.Disconnect(nil)
		time.Sleep(50 * time.Millisecond) // the read loop empties the mailboxes meanwhile
		return nil, nil
	})
	server := httptest.NewServer(rt)
	defer server.Close()
	handshakeWith(t, server.URL, "", clientFrame(`{"channel":"room:1","type":"subscribe"}`)+
		clientFrame(`{"channel":"room:1","type":"go"}`))
	if err := <-again; err == nil {
		t.Error("subscribed twice")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := rt.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if got := left.Load(); got != 1 {
		t.Errorf("Left was called %d times, want once", got)
	}
}
