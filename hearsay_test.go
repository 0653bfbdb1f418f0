package realtime

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// grapevine is some nodes that have one topic, and what is on its way between them: it
// may get lost, come twice or late.
type grapevine struct {
	*rand.Rand
	t     *testing.T
	desks []*talker
	mail  []parcel
	refs  int
	lives uint64
	fair  bool // no faults any more
}

type parcel struct {
	from, to *talker
	id       string // from's, when it was sent
	code     []byte // tidings; nil for a question
}

// talker is one node.
type talker struct {
	*grapevine
	id     string
	cut    bool
	gone   map[string]bool // who does not come back
	mine   []*entry
	shown  map[*entry]bool // what others have told and this node knows, held against every delta
	roster roster
	telling
	hearsay
}

func (g *grapevine) open() *talker {
	g.lives++
	n := &talker{grapevine: g, id: fmt.Sprint("node", g.lives), gone: map[string]bool{}, shown: map[*entry]bool{}, telling: telling{life: g.lives}}
	g.desks = append(g.desks, n)
	n.question(nil)
	return n
}

func (g *grapevine) post(from, to *talker, code []byte) {
	if from.cut || to.cut {
		return
	}
	copies := 1
	if !g.fair {
		copies = []int{0, 1, 1, 1, 1, 1, 2}[g.IntN(7)]
	}
	for range copies {
		g.mail = append(g.mail, parcel{from, to, from.id, code})
	}
}

func (n *talker) tell(to *talker, all ...*tidings) {
	for _, t := range all {
		for _, other := range n.desks {
			if other != n && (to == nil || to == other) {
				n.post(n, other, t.append(nil))
			}
		}
	}
}

// question asks one node for its state, or all.
func (n *talker) question(to *talker) {
	for _, other := range n.desks {
		if other != n && (to == nil || to == other) {
			n.post(n, other, nil)
		}
	}
}

// read delivers one letter, mostly the first.
func (g *grapevine) read() {
	at := 0
	if !g.fair && g.IntN(4) == 0 {
		at = g.IntN(len(g.mail))
	}
	l := g.mail[at]
	g.mail = slices.Delete(g.mail, at, at+1)
	n := l.to
	switch {
	case !slices.Contains(g.desks, n):
	case n.gone[l.id]:
	case l.code == nil:
		n.tell(nil, n.take()...)
		n.tell(l.from, n.state(n.mine)...)
	default:
		t, err := decodeTidings(l.code)
		if err != nil {
			g.t.Fatal(err)
		}
		d, ask := n.hear(strings.TrimRight(l.id, "'"), t)
		n.learn(d)
		if ask {
			n.question(l.from)
		}
		if t.echo {
			n.tell(l.from, n.roll(false))
		}
	}
}

// learn holds a change against what was known: nobody comes twice, or leaves who was
// not there.
func (n *talker) learn(d delta) {
	for _, e := range d.leaves {
		if !n.shown[e] {
			n.t.Fatalf("%s is told that %s leaves, who was not there", n.id, e.ref)
		}
		delete(n.shown, e)
	}
	for _, e := range d.joins {
		for other := range n.shown {
			if other.ref == e.ref {
				n.t.Fatalf("%s is told of %s twice", n.id, e.ref)
			}
		}
		n.shown[e] = true
	}
	n.roster.apply(d)
}

func (n *talker) change(d delta) {
	n.roster.apply(d)
	n.note(d)
}

func (n *talker) join() {
	n.refs++
	e := newEntry(fmt.Sprint("user", n.IntN(4)), fmt.Sprint("r", n.refs), "", nil)
	n.mine = append(n.mine, e)
	n.change(delta{joins: []*entry{e}})
}

func (n *talker) leave() {
	if len(n.mine) > 0 {
		i := n.IntN(len(n.mine))
		e := n.mine[i]
		n.mine = slices.Delete(n.mine, i, i+1)
		n.change(delta{leaves: []*entry{e}})
	}
}

// die takes n away; the others notice when its lease ends.
func (n *talker) die() {
	n.desks = slices.DeleteFunc(n.desks, func(o *talker) bool { return o == n })
	for _, o := range n.desks {
		o.giveUp(n)
	}
}

func (n *talker) giveUp(o *talker) {
	n.gone[o.id] = true
	n.learn(n.lose(strings.TrimRight(o.id, "'")))
}

// comeBack is after a cut. If some of the others have noticed, the node has another name
// now, and is the same node to the rest.
func (n *talker) comeBack(noticed bool) {
	n.cut = false
	for _, o := range n.desks {
		if noticed && o != n && n.IntN(3) > 0 {
			o.giveUp(n)
		}
	}
	if noticed {
		for _, o := range n.desks {
			o.gone[n.id] = true // at the latest when the new name is heard of
		}
		n.id += "'"
	}
	n.tell(nil, n.roll(true))
}

// reopen is the topic's end and a new beginning on the same node.
func (n *talker) reopen() {
	n.tell(nil, n.bye())
	n.mine, n.roster, n.shown, n.hearsay = nil, roster{}, map[*entry]bool{}, hearsay{}
	n.lives++
	n.telling = telling{life: n.lives}
	n.question(nil)
}

func (g *grapevine) step() {
	n := g.desks[g.IntN(len(g.desks))]
	switch op := g.IntN(100); {
	case op < 20:
		n.join()
	case op < 35:
		n.leave()
	case op < 50:
		n.tell(nil, n.take()...)
	case op < 90:
		if len(g.mail) > 0 {
			g.read()
		}
	case op < 92:
		n.turnOver()
	case op < 93 && len(g.desks) > 2:
		n.die()
		g.open()
	case op < 95:
		n.reopen()
	case op < 97:
		n.cut = true
	case n.cut:
		n.comeBack(g.IntN(2) == 0)
	}
}

// turnOver is the time of a roll, and of questions that had no answer.
func (n *talker) turnOver() {
	n.turn()
	for _, id := range n.missing() {
		for _, o := range n.desks {
			if strings.TrimRight(o.id, "'") == id {
				n.question(o)
			}
		}
	}
	n.tell(nil, n.take()...)
	n.tell(nil, n.roll(false))
}

// settle ends all faults and has a few turns.
func (g *grapevine) settle() {
	for _, n := range g.desks {
		if n.cut {
			n.comeBack(g.IntN(2) == 0)
		}
	}
	g.fair = true
	for range 4 {
		for _, n := range g.desks {
			n.turnOver()
		}
		for steps := 0; len(g.mail) > 0; steps++ {
			if steps > 100_000 {
				g.t.Fatal("the nodes do not cease to tell each other")
			}
			g.read()
		}
	}
}

// TestEveryNodeKnowsInTheEndWhoIsThere has nodes tell each other of changes over a
// network that loses, doubles and delays, while they die, are cut off and begin anew.
func TestEveryNodeKnowsInTheEndWhoIsThere(t *testing.T) {
	for seed := range uint64(3000) {
		g := &grapevine{Rand: rand.New(rand.NewPCG(seed, 7)), t: t}
		for range 3 {
			g.open()
		}
		for range 120 {
			g.step()
		}
		g.settle()
		want := everybody(g.desks)
		for _, n := range g.desks {
			if got := rosterRefs(&n.roster); got != want {
				t.Fatalf("seed %d: %s knows %s, want %s", seed, n.id, got, want)
			}
		}
	}
}

func everybody(desks []*talker) string {
	var refs []string
	for _, n := range desks {
		for _, e := range n.mine {
			refs = append(refs, e.ref)
		}
	}
	slices.Sort(refs)
	return strings.Join(refs, " ")
}

func rosterRefs(r *roster) string {
	var refs []string
	for _, p := range r.order {
		for _, e := range p.metas {
			refs = append(refs, e.ref)
		}
	}
	slices.Sort(refs)
	return strings.Join(refs, " ")
}

// A node's entries fill no more than their bounds, whether they come in one state or
// one by one.
func TestNodeWithTooManyEntriesIsCut(t *testing.T) {
	var h hearsay
	tell := func(kind tidingsKind, part int) delta {
		es := make([]*entry, 1000)
		for i := range es {
			es[i] = &entry{key: "k", ref: fmt.Sprint(part, ".", i), text: []byte("{}")}
		}
		d, _ := h.hear("evil", &tidings{kind: kind, life: 1, number: uint64(part + 1), joins: es})
		return d
	}
	came := 0
	for n := range maxHeard/1000 + 20 {
		came += len(tell(tidingsChange, n).joins)
	}
	if came != maxHeard || len(h.nodes["evil"].entries) != maxHeard {
		t.Errorf("%d entries came, want %d", came, maxHeard)
	}
	if h.refused == 0 {
		t.Error("none is counted as refused")
	}
	if _, ask := h.hear("evil", &tidings{kind: tidingsRoll, life: 1, number: h.nodes["evil"].number, count: 1 << 24}); ask {
		t.Error("the node is asked for more of what there is no room for")
	}
	for n := range maxWitnesses + 10 {
		h.hear(fmt.Sprint(n), &tidings{kind: tidingsRoll, life: 1})
	}
	if len(h.nodes) != maxWitnesses {
		t.Errorf("%d nodes are kept, want %d", len(h.nodes), maxWitnesses)
	}
}

// What comes late, of a life that is over, changes nothing and raises no question.
func TestTidingsOfAnEarlierLifeChangeNothing(t *testing.T) {
	var h hearsay
	one := func(ref string) []*entry { return []*entry{{key: "k", ref: ref, text: []byte("{}")}} }
	late := func(life uint64) {
		t.Helper()
		for _, old := range []*tidings{
			{kind: tidingsChange, life: life, number: 2, joins: one("x")},
			{kind: tidingsChange, life: life, number: 9, leaves: []string{"a"}},
			{kind: tidingsState, life: life, number: 9, joins: one("x"), last: true},
			{kind: tidingsRoll, life: life, number: 10, count: 7},
			{kind: tidingsBye, life: life},
		} {
			if d, ask := h.hear("n", old); !d.empty() || ask {
				t.Errorf("%+v of life %d changes %+v, asks: %v", old, life, d, ask)
			}
		}
	}
	if d, _ := h.hear("n", &tidings{kind: tidingsChange, life: 2, number: 1, joins: one("a")}); len(d.joins) != 1 {
		t.Fatalf("%d came, want 1", len(d.joins))
	}
	late(1)
	if d, _ := h.hear("n", &tidings{kind: tidingsBye, life: 2, number: 1}); len(d.leaves) != 1 {
		t.Errorf("%d left, want 1", len(d.leaves))
	}
	late(2)
	if d, ask := h.hear("n", &tidings{kind: tidingsChange, life: 3, number: 1, joins: one("b")}); len(d.joins) != 1 || ask {
		t.Errorf("%d came in the next life (asks: %v), want 1", len(d.joins), ask)
	}
	for range forgetTurns + 1 {
		h.hear("n", &tidings{kind: tidingsBye, life: 3})
		h.turn()
	}
	for range forgetTurns + 1 {
		h.turn()
	}
	if len(h.nodes) != 0 {
		t.Errorf("%d nodes are kept, want those that have ended to be forgotten", len(h.nodes))
	}
}

// A change that is missing is asked for once, at the next one.
func TestAMissingChangeIsAskedForAtOnce(t *testing.T) {
	var h hearsay
	change := func(number uint64) (ask bool) {
		_, ask = h.hear("n", &tidings{kind: tidingsChange, life: 1, number: number})
		return ask
	}
	for i, step := range []struct {
		number uint64
		ask    bool
	}{{1, false}, {3, true}, {4, false}} {
		if ask := change(step.number); ask != step.ask {
			t.Errorf("step %d: asks: %v, want %v", i, ask, step.ask)
		}
	}
	if missing := h.missing(); !slices.Equal(missing, []string{"n"}) {
		t.Errorf("missing are %q, want the node", missing)
	}
}

// A state of which a part is missing is none, and is wanted still.
func TestAStateIsWholeOrNone(t *testing.T) {
	part := func(number uint64, n int, last bool) *tidings {
		e := &entry{key: "k", ref: fmt.Sprint("r", n), text: []byte("{}")}
		return &tidings{kind: tidingsState, life: 1, number: number, part: n, last: last, joins: []*entry{e}}
	}
	for _, c := range []struct {
		name  string
		parts []*tidings
		want  int
	}{
		{"whole", []*tidings{part(5, 0, false), part(5, 1, false), part(5, 2, true)}, 3},
		{"a part comes twice", []*tidings{part(5, 0, false), part(5, 1, false), part(5, 1, false), part(5, 2, true)}, 3},
		{"one is lost", []*tidings{part(5, 0, false), part(5, 2, true)}, 0},
		{"the first is lost", []*tidings{part(5, 1, true)}, 0},
		{"one is lost and one comes twice", []*tidings{part(5, 0, false), part(5, 1, false), part(5, 1, false), part(5, 3, true)}, 0},
		{"parts of two states", []*tidings{part(5, 0, false), part(6, 1, true)}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h hearsay
			h.hear("n", &tidings{kind: tidingsRoll, life: 1, number: 5, count: 3})
			for _, p := range c.parts {
				h.hear("n", p)
			}
			if n := len(h.nodes["n"].entries); n != c.want || h.complete("n") != (c.want > 0) {
				t.Errorf("%d are known, complete: %v; want %d", n, h.complete("n"), c.want)
			}
		})
	}
}

// A roll says how many were told, so that a difference is noticed that no number shows.
func TestARollIsHeldAgainstWhatIsKnown(t *testing.T) {
	one := func(ref string) *entry { return &entry{key: "k", ref: ref, text: []byte("{}")} }
	say := telling{life: 1}
	a, b, c := one("a"), one("b"), one("c")
	say.note(delta{joins: []*entry{a, b, c}})
	news := say.take()
	a.left = 1
	say.note(delta{leaves: []*entry{a}})
	news = append(news, say.take()...)
	if roll := say.roll(false); roll.count != 2 || roll.number != 2 {
		t.Errorf("the roll says %d entries after %d changes, want 2 after 2", roll.count, roll.number)
	}
	var h hearsay
	for _, n := range news {
		h.hear("n", n)
	}
	if _, ask := h.hear("n", say.roll(false)); ask {
		t.Error("asks, though all is known")
	}
	delete(h.nodes["n"].entries, "b")
	if _, ask := h.hear("n", say.roll(false)); !ask {
		t.Error("does not ask, though one is missing")
	}
}
