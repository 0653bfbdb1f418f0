package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metricOf sums a metric of a server over all its labels.
func metricOf(t testing.TB, m *metrics, name string) (sum float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := m.register(r); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == namespace+"_"+name {
			for _, one := range f.GetMetric() {
				sum += one.GetGauge().GetValue() + one.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// order is the one order of a topic's events that all members must agree on.
type order struct {
	mu     sync.Mutex
	events map[uint64]string // by offset
}

// agree reports whether what one member saw at offset is what the others saw.
func (o *order) agree(offset uint64, data string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.events[offset] == "" {
		o.events[offset] = data
	}
	return o.events[offset] == data
}

// visitor joins and leaves one topic at random and checks its stream.
type visitor struct {
	*seat
	h      *hub
	p      *Pattern
	topic  string
	order  *order
	member *member
	next   uint64 // offset of the event that must come
	epoch  string
	gaps   int
	outs   map[Recovery]int
}

func (v *visitor) enter(r *rand.Rand) error {
	var from *Position
	if v.next > 0 && r.IntN(4) > 0 {
		from = &Position{v.epoch, v.next - 1}
	}
	v.member = &member{client: &v.Client}
	return v.h.join(context.Background(), v.p, v.topic, v.member, from, func(j joined) {
		v.outs[j.recovery]++
		v.epoch = j.position.Epoch
		if j.recovery != RecoveryReplayed {
			v.next = j.position.Offset + 1
		}
	})
}

// look checks what has come.
func (v *visitor) look() error {
	for _, f := range v.read() {
		if v.member == nil {
			return fmt.Errorf("event %d after the leave", f.offset)
		}
		if f.gap != nil {
			if f.gap.from != v.next || f.gap.policy != string(catchUp) {
				return fmt.Errorf("gap %+v, want one from %d", *f.gap, v.next)
			}
			v.next = f.gap.to + 1
			v.gaps++
			continue
		}
		if f.offset != v.next {
			return fmt.Errorf("event %d, want %d", f.offset, v.next)
		}
		if !v.order.agree(f.offset, string(f.wire)) {
			return fmt.Errorf("event %d differs between members", f.offset)
		}
		v.next++
	}
	return nil
}

// rest looks until nothing waits.
func (v *visitor) rest() error {
	for range 100_000 {
		if err := v.look(); err != nil {
			return err
		}
		if st := v.out.state(time.Now()); st.Messages == 0 && st.Behind == 0 {
			return nil
		}
	}
	return errors.New("reading does not end")
}

func (v *visitor) wander(r *rand.Rand, steps int) error {
	for range steps {
		switch {
		case v.member == nil:
			if err := v.enter(r); err != nil {
				return err
			}
		case r.IntN(12) == 0:
			v.h.leave(v.member)
			if err := v.rest(); err != nil { // what was queued before it
				return err
			}
			v.member = nil
		case r.IntN(3) > 0:
			if err := v.look(); err != nil {
				return err
			}
		}
		if st := v.out.state(time.Now()); st.Messages > v.out.bounds.messages {
			return fmt.Errorf("%d messages wait", st.Messages)
		}
		if r.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
	return nil
}

// TestMembersAgreeOnTheOrderWhateverTheyDo lets members join from random
// positions, stall and leave while several publish. The last member of a topic
// may leave at any time: the topic goes and comes.
func TestMembersAgreeOnTheOrderWhateverTheyDo(t *testing.T) {
	for seed := range uint64(6) {
		h, p := newLooseHub(t, History(20+int(seed)*60, 0))
		var publishers, visitors sync.WaitGroup
		var all []*visitor
		outs := map[Recovery]int{}
		for topic := range 3 {
			name := fmt.Sprintf("room:%d", topic)
			o := &order{events: map[uint64]string{}}
			for i := range 4 {
				v := &visitor{h: h, p: p, topic: name, order: o, outs: map[Recovery]int{}}
				v.seat = newSeat(fmt.Sprint(topic, i), envelopeCodec{}, queueBounds{messages: 4 + 4*i, bytes: 1 << 20})
				all = append(all, v)
				visitors.Go(func() {
					if err := v.wander(rand.New(rand.NewPCG(seed, uint64(len(name)*i))), 800); err != nil {
						t.Errorf("seed %d, %s in %s: %v", seed, v.id, name, err)
					}
				})
			}
			for w := range 2 {
				publishers.Go(func() {
					for i := range 300 {
						data := json.RawMessage(fmt.Sprint(1000*w + i))
						if err := h.publish(context.Background(), &Event{Topic: name, Name: "n", Data: data}); err != nil {
							t.Error(err)
						}
						if i%8 == 0 {
							runtime.Gosched()
						}
					}
				})
			}
		}
		publishers.Wait()
		visitors.Wait()
		for _, v := range all {
			if v.member != nil {
				if err := v.rest(); err != nil {
					t.Errorf("seed %d, %s: %v", seed, v.id, err)
				}
				if v.next != 601 {
					t.Errorf("seed %d, %s: stands at %d, want 601", seed, v.id, v.next)
				}
				if err := h.check(); err != nil {
					t.Error(err)
				}
				h.leave(v.member)
			}
			for r, n := range v.outs {
				outs[r] += n
			}
		}
		wantEmpty(t, h)
		if outs[RecoveryFresh] == 0 || outs[RecoveryReplayed] == 0 {
			t.Errorf("seed %d: recoveries %v, want fresh and replayed ones", seed, outs)
		}
	}
}

// wantEmpty makes sure that the hub has forgotten all topics.
func wantEmpty(t *testing.T, h *hub) {
	t.Helper()
	if err := h.check(); err != nil {
		t.Error(err)
	}
	for i := range h.shards {
		for _, topic := range h.shards[i].list() {
			t.Errorf("topic %s is still there", topic.name)
		}
	}
	if topics, members := metricOf(t, h.metrics, "topics"), metricOf(t, h.metrics, "members"); topics != 0 || members != 0 {
		t.Errorf("gauges count %v topics and %v members, want none", topics, members)
	}
}

func TestHubHasNoTopicsAfterAllHaveLeft(t *testing.T) {
	h, p := newLooseHub(t)
	var members []*member
	for i := range 300 {
		s := newSeat(fmt.Sprint(i), envelopeCodec{}, queueBounds{messages: 9, bytes: 1 << 20})
		m, _ := s.join(t, h, p, fmt.Sprintf("room:%d", i%40), nil)
		members = append(members, m)
	}
	if topics, n := metricOf(t, h.metrics, "topics"), metricOf(t, h.metrics, "members"); topics != 40 || n != 300 {
		t.Errorf("gauges count %v topics and %v members, want 40 and 300", topics, n)
	}
	n := 0
	for _, count := range h.all() {
		n += count
	}
	if n != 300 {
		t.Errorf("all counts %d members, want 300", n)
	}
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	for _, m := range members {
		h.leave(m)
		if err := h.check(); err != nil {
			t.Fatal(err)
		}
	}
	wantEmpty(t, h)
	b := h.broker.(*memoryBroker)
	for i := range b.shards {
		if n := len(b.shards[i].topics); n != 0 {
			t.Errorf("the broker keeps %d topics without history or members", n)
		}
	}
}

// failing is a broker that refuses subscriptions.
type failing struct{ Broker }

func (failing) Subscribe(context.Context, string, Retention, func(*Event)) (*Position, func(), error) {
	return nil, nil, errors.New("down")
}

func TestJoinThatTheBrokerRefusesLeavesNothing(t *testing.T) {
	h, p := newLooseHub(t)
	b := h.broker
	h.broker = failing{b}
	m := &member{client: &newSeat("s", envelopeCodec{}, queueBounds{messages: 9}).Client}
	err := h.join(t.Context(), p, "room:1", m, nil, func(joined) { t.Error("admitted") })
	if err == nil || !strings.Contains(err.Error(), "down") {
		t.Errorf("join: %v, want the broker's error", err)
	}
	wantEmpty(t, h)
	h.broker = b
	if err := h.join(t.Context(), p, "room:1", m, nil, func(joined) {}); err != nil {
		t.Errorf("join when the broker is back: %v", err)
	}
	h.leave(m)
	wantEmpty(t, h)
}

func TestPublishToNoTopicIsAnError(t *testing.T) {
	h, _ := newLooseHub(t)
	for _, name := range []string{"rooms:1", "room", "room:1:2", "", "room:\x00"} {
		if err := h.publish(t.Context(), &Event{Topic: name, Name: "n"}); !errors.Is(err, ErrUnknownTopic) {
			t.Errorf("publish to %q: %v, want ErrUnknownTopic", name, err)
		}
	}
	if err := h.publish(t.Context(), &Event{Topic: "room:1", Name: "n"}); err != nil {
		t.Errorf("publish to a topic without members: %v", err)
	}
}

func TestBrokerForgetsTopicsThatHaveNothingToRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newLooseHub(t, History(10, time.Hour))
		bounds := queueBounds{messages: 9, bytes: 1 << 20}
		const topics = 2000
		for i := range topics {
			publishN(t, h, fmt.Sprintf("room:%d", i), 1)
		}
		count := func() (n int) {
			b := h.broker.(*memoryBroker)
			for i := range b.shards {
				n += len(b.shards[i].topics)
			}
			return n
		}
		m, first := newSeat("s", envelopeCodec{}, bounds).join(t, h, p, "room:1", nil)
		h.leave(m)
		time.Sleep(2 * time.Hour) // the events are gone, the positions are not
		publishN(t, h, "room:stays", 1)
		m, again := newSeat("s", envelopeCodec{}, bounds).join(t, h, p, "room:1", first.position)
		if again.recovery != RecoveryComplete {
			t.Errorf("after 2h: %s, want complete", again.recovery)
		}
		if got := count(); got < topics {
			t.Errorf("after 2h the broker knows %d topics, want all %d", got, topics)
		}
		time.Sleep(forget)
		for i := range 1000 { // so that every shard grows
			publishN(t, h, fmt.Sprintf("room:new%d", i), 1)
		}
		if got := count(); got > 1100 {
			t.Errorf("after %v the broker knows %d topics, want 1000 and those with members", forget, got)
		}
		if h.broker.(*memoryBroker).find("room:1", false, Retention{}) == nil {
			t.Error("a topic with a member was forgotten")
		}
		h.leave(m)
		m, back := newSeat("s", envelopeCodec{}, bounds).join(t, h, p, "room:2", first.position)
		if back.recovery != RecoveryReload {
			t.Errorf("a forgotten topic: %s, want reload", back.recovery)
		}
		h.leave(m)
	})
}
