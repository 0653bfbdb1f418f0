package realtimetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing/synctest"

	"github.com/coder/websocket"
	"github.com/seed-58bc6ac1/realtime"
)

// WantReply waits for the answer to ref. With status "ok" that is a reply or the
// success of a subscribe, and response is compared with what the handler
// returned; with "error" it is an error, compared as a whole. See
// [Client.WantPush] for what response may be.
func (c *Client) WantReply(ref, status string, response any) Message {
	c.t.Helper()
	m := c.answerTo(ref)
	got := m.Data
	switch {
	case status == "error" && isError(m):
	case status == "ok" && (m.Type == "reply" || m.Type == "subscription_success"):
		var reply struct{ Response json.RawMessage }
		if err := json.Unmarshal(m.Data, &reply); err != nil {
			c.t.Fatalf("realtimetest: reply to %s: %v", ref, err)
		}
		got = reply.Response
	default:
		c.t.Fatalf("realtimetest: the answer to %s is %s, want status %q", ref, m, status)
	}
	if err := compare(got, response); err != nil {
		c.t.Fatalf("realtimetest: reply to %s: %v", ref, err)
	}
	return m
}

// WantError waits for an error with code: the answer to ref, or with ref "" the
// next one that answers nobody.
func (c *Client) WantError(ref, code string) Message {
	c.t.Helper()
	m := c.take(fmt.Sprintf("answer to %q", ref), func(m Message) bool {
		return m.Ref == ref && (ref != "" || isError(m))
	})
	var e struct{ Code string }
	if err := json.Unmarshal(m.Data, &e); err != nil || !isError(m) || e.Code != code {
		c.t.Fatalf("realtimetest: the answer to %q is %s, want error %s", ref, m, code)
	}
	return m
}

func isError(m Message) bool { return m.Type == "error" || m.Type == "subscription_error" }

// WantPush waits for the next message on topic that is no answer to a ref, and
// fails the test at once if that is not event with data. So events of one topic
// are wanted in their order, and topics do not disturb each other.
//
// data is compared as JSON: nil matches everything, an object every object that
// has its fields, whatever else there is, and other values what is equal. A
// json.RawMessage stands for the JSON in it. A func(json.RawMessage) error is
// called instead: see [Exactly].
func (c *Client) WantPush(topic, event string, data any) Message {
	c.t.Helper()
	m := c.take("push on "+topic, func(m Message) bool { return m.Channel == topic && m.Ref == "" })
	if m.Type != event {
		c.t.Fatalf("realtimetest: got %s, want %s on %s", m, event, topic)
	}
	if err := compare(m.Data, data); err != nil {
		c.t.Fatalf("realtimetest: %s on %s: %v", event, topic, err)
	}
	return m
}

// WantNothing waits until nothing moves any more and fails the test if messages
// have come that were not asked for. It works only in a [testing/synctest]
// bubble, where that moment can be known.
func (c *Client) WantNothing() {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.inbox) > 0 {
		c.t.Errorf("realtimetest: got %v, want nothing", c.inbox)
	}
	c.inbox = nil
}

// Closing is what the server said last. It is zero but for the Code when the
// server sent a close frame only.
type Closing struct {
	Code   int            `json:"code"`
	Reason string         `json:"reason"`
	Error  string         `json:"error"`
	Retry  realtime.Retry `json:"retry"`
	MinMS  int64          `json:"min_delay_ms"`
	Jitter int64          `json:"jitter_ms"`
}

// WantClosed waits, for up to a minute, until the server has ended the
// connection. It fails the test at once unless that was for reason: the closing
// message and the close frame must both name it, and agree about the code.
// [realtime.ReasonConnectionLost] stands for an end without a close frame, and
// "" for a close frame without words, as that to a raw connection's end.
func (c *Client) WantClosed(reason realtime.Reason) Closing {
	c.t.Helper()
	c.await("close", closePatience, func() bool { return c.end != nil })
	c.mu.Lock()
	end, last := c.end, c.closing
	c.mu.Unlock()
	frame, framed := errors.AsType[websocket.CloseError](end)
	if !framed {
		if reason != realtime.ReasonConnectionLost {
			c.t.Fatalf("realtimetest: the connection ended without a close frame (%v), want %s", end, reason)
		}
		return Closing{}
	}
	if frame.Reason != string(reason) {
		c.t.Fatalf("realtimetest: closed with %d %q, want %q; closing: %v", frame.Code, frame.Reason, reason, last)
	}
	told := Closing{Code: int(frame.Code)}
	if last == nil {
		return told
	}
	if err := json.Unmarshal(last.Data, &told); err != nil {
		c.t.Fatalf("realtimetest: closing: %v", err)
	}
	if told.Reason != string(reason) || told.Code != int(frame.Code) {
		c.t.Fatalf("realtimetest: closing is %s, the close frame %d %q; want them to agree", last, frame.Code, frame.Reason)
	}
	return told
}

// Close ends the connection as a client does that has finished, with code 1000,
// and waits for the server's close frame.
func (c *Client) Close() {
	c.t.Helper()
	if err := c.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		c.t.Errorf("realtimetest: close: %v", err)
	}
}

// StopReading makes a slow client: nothing is read from now on, pings included,
// and the server's next write waits.
func (c *Client) StopReading() { c.wire.stop(true) }

// Resume ends StopReading.
func (c *Client) Resume() { c.wire.stop(false) }

// HalfOpen loses the network in silence: the server's bytes are swallowed, the
// client's never arrive, and neither side is told.
func (c *Client) HalfOpen() { c.wire.vanish() }

// Cut ends the connection without a close frame, as a killed process does.
func (c *Client) Cut() { c.wire.Cut() }
