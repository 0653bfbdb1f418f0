//go:build unix

package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Who takes part.
const (
	rooms       = 5
	roomsOfEach = 2
	papers      = 4
)

// crowd is everybody who takes part in a fault run.
type crowd struct {
	ledger  *ledger
	papers  []*paper
	talkers []*talker
	editors []*editor
	count   figures
	quiet   atomic.Bool
	stop    context.CancelFunc
	living  sync.WaitGroup
}

// gather starts clients. The talkers do not note the events that faulty names.
func gather(t *testing.T, base string, seed uint64, talkers, editors int, faulty func(who, id string) bool) *crowd {
	c := &crowd{ledger: newLedger()}
	for i := range papers {
		c.papers = append(c.papers, newPaper(fmt.Sprintf("paper%d", i)))
	}
	for i := range talkers {
		one := &talker{
			person: person{base, fmt.Sprintf("talker%d", i), make(chan struct{}), &c.count},
			random: rand.New(rand.NewPCG(seed, uint64(1000+i))), pace: 200 * ms, quiet: c.quiet.Load,
			readings: map[string]*reading{}, people: map[string]map[string]map[string]bool{},
		}
		if faulty != nil {
			one.faulty = func(id string) bool { return faulty(one.name, id) }
		}
		for k := range roomsOfEach {
			room := fmt.Sprintf("room:%d", (i+k)%rooms)
			one.readings[room] = &reading{ledger: c.ledger, who: one.name, topic: room}
		}
		c.talkers = append(c.talkers, one)
	}
	for i := range editors {
		c.editors = append(c.editors, &editor{
			person: person{base, fmt.Sprintf("editor%d", i), make(chan struct{}), &c.count},
			random: rand.New(rand.NewPCG(seed, uint64(2000+i))), pace: 400 * ms, quiet: c.quiet.Load,
			paper: c.papers[i%papers], gone: map[string]bool{},
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	for _, one := range c.talkers {
		c.living.Go(func() { one.live(ctx) })
	}
	for _, one := range c.editors {
		c.living.Go(func() { one.live(ctx) })
	}
	t.Cleanup(func() { stop(); c.living.Wait() })
	return c
}

func (c *crowd) people() (all []*person) {
	for _, one := range c.talkers {
		all = append(all, &one.person)
	}
	for _, one := range c.editors {
		all = append(all, &one.person)
	}
	return all
}

// started says who has not begun yet.
func (c *crowd) started() string {
	for _, one := range c.talkers {
		for room := range one.readings {
			if one.sees(room)[one.name] == 0 {
				return one.name + " does not see itself in " + room
			}
		}
	}
	for _, one := range c.editors {
		if now := one.stands(); !now.ready {
			return fmt.Sprintf("%s is not in its document: %+v", one.name, now)
		}
	}
	return ""
}

// settled says who is not where the stream ends.
func (c *crowd) settled(newest map[string]place) func() string {
	return func() string {
		var stuck []string
		for _, one := range c.talkers {
			for room, r := range one.readings {
				if at := r.at(); at.epoch != newest[room].epoch || at.offset < newest[room].offset {
					return fmt.Sprintf("%s: %s ends at %v of %v", one.name, room, at, newest[room])
				}
			}
		}
		ends := map[*paper]int64{}
		for _, one := range c.editors {
			one.paper.mu.Lock()
			newest, present := one.paper.newest, len(one.paper.present)
			one.paper.mu.Unlock()
			ends[one.paper] = newest
			if now := one.stands(); !now.ready || now.pending > 0 || now.head != newest {
				stuck = append(stuck, fmt.Sprintf("%s: %s: %+v of %d", one.name, one.paper.name, now, newest))
				continue
			}
			if want := len(c.editors) / papers; present != want {
				stuck = append(stuck, fmt.Sprintf("%s has %d clients, want %d: ghosts", one.paper.name, present, want))
			}
		}
		for p, end := range ends {
			p.mu.Lock()
			p.whole = end
			p.mu.Unlock()
		}
		return strings.Join(stuck, "\n")
	}
}

// whole is settled and sameCrowd, at the same time.
func (c *crowd) whole(newest map[string]place) func() string {
	return func() string { return cmp.Or(c.settled(newest)(), c.sameCrowd()) }
}

// sameCrowd says who sees others in a room than are there.
func (c *crowd) sameCrowd() string {
	for _, one := range c.talkers {
		for room := range one.readings {
			seen := one.sees(room)
			for _, other := range c.talkers {
				_, in := other.readings[room]
				if want := map[bool]int{true: 1}[in]; seen[other.name] != want {
					return fmt.Sprintf("%s sees %s %d times in %s, want %d", one.name, other.name, seen[other.name], room, want)
				}
			}
			for user := range seen {
				if !strings.HasPrefix(user, "talker") {
					return fmt.Sprintf("%s sees %s in %s, who has left", one.name, user, room)
				}
			}
		}
	}
	return ""
}

// verdicts returns what was found in the rooms and in the documents.
func (c *crowd) verdicts(newest map[string]place) (events, ops verdict) {
	var readings []*reading
	for _, one := range c.talkers {
		for _, r := range one.readings {
			readings = append(readings, r)
		}
	}
	for _, p := range c.papers {
		v := p.close(slices.DeleteFunc(slices.Clone(c.editors), func(e *editor) bool { return e.paper != p }))
		ops.losses, ops.duplicates, ops.differing = ops.losses+v.losses, ops.duplicates+v.duplicates, ops.differing+v.differing
		ops.events += v.events
		ops.examples = append(ops.examples, v.examples...)
	}
	return c.ledger.close(readings, newest), ops
}

// report prints the figures, and fails the test by them.
func (c *crowd) report(t *testing.T, events, ops verdict, head string) {
	t.Helper()
	messages := int64(0)
	for _, p := range c.papers {
		messages += p.newest
	}
	f := &c.count
	text := fmt.Sprintf(`%s
  connections: %d made; ended: %d broken, %d silent, %d by the client's line, %d refused
  events: %d said, %d acknowledged, %d refused, %d received
  recoveries: %d fresh, %d complete, %d replayed, %d reload; gaps told: %d with %d events, streams begun anew: %d
  events lost %d, twice %d, out of order %d, different %d
  ops: %d made, %d messages, %d received; %d nacks, %d channels closed, %d refusals, %d times taken for dead
  messages lost %d, twice %d, different %d
`, head, f.connects.Load(), f.broken.Load(), f.silent.Load(), f.cut.Load(), f.refused.Load(),
		f.said.Load(), f.acked.Load(), f.unsaid.Load(), events.events,
		f.fresh.Load(), f.complete.Load(), f.replayed.Load(), f.reload.Load(), events.gaps, events.told, events.reloads,
		events.losses, events.duplicates, events.disorders, events.differing,
		f.made.Load(), messages, ops.events, f.nacks.Load(), f.closedChannels.Load(), f.refusals.Load(), f.ghosted.Load(),
		ops.losses, ops.duplicates, ops.differing)
	t.Log(text)
	if bad := events.bad() + ops.bad(); bad > 0 {
		t.Errorf("%d findings, such as:\n%s", bad, strings.Join(append(events.examples, ops.examples...), "\n"))
	}
	if events.events == 0 || ops.events == 0 && *editors > 0 {
		t.Error("nothing happened: that shows nothing")
	}
}
