package realtime

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Option sets up a server. New reports what is wrong with one, by name.
type Option func(*config) error

// config is what the options fill in; New turns it into a server.
type config struct {
	settings
	given      map[string]bool // options that may come once
	origins    []string
	trusted    []string
	limits     []RateLimit
	registerer prometheus.Registerer
	broker     Broker
	nodeTTL    time.Duration
	sources    TokenSource
	cookie     string
	tickets    int
	store      TicketStore
	perServer  int
	perUser    int
	newest     bool
}

// defaults are safe and useless: without an authenticator nobody gets in.
func defaults() *config {
	return &config{
		settings: settings{
			log:          slog.Default(),
			bounds:       queueBounds{messages: 256, bytes: 1 << 20},
			messageBytes: 64 << 10,
			channels:     128,
			mailbox:      64,
			badMessages:  5,
			heartbeat:    25 * time.Second,
			timeout:      10 * time.Second,
			authTime:     10 * time.Second,
			linger:       5 * time.Second,
			stall:        30 * time.Second,
		},
		given:   map[string]bool{},
		nodeTTL: defaultNodeTTL,
		sources: defaultTokenSources,
		newest:  true,
	}
}

// once notes that an option was used; the second time is an error.
func (c *config) once(name string) error {
	if c.given[name] {
		return fmt.Errorf("%s twice", name)
	}
	c.given[name] = true
	return nil
}

// authenticator sets the one way in.
func (c *config) authenticator(name string, a Authenticator) error {
	if c.auth != nil {
		return fmt.Errorf("%s: there is an authenticator already; WithAuth can combine several", name)
	}
	if a == nil {
		return fmt.Errorf("%s: no authenticator", name)
	}
	c.auth = a
	return nil
}

// WithJWT lets clients in that bring a JSON Web Token: give it at least one key
// ([HS256] and its like, or [KeySource]) and what else a token must fulfil. The
// algorithm is pinned by the key, never chosen by the token.
func WithJWT(opts ...JWTOption) Option {
	return func(c *config) error {
		a, err := JWT(opts...)
		if err != nil {
			return err
		}
		return c.authenticator("WithJWT", a)
	}
}

// WithAuth lets the application decide who gets in. a is called from many
// goroutines.
func WithAuth(a Authenticator) Option {
	return func(c *config) error { return c.authenticator("WithAuth", a) }
}

// WithTenants lets clients in whose token is signed with a secret of the tenant
// that it names. Tenants may come and go while the server runs.
func WithTenants(t *Tenants) Option {
	return func(c *config) error {
		if t == nil {
			return errors.New("WithTenants: nil")
		}
		return c.authenticator("WithTenants", t.Authenticator())
	}
}

// Anonymous lets everybody in, without a user's name: for public data, and for
// trying things out.
func Anonymous() Option {
	return func(c *config) error { return c.authenticator("Anonymous", anonymous) }
}

// WithTokenSources sets where clients may put their token: sources joined by |.
// The default is everywhere but in ?token= and cookies: URLs end up in logs, and
// cookies are sent with requests of any page.
func WithTokenSources(sources TokenSource) Option {
	return func(c *config) error {
		c.sources = sources
		return c.once("WithTokenSources")
	}
}

// WithTokenCookie takes tokens from the cookie called name, too, on requests
// whose Origin was checked.
func WithTokenCookie(name string) Option {
	return func(c *config) error {
		if name == "" {
			return errors.New("WithTokenCookie: no name")
		}
		c.cookie = name
		return c.once("WithTokenCookie")
	}
}

// WithTickets bounds the one-time tickets that are outstanding in this process (0
// for the default of 10,000, about 5 MB), or keeps them in store, where several
// servers find them; limit does not count then. store may be nil. Without the option
// they are kept where a [SharedBroker] keeps them, if it does.
func WithTickets(limit int, store TicketStore) Option {
	return func(c *config) error {
		if limit < 0 {
			return fmt.Errorf("WithTickets: limit %d", limit)
		}
		c.tickets, c.store = limit, store
		c.given["WithTickets"] = true
		return nil
	}
}

// WithOrigins lists the pages that may connect: scheme, host and port, exactly,
// such as "https://app.example.com" or "http://localhost:5173". "https://*.example.com"
// stands for one label, "http://localhost:*" for any port, "*" for any page.
// Without the option a page must come from the host and port that it connects
// to. Clients that are not browsers send no Origin and pass.
func WithOrigins(allowed ...string) Option {
	return func(c *config) error {
		c.origins = append(c.origins, allowed...)
		return nil
	}
}

// WithTrustedProxies lists the networks (such as "10.0.0.0/8") and addresses of
// reverse proxies whose X-Forwarded-For and Forwarded headers say where a client
// is, for limits by address and for logs. The default trusts nobody.
func WithTrustedProxies(networks ...string) Option {
	return func(c *config) error {
		c.trusted = append(c.trusted, networks...)
		return nil
	}
}

// WithRateLimit adds limits on messages and handshakes: [PerConnection] and its
// like. Without a PerConnection among them a connection may send 100 messages a
// second, with a burst of 200: several times what a person's clicks and keys come
// to. [PerUser] and [PerIP] count on all nodes, all other limits on this one.
func WithRateLimit(limits ...RateLimit) Option {
	return func(c *config) error {
		c.limits = append(c.limits, limits...)
		return nil
	}
}

// WithConnectionLimits bounds the connections of the server and of each user; 0
// is no limit, the default. At a user's limit the newest connection wins and the
// oldest is closed as "replaced", unless refuseNew is set; then the new one is
// refused as "overloaded", as it is at the server's limit. Anonymous connections
// have no user's limit. Connections count on this node, once authenticated.
func WithConnectionLimits(perServer, perUser int, refuseNew bool) Option {
	return func(c *config) error {
		if perServer < 0 || perUser < 0 {
			return fmt.Errorf("WithConnectionLimits(%d, %d): negative", perServer, perUser)
		}
		c.perServer, c.perUser, c.newest = perServer, perUser, !refuseNew
		return nil
	}
}

// WithCloseCodes sets the close codes of reasons in place of the table's
// ([Reasons]): 1000 to 1014 without those that RFC 6455 section 7.4 reserves, or
// 3000 to 4999.
func WithCloseCodes(codes map[Reason]int) Option {
	return func(c *config) error {
		c.codes = map[Reason]int{}
		for reason, code := range codes {
			if reason.info().Cause == "" || reason.info().Code == 0 {
				return fmt.Errorf("WithCloseCodes: %q is no reason for which the server closes", string(reason))
			}
			if !validCloseCode(code) {
				return fmt.Errorf("WithCloseCodes: %d for %q cannot be sent (RFC 6455 section 7.4)", code, string(reason))
			}
			c.codes[reason] = code
		}
		return nil
	}
}

// WithMessageBytes bounds one inbound message, fragments joined and decompressed.
// The default is 64 KiB; what is allowed here, each connection may make the
// server hold.
func WithMessageBytes(n int64) Option {
	return func(c *config) error {
		if n < 128 || n > 1<<30 {
			return fmt.Errorf("WithMessageBytes(%d): want 128 bytes to 1 GiB", n)
		}
		c.messageBytes = n
		return nil
	}
}

// WithChannels bounds the topics that one connection may join, global not
// counted. The default is 128.
func WithChannels(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithChannels(%d): want at least 1", n)
		}
		c.channels = n
		return nil
	}
}

// WithMailbox bounds the messages of one connection and topic that wait for
// their handler. With a full mailbox the socket is not read. The default is 64.
func WithMailbox(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithMailbox(%d): want at least 1", n)
		}
		c.mailbox = n
		return nil
	}
}

// WithInvalidMessages sets how many undecodable messages in a row close a
// connection: 5 by default, 1 for the first.
func WithInvalidMessages(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithInvalidMessages(%d): want at least 1", n)
		}
		c.badMessages = n
		return nil
	}
}

// WithQueue bounds what waits for one connection, in messages and bytes,
// whichever comes first; then the topic's [Overflow] policy decides. The default
// is 256 messages and 1 MiB: seconds of a lively topic, and a bound on what a
// stalled client costs. One message larger than bytes still passes an empty
// queue. Replies and other messages that belong to no topic have as much again,
// and then close the connection.
func WithQueue(messages, bytes int) Option {
	return func(c *config) error {
		if messages < 1 || bytes < 1 {
			return fmt.Errorf("WithQueue(%d, %d): want at least 1", messages, bytes)
		}
		c.bounds.messages, c.bounds.bytes = messages, bytes
		return nil
	}
}

// WithWaterMarks has f called when high messages wait for a client and again,
// with high false, when no more than low do: to send it less meanwhile. Calls for
// one client come one at a time, on a goroutine of their own; changes that come
// while f runs are told as one, or not at all if they cancel out. A high mark above
// the bound of [WithQueue] is never reached.
func WithWaterMarks(low, high int, f func(c *Client, high bool)) Option {
	return func(c *config) error {
		if low < 0 || high <= low || f == nil {
			return fmt.Errorf("WithWaterMarks(%d, %d): want 0 ≤ low < high and a function", low, high)
		}
		c.bounds.low, c.bounds.high, c.water = low, high, f
		return nil
	}
}

// WithHeartbeat sets after which silence of the peer a ping is sent, ± 10 %, and
// how long after it the connection is given up. The defaults, 25 s and 10 s, stay
// below the 60 s after which many proxies cut idle connections, with room for
// one lost ping.
func WithHeartbeat(interval, timeout time.Duration) Option {
	return func(c *config) error {
		if interval < time.Second || timeout < time.Second {
			return fmt.Errorf("WithHeartbeat(%v, %v): want at least 1s", interval, timeout)
		}
		c.heartbeat, c.timeout = interval, timeout
		return nil
	}
}

// WithAuthTime sets how long a connection may stay without authentication, and
// how long the authenticator may take over a token that came in a message; at the
// handshake its context is the request's. The default is 10 s.
func WithAuthTime(d time.Duration) Option {
	return func(c *config) error {
		if d < 100*time.Millisecond {
			return fmt.Errorf("WithAuthTime(%v): want at least 100ms", d)
		}
		c.authTime = d
		return nil
	}
}

// WithTokenGrace lets a connection live on for d after its token has expired, so
// that the client can refresh it. The default is 0; 30 s suit clients that
// refresh when they are told.
func WithTokenGrace(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return fmt.Errorf("WithTokenGrace(%v): negative", d)
		}
		c.grace = d
		return nil
	}
}

// WithWriteTimeout sets how long a client may take no byte of what is written to
// it before it is given up as a slow consumer. The default is 30 s.
func WithWriteTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d < time.Second {
			return fmt.Errorf("WithWriteTimeout(%v): want at least 1s", d)
		}
		c.stall = d
		return nil
	}
}

// WithWriters bounds the goroutines that write published events to sockets at the
// same time. They exist only while there is something to write. The default is
// GOMAXPROCS; the last of them works only for topics of 32 members and more, so that
// many small events leave a core to publishers and handlers. With fewer the queues of large topics get longer, more frames share a system
// call, and events take longer.
func WithWriters(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithWriters(%d): want at least 1", n)
		}
		c.writers = n
		return nil
	}
}

// WithCompression offers permessage-deflate, without context takeover: a
// published event is compressed once for all its members, if it has 512 bytes or
// more. It costs CPU, and about 1.2 MB per core for compressors.
func WithCompression() Option {
	return func(c *config) error {
		c.compress = true
		return nil
	}
}

// WithMetrics registers the server's metrics with r, until the end of
// [Server.Shutdown]. A second server on the same registry is an error; give it a
// registry of its own. Without the option, or with nil, none are registered.
func WithMetrics(r prometheus.Registerer) Option {
	return func(c *config) error {
		c.registerer = r
		return nil
	}
}

// WithLogger sets where the server logs. The default is slog.Default(). Keys are
// stable: conn, user, topic, reason, remote, error; tokens are never logged.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("WithLogger: nil; slog.DiscardHandler makes one that is silent")
		}
		c.log = l
		return nil
	}
}

// WithBrokerWatch has f called with the state of the shared broker as it is, from
// within [New], and whenever it changes, one call at a time. f must not block; a panic
// is logged.
func WithBrokerWatch(f func(BrokerStatus)) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("WithBrokerWatch: nil")
		}
		c.watch = f
		return c.once("WithBrokerWatch")
	}
}

// WithIsolation closes the clients, as overloaded, when the shared broker has been
// down for longer than after: another node may be better off. Until it is not down any
// more handshakes are answered with 503, and so is [Server.Ready]. By default clients
// stay, and talk to those who are on the same node.
func WithIsolation(after time.Duration) Option {
	return func(c *config) error {
		if after < time.Second {
			return fmt.Errorf("WithIsolation(%v): want at least 1s", after)
		}
		c.isolation = after
		return c.once("WithIsolation")
	}
}

// WithBroker sets what carries events between nodes. The default serves one node. A
// [SharedBroker] makes the server one node of many. What nodes tell each other is
// believed: nobody else may reach the broker.
func WithBroker(b Broker) Option {
	return func(c *config) error {
		if b == nil {
			return errors.New("WithBroker: nil")
		}
		c.broker = b
		return c.once("WithBroker")
	}
}

// WithNodeTTL sets after which silence the other nodes give a node up, with whoever
// is connected to it; a node tells them three times as often that it is there. It
// means this node, and should be the same for all. The default is 15 s, at least 1 s
// is wanted. It has no effect without a [SharedBroker].
func WithNodeTTL(ttl time.Duration) Option {
	return func(c *config) error {
		if ttl < minNodeTTL || ttl > maxNodeTTL {
			return fmt.Errorf("WithNodeTTL(%v): want %v to %v", ttl, minNodeTTL, maxNodeTTL)
		}
		c.nodeTTL = ttl
		return c.once("WithNodeTTL")
	}
}

// WithConnected has f called for every connection that has been authenticated
// and greeted, before its first message is handled; the handler of a raw mount may
// have started. f must not block: the handshake waits for it.
func WithConnected(f func(*Client)) Option {
	return func(c *config) error {
		c.connected = f
		return c.once("WithConnected")
	}
}

// WithDisconnected has f called once for every connection for which WithConnected
// was called, after it has ended, with the reason. Handlers of the connection may
// still run. f must not block: [Server.Shutdown] waits for it.
func WithDisconnected(f func(*Client, Reason)) Option {
	return func(c *config) error {
		c.ended = f
		return c.once("WithDisconnected")
	}
}
