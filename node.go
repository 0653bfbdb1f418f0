package realtime

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// settings are what the options set, fixed once the server is made.
type settings struct {
	auth      Authenticator
	log       *slog.Logger
	codes     map[Reason]int
	bounds    queueBounds
	water     func(c *Client, high bool)
	connected func(*Client)
	ended     func(*Client, Reason)

	messageBytes int64
	channels     int
	mailbox      int
	badMessages  int
	compress     bool

	heartbeat time.Duration // of silence before a ping
	timeout   time.Duration // from the ping to the close
	authTime  time.Duration // to authenticate after the handshake
	grace     time.Duration // after a token's expiry
	linger    time.Duration // to wait for the peer's close frame
	stall     time.Duration // of a write without progress
	writers   int           // goroutines that write at most; 0 for the default
	perSecond float64       // as told in connected; 0 is no limit
	burst     int
	promises  []byte // see promisesOf

	watch     func(BrokerStatus) // nil without WithBrokerWatch
	isolation time.Duration      // for which the broker may be down; 0 for ever
}

// node is what all connections of a server share.
type node struct {
	settings
	hub     *hub
	pool    *flushPool
	wheel   *wheel
	metrics *metrics
	limits  *limiter
	seats   *seats[*Client]
	asks    asks
	cluster *cluster  // nil when alone, and then the following is, too
	query   *gatherer // questions to all nodes
	relay   *relay    // requests for other nodes
	crew    crew
	base    time.Time
	giveUp  func() // ends hub.life

	draining atomic.Bool
	closed   atomic.Bool    // the drain is over
	isolated atomic.Bool    // cut off from the other nodes for too long
	refusing atomic.Int64   // refused connections that linger
	waiting  atomic.Int64   // connections that have yet to authenticate
	tenanted atomic.Bool    // there has been an identity with a tenant
	window   atomic.Int64   // reconnect window in milliseconds, while draining
	drained  atomic.Int64   // when the drain has to be over, since base; 0 for no such time
	work     sync.WaitGroup // goroutines that run on behalf of connections

	mu      sync.Mutex    // guards the following and Client.at
	clients roll[*Client] // every connection, refused ones too
	closers []func()      // see atClose
}

// refuses reports whether nobody is let in, whoever it is.
func (n *node) refuses() bool { return n.draining.Load() || n.isolated.Load() }

// refusal says why.
func (n *node) refusal() (Reason, string) {
	if n.draining.Load() {
		return ReasonShutdown, "the server is restarting"
	}
	return ReasonOverloaded, "the server is cut off from the others"
}

// add makes c known; false when the server is closed to newcomers.
func (n *node) add(c *Client) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuses() {
		return false
	}
	if c.at = n.clients.add(c); c.at == 0 {
		n.crew.rest(false)
	}
	n.work.Add(1) // for conn.serve
	return true
}

func (n *node) remove(c *Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clients.remove(c.at).at = c.at
	if n.clients.len() == 0 {
		n.crew.rest(true)
	}
}

// spawn has f run by a goroutine that Shutdown waits for. It does not block. Once a
// drain has begun it does nothing and returns false.
func (n *node) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.draining.Load() {
		return false
	}
	n.work.Add(1)
	n.crew.run(func() {
		defer n.work.Done()
		f()
	})
	return true
}

// atClose has f called once when Shutdown is done with the connections.
func (n *node) atClose(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closers = append(n.closers, f)
}

// list returns all connections as of now.
func (n *node) list() []*Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clients.appendTo(make([]*Client, 0, n.clients.len()))
}

// size returns how many connections there are.
func (n *node) size() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clients.len()
}

// authenticate asks the authenticator, and settles what its error means.
func (n *node) authenticate(r *http.Request, c credential) (*Identity, error) {
	id, err := n.askAuth(r, c.token)
	outcome := "ok"
	if err == nil && id == nil {
		err = ReasonInternal
	}
	if err != nil {
		id, err = nil, authError(err, c.token != "")
		outcome = clientError(err).Code
	}
	n.metrics.countToken(c.source.String(), codeLabel(outcome))
	return id, err
}

// askAuth keeps a panic of the authenticator's inside the one call: it may run on
// a connection's own goroutine, where it would end the process.
func (n *node) askAuth(r *http.Request, token string) (id *Identity, err error) {
	defer func() {
		if v := recover(); v != nil {
			n.panicked("authenticator", v)
			id, err = nil, ReasonInternal
		}
	}()
	return n.auth(r, token)
}

// guard runs a callback of the host that has nobody to answer to.
func (n *node) guard(what string, f func()) {
	defer func() {
		if v := recover(); v != nil {
			n.panicked(what, v)
		}
	}()
	f()
}

func (n *node) panicked(what string, value any) {
	n.log.Error("realtime: callback panicked", "in", what, "error", value, "stack", string(debug.Stack()))
}

// delays are the wait that a closing asks of the client: at least low, and a
// random part of spread, so that those who were closed together do not come back
// together.
type delays struct{ low, spread time.Duration }

var retryDelays = map[Reason]delays{
	ReasonRateLimited:      {2 * time.Second, 8 * time.Second},
	ReasonOverloaded:       {5 * time.Second, 15 * time.Second},
	ReasonInternal:         {time.Second, 4 * time.Second},
	ReasonProtocolError:    {time.Second, 4 * time.Second},
	ReasonSlowConsumer:     {0, time.Second},
	ReasonHeartbeatTimeout: {0, time.Second},
}

// closing is the explained close for reason; why, if not nil, has the host's own
// text and retry hint.
func (n *node) closing(reason Reason, why *Error) *closing {
	row := reason.info()
	c := &closing{code: n.code(reason), reason: reason, text: row.Text, retry: row.Retry}
	if why != nil && why.Text != "" {
		c.text = why.Text
	}
	if why != nil && why.Retry != "" {
		c.retry = why.Retry
	}
	if c.retry == RetryNow || c.retry == RetryBackoff {
		d, ok := retryDelays[reason]
		if !ok {
			d = delays{0, time.Second}
		}
		if reason == ReasonShutdown {
			d.spread = max(d.spread, time.Duration(n.window.Load())*time.Millisecond)
		}
		c.minDelayMS, c.jitterMS = d.low.Milliseconds(), d.spread.Milliseconds()
		if why != nil && why.RetryAfter > 0 {
			c.minDelayMS = max(c.minDelayMS, why.RetryAfter.Milliseconds())
		}
	}
	return c
}

// lingerUntil is how long a connection that closes at now waits for its peer: no
// longer than a drain may take, or one mute peer would make it fail.
func (n *node) lingerUntil(now time.Time) time.Time {
	until := now.Add(n.linger)
	if end := n.drained.Load(); end != 0 {
		return earlier(until, n.base.Add(time.Duration(end)))
	}
	return until
}

// retryAfter is in how many seconds those who were refused should come back.
func (n *node) retryAfter() int {
	if n.draining.Load() {
		return 1 + int(n.window.Load()/1000)
	}
	return int(retryDelays[ReasonOverloaded].low.Seconds())
}

func (n *node) code(reason Reason) int {
	if code, ok := n.codes[reason]; ok {
		return code
	}
	return reason.info().Code
}
