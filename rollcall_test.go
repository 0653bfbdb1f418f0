package realtime

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newPresenceHub is a hub without a server whose topics have presence.
func newPresenceHub(t testing.TB, opts ...TopicOption) (*hub, *Pattern) {
	t.Helper()
	h, p := newLooseHub(t, append(opts, Presence())...)
	h.wheel = newWheel()
	t.Cleanup(h.wheel.stop)
	return h, p
}

// attend makes the seat a member that is tracked under its id.
func (s *seat) attend(t testing.TB, h *hub, p *Pattern, name string) *member {
	t.Helper()
	m := &member{client: &s.Client, present: &attendee{}}
	m.present.change(trackNew, s.id, func(*entry) *entry { return newEntry(s.id, h.refs.next(), "", nil) })
	if err := h.join(t.Context(), p, name, m, nil, func(joined) {}); err != nil {
		t.Fatal(err)
	}
	return m
}

// Policies may take every event of a topic, but no state and no diff; and neither is
// part of the history.
func TestNoPolicyTakesAPresenceDiff(t *testing.T) {
	for name, opts := range map[string][]TopicOption{
		"drop_oldest": {Overflow(DropOldest)},
		"drop_newest": {Overflow(DropNewest)},
		"keep_latest": {Overflow(KeepLatest(func(event string, _ json.RawMessage) string { return event }))},
		"catch_up":    {History(8, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, p := newPresenceHub(t, opts...)
				bounds := queueBounds{messages: 4, bytes: 1 << 20}
				slow := newSeat("slow", envelopeCodec{}, bounds)
				m := slow.attend(t, h, p, "room:1")
				publishN(t, h, "room:1", 100)
				other := newSeat("other", envelopeCodec{}, bounds)
				o := other.attend(t, h, p, "room:1")
				time.Sleep(time.Second)
				h.leave(o)
				time.Sleep(time.Second)
				var events []string
				for _, told := range slow.readAll(t) {
					if strings.HasPrefix(told.Type, "presence") {
						events = append(events, told.Type)
						if told.Offset != 0 {
							t.Errorf("%s has offset %d, want none", told.Type, told.Offset)
						}
					}
				}
				if got, want := strings.Join(events, " "), "presence_state presence_diff presence_diff"; got != want {
					t.Errorf("a slow member got %s, want %s", got, want)
				}
				if kept, _, _ := h.page(t.Context(), p, "room:1", 0, 100); len(kept) > 8 {
					t.Errorf("%d events are kept, want those that were published", len(kept))
				}
				h.leave(m)
			})
		})
	}
}

// More who come within a tick than there are diffs for: whatever each was shown, it
// knows who is there after the tick.
func TestRushLeavesNobodyWithAWrongList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newPresenceHub(t)
		bounds := queueBounds{messages: 99, bytes: 1 << 20}
		first := newSeat("first", envelopeCodec{}, bounds)
		seats, members := []*seat{first}, []*member{first.attend(t, h, p, "room:1")}
		time.Sleep(time.Second)
		for i := range 3 * maxDiffs {
			s := newSeat(fmt.Sprint("u", i), envelopeCodec{}, bounds)
			m := s.attend(t, h, p, "room:1")
			if i%3 == 1 {
				h.leave(m)
				continue
			}
			seats, members = append(seats, s), append(members, m)
		}
		time.Sleep(time.Second)
		r := h.lookup("room:1").presence.(*rollCall)
		want := viewOf(t, r.state0()).sorted()
		for _, s := range seats {
			var v view
			for _, m := range s.readAll(t) {
				if m.Type == presenceState {
					v = viewOf(t, m.Data)
				} else {
					v.merge(t, m.Data)
				}
			}
			if got := v.sorted(); got != want {
				t.Errorf("%s knows %s, want %s", s.id, got, want)
			}
		}
		for _, m := range members {
			h.leave(m)
		}
	})
}

func TestClientWithoutRoomForADiffIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newPresenceHub(t)
		slow := newSeat("slow", envelopeCodec{}, queueBounds{messages: 2, bytes: 1 << 20})
		members := []*member{slow.attend(t, h, p, "room:1")}
		for i := range 5 {
			members = append(members, newSeat(fmt.Sprint(i), envelopeCodec{}, queueBounds{messages: 99, bytes: 1 << 20}).attend(t, h, p, "room:1"))
			time.Sleep(time.Second)
		}
		ends := slow.ends.reasons() // the loose link ends nothing, so there is one for each diff
		if len(ends) == 0 || slices.ContainsFunc(ends, func(r Reason) bool { return r != ReasonSlowConsumer }) {
			t.Errorf("the connection was ended for %q, want slow_consumer", ends)
		}
		for _, m := range members {
			h.leave(m)
		}
	})
}

func TestNoTickOutlivesItsTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newPresenceHub(t)
		for range 3 {
			m := newSeat("a", envelopeCodec{}, queueBounds{messages: 99, bytes: 1 << 20}).attend(t, h, p, "room:1")
			if h.wheel.count != 1 {
				t.Errorf("%d ticks are due after a join, want 1", h.wheel.count)
			}
			h.leave(m)
			synctest.Wait()
			if h.wheel.count != 0 || h.wheel.alive || h.lookup("room:1") != nil {
				t.Errorf("%d ticks are due after the last leave (wheel alive: %v), want none", h.wheel.count, h.wheel.alive)
			}
		}
		if n := metricOf(t, h.metrics, "presences"); n != 0 {
			t.Errorf("%v presences are counted, want 0", n)
		}
	})
}

// A thousand who join one after the other and are not tracked share one state.
func TestStatesOfOneVersionShareAFrame(t *testing.T) {
	h, p := newPresenceHub(t)
	bounds := queueBounds{messages: 99, bytes: 1 << 20}
	newSeat("a", envelopeCodec{}, bounds).attend(t, h, p, "room:1")
	first, second := newSeat("b", envelopeCodec{}, bounds), newSeat("c", envelopeCodec{}, bounds)
	first.join(t, h, p, "room:1", nil)
	second.join(t, h, p, "room:1", nil)
	a, b := first.read(), second.read()
	if len(a) != 1 || len(b) != 1 || a[0] != b[0] {
		t.Errorf("got %d and %d frames, want the same one", len(a), len(b))
	}
	phoenix := newSeat("d", envelopeCodec{}, bounds) // whose codec would write its join ref
	m := &member{client: &phoenix.Client, present: &attendee{joinRef: `"7"`}}
	if err := h.join(t.Context(), p, "room:1", m, nil, func(joined) {}); err != nil {
		t.Fatal(err)
	}
	if own := phoenix.read(); len(own) != 1 || own[0] == a[0] {
		t.Errorf("a member with a join ref got %d frames, want one of its own", len(own))
	}
}

func TestTopicsWithoutPresenceKeepNothingOfIt(t *testing.T) {
	h, p := newLooseHub(t)
	s := newSeat("s", envelopeCodec{}, queueBounds{messages: 99, bytes: 1 << 20})
	m, _ := s.join(t, h, p, "room:1", nil)
	if m.topic.presence != nil || m.present != nil {
		t.Error("a topic without presence has something of it")
	}
	if frames := s.read(); len(frames) != 0 {
		t.Errorf("%d frames were queued at a join, want none", len(frames))
	}
	h.leave(m)
}

func crowdedRoom(b *testing.B, n int) (*hub, *Pattern, []*seat) {
	h, p := newPresenceHub(b)
	p.presence.tick = time.Minute // the benchmark ticks by itself
	seats := make([]*seat, n)
	for i := range seats {
		seats[i] = newSeat(fmt.Sprint("user-", i), envelopeCodec{}, queueBounds{messages: 256, bytes: 1 << 20})
		seats[i].attend(b, h, p, "room:1")
	}
	return h, p, seats
}

func empty(seats []*seat) {
	for _, s := range seats {
		s.out.mu.Lock()
		s.out.resetLocked()
		s.out.mu.Unlock()
	}
}

// BenchmarkPresenceDiff is one tick to 1,000 members: an update by one of them, and
// by a hundred.
func BenchmarkPresenceDiff(b *testing.B) {
	for _, changes := range []int{1, 100} {
		b.Run(fmt.Sprintf("changes=%d", changes), func(b *testing.B) {
			b.ReportAllocs()
			h, _, seats := crowdedRoom(b, 1000)
			t := h.lookup("room:1")
			r := t.presence.(*rollCall)
			for b.Loop() {
				for _, m := range t.members.block(0)[:changes] {
					if err := r.change(m, trackAgain, m.client.id, []byte(`"typing":true`)); err != nil {
						b.Fatal(err)
					}
				}
				r.expire(time.Time{})
				empty(seats)
			}
		})
	}
}

// BenchmarkPresenceJoin is a join and a leave in a room of 1,000 keys: tracked, and
// as one who only looks.
func BenchmarkPresenceJoin(b *testing.B) {
	for _, tracked := range []bool{true, false} {
		b.Run(fmt.Sprintf("tracked=%v", tracked), func(b *testing.B) {
			b.ReportAllocs()
			h, p, seats := crowdedRoom(b, 999)
			r := h.lookup("room:1").presence.(*rollCall)
			empty(seats)
			s := newSeat("late", envelopeCodec{}, queueBounds{messages: 256, bytes: 1 << 20})
			n := 0
			for b.Loop() {
				var m *member
				if tracked {
					m = s.attend(b, h, p, "room:1")
				} else {
					m, _ = s.join(b, h, p, "room:1", nil)
				}
				empty([]*seat{s})
				h.leave(m)
				if n++; n%100 == 0 {
					r.expire(time.Time{})
					empty(seats)
				}
			}
		})
	}
}
