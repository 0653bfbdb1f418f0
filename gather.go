package realtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// The questions that nodes ask each other.
const (
	askMembers  byte = 1 // who the members of a topic are
	askCount    byte = 2 // how many
	askClients  byte = 3 // what they answer to an event
	askPresence byte = 4 // who is present in a topic
)

const (
	// gatherTime bounds the wait for other nodes when the caller's context has no
	// deadline.
	gatherTime = 10 * time.Second

	// partBytes is how much of an answer goes into one message: enough for some
	// hundred members, and little enough that beats are not late behind it.
	partBytes = 32 << 10

	// answerers is how many questions of others are answered at the same time.
	answerers = 64
)

// PartialError says that other nodes did not answer, so that what comes with it is
// not all that there is.
type PartialError struct {
	Nodes []string // sorted; none if this node does not know who else there is
	Err   error    // why, for one of them: the context's error, ErrBrokerDown, or another
}

func (e *PartialError) Error() string {
	if len(e.Nodes) == 0 {
		return fmt.Sprintf("realtime: no answer from other nodes: %v", e.Err)
	}
	return fmt.Sprintf("realtime: no answer from nodes %s: %v", strings.Join(e.Nodes, ", "), e.Err)
}

// Unwrap returns Err.
func (e *PartialError) Unwrap() error { return e.Err }

var (
	errNodeLeft   = errors.New("realtime: the node has gone")
	errPartLost   = errors.New("realtime: a part of the answer was lost")
	errNoAnswerer = errors.New("realtime: the node has no answer")
)

// gatherer asks all nodes, and answers them.
type gatherer struct {
	cluster *cluster

	mu      sync.Mutex // guards the following
	last    uint64
	open    map[uint64]*gathering
	answers map[byte]answerFunc
	busy    int // questions of others that are being answered
}

// answerFunc answers a question of another node, in parts of about partBytes: reply
// blocks while much waits to be sent, and returns an error when it makes no
// sense to go on. ctx ends before the one who asks has stopped to wait.
type answerFunc func(ctx context.Context, question []byte, reply func(part []byte) error) error

// gathering is a question that waits for answers.
type gathering struct {
	id      uint64
	of      *gatherer
	ctx     context.Context
	cancel  context.CancelFunc
	waiting map[string]*asked // by nodeBase
	failed  map[string]error  // by name
	parts   []part
	alone   bool          // this node cannot hear any other
	done    chan struct{} // closed when nobody is waited for
}

// asked is a node that owes an answer.
type asked struct {
	name string
	next uint64 // the number of the part that comes next
}

// part is one part of a node's answer.
type part struct {
	from string
	body []byte
}

func newGatherer(c *cluster) *gatherer {
	g := &gatherer{cluster: c, open: map[uint64]*gathering{}, answers: map[byte]answerFunc{}}
	c.handle(nodeQuestion, g.asked)
	c.handle(nodeAnswer, g.answered)
	c.watch(func(node string, here bool) {
		if !here {
			g.left(node)
		}
	})
	return g
}

// answer has f answer a kind of question.
func (g *gatherer) answer(what byte, f answerFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answers[what] = f
}

// ask asks the other nodes. It does not block; the caller waits for what it returns.
func (g *gatherer) ask(ctx context.Context, what byte, question []byte) *gathering {
	one := &gathering{of: g, waiting: map[string]*asked{}, failed: map[string]error{},
		alone: !g.cluster.hears(), done: make(chan struct{})}
	if _, ok := ctx.Deadline(); ok {
		one.ctx, one.cancel = context.WithCancel(ctx)
	} else {
		one.ctx, one.cancel = context.WithTimeout(ctx, gatherTime)
	}
	for _, id := range g.cluster.nodes() {
		one.waiting[nodeBase(id)] = &asked{name: id}
	}
	if len(one.waiting) == 0 {
		close(one.done)
		return one
	}
	g.mu.Lock()
	g.last++
	one.id = g.last
	g.open[one.id] = one
	g.mu.Unlock()
	for _, id := range one.unseen(g.cluster.nodes()) { // gone meanwhile, and told before it could be noted here
		g.left(id)
	}
	body := one.question(what, question)
	if len(body) > maxNodeBody {
		one.give(errNodeLong)
	} else if !g.cluster.post("", nodeQuestion, body) {
		one.give(ErrBrokerDown)
	}
	return one
}

// unseen returns who is waited for and is not among nodes, by the full name.
func (one *gathering) unseen(nodes []string) (names []string) {
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	for _, a := range one.waiting {
		if !slices.Contains(nodes, a.name) {
			names = append(names, a.name)
		}
	}
	return names
}

// give has the wait for whoever has not answered end.
func (one *gathering) give(up error) {
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	for _, a := range maps.Clone(one.waiting) {
		one.settleLocked(a.name, up)
	}
}

// question is the body of a question: its number, for how long the answer is waited
// for, its kind, and what it says.
func (one *gathering) question(what byte, question []byte) []byte {
	deadline, _ := one.ctx.Deadline()
	b := binary.AppendUvarint(nil, one.id)
	b = binary.AppendUvarint(b, uint64(max(0, time.Until(deadline).Milliseconds())))
	return append(append(b, what), question...)
}

// wait waits until every node has answered, has gone, or ctx ends, and has each
// called with the parts, those of one node in order. The error is a
// [*PartialError], or that of each.
func (one *gathering) wait(each func(from string, part []byte) error) error {
	defer one.cancel()
	select {
	case <-one.done:
	case <-one.ctx.Done():
	}
	one.give(one.ctx.Err())
	one.of.close(one)
	for _, p := range one.parts {
		if err := each(p.from, p.body); err != nil {
			one.failed[p.from] = err
		}
	}
	switch {
	case len(one.failed) > 0:
	case one.alone:
		return &PartialError{Err: ErrBrokerDown}
	default:
		return nil
	}
	nodes := slices.Sorted(maps.Keys(one.failed))
	return &PartialError{Nodes: nodes, Err: one.failed[nodes[0]]}
}

// close forgets a question.
func (g *gatherer) close(one *gathering) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, one.id)
}

// settleLocked notes that a node owes nothing any more.
func (one *gathering) settleLocked(name string, err error) {
	a := one.waiting[nodeBase(name)]
	if a == nil {
		return
	}
	delete(one.waiting, nodeBase(name))
	if err != nil {
		one.failed[a.name] = err
	}
	if len(one.waiting) == 0 {
		close(one.done)
	}
}

// left is called when a node is gone.
func (g *gatherer) left(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, one := range g.open {
		if a := one.waiting[nodeBase(name)]; a != nil && a.name == name {
			one.settleLocked(name, errNodeLeft)
		}
	}
}

// The flags of a part.
const (
	partLast   = 1 << 0
	partFailed = 1 << 1 // there is no answer; the part says why
)

// answered takes a part of an answer: the question's number, the part's, flags, and
// what it says.
func (g *gatherer) answered(from string, b []byte) {
	id, b, ok := cutNumber(b)
	index, b, ok2 := cutNumber(b)
	if !ok || !ok2 || len(b) == 0 {
		g.cluster.refuse(nodeAnswer, errNodeMail)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.open[id]
	if one == nil || one.waiting[nodeBase(from)] == nil {
		return // too late
	}
	a := one.waiting[nodeBase(from)]
	switch flags := b[0]; {
	case flags&partFailed != 0:
		one.settleLocked(from, fmt.Errorf("%w: %.200s", errNoAnswerer, b[1:]))
	case index != a.next:
		one.settleLocked(from, errPartLost)
	default:
		a.next++
		if len(b) > 1 {
			one.parts = append(one.parts, part{a.name, b[1:]})
		}
		if flags&partLast != 0 {
			one.settleLocked(from, nil)
		}
	}
}

// asked takes a question of another node.
func (g *gatherer) asked(from string, b []byte) {
	id, b, ok := cutNumber(b)
	ms, b, ok2 := cutNumber(b)
	if !ok || !ok2 || len(b) == 0 {
		g.cluster.refuse(nodeQuestion, errNodeMail)
		return
	}
	out := &responder{of: g, to: from, id: id}
	g.mu.Lock()
	f := g.answers[b[0]]
	free := g.busy < answerers
	if f != nil && free {
		g.busy++
	}
	g.mu.Unlock()
	switch {
	case f == nil:
		out.fail("this version does not know the question")
	case !free:
		out.fail("too many questions at once")
	case !g.cluster.spawn(func(ctx context.Context) { out.run(ctx, f, ms, b[1:]) }):
		g.leave()
	}
}

func (g *gatherer) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy--
}

// responder is the answer of this node to one question.
type responder struct {
	of   *gatherer
	to   string
	id   uint64
	next uint64
}

// run answers. It ends a little before the one who asked has stopped to wait.
func (r *responder) run(ctx context.Context, f answerFunc, ms uint64, question []byte) {
	defer r.of.leave()
	left := time.Duration(min(ms, uint64(time.Hour.Milliseconds()))) * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, left-min(left/10, 500*time.Millisecond))
	defer cancel()
	err := f(ctx, question, func(part []byte) error { return r.send(ctx, 0, part) })
	if err == nil {
		err = r.send(ctx, partLast, nil)
	}
	if err != nil {
		r.fail(err.Error())
	}
}

// send sends a part once there is room.
func (r *responder) send(ctx context.Context, flags byte, part []byte) error {
	if full := r.of.cluster.box.room(); full != nil {
		select {
		case <-full:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.post(flags, part)
}

// fail says that there is no answer. It does not block.
func (r *responder) fail(why string) { r.post(partFailed, []byte(why)) }

func (r *responder) post(flags byte, part []byte) error {
	b := binary.AppendUvarint(nil, r.id)
	b = append(binary.AppendUvarint(b, r.next), flags)
	r.next++
	if !r.of.cluster.post(r.to, nodeAnswer, append(b, part...)) {
		return ErrBrokerDown
	}
	return nil
}
