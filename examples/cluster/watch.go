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

// watchLoop asks the node again and again, until ctx ends.
func (n *node) watchLoop(ctx context.Context) {
	beat := time.NewTicker(pace)
	defer beat.Stop()
	for {
		n.look(ctx)
		select {
		case <-beat.C:
		case <-ctx.Done():
			return
		}
	}
}

// look asks one node.
func (n *node) look(ctx context.Context) {
	n.mu.Lock()
	addr, run := n.addr, n.run
	n.mu.Unlock()
	if addr == "" {
		return
	}
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
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == run {
		n.seen = now
	}
}

func ask(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}
