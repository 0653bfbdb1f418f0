package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// link is a partition's connection for what is published: one, for all its channels.
type link struct {
	// Set by newLink, never changed.
	way  *way
	ping string        // this node's own channel, by which it sees that the link works
	wake chan struct{} // there are changed channels

	mu       sync.Mutex // guards the following
	channels map[string]*channel
	changed  []*channel // of which the server has not been told
	session  *session   // nil while there is no connection
	echo     string     // the last that came on ping
	echoed   chan struct{}
}

// channel is one channel that this node listens to, or did a moment ago.
type channel struct {
	name      string
	listeners []*listener   // replaced as a whole
	asked     bool          // the server was last told to subscribe
	answers   int           // that are still to come
	standing  chan struct{} // closed while the subscription stands
	stands    bool
}

// listener is one who has subscribed to a channel.
type listener struct {
	onMessage func(string)
	onReset   func()
	later     bool // it need not stand at once
	stood     bool // guarded by the link
}

func newLink(w *way) *link {
	return &link{way: w, ping: w.key("ping", w.ids.node()), wake: make(chan struct{}, 1), channels: map[string]*channel{}}
}

// subscribe is that of the lane.
func (k *link) subscribe(ctx context.Context, name string, onMessage func(string), onReset func()) (func(), error) {
	return k.listen(ctx, name, &listener{onMessage: onMessage, onReset: onReset})
}

// subscribeLater is subscribe for those who can do without: it succeeds while the
// server is out of reach too, and onReset is called once the subscription stands.
func (k *link) subscribeLater(ctx context.Context, name string, onMessage func(string), onReset func()) (func(), error) {
	return k.listen(ctx, name, &listener{onMessage: onMessage, onReset: onReset, later: true})
}

func (k *link) listen(ctx context.Context, name string, one *listener) (func(), error) {
	doing := "subscribe to " + name
	cut := k.way.health.cutOff()
	if cut != nil && !one.later {
		return nil, unavailable(doing, cut)
	}
	c := k.add(name, one)
	stop := sync.OnceFunc(func() { k.remove(c, one) })
	if cut != nil {
		k.postpone(one)
		return stop, nil
	}
	late := time.NewTimer(k.way.timeout)
	defer late.Stop()
	for {
		stands := k.wait(c, one)
		if stands == nil {
			return stop, nil
		}
		select {
		case <-stands:
		case <-ctx.Done():
			stop()
			return nil, unavailable(doing, ctx.Err())
		case <-late.C:
			if one.later {
				k.postpone(one)
				return stop, nil
			}
			stop()
			return nil, unavailable(doing, because(errTimeout, k.way.health.status().Err))
		}
	}
}

// postpone has one called as if the subscription had stood before.
func (k *link) postpone(one *listener) {
	k.mu.Lock()
	defer k.mu.Unlock()
	one.stood = true
}

func (k *link) add(name string, one *listener) *channel {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.channels[name]
	if c == nil {
		c = &channel{name: name, standing: make(chan struct{})}
		k.channels[name] = c
	}
	one.stood = c.stands
	c.listeners = append(c.listeners[:len(c.listeners):len(c.listeners)], one)
	k.changedLocked(c)
	return c
}

// wait returns nil if one's subscription stands, else what is closed when it does.
func (k *link) wait(c *channel, one *listener) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if one.stood {
		return nil
	}
	return c.standing
}

func (k *link) remove(c *channel, one *listener) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var rest []*listener
	for _, other := range c.listeners {
		if other != one {
			rest = append(rest, other)
		}
	}
	c.listeners = rest
	k.changedLocked(c)
}

// changedLocked has the server told what c needs, if it needs something else than
// before. Who comes and goes meanwhile costs nothing.
func (k *link) changedLocked(c *channel) {
	if k.session == nil {
		if len(c.listeners) == 0 {
			delete(k.channels, c.name)
		}
		return
	}
	k.changed = append(k.changed, c)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// batch is how many channels one command names.
const batch = 512

// take returns the channels that the server is to be told of: to begin, and to end.
func (k *link) take() (begin, end []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.changed) > 0 && len(begin) < batch && len(end) < batch {
		c := k.changed[0]
		k.changed = k.changed[1:]
		wanted := len(c.listeners) > 0
		switch {
		case wanted == c.asked:
			if !wanted && c.answers == 0 && k.channels[c.name] == c {
				delete(k.channels, c.name) // came and went before it was told
			}
			continue
		case wanted:
			begin = append(begin, c.name)
		default:
			end = append(end, c.name)
			c.lose()
		}
		c.asked = wanted
		c.answers++
	}
	return begin, end
}

// lose notes that the subscription does not stand any more.
func (c *channel) lose() {
	if c.stands {
		c.stands, c.standing = false, make(chan struct{})
	}
}

// loop keeps a connection until ctx ends.
func (k *link) loop(ctx context.Context) {
	for pause := time.Duration(0); ctx.Err() == nil; {
		stood, err := k.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		state := realtime.BrokerDown
		if stood {
			state, pause = realtime.BrokerDegraded, 0 // at once, once
		} else {
			pause = min(max(2*pause, 50*time.Millisecond), time.Second)
		}
		k.way.health.setArrivals(standing{state, fmt.Errorf("the connection for messages: %w", err)})
		k.way.health.doubt()
		wait(ctx, time.Duration(rand.Int64N(int64(pause)+1)))
	}
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// confirm is called with the server's answers, by the goroutine that reads the
// connection: whatever the listeners are told here comes before later messages.
func (k *link) confirm(s *session, m rueidis.PubSubSubscription) {
	k.mu.Lock()
	c := k.channels[m.Channel]
	if c == nil || k.session != s {
		k.mu.Unlock()
		return
	}
	if c.answers == 0 { // nobody asked: a Cluster has moved the slot
		k.mu.Unlock()
		s.kick(errMoved)
		return
	}
	c.answers--
	again := k.confirmedLocked(c)
	k.mu.Unlock()
	for _, one := range again {
		one.onReset()
	}
}

var errMoved = errors.New("the cluster has moved the slot")

// confirmedLocked returns those who have had the subscription before.
func (k *link) confirmedLocked(c *channel) (again []*listener) {
	switch {
	case c.answers > 0 || c.stands:
	case c.asked:
		for _, one := range c.listeners {
			if one.stood {
				again = append(again, one)
			}
			one.stood = true
		}
		c.stands = true
		close(c.standing)
	case len(c.listeners) == 0:
		delete(k.channels, c.name)
	}
	return again
}

func (k *link) message(s *session, m rueidis.PubSubMessage) {
	k.mu.Lock()
	var listeners []*listener
	if c := k.channels[m.Channel]; c != nil && k.session == s {
		listeners = c.listeners
	}
	k.mu.Unlock()
	for _, one := range listeners {
		one.onMessage(m.Message)
	}
}

// present returns what is closed when the connection is lost on which a channel's
// messages come, nil if they do not come at present.
func (k *link) present(channel string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.channels[channel]; k.session == nil || c == nil || !c.stands {
		return nil
	}
	return k.session.lost
}

// expect returns what is closed when text has come on the node's own channel, and
// what ends the connection if it has not; nil without a connection that stands.
func (k *link) expect(text string) (came <-chan struct{}, kick func(error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if own := k.channels[k.ping]; k.session == nil || own == nil || !own.stands {
		return nil, nil
	}
	k.echo, k.echoed = text, make(chan struct{})
	return k.echoed, k.session.kick
}

// pong is called with what comes on the node's own channel.
func (k *link) pong(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.echoed != nil && text == k.echo {
		close(k.echoed)
		k.echoed = nil
	}
}
