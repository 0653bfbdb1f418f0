package realtime

import "slices"

// Bounds of what another node may have told of one topic. A list ends at
// [PresenceLimit] long before; it is for counting that more are kept.
const (
	maxWitnesses = 1024     // nodes
	maxHeard     = 1 << 18  // entries of one node
	maxHeardSize = 64 << 20 // bytes of those
)

// hearsay is what other nodes have told of one topic. It is a pure state machine: no
// lock, no clock, no I/O.
//
// Tidings may be lost, come twice, and those that came on two ways in any order. What
// is missing is noticed by the numbers, and put right by the next state. Each call
// returns what that changes here.
type hearsay struct {
	nodes   map[string]*witness
	refused int // entries and nodes above the bounds, ever
}

// witness is what one node has told.
type witness struct {
	life    uint64
	number  uint64            // of the last change that entries have
	ahead   uint64            // the highest number heard of: more than number if a change is missing
	entries map[string]*entry // by ref
	bytes   int               // of those
	broken  bool              // entries are not what the node had at number
	cut     bool              // some were above the bounds
	ended   bool              // the life is over
	asked   bool              // for its state
	turns   int               // since it was last heard of
	coming  *stateParts       // a state of which more parts are to come
}

// stateParts are the first parts of a state.
type stateParts struct {
	number  uint64
	parts   int
	entries map[string]*entry
	bytes   int
	cut     bool
}

// behind reports whether the node has to be asked for its state.
func (w *witness) behind() bool { return w.broken || w.ahead > w.number }

// hear takes tidings in. ask means that node should be asked for its state.
func (h *hearsay) hear(node string, t *tidings) (d delta, ask bool) {
	w := h.nodes[node]
	if w == nil {
		if w = h.meet(node); w == nil {
			return d, false
		}
	}
	if t.life < w.life || t.life == w.life && w.ended {
		return d, w.ask()
	}
	if t.life > w.life {
		d.leaves = w.drop()
		*w = witness{life: t.life}
	}
	w.turns = 0
	switch t.kind {
	case tidingsChange:
		h.change(w, t, &d)
	case tidingsState:
		h.collect(w, t, &d)
	case tidingsRoll:
		w.compare(t)
	case tidingsBye:
		d.leaves = append(d.leaves, w.drop()...)
		*w = witness{life: t.life, ended: true}
	}
	return d, w.ask()
}

func (h *hearsay) meet(node string) *witness {
	if len(h.nodes) >= maxWitnesses {
		h.refused++
		return nil
	}
	if h.nodes == nil {
		h.nodes = map[string]*witness{}
	}
	w := &witness{}
	h.nodes[node] = w
	return w
}

// ask reports whether a question is due that has not been asked.
func (w *witness) ask() bool {
	behind := w.behind()
	due := behind && !w.asked
	w.asked = behind
	return due
}

// change takes a change in, if it is the next one.
func (h *hearsay) change(w *witness, t *tidings, d *delta) {
	w.ahead = max(w.ahead, t.number)
	if t.number != w.number+1 || w.broken {
		return
	}
	w.number = t.number
	for _, ref := range t.leaves {
		if e := w.entries[ref]; e != nil {
			d.leaves = append(d.leaves, e)
			delete(w.entries, ref)
			w.bytes -= e.size()
		}
	}
	if w.entries == nil {
		w.entries = map[string]*entry{}
	}
	for _, e := range t.joins {
		switch {
		case w.entries[e.ref] != nil:
		case h.keep(w.entries, &w.bytes, e):
			d.joins = append(d.joins, e)
		default:
			w.cut = true
		}
	}
}

// size is what e takes in memory, about.
func (e *entry) size() int { return len(e.key) + len(e.text) + 200 }

// keep adds e, if there is room.
func (h *hearsay) keep(entries map[string]*entry, bytes *int, e *entry) bool {
	if len(entries) >= maxHeard || *bytes >= maxHeardSize {
		h.refused++
		return false
	}
	entries[e.ref] = e
	*bytes += e.size()
	return true
}

// collect takes a part of a state in. The last one puts it in place of what was known.
func (h *hearsay) collect(w *witness, t *tidings, d *delta) {
	if !w.behind() && t.number <= w.number || t.number < w.number {
		return // nothing new
	}
	w.ahead = max(w.ahead, t.number)
	if t.part == 0 {
		w.coming = &stateParts{number: t.number, entries: map[string]*entry{}}
	}
	c := w.coming
	switch {
	case c == nil || c.number == t.number && t.part < c.parts:
		return
	case c.number != t.number || t.part > c.parts:
		w.coming = nil // one is missing
		return
	}
	c.parts++
	for _, e := range t.joins {
		if old := w.entries[e.ref]; old != nil {
			e = old
		}
		if c.entries[e.ref] == nil && !h.keep(c.entries, &c.bytes, e) {
			c.cut = true
		}
	}
	if t.last {
		w.replace(d)
	}
}

// replace puts the state that has come in place of what was known.
func (w *witness) replace(d *delta) {
	c := w.coming
	for ref, e := range w.entries {
		if c.entries[ref] == nil {
			d.leaves = append(d.leaves, e)
		}
	}
	for ref, e := range c.entries {
		if w.entries[ref] == nil {
			d.joins = append(d.joins, e)
		}
	}
	if c.number > w.number {
		w.asked = false
	} else {
		w.ahead = w.number // it says so itself: what was heard of was no change of this life
	}
	w.number, w.entries, w.bytes, w.cut = c.number, c.entries, c.bytes, c.cut
	w.broken, w.coming = false, nil
}

// compare holds a roll against what is known. What was cut has another count, and is
// asked for when there is room again.
func (w *witness) compare(t *tidings) {
	w.ahead = max(w.ahead, t.number)
	if t.number != w.number {
		return
	}
	if w.cut {
		w.broken = w.broken || len(w.entries) < maxHeard*3/4 && w.bytes < maxHeardSize*3/4
		return
	}
	w.broken = w.broken || t.count != len(w.entries)
}

// drop returns all entries, for they leave.
func (w *witness) drop() (leaves []*entry) {
	for _, e := range w.entries {
		leaves = append(leaves, e)
	}
	w.entries, w.bytes, w.coming = nil, 0, nil
	return leaves
}

// lose notes that a node is gone. It never comes back under that name, and the caller
// sees to it that nothing of it is heard any more.
func (h *hearsay) lose(node string) (d delta) {
	if w := h.nodes[node]; w != nil {
		d.leaves = w.drop()
		delete(h.nodes, node)
	}
	return d
}

// missing returns the nodes whose state is wanted, asked or not.
func (h *hearsay) missing() (nodes []string) {
	for node, w := range h.nodes {
		if w.behind() {
			w.asked = true
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// complete reports whether all that node has told is known.
func (h *hearsay) complete(node string) bool {
	w := h.nodes[node]
	return w != nil && !w.behind()
}

// Turns of a topic are times at which each node sends its roll.
const (
	silentTurns = 3 // after which one that sends no roll is asked: its bye was lost, or the rolls are
	forgetTurns = 3 // after which a life that has ended is forgotten, since nothing of it is under way any more
)

// turn is called at the time of a roll.
func (h *hearsay) turn() {
	for node, w := range h.nodes {
		w.turns++
		switch {
		case w.ended && w.turns > forgetTurns:
			delete(h.nodes, node)
		case w.turns >= silentTurns && w.number > 0 && !w.ended:
			w.broken = true
		}
	}
}

// telling is what this node tells the others of its own entries in one topic. It is
// pure, too.
type telling struct {
	life   uint64
	number uint64
	count  int // entries that were told
	joins  []*entry
	leaves []*entry
	passed int // of joins, that are gone again
}

// note notes a change, which the roster has made.
func (t *telling) note(d delta) {
	for _, e := range d.leaves {
		if e.told {
			t.leaves = append(t.leaves, e)
		} else if t.passed++; t.passed > 32 && t.passed > len(t.joins)/2 {
			t.pass()
		}
	}
	t.joins = append(t.joins, d.joins...)
}

func (t *telling) pass() {
	t.joins = slices.DeleteFunc(t.joins, func(e *entry) bool { return e.left > 0 })
	t.passed = 0
}

// waits reports whether there is something to tell.
func (t *telling) waits() bool { return len(t.joins)+len(t.leaves) > 0 }

// take returns the changes since the last call. Whoever joins comes first, so that
// nobody is away meanwhile if it takes more than one message.
func (t *telling) take() (news []*tidings) {
	t.pass()
	joins, leaves := t.joins, t.leaves
	t.joins, t.leaves = nil, nil
	t.count += len(joins) - len(leaves)
	for len(joins)+len(leaves) > 0 {
		t.number++
		n := &tidings{kind: tidingsChange, life: t.life, number: t.number}
		var room int
		n.joins, joins, room = fill(joins, tidingsBytes)
		for _, e := range n.joins {
			e.told = true
		}
		for len(leaves) > 0 && room > 0 {
			n.leaves = append(n.leaves, leaves[0].ref)
			room -= len(leaves[0].ref) + 1
			leaves = leaves[1:]
		}
		news = append(news, n)
	}
	return news
}

// fill returns the entries that one message has room for, and what is left.
func fill(entries []*entry, room int) (some, rest []*entry, left int) {
	n := 0
	for n < len(entries) && room > 0 {
		room -= len(entries[n].key) + len(entries[n].ref) + len(entries[n].text) + 5
		n++
	}
	return entries[:n], entries[n:], room
}

// state returns the state that entries are, all of which have been told.
func (t *telling) state(entries []*entry) (parts []*tidings) {
	for {
		p := &tidings{kind: tidingsState, life: t.life, number: t.number, part: len(parts)}
		p.joins, entries, _ = fill(entries, tidingsBytes)
		p.last = len(entries) == 0
		parts = append(parts, p)
		if p.last {
			return parts
		}
	}
}

// roll returns what others can hold theirs against.
func (t *telling) roll(echo bool) *tidings {
	return &tidings{kind: tidingsRoll, life: t.life, number: t.number, count: t.count, echo: echo}
}

// bye returns the end of the life.
func (t *telling) bye() *tidings { return &tidings{kind: tidingsBye, life: t.life, number: t.number} }
