package realtime

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

type explosive struct{}

func (explosive) MarshalJSON() ([]byte, error) { panic("boom") }

func TestAPanicInACallbackOfTheHostEndsNothingElse(t *testing.T) {
	rt, err := New(
		WithLogger(slog.New(slog.DiscardHandler)),
		WithAuth(func(_ *http.Request, token string) (*Identity, error) {
			if token == "bad" {
				panic("boom")
			}
			if token == "" {
				return nil, ReasonUnauthenticated
			}
			return &Identity{User: "u"}, nil
		}),
		WithConnected(func(*Client) { panic("boom") }),
		WithDisconnected(func(*Client, Reason) { panic("boom") }),
	)
	if err != nil {
		t.Fatal(err)
	}
	rt.Topic("global").Handle("x", func(context.Context, *Client, Message) (any, error) { return explosive{}, nil })
	server := httptest.NewServer(rt)
	defer server.Close()
	if got := handshakeWith(t, server.URL, "", clientFrame(`{"type":"auth","data":{"token":"bad"}}`)+maskedClose); !strings.Contains(got, `"reason":"internal"`) {
		t.Errorf("got %q, want a close as internal", got)
	}
	if got := handshakeWith(t, server.URL, "Authorization: Bearer good\r\n", clientFrame(`{"type":"x"}`)); !strings.Contains(got, `"code":"internal"`) {
		t.Errorf("got %q, want the error internal", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := rt.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		t.Error("a connection was left behind by a panic")
	}
}
