package realtime

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const (
	nodeA = "AAAAAAAAAAAA"
	nodeB = "BBBBBBBBBBBB"
	nodeC = "CCCCCCCCCCCC"
)

// leaseStep is something that happens to a node's leases, after a while.
type leaseStep struct {
	after time.Duration
	do    func(l *leases, now time.Time) news
	want  string // "+B -B reborn accuse"
}

func (s leaseStep) String() string { return s.want }

// told writes news in short.
func (n news) told() string {
	var words []string
	for _, m := range n.moves {
		sign := "-"
		if m.here {
			sign = "+"
		}
		words = append(words, sign+m.node[:1]+m.node[nodeIDLen:])
	}
	if n.reborn {
		words = append(words, "reborn")
	}
	if n.accuse {
		words = append(words, "accuse")
	}
	return fmt.Sprint(words)
}

func hears(id string) func(*leases, time.Time) news {
	return func(l *leases, now time.Time) news { return l.listen(id, 15*time.Second, now) }
}

func beats(l *leases, now time.Time) news {
	n := l.tick(now)
	echo := l.echo(now, now)
	n.moves, n.reborn = append(n.moves, echo.moves...), n.reborn || echo.reborn
	return n
}

func deafTick(l *leases, now time.Time) news { return l.tick(now) }

func brokerIs(down bool) func(*leases, time.Time) news {
	return func(l *leases, now time.Time) news { l.status(down, now); return news{} }
}

func TestALeaseEndsWhenItsNodeIsSilentAndThisOneHears(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []leaseStep
	}{
		{"heartbeats keep it", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"},
			{5 * time.Second, beats, "[]"}, {0, hears(nodeB), "[]"},
			{5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {4 * time.Second, beats, "[]"}}},
		{"silence ends it", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"},
			{5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[-B]"}}},
		{"who was given up is told so", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"},
			{5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[-B]"},
			{time.Second, hears(nodeB), "[accuse]"}, {0, hears(nodeB + ".1"), "[+B.1]"}}},
		{"goodbye", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"},
			{0, func(l *leases, now time.Time) news { return l.bye(nodeB, now) }, "[-B]"},
			{0, hears(nodeB), "[accuse]"}}},
		{"a new life ends the old one", []leaseStep{
			{0, hears(nodeB), "[+B]"}, {0, hears(nodeB + ".1"), "[-B +B.1]"}, {0, hears(nodeB), "[accuse]"}}},
		{"a restarted node is another", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"}, {0, hears(nodeC), "[+C]"},
			{5 * time.Second, beats, "[]"}, {0, hears(nodeC), "[]"}, {5 * time.Second, beats, "[]"}, {0, hears(nodeC), "[]"},
			{5 * time.Second, beats, "[-B]"}}},
		{"a broker that is down freezes it, and then it is a full one", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"}, {time.Second, brokerIs(true), "[]"},
			{4 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"},
			{5 * time.Second, deafTick, "[]"}, {time.Second, brokerIs(false), "[]"},
			{4 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}}},
		{"after a long cut, who does not come back may have given this node up", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"}, {time.Second, brokerIs(true), "[]"},
			{4 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"},
			{5 * time.Second, deafTick, "[]"}, {time.Second, brokerIs(false), "[]"},
			{4 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"},
			{5 * time.Second, beats, "[-B reborn]"}}},
		{"no beat of its own comes back: it is this node that does not hear", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"},
			{5 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"},
			{5 * time.Second, deafTick, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"},
			{0, hears(nodeB), "[]"}}},
		{"one beat was lost both ways", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"},
			{5 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"},
			{4 * time.Second, beats, "[]"}, {2 * time.Second, hears(nodeB), "[]"}, {3 * time.Second, beats, "[]"}}},
		{"two beats were lost both ways: then it is a full one", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"},
			{5 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"},
			{4 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[-B]"}}},
		{"one beat was lost both ways: then it is a full one, too", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"}, {5 * time.Second, deafTick, "[]"},
			{5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[-B]"}}},
		{"its end is no evidence while no newer beat has come back", []leaseStep{
			{0, beats, "[]"}, {time.Second, hears(nodeB), "[+B]"}, {4 * time.Second, beats, "[]"},
			{5 * time.Second, deafTick, "[]"}, {5 * time.Second, deafTick, "[]"}, {time.Second, deafTick, "[]"}}},
		{"asleep for longer than its lease", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"},
			{16 * time.Second, beats, "[reborn]"}, {5 * time.Second, beats, "[]"}, {0, hears(nodeB), "[]"}}},
		{"asleep for a moment", []leaseStep{
			{0, beats, "[]"}, {0, hears(nodeB), "[+B]"}, {14 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}}},
		{"told that it was given up", []leaseStep{
			{0, func(l *leases, _ time.Time) news { return l.accused(nodeB) }, "[]"},
			{0, func(l *leases, _ time.Time) news { return l.accused(nodeA) }, "[reborn]"},
			{0, func(l *leases, _ time.Time) news { return l.accused(nodeA) }, "[]"}}},
		{"asked about a node that never comes", []leaseStep{
			{0, beats, "[]"}, {0, func(l *leases, now time.Time) news { l.ask(nodeC, now); return news{} }, "[]"},
			{5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[]"}, {5 * time.Second, beats, "[-C]"},
			{0, hears(nodeC), "[accuse]"}}},
		{"asked about a node that comes", []leaseStep{
			{0, beats, "[]"}, {0, func(l *leases, now time.Time) news { l.ask(nodeC, now); return news{} }, "[]"},
			{5 * time.Second, hears(nodeC), "[+C]"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			l := newLeases(nodeA, 15*time.Second, now)
			for i, s := range c.steps {
				now = now.Add(s.after)
				if got := s.do(l, now).told(); got != s.want {
					t.Fatalf("step %d: got %s, want %s", i, got, s.want)
				}
			}
		})
	}
}

// What was sent while the broker was down has not left this node, and says nothing.
func TestABeatOfAnOutageIsNoEvidence(t *testing.T) {
	now := time.Now()
	l := newLeases(nodeA, 15*time.Second, now)
	beats(l, now)
	l.status(true, now.Add(time.Second))
	l.status(false, now.Add(3*time.Second))
	l.echo(now.Add(2*time.Second), now.Add(3*time.Second))
	if !l.since.IsZero() {
		t.Error("the node thinks that it hears")
	}
	l.echo(now.Add(4*time.Second), now.Add(4*time.Second))
	if l.since.IsZero() {
		t.Error("the node does not notice that it hears")
	}
}

func TestLeasesAreBounded(t *testing.T) {
	now := time.Now()
	l := newLeases(nodeA, 15*time.Second, now)
	for n := range 2 * maxNodes {
		id := fmt.Sprintf("N%011d", n)
		l.listen(id, 0, now)
		if n%2 == 0 {
			l.ask(fmt.Sprintf("Q%011d", n), now)
		}
	}
	if len(l.held) != maxNodes {
		t.Errorf("%d leases, want %d", len(l.held), maxNodes)
	}
	for n := range 2 * maxNodes {
		l.bye(fmt.Sprintf("D%011d", n), now)
	}
	if len(l.dead) != maxNodes || len(l.order) != maxNodes {
		t.Errorf("%d dead are remembered, %d in order, want %d", len(l.dead), len(l.order), maxNodes)
	}
}

func TestWhoIsThereIsKnownABeatAfterTheNodeHears(t *testing.T) {
	now := time.Now()
	l := newLeases(nodeA, 15*time.Second, now)
	is := func(id string, alive, known bool) {
		t.Helper()
		if a, k := l.ask(id, now); a != alive || k != known {
			t.Errorf("ask(%q): got %v %v, want %v %v", id, a, k, alive, known)
		}
	}
	is(nodeA, true, true)
	l.listen(nodeB, 0, now)
	is(nodeB, true, false)
	beats(l, now)
	is(nodeB, true, false)
	is(nodeC, false, false)
	now = now.Add(5 * time.Second)
	is(nodeB, true, true)
	l.status(true, now)
	is(nodeB, true, false)
	is(nodeA+".7", false, true) // another life of this node
	is("x", false, true)
	l.status(false, now)
	beats(l, now)
	is(nodeB, true, false)
	now = now.Add(5 * time.Second)
	is(nodeB, true, true)
	l.bye(nodeB, now)
	is(nodeB, false, true)
	if got := l.here(); len(got) != 0 {
		t.Errorf("here: %q, want none: the one that was asked about is not", got)
	}
}

// TestLeasesOfAModel has three nodes live through faults at random, with messages that
// take a while, and holds them to what the rest of the package relies on.
func TestLeasesOfAModel(t *testing.T) {
	for seed := range uint64(300) {
		w := newLeaseWorld(seed)
		for range 400 {
			w.step()
			if w.wrong != "" {
				t.Fatalf("seed %d: %s", seed, w.wrong)
			}
		}
		if w.settle(); w.wrong != "" {
			t.Fatalf("seed %d: %s", seed, w.wrong)
		}
	}
}

// leaseWorld is a virtual cluster: a bus and the nodes on it.
type leaseWorld struct {
	random *rand.Rand
	now    time.Time
	nodes  []*leaseNode
	bus    []flight
	wrong  string
}

type leaseNode struct {
	*leases
	asleep, cut bool
	seen        map[string]string // what watch has told: + or -
	inbox       []flight          // what came while it was asleep
	next        time.Time
	names       []string // all it ever had
	cutSince    time.Time
}

// flight is a message on its way.
type flight struct {
	at       time.Time
	to       *leaseNode
	from     string
	sent     time.Time
	gone     string // not a beat: whom the sender gave up
	fromBase string
}

func newLeaseWorld(seed uint64) *leaseWorld {
	w := &leaseWorld{random: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0)}
	for _, id := range []string{nodeA, nodeB, nodeC} {
		w.nodes = append(w.nodes, &leaseNode{leases: newLeases(id, 15*time.Second, w.now), seen: map[string]string{},
			next: w.now, names: []string{id}, cutSince: w.now})
	}
	return w
}

// say has everybody who can hear get a beat, or an accusation, of n.
func (w *leaseWorld) say(n *leaseNode, gone string) {
	if n.cut {
		return
	}
	for _, to := range w.nodes {
		delay := time.Duration(w.random.IntN(200)) * time.Millisecond
		w.bus = append(w.bus, flight{w.now.Add(delay), to, n.self, w.now, gone, nodeBase(n.self)})
	}
}

func (w *leaseWorld) step() {
	n := w.nodes[w.random.IntN(len(w.nodes))]
	switch w.random.IntN(60) {
	case 0:
		n.asleep = !n.asleep
	case 1:
		n.cut = !n.cut
		n.cutSince = w.now
		w.tell(n, news{})
		if !n.asleep {
			n.status(n.cut, w.now)
		}
	case 2:
		n.ask([]string{nodeA, nodeB, nodeC, nodeA + ".1"}[w.random.IntN(4)], w.now)
	}
	w.pass(time.Duration(w.random.IntN(2000)) * time.Millisecond)
}

// pass lets time go by.
func (w *leaseWorld) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(100 * time.Millisecond) {
		var later []flight
		bus := w.bus
		w.bus = nil
		for _, f := range bus {
			switch {
			case f.at.After(w.now):
				later = append(later, f)
			case f.to.cut:
			case f.to.asleep:
				f.to.inbox = append(f.to.inbox, f)
			default:
				w.deliver(f)
			}
		}
		w.bus = append(w.bus, later...)
		for _, n := range w.nodes {
			if n.asleep || w.now.Before(n.next) {
				continue
			}
			n.status(n.cut, w.now)
			told := n.tick(w.now)
			if w.tell(n, told); n.down && len(told.moves) > 0 {
				w.fail("%s: gave up %v while its broker is down", n.self, told.moves)
			}
			w.say(n, "")
			n.next = n.leases.next(w.now, w.now.Add(time.Hour))
			inbox := n.inbox
			n.inbox = nil
			for _, f := range inbox {
				w.deliver(f)
			}
		}
	}
}

func (w *leaseWorld) deliver(f flight) {
	n := f.to
	switch {
	case f.fromBase == nodeBase(n.self):
		w.tell(n, n.echo(f.sent, w.now))
	case f.gone != "":
		w.tell(n, n.accused(f.gone))
	default:
		told := n.listen(f.from, 15*time.Second, w.now)
		w.tell(n, told)
		if told.accuse {
			w.say(n, f.from)
		}
	}
}

// tell holds what a node is told against what it was told before.
func (w *leaseWorld) tell(n *leaseNode, told news) {
	for _, m := range told.moves {
		was := n.seen[m.node]
		switch {
		case m.here && was != "":
			w.fail("%s: %s came after %q", n.self, m.node, was)
		case !m.here && was == "-":
			w.fail("%s: %s went twice", n.self, m.node)
		}
		n.seen[m.node] = map[bool]string{true: "+", false: "-"}[m.here]
	}
	if told.reborn {
		if slices.Contains(n.names, n.self) {
			w.fail("%s: reborn under an old name", n.self)
		}
		n.names = append(n.names, n.self)
	}
}

// settle ends all faults: after a while everybody sees everybody, and nobody is
// believed there under a name that others gave up.
func (w *leaseWorld) settle() {
	for _, n := range w.nodes {
		n.asleep, n.cut = false, false
	}
	w.pass(90 * time.Second)
	for _, n := range w.nodes {
		var want []string
		for _, other := range w.nodes {
			if other != n {
				want = append(want, other.self)
			}
		}
		slices.Sort(want)
		if got := n.here(); !slices.Equal(got, want) {
			w.fail("%s sees %q in the end, want %q", n.self, got, want)
		}
		for _, other := range w.nodes {
			if n.dead[other.self] {
				w.fail("%s has given up %s, which does not know", n.self, other.self)
			}
		}
	}
}

func (w *leaseWorld) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
	}
}
