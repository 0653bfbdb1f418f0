package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// login handles the first auth of a connection that brought no token. It runs on
// the read loop, so that what the client sends right behind it is handled under
// the new identity. A refused one ends the connection.
func (c *conn) login(in inbound) {
	id, err := c.identify(in.data)
	c.flight.add(noteAuth, "", 0)
	if err != nil {
		reason, why := refusalOf(err)
		c.end(reason, why, err)
		return
	}
	c.meter.close() // it counted an unknown user
	c.meter = nil
	if c.enter(id) {
		c.tell(c.authenticatedAs(id, in.ref))
	}
}

// identify has the authenticator look at the token in an auth message.
func (c *conn) identify(data json.RawMessage) (*Identity, error) {
	var token string // the key's case counts, which a struct would not mind
	m, err := parseClaims(data)
	if err != nil || m.text("token", &token) != nil || token == "" {
		return nil, &Error{Code: string(ReasonTokenInvalid), Text: `auth wants {"token":"…"}`, Retry: RetryNewToken}
	}
	cred, err := boundCredential(TokenMessage, token)
	if err != nil {
		return nil, err
	}
	ctx := newDeadline(c.Context(), c.node.authTime)
	defer ctx.end()
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: c.path}, Header: http.Header{}, RemoteAddr: c.addr}
	return c.node.authenticate(r.WithContext(ctx), cred)
}

// authenticatedAs is the answer to an auth.
func (c *conn) authenticatedAs(id *Identity, ref string) *outbound {
	data := appendTextOrNull([]byte(`{"user":`), id.User)
	data = append(appendMillisOrNull(append(data, `,"expires_at":`...), id.Expires), '}')
	return &outbound{kind: kindAuthenticated, topic: globalTopic, ref: ref, data: data}
}

// enter lets an identified client in: it takes its seat, is greeted, and joins
// global. False means that it had to go.
func (c *conn) enter(id *Identity) bool {
	n := c.node
	older, replaced, reason := n.seats.take(id.seat(), &c.Client)
	if reason != "" {
		c.end(reason, nil, errors.New("connection limit"))
		return false
	}
	c.waitNoMore()
	n.tenanted.CompareAndSwap(false, id.Tenant != "")
	c.identity.Store(id)
	c.counts.connections.Add(1)
	if replaced {
		older.link.disconnect(ReasonReplaced, nil, nil)
	}
	c.tell(&outbound{kind: kindConnected, topic: globalTopic, data: c.greeting(id)})
	c.to.entered()
	now := time.Now()
	n.wheel.schedule(&c.entry, c, earlier(c.expire(now), now.Add(2*quiet))) // after the first joins
	if n.connected != nil {
		n.guard("WithConnected", func() { n.connected(&c.Client) })
	}
	c.to.started()
	return true
}

// greeting is the data of connected.
func (c *conn) greeting(id *Identity) json.RawMessage {
	dst := append(make([]byte, 0, 128+len(id.User)+len(c.node.promises)), `{"connection":`...)
	dst = appendQuoted(dst, c.id)
	dst = appendTextOrNull(append(dst, `,"user":`...), id.User)
	dst = strconv.AppendInt(append(dst, `,"server_time":`...), time.Now().UnixMilli(), 10)
	dst = append(append(dst, ','), c.node.promises...)
	dst = appendMillisOrNull(append(dst, `,"expires_at":`...), id.Expires)
	return append(dst, '}')
}

// promisesOf is the part of every greeting that does not change: what the server
// holds itself and its clients to.
func promisesOf(s *settings) []byte {
	dst := fmt.Appendf(nil, `"heartbeat":{"interval_ms":%d,"timeout_ms":%d},"limits":{"message_bytes":%d,"channels":%d,`,
		s.heartbeat.Milliseconds(), s.timeout.Milliseconds(), s.messageBytes, s.channels)
	if s.perSecond == 0 {
		return append(dst, `"messages_per_second":null,"burst":null}`...)
	}
	return fmt.Appendf(dst, `"messages_per_second":%v,"burst":%d}`, s.perSecond, s.burst)
}

func appendTextOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return appendQuoted(dst, s)
}

func appendMillisOrNull(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, t.UnixMilli(), 10)
}
