package realtime

import (
	"fmt"
	"time"
)

// Pattern is what all topics of one pattern have in common: who may join, what
// is kept, what happens to slow members, and the handlers. It is made by
// [Server.Topic] and set up before the server serves.
type Pattern struct {
	template
	handlers   map[string]*handling
	intercepts map[string]*handling
	fallback   *handling
	joinTime   time.Duration
	join       *handling
	left       func(c *Client, topic string, why Reason)
	keep       Retention
	policy     Policy
	presence   *presenceRules // nil without Presence
	gapless    bool           // what its members get comes another way: nothing goes through the broker
	count      *topicCounters
	rules      *rules   // what queues know of its topics
	kindred    *kindred // what its topics share
	metrics    *metrics
}

// presenceRules are what [Presence] sets.
type presenceRules struct {
	tick  time.Duration
	limit int // keys; with more the members are counted only
	of    func(c *Client, topic string) (key string, meta any)
}

// topicCounters are the metrics of one pattern, looked up once.
type topicCounters struct {
	published, deliveries counter
	joined                counter
	recoveries            map[Recovery]counter
	behind                counter // gaps because a member fell behind the history
	notices               counter
}

// kindred is what all topics of one pattern share on one node.
type kindred struct {
	pattern *Pattern
	broker  Broker
	pool    *flushPool
	count   *topicCounters
}

// handling is one handler with what is counted about it.
type handling struct {
	call    Handler
	event   string // as metrics call it: a client's own words would be a memory leak
	seconds observer
}

func (p *Pattern) handling(event string, h Handler) *handling {
	return &handling{call: h, event: event, seconds: p.metrics.handlers.WithLabelValues(p.text, event)}
}

// TopicOption sets up a pattern.
type TopicOption func(*Pattern) error

// Join sets who may join: an error refuses, and what the function returns is
// the answer's response. The message's Event is "subscribe" and its Data are the
// client's params, "null" if none; its Later must not be called, since a join is
// answered when the function returns. Without Join every authenticated client may.
// It is not asked for "global", which every connection is in, nor for
// [Client.Subscribe].
//
// When a client refreshes its token the function is called again for each joined
// topic, "global" included, with the new identity, event "auth" and no params: an
// error ends the membership, the response is dropped.
func Join(f Handler) TopicOption {
	return func(p *Pattern) error {
		if f == nil || p.join != nil {
			return fmt.Errorf("Join: want one function")
		}
		p.join = p.handling("subscribe", f)
		return nil
	}
}

// JoinTime sets how long a join may take, the function of [Join] and the broker
// together: 10 s by default, after which Phoenix's clients give up. Then the function's
// context ends and the client is refused with "join_timeout"; what the function returns
// in the end is dropped, and [Left] is called if that would have let the client in. It
// keeps the client's messages to the topic waiting until it returns.
func JoinTime(d time.Duration) TopicOption {
	return func(p *Pattern) error {
		if d <= 0 {
			return fmt.Errorf("JoinTime(%v): want more than 0", d)
		}
		p.joinTime = d
		return nil
	}
}

// joinTime is the default of JoinTime.
const joinTime = 10 * time.Second

// Left sets a function that is called once for every membership that ends, on
// whatever way: with ReasonClientClosed for an unsubscribe or a closed socket,
// with ReasonDisconnected if the server ended the membership, else with what ended
// the connection. It is called, too, when the function of [Join] let a client in and the
// join came to nothing after that, for example because the broker was down. It takes its turn in the mailbox: no handler of that connection
// and topic runs meanwhile, and after the connection's end none follows. It may
// block; a panic is logged.
func Left(f func(c *Client, topic string, why Reason)) TopicOption {
	return func(p *Pattern) error {
		p.left = f
		return nil
	}
}

// History keeps up to size events of each topic, none older than age (0 for no
// such bound), and gives them positions: clients that come back recover what
// they missed, and slow ones catch up. The default broker keeps them in memory.
// It forgets a topic without members once all its events are too old and the last
// one was 24 hours ago: without an age never, which suits topics whose number is
// bounded.
func History(size int, age time.Duration) TopicOption {
	return func(p *Pattern) error {
		if size < 1 || age < 0 {
			return fmt.Errorf("History(%d, %v): want at least one event and no negative age", size, age)
		}
		p.keep = Retention{Size: size, Age: age}
		return nil
	}
}

// Overflow sets what happens to members that do not keep up with what is
// published: the default is [CloseSlow], and with [History] [CatchUp].
func Overflow(policy Policy) TopicOption {
	return func(p *Pattern) error {
		if policy.name == "" || policy.name == keepLatest && policy.key == nil {
			return fmt.Errorf("Overflow: not a policy of this package")
		}
		p.policy = policy
		return nil
	}
}

// settle fills in defaults and refuses contradictions.
func (p *Pattern) settle() error {
	if p.joinTime == 0 {
		p.joinTime = joinTime
	}
	if p.policy.name == "" {
		p.policy = CloseSlow
		if p.keep.Keeps() {
			p.policy = CatchUp
		}
	}
	if p.policy.name == catchUp && !p.keep.Keeps() {
		return fmt.Errorf("Overflow(CatchUp) needs History to catch up from")
	}
	return nil
}

// Handle sets the handler of an event; "*" stands for every event that has no
// handler of its own. It must be called before the server serves. Like [http.ServeMux] it panics on a mistake: an event
// twice, a name that no client can send or that the protocol keeps for itself
// (envelope.md section 3).
func (p *Pattern) Handle(event string, h Handler) {
	if err := p.handle(event, h); err != nil {
		panic(fmt.Sprintf("realtime: topic %q: Handle(%q): %v", p.text, event, err))
	}
}

func (p *Pattern) handle(event string, h Handler) error {
	if err := checkName(event, maxEventBytes); err != nil {
		return err
	}
	if h == nil {
		return fmt.Errorf("no handler")
	}
	switch event {
	case "subscribe", "unsubscribe", "history", "answer":
		return fmt.Errorf("the protocol keeps this name for itself")
	case "ping", "auth":
		if p.text == globalTopic {
			return fmt.Errorf("the protocol keeps this name for itself on %q", globalTopic)
		}
	}
	if event == "*" {
		if p.fallback != nil {
			return fmt.Errorf("handled twice")
		}
		p.fallback = p.handling(event, h)
		return nil
	}
	if p.handlers[event] != nil {
		return fmt.Errorf("handled twice")
	}
	p.handlers[event] = p.handling(event, h)
	return nil
}

// Intercept has h see each published event of that name before a member does, once
// for every member: what h returns is pushed to that member in the event's place,
// nothing if it returns [Nothing] or an error, which is logged; [ErrStop] and
// [ErrCrash] end the membership. h takes its turn among the member's handlers, so what
// it pushes comes behind what they answer, and costs a call for every member where
// a published event costs none. It must be called before the server serves, panics
// as Handle does, and excludes [History]: what was kept would pass it by.
func (p *Pattern) Intercept(event string, h Handler) {
	if err := p.intercept(event, h); err != nil {
		panic(fmt.Sprintf("realtime: topic %q: Intercept(%q): %v", p.text, event, err))
	}
}

func (p *Pattern) intercept(event string, h Handler) error {
	if err := checkName(event, maxEventBytes); err != nil {
		return err
	}
	switch {
	case h == nil:
		return fmt.Errorf("no handler")
	case p.intercepts[event] != nil:
		return fmt.Errorf("intercepted twice")
	case p.keep.Keeps():
		return fmt.Errorf("a topic with History cannot intercept")
	}
	if p.intercepts == nil {
		p.intercepts = map[string]*handling{}
	}
	p.intercepts[event] = p.handling(event, h)
	return nil
}

// handler returns who handles event, nil if nobody does.
func (p *Pattern) handler(event string) *handling {
	if h := p.handlers[event]; h != nil {
		return h
	}
	return p.fallback
}

// Name returns the topic's name with values in place of the parameters, in
// their order. The error names a value that cannot stand there: an empty one, or
// one with a colon.
func (p *Pattern) Name(values ...string) (string, error) { return p.build(values) }

// Parse returns the parameters in the name of a topic, ok false if the name is
// not one of this pattern's.
func (p *Pattern) Parse(topic string) (params Params, ok bool) { return p.match(topic) }

// String returns the pattern as it was declared.
func (p *Pattern) String() string { return p.text }
