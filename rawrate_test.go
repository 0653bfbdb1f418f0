package realtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestARawStreamOverTheRateLosesNothing(t *testing.T) {
	type key struct{}
	rt, err := New(WithLogger(slog.New(slog.DiscardHandler)), Anonymous(),
		WithRateLimit(PerConnection(200, 5)),
		WithConnected(func(c *Client) { time.Sleep(10 * time.Millisecond); c.Set(key{}, "set") }))
	if err != nil {
		t.Fatal(err)
	}
	var sent strings.Builder
	var want bytes.Buffer
	for i := range 60 {
		text := fmt.Sprintf("%d,", i)
		want.WriteString(text)
		sent.WriteString(clientFrame(text))
	}
	got := make(chan string, 1)
	server := httptest.NewServer(rt.Raw(func(_ context.Context, c *Client, s io.ReadWriteCloser) error {
		if c.Value(key{}) != "set" {
			t.Error("the handler ran before WithConnected had returned")
		}
		all := make([]byte, want.Len())
		n, _ := io.ReadFull(s, all)
		got <- string(all[:n])
		return nil
	}))
	defer server.Close()
	handshakeWith(t, server.URL, "", sent.String()+maskedClose)
	if got := <-got; got != want.String() {
		t.Errorf("the handler read %q, want %q", got, want.String())
	}
}
