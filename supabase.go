package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Supabase declares topics for unmodified clients of @supabase/realtime-js, such as
// "realtime:*", to be reached by a mount that [Server.Phoenix] returns (phoenix.md
// section 8). They broadcast to each other, JSON or bytes, and track their presence;
// changes of a database there are none. Options and handlers are those of
// [Server.Topic]: a join function says who may join, finds the client's config and
// access_token in the message's Data, and is asked again about a fresh token. Events
// of no known name get no answer, and bytes that a client names phx_… or presence_…
// are refused.
//
// A client's access_token, with its join or later, takes the place of its token if
// the server's authenticator accepts it for the same user, or for any if the
// connection is anonymous, as with Supabase's public key; a join with another is
// refused, and a membership that sends another ends, after the event system has said
// why. Without an authenticator, as when [Connect] decides, it is the join
// function's alone.
func (s *Server) Supabase(pattern string, opts ...TopicOption) *Pattern {
	p := s.Topic(pattern, append([]TopicOption{Presence()}, opts...)...)
	b := &supabase{server: s, join: p.join, left: p.left}
	p.join, p.left = p.handling("subscribe", b.enter), b.leave
	p.Handle("broadcast", b.broadcast)
	p.Handle("presence", b.presence)
	p.Handle("access_token", b.refresh)
	p.Handle("*", func(context.Context, *Client, Message) (any, error) { return Nothing, nil })
	return p
}

// supabase is what the topics of one pattern have in common.
type supabase struct {
	server *Server
	join   *handling // the host's, nil if it has none
	left   func(c *Client, topic string, why Reason)
}

// supabaseKey is under which a client keeps what it asked for in a topic, a
// *supabaseConfig.
type supabaseKey struct{ topic string }

// supabaseConfig is what a client asked for when it joined. Its handlers come one at
// a time, so it needs no lock.
type supabaseConfig struct {
	Broadcast struct {
		Ack  loose `json:"ack"`  // answer broadcasts
		Self loose `json:"self"` // send them to the sender, too
	} `json:"broadcast"`
	Presence struct {
		Key string `json:"key"`
	} `json:"presence"`

	tracked json.RawMessage // nil while not tracked
}

// loose is a boolean that some clients send as a string.
type loose bool

// UnmarshalJSON implements [json.Unmarshaler].
func (l *loose) UnmarshalJSON(text []byte) error {
	*l = loose(string(bytes.Trim(text, `"`)) == "true")
	return nil
}

// enter wraps the host's join function, which is also asked when a token was
// refreshed.
func (b *supabase) enter(ctx context.Context, c *Client, m Message) (any, error) {
	if m.Event == "subscribe" {
		if err := b.configure(c, m); err != nil {
			return nil, err
		}
	}
	if b.join == nil {
		return nil, nil
	}
	response, err := b.join.call(ctx, c, m)
	if err != nil && m.Event == "subscribe" {
		c.Set(supabaseKey{m.Topic}, nil)
	}
	return response, err
}

func (b *supabase) configure(c *Client, m Message) error {
	var in struct {
		Config supabaseConfig `json:"config"`
		Token  string         `json:"access_token"`
	}
	if err := m.Decode(&in); err != nil {
		return err
	}
	if err := adopt(c, in.Token); err != nil {
		return err
	}
	if in.Config.Presence.Key == "" {
		in.Config.Presence.Key = c.ID()
	}
	c.Set(supabaseKey{m.Topic}, &in.Config)
	return nil
}

// adopt has the client's identity follow token.
func adopt(c *Client, token string) error {
	if token == "" {
		return nil
	}
	err := c.link.adopt(token)
	if errors.Is(err, ReasonUnauthenticated) {
		return nil // there is no authenticator: no other answers a token so
	}
	return err
}

func (b *supabase) leave(c *Client, topic string, why Reason) {
	if b.left != nil {
		b.left(c, topic, why)
	}
	c.Set(supabaseKey{topic}, nil)
}

// configOf returns what the client asked for. A membership always has one.
func configOf(c *Client, m Message) *supabaseConfig {
	config, _ := c.Value(supabaseKey{m.Topic}).(*supabaseConfig)
	if config == nil {
		config = &supabaseConfig{}
	}
	return config
}

// broadcast passes on what came: JSON in the form in which it did, bytes under the
// event that their frame names.
func (b *supabase) broadcast(ctx context.Context, c *Client, m Message) (any, error) {
	config := configOf(c, m)
	var options []PublishOption
	if !config.Broadcast.Self {
		options = append(options, Except(c))
	}
	event, payload := m.Event, any(m.Data)
	if m.Binary != nil {
		var in struct{ Event string }
		if err := m.Decode(&in); err != nil {
			return nil, err
		}
		if err := checkUserEvent(in.Event); err != nil {
			return nil, err
		}
		event, payload = in.Event, Binary(m.Binary)
	}
	if err := b.server.Publish(ctx, m.Topic, event, payload, options...); err != nil || bool(config.Broadcast.Ack) {
		return nil, err
	}
	return Nothing, nil
}

// checkUserEvent refuses what a client may not call its bytes: members that speak
// plain Phoenix get them under this name, where it could close their channel or
// speak for presence.
func checkUserEvent(event string) error {
	if !isName(event, maxEventBytes) || strings.HasPrefix(event, "phx_") || strings.HasPrefix(event, "presence_") {
		return &Error{Code: CodeInvalidData, Retry: RetryNever,
			Text: fmt.Sprintf("broadcast: an event of bytes has a name of 1 to %d bytes, not one of the protocol's own", maxEventBytes)}
	}
	return nil
}

// presence tracks and untracks. A client has one meta in each topic; the same one
// again changes nothing.
func (*supabase) presence(_ context.Context, c *Client, m Message) (any, error) {
	config := configOf(c, m)
	var in struct {
		Event   string          `json:"event"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := m.Decode(&in); err != nil {
		return nil, err
	}
	if in.Payload == nil {
		in.Payload = json.RawMessage("{}")
	}
	key := config.Presence.Key
	switch {
	case strings.EqualFold(in.Event, "untrack"):
		config.tracked = nil
		return nil, c.Untrack(m.Topic, key)
	case !strings.EqualFold(in.Event, "track"), bytes.Equal(config.tracked, in.Payload):
		return nil, nil
	}
	err := c.Retrack(m.Topic, key, in.Payload)
	if errors.Is(err, ErrNotTracked) {
		err = c.Track(m.Topic, key, in.Payload)
	}
	if err == nil {
		config.tracked = in.Payload
	}
	return nil, err
}

// refresh takes a fresh token. It gets no answer.
func (*supabase) refresh(_ context.Context, c *Client, m Message) (any, error) {
	var in struct {
		Token string `json:"access_token"`
	}
	if err := m.Decode(&in); err != nil {
		return Nothing, nil // no answer is expected, not even to this
	}
	if err := adopt(c, in.Token); err != nil {
		_, why := refusalOf(err)
		_, channel, _ := strings.Cut(m.Topic, ":")
		c.Push(m.Topic, "system", map[string]string{"extension": "system", "status": "error", "message": why.Text, "channel": channel})
		return Nothing, fmt.Errorf("%w: access_token: %w", ErrStop, err)
	}
	return Nothing, nil
}
