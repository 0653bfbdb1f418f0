package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// Broker orders and carries events through Redis. It is a [realtime.SharedBroker].
type Broker struct {
	// Set by New, never changed.
	config *config
	lanes  []*lane
	opened []rueidis.Client // by Open: closed by Close

	start  sync.Once
	life   context.Context // of the goroutines
	end    context.CancelFunc
	loops  sync.WaitGroup
	states *states

	documents *documents
}

var _ realtime.SharedBroker = (*Broker)(nil)

// New returns the broker that uses client, which stays the caller's to close, after
// the broker. It does not wait for the server: what needs it fails with
// [realtime.ErrBrokerDown] until it is there. It panics if the options contradict
// each other, or name what cannot be.
//
// A client made elsewhere notices a connection that has died in silence after
// ConnWriteTimeout, which should be near [Timeout]; one for Sentinel should have
// TopologyRefreshInterval. [Open] sees to both.
func New(client rueidis.Client, opts ...Option) *Broker {
	c, err := newConfig(client, opts)
	if err != nil {
		panic(err)
	}
	b := &Broker{config: c, lanes: newLanes(c)}
	b.states = &states{lanes: b.lanes}
	b.life, b.end = context.WithCancel(context.Background())
	for _, l := range b.lanes {
		l.health.watch(b.states.changed)
	}
	b.documents = newDocuments(b.placeOf, b.lanes[0].ids.node(), c.timeout)
	return b
}

// Open returns the broker that url names, with a client of its own:
//
//	redis://user:password@host:port/0                             one server, or a Cluster
//	redis://host1:port?addr=host2:port&addr=host3:port            a Cluster
//	redis://sentinel1:port?addr=sentinel2:port&master_set=name    Sentinel
//	rediss://…                                                    with TLS
//
// It fails if the server cannot be reached.
func Open(url string, opts ...Option) (*Broker, error) {
	c, err := newConfig(noClient{}, opts)
	if err != nil {
		return nil, err
	}
	client, err := dial(url, c.timeout)
	if err != nil {
		return nil, err
	}
	b := New(client, opts...)
	b.opened = append(b.opened, client)
	return b, nil
}

// noClient stands for the one that is made once the options are read.
type noClient struct{ rueidis.Client }

// one is as many connections for commands as a client of one server, or of Sentinel,
// may have. A Cluster's has one to each server anyway.
const one = -1

func dial(url string, timeout time.Duration) (rueidis.Client, error) {
	o, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("redis: parse the url: %w", err)
	}
	o.DisableCache = true     // nothing is cached, and old servers cannot do it
	o.PipelineMultiplex = one // commands come in larger lots than over several
	o.ConnWriteTimeout = timeout
	o.Dialer.Timeout = timeout
	o.Sentinel.TopologyRefreshInterval = 5 * time.Second
	o.ClusterOption.ShardsRefreshInterval = 5 * time.Second
	o.Sentinel.TLSConfig = o.TLSConfig
	client, err := rueidis.NewClient(o)
	if err != nil {
		return nil, fmt.Errorf("redis: connect: %w", err)
	}
	return client, nil
}

// Close ends the connections for what is published, and a client that Open made. The
// subscriptions hear nothing any more.
func (b *Broker) Close() {
	b.start.Do(func() {}) // nothing begins after this
	b.end()
	b.documents.close()
	b.loops.Wait()
	for _, c := range b.opened {
		c.Close()
	}
}

// begin starts what every lane needs, once.
func (b *Broker) begin() {
	b.start.Do(func() {
		for _, l := range b.lanes {
			b.loops.Go(func() { l.link.loop(b.life) })
			b.loops.Go(func() { l.heartbeatLoop(b.life) })
			b.loops.Go(func() { l.checkLoop(b.life) })
		}
		b.loops.Go(func() { b.documents.checkLoop(b.config.heartbeat) })
	})
}

var errClosed = errors.New("redis: the broker is closed")

func (b *Broker) lane(topic string) (*lane, error) {
	b.begin()
	if b.life.Err() != nil {
		return nil, errClosed
	}
	return b.config.laneOf(b.lanes, topic), nil
}

// Publish implements [realtime.Broker]. On a topic with history an error with
// [realtime.ErrBrokerDown] means that the event was not delivered to this node's
// members and probably to none; if the answer of the server was lost, it may have been
// stored, and then it is delivered in its place.
//
// On a topic without history there is no error while the server is out of reach if
// somebody on this node has subscribed: those get it at once, and the others a
// [realtime.Gap] once it is back.
func (b *Broker) Publish(ctx context.Context, e *realtime.Event, keep realtime.Retention) error {
	l, err := b.lane(e.Topic)
	if err != nil {
		return err
	}
	id := l.ids.next()
	text, err := body(id, e)
	if err != nil {
		return fmt.Errorf("redis: encode an event for %s: %w", e.Topic, err)
	}
	t := l.lookup(e.Topic, keep)
	if keep.Keeps() {
		return l.publishKept(ctx, t, e, id, text, keep)
	}
	return l.publishPlain(ctx, t, e, id, text)
}

// publishKept has e numbered and stored, and then delivered here, whether or not its
// copy has come.
func (l *lane) publishKept(ctx context.Context, t *topic, e *realtime.Event, id publishID, text string, keep realtime.Retention) error {
	if t == nil {
		a, err := l.append(ctx, e.Topic, text, keep, strconv.Itoa(keep.Size))
		if err == nil {
			e.Epoch, e.Offset = a.epoch, a.offset
		}
		return err
	}
	t.announce(id, e)
	defer t.forget(id)
	a, err := l.append(ctx, e.Topic, text, keep, strconv.Itoa(keep.Size))
	if err != nil {
		return err
	}
	a.id = id
	t.arrive(a)
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	t.await(ctx, a.epoch, a.offset)
	return nil
}

// publishPlain publishes e, and has it delivered here when its copy comes back: only
// so all nodes have one order. It does not wait for what cannot come.
func (l *lane) publishPlain(ctx context.Context, t *topic, e *realtime.Event, id publishID, text string) error {
	if t == nil {
		return l.send(ctx, e.Topic, string(plainMessage)+text)
	}
	p := t.announce(id, e)
	lost := l.link.present(l.key("c", e.Topic))
	err := l.send(ctx, e.Topic, string(plainMessage)+text)
	if err != nil {
		l.owe(e.Topic)
	}
	if err != nil || lost == nil {
		t.deliverAlone(id, p)
		return nil
	}
	late := time.NewTimer(l.timeout)
	defer late.Stop()
	select {
	case <-p.came:
		return nil
	case <-lost:
	case <-ctx.Done():
	case <-late.C:
		l.health.doubt()
	}
	t.deliverAlone(id, p)
	return nil
}

// send publishes without storing anything.
func (l *lane) send(ctx context.Context, topic, text string) error {
	doing := "publish to " + topic
	sharded, err := l.usesShards(ctx)
	if err != nil {
		return l.failed(doing, err)
	}
	channel := l.key("c", topic)
	_, err = l.do(ctx, doing, func(ctx context.Context) rueidis.RedisResult {
		if sharded {
			return l.client.Do(ctx, l.client.B().Spublish().Channel(channel).Message(text).Build())
		}
		return l.client.Do(ctx, l.client.B().Publish().Channel(channel).Message(text).Build())
	})
	return err
}

// Subscribe implements [realtime.Broker]. While the server is out of reach there is no
// error on a topic without history: what is published on this node is delivered, and a
// [realtime.Gap] once the server is back.
func (b *Broker) Subscribe(ctx context.Context, name string, keep realtime.Retention, deliver func(*realtime.Event)) (*realtime.Position, func(), error) {
	l, err := b.lane(name)
	if err != nil {
		return nil, nil, err
	}
	t, created := l.acquire(name, keep)
	if created {
		t.open(ctx)
	}
	select {
	case <-t.opened:
		err = t.err
	case <-ctx.Done():
		err = unavailable("subscribe to "+name, ctx.Err())
	}
	if err != nil {
		l.release(t)
		return nil, nil, err
	}
	one := &subscription{deliver}
	from := t.join(one)
	return from, sync.OnceFunc(func() {
		t.leave(one)
		l.release(t)
	}), nil
}

// Read implements [realtime.Broker].
func (b *Broker) Read(ctx context.Context, topic string, keep realtime.Retention, after uint64, limit int) ([]*realtime.Event, realtime.Position, error) {
	l, err := b.lane(topic)
	if err != nil || !keep.Keeps() {
		return nil, realtime.Position{}, err
	}
	r, err := l.read(ctx, topic, keep, after, limit, "")
	if err != nil {
		return nil, realtime.Position{}, err
	}
	events := make([]*realtime.Event, 0, len(r.events))
	for _, a := range r.events {
		e, err := a.decode(topic)
		if err != nil {
			return nil, realtime.Position{}, fmt.Errorf("redis: event %d of %s: %w", a.offset, topic, err)
		}
		events = append(events, e)
	}
	return events, realtime.Position{Epoch: r.epoch, Offset: r.offset}, nil
}

// Watch implements [realtime.SharedBroker]. The broker is down if every server is, and
// degraded if one of them is, if one is slow or takes no data, and while a connection
// is made.
func (b *Broker) Watch(f func(realtime.BrokerStatus)) (stop func()) {
	b.begin()
	return b.states.watch(f)
}
