package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// How often the process is killed: the variable says, or this.
const (
	killsVariable = "DOCUMENT_EXAMPLE_KILLS"
	fewKills      = 20
)

// survivor is a client that goes on when the server dies: it keeps what it has
// seen, and sends again what it has not seen come back.
type survivor struct {
	name    string
	random  *rand.Rand
	seen    map[int64]json.RawMessage // by sequence number; never forgotten
	head    int64                     // all up to it are seen
	made    int
	pending []string // contents of the ops that have not come back, in order
	conn    *websocket.Conn
	id      string
	csn     int
	found   int             // ops that had been stored when the server died, but not told of
	up      chan<- struct{} // is told of each connection
}

// life is the time from a start of the server to its end. It returns why it
// ended.
func (s *survivor) life(ctx context.Context, base string, until func(*survivor) bool) error {
	conn, _, err := websocket.Dial(ctx, base+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(64 << 20)
	s.conn, s.id, s.csn = conn, "", 0
	waiting := len(s.pending)
	if err := s.connect(ctx); err != nil {
		return err
	}
	s.found += waiting - len(s.pending)
	s.up <- struct{}{}
	if err := s.send(ctx, s.pending...); err != nil {
		return err
	}
	for !until(s) {
		if len(s.pending) < 4 && s.random.IntN(2) == 0 {
			if err := s.edit(ctx); err != nil {
				return err
			}
		}
		if len(s.pending) > 0 {
			if err := s.read(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// edit makes one to three ops and sends them.
func (s *survivor) edit(ctx context.Context) error {
	var contents []string
	for range 1 + s.random.IntN(3) {
		s.made++
		contents = append(contents, fmt.Sprintf("%s %d", s.name, s.made))
	}
	s.pending = append(s.pending, contents...)
	return s.send(ctx, contents...)
}

// connect joins, connects with the last number that the survivor has seen, and
// reads up to its own join.
func (s *survivor) connect(ctx context.Context) error {
	if err := s.push(ctx, "1", "phx_join", fields{}); err != nil {
		return err
	}
	request := (&member{tenant: "acme", document: "doc1", token: tokenFor("doc1")}).request("write")
	if s.head > 0 {
		request["lastSeenSequenceNumber"] = s.head
	}
	if err := s.push(ctx, nil, "connect_document", request); err != nil {
		return err
	}
	for s.csn = 0; s.id == "" || s.seenJoin() == 0; {
		if err := s.read(ctx); err != nil {
			return err
		}
	}
	return nil
}

// seenJoin returns the number of the newest message, if it is not before the
// survivor's own join: a connection may send once that has come.
func (s *survivor) seenJoin() int64 {
	for sn := s.head; sn > 0 && s.seen[sn] != nil; sn-- {
		if bytes.Contains(s.seen[sn], []byte(s.id)) {
			return sn
		}
	}
	return 0
}

func (s *survivor) push(ctx context.Context, ref any, event string, payload any) error {
	return s.conn.Write(ctx, websocket.MessageText, []byte(compact([]any{"1", ref, "document:acme:doc1", event, payload})))
}

// send submits ops with these contents.
func (s *survivor) send(ctx context.Context, contents ...string) error {
	if len(contents) == 0 {
		return nil
	}
	var ops []fields
	for _, text := range contents {
		s.csn++
		ops = append(ops, fields{"type": "op", "clientSequenceNumber": s.csn, "referenceSequenceNumber": s.head, "contents": text})
	}
	return s.push(ctx, nil, "submitOp", fields{"clientId": s.id, "messageBatches": [][]fields{ops}})
}

// read handles one message of the server.
func (s *survivor) read(ctx context.Context) error {
	_, text, err := s.conn.Read(ctx)
	if err != nil {
		return err
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return fault{err}
	}
	switch e.event {
	case "connect_document_success":
		var h hello
		if err := json.Unmarshal(e.payload, &h); err != nil {
			return fault{err}
		}
		s.id = h.ClientID
		return s.take(h.InitialMessages)
	case "op":
		var event struct{ Op []json.RawMessage }
		if err := json.Unmarshal(e.payload, &event); err != nil {
			return fault{err}
		}
		return s.take(event.Op)
	case "nack", "connect_document_error":
		return fault{fmt.Errorf("%s: %s", s.name, text)}
	}
	return nil
}

// fault is an error that is not the death of the server.
type fault struct{ error }

// take keeps messages. One that came before has to be the same.
func (s *survivor) take(texts []json.RawMessage) error {
	for _, text := range texts {
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			return fault{err}
		}
		if known, ok := s.seen[m.SequenceNumber]; ok {
			if !bytes.Equal(known, text) {
				return fault{fmt.Errorf("%s: number %d was %s and is %s", s.name, m.SequenceNumber, known, text)}
			}
			continue
		}
		if m.SequenceNumber != s.head+1 {
			return fault{fmt.Errorf("%s: number %d after %d", s.name, m.SequenceNumber, s.head)}
		}
		s.seen[m.SequenceNumber], s.head = text, m.SequenceNumber
		var contents string
		if json.Unmarshal(m.Contents, &contents) == nil && len(s.pending) > 0 && s.pending[0] == contents {
			s.pending = s.pending[1:]
		}
	}
	return nil
}

// kills returns how often this run kills the process.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv(killsVariable)
	if text == "" {
		return fewKills
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q, want a number", killsVariable, text)
	}
	return n
}

// The process is killed while three clients edit, at any point between receiving
// an op, storing it and telling the clients. What one client has seen come back is
// never lost or changed, no number is used twice, and what was under way is in the
// document once, since its client sends it again only if it is not.
func TestKilledProcessLosesNothingThatItAcknowledged(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 9))
	var clients []*survivor
	up := make(chan struct{}, 3)
	for i := range 3 {
		clients = append(clients, &survivor{
			name: fmt.Sprint("client", i), random: rand.New(rand.NewPCG(random.Uint64(), 1)), seen: map[int64]json.RawMessage{}, up: up,
		})
	}
	directory := t.TempDir()
	rounds := kills(t)
	for round := range rounds {
		c := spawn(t, directory)
		lives := live(t, clients, c.base, func(*survivor) bool { return false })
		for range clients {
			select {
			case <-up:
			case <-time.After(patience / 2):
				t.Fatalf("round %d: the clients do not connect: %v", round, lives())
			}
		}
		time.Sleep(time.Duration(random.Int64N(int64(60 * time.Millisecond))))
		c.kill()
		for _, err := range lives() {
			if _, wrong := err.(fault); wrong {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	}
	last := spawn(t, directory)
	ended := func(s *survivor) bool { return len(s.pending) == 0 && s.random.IntN(8) == 0 }
	for _, err := range live(t, clients, last.base, ended)() {
		if err != nil {
			t.Fatalf("at the end: %v", err)
		}
	}
	wantWhole(t, last.site, clients, rounds)
}

// live starts the lives of all clients. The function that it returns waits for
// their ends.
func live(t *testing.T, clients []*survivor, base string, until func(*survivor) bool) func() []error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	ends := make([]error, len(clients))
	var wait sync.WaitGroup
	for i, s := range clients {
		wait.Go(func() { ends[i] = s.life(ctx, base, until) })
	}
	return func() []error {
		wait.Wait()
		cancel()
		return ends
	}
}

// wantWhole compares what the clients have seen with the document.
func wantWhole(t *testing.T, s *site, clients []*survivor, rounds int) {
	t.Helper()
	r := s.reader(t) // whose audit checks the whole stream
	rest := s.everything(t)
	if len(rest) != len(r.hello.InitialMessages) {
		t.Errorf("REST has %d messages, a newcomer %d", len(rest), len(r.hello.InitialMessages))
	}
	count := map[string]int{}
	for i, text := range rest {
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		if m.SequenceNumber != int64(i+1) {
			t.Fatalf("message %d of REST has the number %d", i+1, m.SequenceNumber)
		}
		var contents string
		if m.Type == "op" && json.Unmarshal(m.Contents, &contents) == nil {
			count[contents]++
		}
	}
	made, found := 0, 0
	for _, c := range clients {
		made, found = made+c.made, found+c.found
		for n := range c.made {
			if op := fmt.Sprintf("%s %d", c.name, n+1); count[op] != 1 {
				t.Errorf("%s is in the document %d times, want once", op, count[op])
			}
		}
		for _, sn := range slices.Sorted(maps.Keys(c.seen)) {
			if sn > int64(len(rest)) || !bytes.Equal(c.seen[sn], rest[sn-1]) {
				t.Fatalf("%s has seen %s, which is not in the document", c.name, c.seen[sn])
			}
		}
	}
	t.Logf("killed %d times: %d messages, %d ops, %d of them stored but not yet told of", rounds, len(rest), made, found)
	if made < rounds {
		t.Errorf("only %d ops in %d rounds: that shows nothing", made, rounds)
	}
}

// everything reads the whole document over REST.
func (s *site) everything(t *testing.T) (all []json.RawMessage) {
	t.Helper()
	for {
		page := s.deltas(t, "doc1", fmt.Sprintf("?from=%d", len(all)))
		if all = append(all, page...); len(page) == 0 {
			return all
		}
	}
}
