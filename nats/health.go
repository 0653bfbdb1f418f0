package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/seed-58bc6ac1/realtime"
)

const (
	// patience is how many heartbeats in a row may fail before the server counts as
	// gone, or what it carries as interrupted.
	patience = 2

	// lookEvery is after how many heartbeats the topics are looked at whose newest
	// event may have got lost on its way here, with nothing after it to show that.
	lookEvery = 5

	// keeping is how many positions one heartbeat writes anew.
	keeping = 200

	// idleTime is how long a topic is remembered that nobody uses.
	idleTime = time.Minute
)

// health is how the broker stands, and who wants to know.
type health struct {
	telling sync.Mutex // held while watchers are called

	mu       sync.Mutex // guards the following
	status   realtime.BrokerStatus
	watchers []*watcher
}

type watcher struct{ f func(realtime.BrokerStatus) }

// Watch implements [realtime.SharedBroker]. stop must not be called by f.
func (b *Broker) Watch(f func(realtime.BrokerStatus)) (stop func()) {
	h, one := &b.health, &watcher{f}
	h.telling.Lock()
	defer h.telling.Unlock()
	h.mu.Lock()
	h.watchers = append(h.watchers, one)
	status := h.status
	h.mu.Unlock()
	f(status)
	return func() { h.forget(one) }
}

func (h *health) forget(one *watcher) {
	h.telling.Lock()
	defer h.telling.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers = slices.DeleteFunc(h.watchers, func(w *watcher) bool { return w == one })
}

// set tells the watchers if the state has changed.
func (h *health) set(state realtime.BrokerState, err error) {
	h.telling.Lock()
	defer h.telling.Unlock()
	h.mu.Lock()
	changed := h.status.State != state
	h.status = realtime.BrokerStatus{State: state, Err: err}
	watchers, status := slices.Clone(h.watchers), h.status
	h.mu.Unlock()
	if !changed {
		return
	}
	for _, w := range watchers {
		w.f(status)
	}
}

// down returns why nothing can be sent, nil if it can.
func (h *health) down() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status.State != realtime.BrokerDown {
		return nil
	}
	return h.status.Err
}

// statusLoop hears of the connection's end at once, and lets those go who wait for
// something from it.
func (b *Broker) statusLoop(changes chan client.Status) {
	defer b.nc.RemoveStatusListener(changes)
	for {
		select {
		case <-changes:
			b.cutOff()
			select {
			case b.poked <- struct{}{}:
			default:
			}
		case <-b.ended.Done():
			for _, c := range b.allChannels() {
				c.release()
			}
			return
		}
	}
}

// cutOff notes that there is no connection, and reports whether that is so.
func (b *Broker) cutOff() bool {
	status := b.nc.Status()
	if status == client.CONNECTED {
		return false
	}
	err := fmt.Errorf("the connection is %v", status)
	if cause := b.nc.LastError(); cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	b.health.set(realtime.BrokerDown, err)
	for _, c := range b.allChannels() {
		c.release()
	}
	return true
}

// pulse is what one heartbeat remembers for the next.
type pulse struct {
	known      condition
	reconnects uint64
	missed     int    // heartbeats without an answer, in a row
	silent     int    // the same, when the connection did not work either
	outage     bool   // something may have been lost since the last good one
	looked     uint64 // sequence up to which the topics have been looked at
	rounds     int
}

// heartbeatLoop asks the server again and again how it is.
func (b *Broker) heartbeatLoop() {
	tick := time.NewTicker(b.config.beat)
	defer tick.Stop()
	p := &pulse{reconnects: b.nc.Stats().Reconnects}
	for {
		b.beat(p)
		select {
		case <-tick.C:
		case <-b.poked:
		case <-b.ended.Done():
			return
		}
	}
}

func (b *Broker) beat(p *pulse) {
	if n := b.nc.Stats().Reconnects; n != p.reconnects {
		p.reconnects, p.outage = n, true
	}
	if b.cutOff() {
		p.outage = true
		return
	}
	ctx, cancel := context.WithTimeout(b.ended, b.config.beat)
	defer cancel()
	p.known.last = max(p.known.last, b.highest.Load()) // before it is asked
	now, err := b.store.condition(ctx)
	if errors.Is(err, errNoStream) {
		if err = b.store.open(ctx); err == nil {
			now, err = b.store.condition(ctx)
		}
	}
	if err != nil {
		b.faint(p, err)
		return
	}
	b.well(p, now)
}

// faint is a heartbeat without an answer.
func (b *Broker) faint(p *pulse, cause error) {
	if b.ended.Err() != nil {
		return
	}
	p.missed++
	ctx, cancel := context.WithTimeout(b.ended, b.config.beat)
	defer cancel()
	if err := b.nc.FlushWithContext(ctx); err == nil {
		p.silent = 0
		p.outage = p.outage || p.missed >= patience // others may be out of reach, too
		b.health.set(realtime.BrokerDegraded, fmt.Errorf("JetStream does not answer: %w", cause))
		return
	}
	if p.silent++; p.silent >= patience && b.nc.Status() == client.CONNECTED {
		p.silent, p.outage = 0, true
		b.health.set(realtime.BrokerDown, fmt.Errorf("the server does not answer: %w", cause))
		b.nc.ForceReconnect()
	}
}

// well is a heartbeat with an answer.
func (b *Broker) well(p *pulse, now condition) {
	outage := p.outage
	p.missed, p.silent, p.outage = 0, 0, false
	b.health.set(realtime.BrokerHealthy, nil)
	for _, c := range b.allChannels() {
		if outage {
			c.gap()
		} else {
			c.overflow()
		}
	}
	streams := b.allStreams()
	b.tend(streams)
	if p.rounds++; outage || p.rounds%lookEvery == 0 || now.last < p.known.last || !now.created.Equal(p.known.created) {
		b.look(p, now, streams, outage)
	}
	p.known = now
	ctx, cancel := context.WithTimeout(b.ended, b.config.beat)
	defer cancel()
	b.store.check(ctx, now.size)
}

// look finds the topics that do not have what the server has.
func (b *Broker) look(p *pulse, now condition, streams []*stream, outage bool) {
	if now.last < p.known.last || !p.known.created.IsZero() && !now.created.Equal(p.known.created) {
		p.looked = 0
		b.highest.Store(now.last)
		for _, s := range streams {
			s.doubt() // it has lost messages: what is known of it may be wrong everywhere
		}
		return
	}
	if now.last == p.looked && !outage {
		return
	}
	live := map[string]*stream{}
	var subjects []string
	for _, s := range streams {
		if s.isLive() {
			live[s.subject] = s
			subjects = append(subjects, s.subject)
		}
	}
	upTo := now.last
	for some := range slices.Chunk(subjects, maxSubjects) {
		ctx, cancel := context.WithTimeout(b.ended, b.config.timeout)
		n, err := b.store.changed(ctx, some, p.looked+1, func(subject string, seq uint64) {
			if s := live[subject]; s != nil {
				s.compare(seq, outage)
			}
		})
		cancel()
		if err != nil {
			p.outage = p.outage || outage // next time again
			return
		}
		upTo = min(upTo, n)
	}
	p.looked = max(p.looked, upTo)
}

// tend takes up what was left, and keeps the positions of quiet topics.
func (b *Broker) tend(streams []*stream) {
	now, kept := time.Now(), 0
	for _, s := range streams {
		s.retry()
		if kept < keeping && s.fades(now) {
			kept++
			ctx, cancel := context.WithTimeout(b.ended, b.config.beat)
			s.keep(ctx)
			cancel()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic, s := range b.streams {
		if s.users == 0 && now.Sub(s.used) > idleTime {
			delete(b.streams, topic)
		}
	}
}

// mention notes that the server has a message of that sequence.
func (b *Broker) mention(seq uint64) {
	for {
		before := b.highest.Load()
		if seq <= before || b.highest.CompareAndSwap(before, seq) {
			return
		}
	}
}

func (s *stream) isLive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sub != nil
}

// doubt has the stream compared with the server's; without members what is known of it
// is forgotten.
func (s *stream) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sub != nil {
		s.mendLocked()
	} else {
		s.at = position{}
	}
}

// compare looks whether a message of the server has come here; one that has not may
// still be on its way at the first look.
func (s *stream) compare(seq uint64, now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sub == nil || s.at.seq >= seq {
		return
	}
	s.heard = max(s.heard, seq)
	if now {
		s.mendLocked()
	} else {
		s.suspect = seq
	}
}

// retry queues again what is not mended yet.
func (s *stream) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sub != nil && (s.stale || s.suspect > s.at.seq) {
		s.mendLocked()
	}
	s.suspect = 0
}

func (b *Broker) allStreams() []*stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.streams))
}

func (b *Broker) allChannels() []*channel {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.channels))
}
