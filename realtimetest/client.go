package realtimetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/seed-58bc6ac1/realtime"
)

// Client is one connection as its peer sees it. It reads in the background, and
// so answers pings and the server's close whatever the test does.
//
// It speaks realtime.v1, and realtime.flat where that was agreed on: there every
// message is on "global", its data is the whole object, and no answer bears a
// ref, so that replies are met by [Client.WantPush].
//
// Methods that wait for the server fail the test at once when what they want has
// not come within ten seconds, or the connection has ended. They are called from
// the test's goroutine, the others from any.
type Client struct {
	t    testing.TB
	ws   *websocket.Conn
	wire *wire
	read chan struct{} // closed when readLoop has ended

	mu       sync.Mutex // guards the following
	news     chan struct{}
	inbox    []Message // in order, without the greeting and the closing
	rosters  map[string]roster
	seen     int
	flat     bool // the server was heard to speak it
	greeting *Message
	closing  *Message
	end      error // why reading ended
	refs     int
}

// Message is one message of the server. A frame that is not JSON has only Text.
type Message struct {
	Channel string          `json:"channel"`
	Type    string          `json:"type"`
	Data    json.RawMessage `json:"data"`
	Ref     string          `json:"ref"`
	Offset  uint64          `json:"offset"`
	Ask     string          `json:"ask"`
	Text    string          `json:"-"` // as it came
	Seq     int             `json:"-"` // 1 for the first that came on this connection
}

func (m Message) String() string { return m.Text }

// patience is how long a message may take, and a close longer: the heartbeat's
// 35 s are the longest that a connection lives on its own.
const (
	patience      = 10 * time.Second
	closePatience = time.Minute
)

func newClient(t testing.TB, ws *websocket.Conn, w *wire) *Client {
	c := &Client{t: t, ws: ws, wire: w, read: make(chan struct{}), news: make(chan struct{}), rosters: map[string]roster{}}
	ws.SetReadLimit(-1)
	go c.readLoop()
	return c
}

func (c *Client) readLoop() {
	defer close(c.read)
	for {
		kind, p, err := c.ws.Read(context.Background())
		if err != nil {
			c.mu.Lock()
			c.end = err
			c.tellLocked()
			c.mu.Unlock()
			return
		}
		c.keep(c.parse(kind, p))
	}
}

func (c *Client) parse(kind websocket.MessageType, p []byte) Message {
	m := Message{Text: string(p)}
	if kind != websocket.MessageText || json.Unmarshal(p, &m) != nil {
		return Message{Text: string(p)}
	}
	if m.Channel == "" && m.Type != "" { // realtime.v1 always names a channel
		c.mu.Lock()
		c.flat = true
		c.mu.Unlock()
	}
	if c.isFlat() {
		return Message{Channel: "global", Type: m.Type, Data: p, Text: string(p)}
	}
	return m
}

// isFlat reports whether the client speaks realtime.flat: because it was asked
// for, or because the server does so by default.
func (c *Client) isFlat() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flat || c.Protocol() == "realtime.flat"
}

func (c *Client) keep(m Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen++
	m.Seq = c.seen
	switch {
	case c.closing != nil:
		c.t.Errorf("realtimetest: a message after closing: %s", m)
	case m.Channel == "global" && m.Type == "connected" && c.greeting == nil:
		c.greeting = &m
	case m.Channel == "global" && m.Type == "closing":
		c.closing = &m
	default:
		c.inbox = append(c.inbox, m)
		c.notePresenceLocked(m)
	}
	c.tellLocked()
}

func (c *Client) tellLocked() {
	close(c.news)
	c.news = make(chan struct{})
}

// await waits until found, which is called with the lock held, says so.
func (c *Client) await(what string, most time.Duration, found func() bool) {
	c.t.Helper()
	late := time.NewTimer(most)
	defer late.Stop()
	for {
		c.mu.Lock()
		ok, news, end := found(), c.news, c.end
		rest := fmt.Sprintf("waiting: %v, closing: %v", c.inbox, c.closing)
		c.mu.Unlock()
		if ok {
			return
		}
		if end != nil {
			c.t.Fatalf("realtimetest: no %s: the connection has ended: %v; %s", what, end, rest)
		}
		select {
		case <-news:
		case <-late.C:
			c.t.Fatalf("realtimetest: no %s within %v; %s", what, most, rest)
		}
	}
}

// take waits for the first message that fits and removes it from the inbox.
func (c *Client) take(what string, fits func(Message) bool) Message {
	c.t.Helper()
	var taken Message
	c.await(what, patience, func() bool {
		for i, m := range c.inbox {
			if fits(m) {
				taken = m
				copy(c.inbox[1:], c.inbox[:i]) // mostly i is 0, and thousands wait
				c.inbox[0] = Message{}
				c.inbox = c.inbox[1:]
				return true
			}
		}
		return false
	})
	return taken
}

// Protocol returns the subprotocol that the server echoed, "" if none.
func (c *Client) Protocol() string { return c.ws.Subprotocol() }

// Connected waits for the greeting and returns it. No other method sees it.
func (c *Client) Connected() Message {
	c.t.Helper()
	c.await("connected", patience, func() bool { return c.greeting != nil })
	return *c.greeting
}

// Send sends text as one text message. It does not wait for the server.
func (c *Client) Send(text string) {
	c.t.Helper()
	if err := c.ws.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Errorf("realtimetest: send: %v", err)
	}
}

// Push sends an event, without waiting for the answer, and returns the ref that
// the answer will bear. With realtime.flat the fields of data, an object, stand
// beside the type, and there is no ref.
func (c *Client) Push(topic, event string, data any) (ref string) {
	c.t.Helper()
	fields := map[string]any{}
	if c.isFlat() {
		text, err := json.Marshal(data)
		if err == nil {
			err = json.Unmarshal(text, &fields)
		}
		if err != nil {
			c.t.Fatalf("realtimetest: push: %v", err)
		}
		if fields == nil {
			fields = map[string]any{}
		}
		fields["type"] = event
	} else {
		c.mu.Lock()
		c.refs++
		ref = strconv.Itoa(c.refs)
		c.mu.Unlock()
		fields = map[string]any{"channel": topic, "type": event, "data": data, "ref": ref}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		c.t.Fatalf("realtimetest: push: %v", err)
	}
	c.Send(string(text))
	return ref
}

// Recv waits for the next message, whatever it is, in the order in which they
// came. The greeting and the closing are not among them.
func (c *Client) Recv() Message {
	c.t.Helper()
	return c.take("message", func(Message) bool { return true })
}

// Joined is the answer to a join. Epoch and Offset are the position at which the
// live stream starts, zero if the topic keeps no history.
type Joined struct {
	Epoch    string            `json:"epoch"`
	Offset   uint64            `json:"offset"`
	Recovery realtime.Recovery `json:"recovery"`
	Response json.RawMessage   `json:"response"`
}

// Join subscribes to topic, with at most one value as its params, and waits for
// the answer; a refusal fails the test at once. One that is to be refused is
// c.WantError(c.Push(topic, "subscribe", nil), code).
func (c *Client) Join(topic string, params ...any) Joined {
	c.t.Helper()
	if len(params) > 0 {
		return c.joined(topic, map[string]any{"params": params[0]})
	}
	return c.joined(topic, nil)
}

// Rejoin subscribes to topic as a client that has seen its events up to from.
func (c *Client) Rejoin(topic string, from realtime.Position) Joined {
	c.t.Helper()
	return c.joined(topic, map[string]any{"recover": from})
}

func (c *Client) joined(topic string, data any) Joined {
	c.t.Helper()
	m := c.answerTo(c.Push(topic, "subscribe", data))
	var j Joined
	if m.Type != "subscription_success" {
		c.t.Fatalf("realtimetest: join %s: got %s, want success", topic, m)
	}
	if err := json.Unmarshal(m.Data, &j); err != nil {
		c.t.Fatalf("realtimetest: join %s: %v", topic, err)
	}
	return j
}

func (c *Client) answerTo(ref string) Message {
	c.t.Helper()
	return c.take("answer to "+ref, func(m Message) bool { return m.Ref == ref && ref != "" })
}

// shut ends the connection with the test.
func (c *Client) shut() {
	c.wire.Cut()
	<-c.read
	c.ws.CloseNow()
}
