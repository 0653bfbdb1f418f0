package nats

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/seed-58bc6ac1/realtime"
)

// channel is a topic without history that has members here.
type channel struct {
	b       *Broker
	topic   string
	subject string

	mu      sync.Mutex // guards the following; held while delivering: it orders the events
	gone    bool       // it has no subscriptions any more, and gets none
	sub     *client.Subscription
	known   bool // to the server: it has sub
	subs    []*subscription
	waiting map[uint64]*outgoing // what has not come back yet, by its number
	dropped int                  // messages that the connection had no room for
}

// outgoing is an event whose publisher waits for it to come back, so that all members
// here see it in its turn among those of other nodes.
type outgoing struct {
	event *realtime.Event
	done  chan struct{} // closed when it was delivered here
}

// homecoming is how long an event may take to come back. Then it is delivered here
// without its turn.
const homecoming = 2 * time.Second

// publishPlain sends e to all nodes. If there are members here it returns when they
// have it.
func (b *Broker) publishPlain(ctx context.Context, e *realtime.Event, body []byte) error {
	b.mu.Lock()
	c := b.channels[e.Topic]
	b.mu.Unlock()
	if c == nil {
		if b.connected() != nil {
			return nil // nobody is here, and nobody else can be reached
		}
		return b.nc.Publish(b.plainSubject(e.Topic), b.envelope(0, body))
	}
	if b.connected() != nil {
		c.deliver(e)
		return nil
	}
	number, out := c.send(e)
	if err := b.nc.Publish(c.subject, b.envelope(number, body)); err != nil {
		if c.withdraw(number) && err == client.ErrMaxPayload {
			return err
		}
		c.deliver(e)
		return nil
	}
	late := time.NewTimer(homecoming)
	defer late.Stop()
	select {
	case <-out.done:
	case <-late.C:
		c.settle(number)
	case <-ctx.Done():
		c.settle(number) // it is on its way: the others get it
	}
	return nil
}

func (b *Broker) plainSubject(topic string) string { return b.config.prefix + ".p." + token(topic) }

// envelope is what goes through the channel: who sent it, and which of theirs it is.
func (b *Broker) envelope(number uint64, body []byte) []byte {
	m := make([]byte, 0, 16+len(body))
	m = binary.LittleEndian.AppendUint64(m, b.node)
	m = binary.LittleEndian.AppendUint64(m, number)
	return append(m, body...)
}

// subscribePlain waits for the server, so that what others publish from now on arrives,
// and does without it while it is away: afterwards the topic has a gap.
func (b *Broker) subscribePlain(ctx context.Context, topic string, deliver func(*realtime.Event)) (stop func(), err error) {
	one := &subscription{deliver}
	for {
		c := b.channel(topic)
		if ok, err := c.add(one); err != nil {
			b.dropChannel(c)
			return nil, err
		} else if ok {
			c.settleIn(ctx)
			return func() { c.remove(one) }, nil
		}
		b.dropChannel(c) // whoever ended it has not come to that yet
	}
}

func (b *Broker) channel(topic string) *channel {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.channels[topic]
	if c == nil {
		c = &channel{b: b, topic: topic, subject: b.plainSubject(topic), waiting: map[uint64]*outgoing{}}
		b.channels[topic] = c
	}
	return c
}

func (b *Broker) dropChannel(c *channel) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.channels[c.topic] == c {
		delete(b.channels, c.topic)
	}
}

// add adds a subscription; the first one subscribes at the server. ok is false when
// the channel has ended.
func (c *channel) add(one *subscription) (ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return false, nil
	}
	if c.sub == nil {
		if c.sub, err = c.b.listen(c.subject, c); err != nil {
			c.gone = true
			return false, err
		}
	}
	c.subs = append(c.subs, one)
	return true, nil
}

// settleIn returns when the server knows of the subscription.
func (c *channel) settleIn(ctx context.Context) {
	c.mu.Lock()
	known := c.known
	c.mu.Unlock()
	if known || c.b.connected() != nil || c.b.nc.FlushWithContext(ctx) != nil {
		return
	}
	c.mu.Lock()
	c.known = true
	c.mu.Unlock()
}

// remove removes a subscription; the last one ends the channel.
func (c *channel) remove(one *subscription) {
	c.mu.Lock()
	c.subs = slices.DeleteFunc(c.subs, func(s *subscription) bool { return s == one })
	c.gone = len(c.subs) == 0
	last := c.gone
	c.mu.Unlock()
	if last {
		c.b.dropChannel(c)
		c.hush()
		c.release()
	}
}

// hush ends the subscription at the server.
func (c *channel) hush() {
	c.b.unlisten(c.subject, c)
	c.mu.Lock()
	sub := c.sub
	c.mu.Unlock()
	if sub != nil {
		sub.Unsubscribe() // it fails when the connection is gone, and the subscription with it
	}
}

// send notes that e is about to be sent.
func (c *channel) send(e *realtime.Event) (number uint64, out *outgoing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	number = c.b.numbers.Add(1)
	out = &outgoing{e, make(chan struct{})}
	c.waiting[number] = out
	return number, out
}

// withdraw forgets an event that was not sent; ok is false if it was settled
// meanwhile.
func (c *channel) withdraw(number uint64) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok = c.waiting[number]
	delete(c.waiting, number)
	return ok
}

// settle delivers an event of ours, once.
func (c *channel) settle(number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleLocked(number)
}

func (c *channel) settleLocked(number uint64) {
	out := c.waiting[number]
	if out == nil {
		return // it was, when waiting for it ended
	}
	delete(c.waiting, number)
	c.deliverLocked(out.event)
	close(out.done)
}

// release settles all that waits, in the order in which it was sent.
func (c *channel) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var numbers []uint64
	for n := range c.waiting {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		c.settleLocked(n)
	}
}

func (c *channel) deliver(e *realtime.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deliverLocked(e)
}

func (c *channel) deliverLocked(e *realtime.Event) {
	for _, one := range c.subs {
		one.deliver(e)
	}
}

// gap tells the members that events may be missing.
func (c *channel) gap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gapLocked()
}

func (c *channel) gapLocked() {
	c.deliverLocked(&realtime.Event{Topic: c.topic, Gap: &realtime.Gap{}})
}

// hear implements [hearer].
func (c *channel) hear(m *client.Msg) {
	node, number, e := parseEnvelope(m.Data)
	if e == nil {
		return // not from a node of ours
	}
	e.Topic = c.topic
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Sub != c.sub {
		return // of a channel that has ended: it is on its way a second time
	}
	c.overflowLocked()
	if node == c.b.node && number > 0 {
		c.settleLocked(number)
	} else {
		c.deliverLocked(e)
	}
}

// overflow has the members told if the connection had no room for messages.
func (c *channel) overflow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overflowLocked()
}

func (c *channel) overflowLocked() {
	if c.sub == nil {
		return
	}
	if n, err := c.sub.Dropped(); err == nil && n > c.dropped {
		c.dropped = n
		c.gapLocked()
	}
}

// parseEnvelope returns what envelope wrote; e is nil for anything else.
func parseEnvelope(b []byte) (node, number uint64, e *realtime.Event) {
	if len(b) < 16 {
		return 0, 0, nil
	}
	e = &realtime.Event{}
	if e.UnmarshalBinary(b[16:]) != nil {
		return 0, 0, nil
	}
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), e
}
