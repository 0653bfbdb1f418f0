package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// editor is a client of a document over Phoenix's protocol. It does what a Fluid
// container does: after a lost line it connects under a new id, reads what it missed,
// and sends again what has not come back, but not before its old id has left: a
// frozen node may still have the ops of that in its socket.
type editor struct {
	person
	random *rand.Rand
	pace   time.Duration
	paper  *paper
	quiet  func() bool

	head    int64 // all up to it are seen
	made    int
	pending []string // contents of the ops that have not come back, in order
	ghost   string   // the last id under which something was submitted
	gone    map[string]bool

	// Of the connection.
	*wire
	heard time.Time
	why   string // the one before ended
	id    string // once it is granted
	ready bool   // its own join was seen, and the ghost's leave
	here  bool   // its own join was seen
	csn   int

	mu   sync.Mutex // guards the following, which others look at
	rest standing
}

// standing is how an editor stands.
type standing struct {
	head    int64
	pending int
	granted bool // it has an id
	here    bool // its join was seen
	ready   bool
	ghost   string
	left    bool   // the ghost's leave was seen
	why     string // the last connection ended
}

// live goes from connection to connection until ctx ends.
func (e *editor) live(ctx context.Context) {
	for ctx.Err() == nil {
		err := e.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		e.count.note(err)
		e.why = err.Error()
		e.stand()
		select {
		case <-time.After(20*time.Millisecond + time.Duration(e.random.Int64N(int64(300*time.Millisecond)))):
		case <-ctx.Done():
		}
	}
}

func (e *editor) topic() string { return "document:" + tenant + ":" + e.paper.name }

// connection is one of them, and returns why it ended.
func (e *editor) connection(ctx context.Context) (err error) {
	token, err := mint(e.name, "")
	if err != nil {
		return err
	}
	if e.wire, err = dialWire(ctx, e.base, "/socket/websocket?vsn=2.0.0&token="+token); err != nil {
		return err
	}
	defer e.hangUp()
	e.id, e.csn, e.ready, e.here, e.heard = "", 0, false, false, time.Now()
	e.count.connects.Add(1)
	if err := e.push(ctx, "1", "phx_join", map[string]any{}); err != nil {
		return errBroken
	}
	edits, asks := time.NewTicker(e.pace), time.NewTicker(beat)
	defer edits.Stop()
	defer asks.Stop()
	for {
		select {
		case text, ok := <-e.frames:
			if !ok {
				return errBroken
			}
			e.heard = time.Now()
			err = e.take(ctx, text)
			e.stand()
		case <-edits.C:
			err = e.edit(ctx)
		case <-asks.C:
			if time.Since(e.heard) > silence {
				return errSilent
			}
			err = e.write(ctx, `[null,"h","phoenix","heartbeat",{}]`)
		case <-e.cut:
			return errCut
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return errors.Join(errBroken, err)
		}
	}
}

// stand lets others see how things are.
func (e *editor) stand() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest = standing{e.head, len(e.pending), e.id != "", e.here, e.ready, e.ghost, e.gone[e.ghost], e.why}
}

func (e *editor) stands() standing {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rest
}

func (e *editor) push(ctx context.Context, ref any, event string, payload any) error {
	text, err := json.Marshal([]any{"1", ref, e.topic(), event, payload})
	if err != nil {
		return err
	}
	return e.write(ctx, string(text))
}

// edit makes one or two ops and sends them.
func (e *editor) edit(ctx context.Context) error {
	if !e.ready || len(e.pending) > 20 || e.quiet() {
		return nil
	}
	var contents []string
	for range 1 + e.random.IntN(2) {
		e.made++
		contents = append(contents, fmt.Sprintf("%s %d", e.name, e.made))
	}
	e.count.made.Add(int64(len(contents)))
	e.pending = append(e.pending, contents...)
	return e.submit(ctx, contents)
}

func (e *editor) submit(ctx context.Context, contents []string) error {
	if len(contents) == 0 {
		return nil
	}
	e.ghost = e.id
	var ops []map[string]any
	for _, text := range contents {
		e.csn++
		ops = append(ops, map[string]any{"type": "op", "clientSequenceNumber": e.csn, "referenceSequenceNumber": e.head, "contents": text})
	}
	return e.push(ctx, nil, "submitOp", map[string]any{"clientId": e.id, "messageBatches": [][]map[string]any{ops}})
}

// connect asks for the document.
func (e *editor) connect(ctx context.Context) error {
	token, err := mint(e.name, e.paper.name)
	if err != nil {
		return err
	}
	request := map[string]any{
		"tenantId": tenant, "id": e.paper.name, "token": token, "mode": "write", "versions": []string{"^0.1.0"},
		"client": map[string]any{
			"mode": "write", "details": map[string]any{"capabilities": map[string]any{"interactive": true}},
			"permission": []string{}, "user": map[string]any{"id": ""}, "scopes": []string{},
		},
	}
	if e.head > 0 {
		request["lastSeenSequenceNumber"] = e.head
	}
	return e.push(ctx, nil, "connect_document", request)
}

// errAgain are answers after which a client connects anew.
var errAgain = errors.New("the server wants it again")

// take acts on one message of the server.
func (e *editor) take(ctx context.Context, text []byte) error {
	var parts [5]json.RawMessage
	var event string
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	if err := json.Unmarshal(parts[3], &event); err != nil {
		return err
	}
	switch event {
	case "phx_reply":
		if string(parts[1]) != `"1"` {
			return nil
		}
		if !bytes.Contains(parts[4], []byte(`"status":"ok"`)) {
			e.count.refusals.Add(1)
			return errAgain
		}
		return e.connect(ctx)
	case "connect_document_success":
		var hello struct {
			ClientID        string
			InitialMessages []json.RawMessage
		}
		if err := json.Unmarshal(parts[4], &hello); err != nil {
			return err
		}
		e.id = hello.ClientID
		return e.see(ctx, hello.InitialMessages)
	case "op":
		var in struct{ Op []json.RawMessage }
		if err := json.Unmarshal(parts[4], &in); err != nil {
			return err
		}
		return e.see(ctx, in.Op)
	case "connect_document_error":
		e.count.refusals.Add(1)
		return errAgain
	case "nack":
		e.count.nacks.Add(1)
		return errAgain
	case "phx_close", "phx_error":
		e.count.closedChannels.Add(1)
		return errAgain
	}
	return nil
}

// see takes numbered messages.
func (e *editor) see(ctx context.Context, texts []json.RawMessage) error {
	for _, text := range texts {
		m, step := e.paper.seen(e.name, e.head, text)
		if !step {
			continue
		}
		e.head = m.SequenceNumber
		var contents, id string
		var who struct{ ClientID string }
		switch {
		case m.Type == "op":
			if json.Unmarshal(m.Contents, &contents) == nil && len(e.pending) > 0 && e.pending[0] == contents {
				e.pending = e.pending[1:]
			}
		case m.Data == nil:
		case m.Type == "join":
			if json.Unmarshal([]byte(*m.Data), &who) == nil && who.ClientID == e.id {
				e.here = true
			}
		case m.Type == "leave":
			if json.Unmarshal([]byte(*m.Data), &id) == nil {
				e.gone[id] = true
			}
		}
		if e.id != "" && e.gone[e.id] {
			e.count.ghosted.Add(1)
			return errAgain
		}
	}
	if !e.ready && e.here && (len(e.pending) == 0 || e.gone[e.ghost]) {
		e.ready = true
		return e.submit(ctx, e.pending)
	}
	return nil
}
