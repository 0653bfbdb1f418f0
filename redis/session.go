package redis

import (
	"context"
	"errors"

	"github.com/redis/rueidis"
)

// session is the time of one connection.
type session struct {
	conn    rueidis.DedicatedClient
	sharded bool
	kicked  chan error    // why it has to end
	lost    chan struct{} // closed when it has ended
}

func (s *session) kick(err error) {
	select {
	case s.kicked <- err:
	default:
	}
}

// connect makes a connection and uses it until it ends. stood tells whether all
// subscriptions have stood.
func (k *link) connect(ctx context.Context) (stood bool, err error) {
	asking, cancel := context.WithTimeout(ctx, k.way.timeout)
	sharded, err := k.way.usesShards(asking)
	cancel()
	if err != nil {
		return false, explain(err, k.way.timeout)
	}
	s := &session{sharded: sharded, kicked: make(chan error, 1), lost: make(chan struct{})}
	var cleanup func()
	s.conn, cleanup = k.way.client.Dedicate()
	defer cleanup()
	ended := s.conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { k.message(s, m) },
		OnSubscription: func(m rueidis.PubSubSubscription) { k.confirm(s, m) },
	})
	defer s.conn.Close()
	k.begin(s)
	defer k.end(s)
	return k.use(ctx, s, ended)
}

// begin has all channels subscribed to again. The node's own comes last: once it
// stands, they all do.
func (k *link) begin(s *session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.session, k.changed, k.echoed = s, nil, nil
	for _, c := range k.channels {
		k.changed = append(k.changed, c)
	}
	own := &channel{name: k.ping, standing: make(chan struct{}), listeners: []*listener{{onMessage: k.pong, onReset: func() {}}}}
	k.channels[k.ping] = own
	k.changed = append(k.changed, own)
}

func (k *link) end(s *session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.session, k.changed = nil, nil
	delete(k.channels, k.ping)
	for name, c := range k.channels {
		c.lose()
		c.asked, c.answers = false, 0
		if len(c.listeners) == 0 {
			delete(k.channels, name)
		}
	}
	close(s.lost)
}

// use tells the server what is wanted until the connection ends, and why it did.
func (k *link) use(ctx context.Context, s *session, ended <-chan error) (stood bool, err error) {
	stands := k.standing(k.ping)
	for {
		for more := true; more; {
			if more, err = k.tell(ctx, s); err != nil {
				return stood, explain(err, k.way.timeout)
			}
		}
		select {
		case <-stands:
			stood, stands = true, nil
			k.way.health.setArrivals(standing{})
		case <-k.wake:
		case err = <-s.kicked:
			return stood, err
		case err = <-ended:
			return stood, because(errLost, err)
		case <-ctx.Done():
			return stood, ctx.Err()
		}
	}
}

var errLost = errors.New("the connection is lost")

func (k *link) standing(name string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.channels[name].standing
}

// tell sends one batch and reports whether there was one.
func (k *link) tell(ctx context.Context, s *session) (more bool, err error) {
	begin, end := k.take()
	ctx, cancel := context.WithTimeout(ctx, k.way.timeout)
	defer cancel()
	b := s.conn.B()
	if len(end) > 0 {
		c := b.Unsubscribe().Channel(end...).Build()
		if s.sharded {
			c = b.Sunsubscribe().Channel(end...).Build()
		}
		if err := s.conn.Do(ctx, c).Error(); err != nil {
			return false, err
		}
	}
	if len(begin) > 0 {
		c := b.Subscribe().Channel(begin...).Build()
		if s.sharded {
			c = b.Ssubscribe().Channel(begin...).Build()
		}
		if err := s.conn.Do(ctx, c).Error(); err != nil {
			return false, err
		}
	}
	return len(begin)+len(end) > 0, nil
}
