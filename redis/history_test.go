package redis

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// paper is a history that writes down what it delivers.
type paper struct {
	history
	text []string
}

func newPaper() *paper {
	p := &paper{}
	p.emit = func(e *realtime.Event) {
		if e.Gap != nil {
			p.text = append(p.text, fmt.Sprintf("gap %d-%d %s/%d", e.Gap.From, e.Gap.To, e.Epoch, e.Offset))
			return
		}
		p.text = append(p.text, fmt.Sprintf("%s%d", e.Epoch, e.Offset))
	}
	return p
}

// numbered is an event whose id and that of the one before it follow from the branch
// of history that it is in.
func numbered(epoch string, offset uint64, branch byte) arrival {
	e := &realtime.Event{Name: "n", Data: json.RawMessage("1"), Time: time.Unix(0, 0)}
	text, _ := body(idOf(offset, branch), e)
	a := arrival{epoch: epoch, offset: offset, before: idOf(offset-1, branch)}
	a.setBody(text)
	return a
}

func idOf(offset uint64, branch byte) publishID {
	if offset == 0 {
		return publishID{}
	}
	return publishID{byte(offset), byte(offset >> 8), 1, branch}
}

func TestHistoryPutsInOrder(t *testing.T) {
	for name, c := range map[string]struct {
		steps func(p *paper) string
		want  string
	}{
		"in order": {func(p *paper) string {
			return fmt.Sprint(p.arrive(numbered("A", 1, 0)), p.arrive(numbered("A", 2, 0)))
		}, "0 0: A1 A2"},
		"twice": {func(p *paper) string {
			return fmt.Sprint(p.arrive(numbered("A", 1, 0)), p.arrive(numbered("A", 1, 0)))
		}, "0 0: A1"},
		"out of order": {func(p *paper) string {
			return fmt.Sprint(p.arrive(numbered("A", 2, 0)), p.arrive(numbered("A", 3, 0)), p.arrive(numbered("A", 1, 0)))
		}, "1 1 0: A1 A2 A3"},
		"another event with a number that was given": {func(p *paper) string {
			p.arrive(numbered("A", 1, 0))
			return fmt.Sprint(p.arrive(numbered("A", 1, 1)))
		}, "2: A1"},
		"the next, but of another branch": {func(p *paper) string {
			p.arrive(numbered("A", 1, 0))
			m := p.mark()
			return fmt.Sprint(p.arrive(numbered("A", 2, 1)), p.learn(m, &answer{epoch: "A", offset: 2, id: idOf(2, 1), whole: true}))
		}, "2 2: A1"},
		"another epoch": {func(p *paper) string {
			p.arrive(numbered("A", 1, 0))
			v := p.arrive(numbered("B", 3, 0))
			return fmt.Sprint(v, p.learn(p.mark(), &answer{epoch: "B", offset: 4, whole: true}))
		}, "2 1: A1 gap 0-0 B/2 B3"},
		"a hole that can be read": {func(p *paper) string {
			p.arrive(numbered("A", 1, 0))
			p.arrive(numbered("A", 4, 0))
			return fmt.Sprint(p.learn(p.mark(), &answer{epoch: "A", offset: 4, id: idOf(4, 0), whole: true,
				events: []arrival{numbered("A", 1, 0), numbered("A", 2, 0), numbered("A", 3, 0), numbered("A", 4, 0)}}))
		}, "0: A1 A2 A3 A4"},
		"a hole that cannot": {func(p *paper) string {
			p.arrive(numbered("A", 1, 0))
			p.arrive(numbered("A", 3, 0))
			return fmt.Sprint(p.learn(p.mark(), &answer{epoch: "A", offset: 5, id: idOf(5, 0), whole: true, events: []arrival{numbered("A", 5, 0)}}))
		}, "0: A1 gap 2-2 A/2 A3 gap 4-4 A/4 A5"},
		"all of it is gone": {func(p *paper) string {
			p.arrive(numbered("A", 1, 0))
			return fmt.Sprint(p.learn(p.mark(), &answer{epoch: "A", offset: 5, id: idOf(5, 0), whole: true}))
		}, "0: A1 gap 2-5 A/5"},
		"fewer than before": {func(p *paper) string {
			p.arrive(numbered("A", 1, 0))
			return fmt.Sprint(p.learn(p.mark(), &answer{epoch: "A", offset: 0, whole: true}))
		}, "2: A1"},
		"an old answer": {func(p *paper) string {
			m := p.mark()
			p.arrive(numbered("A", 1, 0))
			return fmt.Sprint(p.learn(m, &answer{epoch: "A", offset: 0, whole: true}))
		}, "0: A1"},
		"what cannot be decoded": {func(p *paper) string {
			a := numbered("A", 1, 0)
			a.event = []byte("?")
			return fmt.Sprint(p.arrive(a), p.arrive(numbered("A", 2, 0)))
		}, "0 0: gap 1-1 A/1 A2"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPaper()
			p.begin("A", 0, publishID{})
			said := c.steps(p)
			if got := said + ": " + strings.Join(p.text, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestHistoryAgreesWithTheServer loses, doubles and disorders what is published, and
// goes over to replicas that lag, at random: in the end all that was delivered must be
// one story, and after the last answer it must end where the server's does.
func TestHistoryAgreesWithTheServer(t *testing.T) {
	for seed := range uint64(2000) {
		w := newWorld(seed)
		for range 200 {
			w.step()
		}
		w.ask()
		if w.flaw != "" {
			t.Fatalf("seed %d: %s\n%s", seed, w.flaw, strings.Join(w.p.text, " "))
		}
		if w.p.last != w.offset || w.p.epoch != w.epoch {
			t.Fatalf("seed %d: ends at %s/%d, the server at %s/%d", seed, w.p.epoch, w.p.last, w.epoch, w.offset)
		}
		if id := w.p.known(w.p.last); id != (publishID{}) && len(w.log) > 0 && id != w.newest() {
			t.Fatalf("seed %d: ends with another event than the server's newest", seed)
		}
	}
}

// world is a server with one topic, and a network, that are as bad as can be.
type world struct {
	*rand.Rand
	p      *paper
	epoch  string
	offset uint64
	log    []arrival
	flying []arrival
	flaw   string
	at     realtime.Position
}

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), p: newPaper(), epoch: "E0"}
	w.p.emit = w.hear
	w.p.begin(w.epoch, 0, publishID{})
	w.at.Epoch = w.epoch
	return w
}

func (w *world) hear(e *realtime.Event) {
	w.p.text = append(w.p.text, fmt.Sprintf("%v%s/%d", e.Gap, e.Epoch, e.Offset))
	ok := e.Gap == nil && e.Epoch == w.at.Epoch && e.Offset == w.at.Offset+1 ||
		e.Gap != nil && e.Gap.From == 0 && e.Epoch != w.at.Epoch ||
		e.Gap != nil && e.Gap.From == w.at.Offset+1 && e.Gap.To == e.Offset && e.Epoch == w.at.Epoch
	if !ok && w.flaw == "" {
		w.flaw = fmt.Sprintf("%v is followed by %s/%d with gap %v", w.at, e.Epoch, e.Offset, e.Gap)
	}
	w.at = realtime.Position{Epoch: e.Epoch, Offset: e.Offset}
}

func (w *world) step() {
	switch n := w.IntN(100); {
	case n < 50:
		w.publish()
	case n < 80 && len(w.flying) > 0:
		i := min(w.IntN(len(w.flying)), w.IntN(len(w.flying)))
		a := w.flying[i]
		if w.IntN(10) > 0 {
			w.flying = append(w.flying[:i], w.flying[i+1:]...)
		}
		if w.IntN(20) > 0 && w.p.arrive(a) == doubt {
			w.ask()
		}
	case n < 90:
		w.ask()
	case n < 92 && w.offset > 0:
		w.failover()
	case n < 93:
		w.epoch, w.offset, w.log = fmt.Sprintf("E%d", w.Uint32()), 0, nil
	}
}

func (w *world) publish() {
	w.offset++
	a := numbered(w.epoch, w.offset, 0)
	copy(a.id[8:], fmt.Sprint(w.Uint64()))
	a.before = w.newest()
	w.log = append(w.log, a)
	w.log = w.log[max(0, len(w.log)-6):]
	w.flying = append(w.flying, a)
}

func (w *world) newest() publishID {
	if len(w.log) == 0 {
		return publishID{}
	}
	return w.log[len(w.log)-1].id
}

// failover loses the newest events.
func (w *world) failover() {
	lost := min(w.IntN(4), len(w.log)-1)
	if lost < 0 {
		return
	}
	w.log = w.log[:len(w.log)-lost]
	w.offset -= uint64(lost)
	if lost > 0 {
		w.flying = nil // their copies end with the connection
	}
}

// ask is what a topic does when it looks.
func (w *world) ask() {
	for range 100 {
		m := w.p.mark()
		if w.IntN(3) == 0 && len(w.flying) > 0 {
			w.p.arrive(w.flying[0]) // while the answer is on its way
		}
		r := &answer{epoch: w.epoch, offset: w.offset, id: w.newest(), whole: true}
		for _, a := range w.log {
			if a.offset >= m.last {
				a.epoch = w.epoch
				r.events = append(r.events, a)
			}
		}
		switch w.p.learn(m, r) {
		case agrees:
			return
		case renewed:
			if w.epoch == m.epoch {
				w.epoch = fmt.Sprintf("E%d", w.Uint32())
			}
		}
	}
	w.flaw = "asks for ever"
}
