package jwks_test

import (
	"context"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/jwks"
)

// newServer is the snippet of README.md.
func newServer(ctx context.Context) (*realtime.Server, error) {
	keys, err := jwks.URL(ctx, "https://id.example.com/.well-known/jwks.json")
	if err != nil {
		return nil, err
	}
	return realtime.New(realtime.WithJWT(keys, realtime.Issuer("https://id.example.com/"), realtime.Audience("chat")))
}

var _ = newServer // compiled, not called: it would ask the network
