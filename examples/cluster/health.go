package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// pace is how often the nodes are asked how they are, as a load balancer does, and
// how long an answer may take.
const pace = 500 * time.Millisecond

// health is what a node said of itself.
type health struct {
	refuses     bool // it does not want connections, or does not answer
	Status      string
	Connections int
	Members     int
	Broker      json.RawMessage
}

// examine asks one node, without long patience.
func examine(ctx context.Context, addr string) health {
	ctx, cancel := context.WithTimeout(ctx, pace)
	defer cancel()
	now := health{refuses: true}
	if answer, err := ask(ctx, "http://"+addr+"/healthz"); err == nil {
		_ = json.NewDecoder(answer.Body).Decode(&now) // an unknown form shows as zeros
		answer.Body.Close()
	}
	if answer, err := ask(ctx, "http://"+addr+"/readyz"); err == nil {
		now.refuses = answer.StatusCode != http.StatusOK
		answer.Body.Close()
	}
	return now
}

func ask(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}
