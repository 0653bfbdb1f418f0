// Package realtime adds topics, history with recovery and pushed events to a
// net/http or chi application, over WebSockets.
//
// A [Server] is an [http.Handler]; the application declares topics and handlers
// and publishes from wherever it likes (errors left out):
//
//	rt, err := realtime.New(realtime.WithJWT(realtime.HS256("key-1", secret)))
//	chat := rt.Topic("chat:{room}", realtime.History(100, time.Hour))
//	chat.Handle("message", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
//		return nil, rt.Publish(ctx, m.Topic, "message", m.Data)
//	})
//	router.Handle("/ws", rt)
//
// Without an authenticator ([WithJWT], [WithTenants], [WithAuth] or [Anonymous])
// nobody gets in. What goes over the wire is described in docs/protocols.md.
package realtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Server is one node: the connections to it, and the topics they have joined.
// It is an [http.Handler] for the protocol realtime.v1. Its methods may be
// called from any goroutine.
type Server struct {
	main       *Mount
	node       *node
	lookout    *lookout
	remote     *remote
	registerer prometheus.Registerer
	ofTenants  []func(word, tenant string) // ends what a tenant has here; see Documents
}

// New makes a server. It starts nothing: goroutines exist only while there are
// connections. The error joins every mistake in the options. A server without an
// authenticator is no mistake, but lets nobody in.
//
// With a [SharedBroker] it is a node among others from now on, until [Server.Shutdown]:
// it has a goroutine and a timer. That the broker cannot be reached is no error: it is
// tried again.
func New(opts ...Option) (*Server, error) {
	c := defaults()
	var errs []error
	for _, o := range opts {
		if err := o(c); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("realtime: New: %w", err)
	}
	s, err := c.build()
	if err != nil {
		return nil, fmt.Errorf("realtime: New: %w", err)
	}
	return s, nil
}

// build makes the parts and ties them together.
func (c *config) build() (*Server, error) {
	g := &gate{noAuth: c.auth == nil, tickets: newTickets(c.tickets)}
	var errs [5]error
	if c.bounds.high > c.bounds.messages {
		errs[4] = fmt.Errorf("WithWaterMarks: %d messages are never reached: WithQueue allows %d", c.bounds.high, c.bounds.messages)
	}
	if c.cookie != "" {
		c.sources |= TokenCookie
	}
	errs[3] = checkSources(c.sources, c.cookie)
	g.origins, errs[0] = newOrigins(c.origins)
	g.proxies, errs[1] = newProxies(c.trusted)
	n := &node{settings: c.settings, wheel: newWheel(), metrics: newMetrics(), base: time.Now()}
	n.limits, errs[2] = newLimiter(c.messageLimits())
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	n.perSecond, n.burst = n.limits.told()
	n.promises = promisesOf(&n.settings)
	if g.noAuth {
		n.auth = refuseAll
	}
	b, err := c.meet(n)
	if err != nil {
		return nil, err
	}
	if c.store != nil {
		g.tickets.store = c.store
	}
	n.asks.metrics = n.metrics
	n.pool = newFlushPool(n.metrics, c.stall)
	if c.writers > 0 {
		n.pool.workers = c.writers
	}
	n.hub = newHub(c.broker, n.pool, n.metrics)
	n.hub.wheel, n.hub.spawn = n.wheel, n.spawn
	n.hub.life, n.giveUp = context.WithCancel(context.Background())
	n.hub.among(n.cluster, n.query)
	n.seats = newSeats[*Client](c.perServer, c.perUser, c.newest)
	if err := n.metrics.register(c.registerer); err != nil {
		return nil, fmt.Errorf("WithMetrics: %w", err)
	}
	s := &Server{node: n, lookout: newLookout(n), remote: &remote{node: n, query: n.query}, registerer: c.registerer}
	s.main = &Mount{node: n, gate: g, terms: &terms{channels: c.channels}, to: newSession, codecs: allCodecs, sources: c.sources, cookie: c.cookie}
	s.remote.register()
	newGossip(n.cluster, n.limits, n.wheel)
	n.cluster.start()
	if b != nil {
		s.lookout.follow(b) // the last step: nothing would stop it after a mistake
	}
	return s, nil
}

// meet settles the broker, and makes n one node among others if they have it in common
// with n: it is returned then, else nil.
func (c *config) meet(n *node) (SharedBroker, error) {
	if c.broker == nil {
		c.broker = newMemoryBroker()
	}
	if keeper, ok := c.broker.(interface{ Tickets() TicketStore }); ok && !c.given["WithTickets"] {
		c.store = keeper.Tickets()
	}
	b, shared := c.broker.(SharedBroker)
	switch {
	case shared:
		n.cluster = newCluster(b, c.nodeTTL, n.metrics, n.log, n.wheel)
		n.query, n.relay = newGatherer(n.cluster), newRelay(n.cluster)
	case n.watch != nil || n.isolation > 0:
		return nil, errors.New("WithBrokerWatch, WithIsolation: they need WithBroker with one that nodes share")
	}
	return b, nil
}

// messageLimits adds the default to what the host set, unless it bounds the
// connection itself.
func (c *config) messageLimits() []RateLimit {
	for _, l := range c.limits {
		if l.scope == scopeConnection {
			return c.limits
		}
	}
	return append([]RateLimit{PerConnection(100, 200)}, c.limits...)
}

// refuseAll is the authenticator of a server that has none.
func refuseAll(*http.Request, string) (*Identity, error) { return nil, ReasonUnauthenticated }

// Topic declares the topics whose names match pattern, such as "chat:{room}":
// segments between colons, of which {name} stands for any one and a last
// {name...} for all the rest, colons included; or, as in Phoenix, a * at the end for
// whatever follows, which may be nothing and is the parameter "*". A name that several patterns match
// belongs to the first that was declared. Only declared topics can be joined and
// published to; "global", which every connection is in, is declared without
// options unless the host does it.
//
// Like [http.ServeMux] it panics on a mistake in the pattern or an option, and on
// two patterns that match the same names. It must be called before the server
// serves.
func (s *Server) Topic(pattern string, opts ...TopicOption) *Pattern {
	p, err := s.declare(pattern, opts)
	if err != nil {
		panic(fmt.Sprintf("realtime: Topic(%q): %v", pattern, err))
	}
	return p
}

func (s *Server) declare(text string, opts []TopicOption) (*Pattern, error) {
	t, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	p := &Pattern{template: t, handlers: map[string]*handling{}, metrics: s.node.metrics}
	for _, o := range opts {
		if err := o(p); err != nil {
			return nil, err
		}
	}
	if err := p.settle(); err != nil {
		return nil, err
	}
	return p, s.node.hub.declare(p)
}

// Mount returns a handler for another path, with its own choice of protocols,
// refusals and token sources; connections, topics and limits are the server's. It
// panics on a mistake in the options.
func (s *Server) Mount(opts ...MountOption) *Mount {
	m := *s.main
	for _, o := range opts {
		if err := o(&m); err != nil {
			panic(fmt.Sprintf("realtime: Mount: %v", err))
		}
	}
	return &m
}

// ServeHTTP answers a WebSocket handshake, as a [Mount] without options does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.main.ServeHTTP(w, r) }

// PublishOption changes how one event is published.
type PublishOption func(*Event)

// Except publishes to all members but c: the one whose message is passed on. It
// means this connection, not its user: after a reconnect the same user's replay
// has the event.
func Except(c *Client) PublishOption {
	return func(e *Event) { e.Except = c.id }
}

// Publish sends an event to every member of topic, on every node. It returns
// when the event has its place in the topic's order and is queued for the
// members of this node, not when they have received it. A member whose queue is
// full is treated by the topic's [Overflow] policy; the others are unaffected.
//
// payload is encoded once per wire protocol, however many members there are; a
// json.RawMessage is sent byte for byte and must not be changed afterwards. A
// topic without members is no error; if it keeps history, the event is kept.
//
// The error is [ErrUnknownTopic], [ErrServerClosed], that of an event's name that
// is not 1 to 128 bytes of UTF-8 without control characters, or that of encoding
// the payload or of the broker, which alone is given ctx. Publish does not wait
// for clients and may be called from a [Handler].
func (s *Server) Publish(ctx context.Context, topic, event string, payload any, opts ...PublishOption) error {
	if s.node.closed.Load() {
		return ErrServerClosed
	}
	data, err := eventData(event, payload)
	if err != nil {
		return err
	}
	e := &Event{Topic: topic, Name: event, Data: data, Binary: isBinary(payload)}
	for _, o := range opts {
		o(e)
	}
	return s.node.hub.publish(ctx, e)
}

// Push sends an event of topic to the connections that to means and that have
// joined topic, such as all those of one user; it returns for how many on this node
// it was queued. "global" reaches all of them. That there are none is no error. See
// [Client.Push]. Other nodes are told and not waited for; what one node pushes to a
// client comes in its order.
func (s *Server) Push(to Target, topic, event string, payload any) (int, error) {
	data, err := eventData(event, payload)
	if err != nil {
		return 0, err
	}
	binary := isBinary(payload)
	if !binary {
		payload = data // encoded once
	}
	cs := s.node.meant(to)
	if to.Connection == "" || len(cs) == 0 {
		err = s.remote.push(to, topic, event, data, binary)
	}
	n, near := pushAll(cs, topic, event, payload)
	return n, cmp.Or(near, err)
}

func pushAll(cs []*Client, topic, event string, payload any) (int, error) {
	n := 0
	for _, c := range cs {
		switch err := c.Push(topic, event, payload); {
		case err == nil:
			n++
		case !errors.Is(err, ErrNotJoined) && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotSupported):
			return n, err
		}
	}
	return n, nil
}

// Ask sends an event to every member of topic and waits until all have answered,
// have gone, or ctx ends; ctx should have a deadline, since a client may never
// answer. There is an [Answer] for each member, in no order, and none for a topic
// without members. The event is not part of the topic's history. The error is
// [ErrUnknownTopic], or that of the event's name or the payload; what went wrong with
// one member is in its answer.
//
// Members on other nodes are waited for until shortly before the deadline, so that
// their nodes can still answer; without one for 10 s. With a [*PartialError], which
// names the nodes whose answers are missing, the others' answers are returned all
// the same.
func (s *Server) Ask(ctx context.Context, topic, event string, payload any) ([]Answer, error) {
	data, err := eventData(event, payload)
	if err != nil {
		return nil, err
	}
	if s.node.hub.patternOf(topic) == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownTopic, topic)
	}
	far := s.remote.question(ctx, topic, event, data)
	cs := slices.Collect(s.Clients(topic))
	near := s.node.asks.ask(ctx, cs, &outbound{kind: kindEvent, topic: topic, event: event, data: data})
	for i := range near {
		near[i].Node = s.node.cluster.id()
	}
	more, err := s.remote.answers(far)
	return append(near, more...), err
}

// Ticket returns a one-time ticket that lets one connection in as id, with
// ?ticket= in its URL, within life: 0 means 30 seconds, the most is 10 minutes. It
// ends no later than id. So no token need stand in a URL, where proxies log it. id
// must not be changed afterwards.
//
// The error holds [ReasonOverloaded] when too many are outstanding (see
// [WithTickets]) and [ReasonTokenExpired] when id has expired.
func (s *Server) Ticket(ctx context.Context, id *Identity, life time.Duration) (string, error) {
	return s.main.gate.tickets.issue(ctx, id, life)
}

// Tickets returns a handler that gives a ticket for a token: POST with
// "Authorization: Bearer", whatever the token sources are, answered with
// {"ticket":"…","expires_in":30}, in seconds, and refused as [PlainRefusals] are.
// The limits [ConnectsPerIP] and [AcceptRate] count it as a handshake. It does not
// check origins: a page of another origin needs CORS headers of the host's.
func (s *Server) Tickets() http.Handler {
	return http.HandlerFunc(s.main.serveTicket)
}

// Clients iterates over the members of topic on this node, as of now, in no order.
// No lock is held meanwhile.
func (s *Server) Clients(topic string) iter.Seq[*Client] {
	if t := s.node.hub.lookup(topic); t != nil {
		return t.all()
	}
	return func(func(*Client) bool) {}
}

// Topics iterates over the topics that have members on this node, and how many, in
// no order. No lock is held meanwhile, so the counts are not of one moment.
func (s *Server) Topics() iter.Seq2[string, int] { return s.node.hub.all() }

// History returns up to limit kept events of topic after an offset, ascending and
// beginning with the oldest kept if that is later, and the topic's newest
// position. The events are shared and must not be changed. A topic that keeps none,
// or has had no event and no member, gives the zero [Position]. It may block on the
// broker. The error is [ErrUnknownTopic] or the broker's.
func (s *Server) History(ctx context.Context, topic string, after uint64, limit int) ([]*Event, Position, error) {
	p := s.node.hub.patternOf(topic)
	if p == nil {
		return nil, Position{}, fmt.Errorf("%w: %q", ErrUnknownTopic, topic)
	}
	return s.node.hub.page(ctx, p, topic, after, limit)
}

// Disconnect closes the connections that target means, as "disconnected", and
// returns how many there are on this node. why may be nil; its Text and Retry are
// what the clients are told: by default not to come back. It does not stop them from
// doing so: that is the authenticator's business. Other nodes are told and not waited
// for: while one of them is cut off from the broker its clients stay.
func (s *Server) Disconnect(target Target, why *Error) int {
	cs := s.node.meant(target)
	if target.Connection == "" || len(cs) == 0 {
		s.remote.disconnect(target, why)
	}
	for _, c := range cs {
		c.link.disconnect(ReasonDisconnected, why, nil)
	}
	return len(cs)
}
