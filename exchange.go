package realtime

import (
	"context"
	"slices"
	"time"
)

const (
	// rollTime is how often a node tells how many changes there were, so that a lost
	// one without a successor is noticed. It costs a small message for each topic.
	rollTime = 30 * time.Second

	// askTime is how long a node that was asked for its state is waited for.
	askTime = 2 * time.Second

	// firstStateTime is how long the first member on a node waits for the answers of the
	// others, so that the state that it is shown is complete. Mostly that is one round
	// trip; it is all of it when a node has just died, and nobody minds at a join.
	firstStateTime = 250 * time.Millisecond
)

// exchange is what presence in one topic has to do with that topic on other nodes.
//
// A node publishes the changes of its own members, numbered, once per tick. Who has
// missed one, or is new, asks for the state, and gets it for itself: those are
// messages between nodes, not of the topic. Nodes are known by the part of their names
// that stays the same, so that one that is reborn is the same to whoever has not given
// it up.
type exchange struct {
	topic *topic
	tell  *tellers
	mine  func() []*entry // those of the members here; called under the topic's lock
	apply func(delta)     // has the roster change as others say; the same
	stop  func()          // ends the subscription; nil if there is none
	entry wheelEntry      // of rolls, and of questions without an answer

	// Guarded by the topic's lock.
	say     telling
	heard   hearsay
	waiting *answers  // of the nodes that were asked when the topic was opened
	rolls   time.Time // when the next roll is due
	since   time.Time // when it was opened
	busy    bool      // a goroutine tells
	roll    bool      // a roll is to be told
	echo    bool      // which asks for those of the others
	owed    []string  // who has asked
	ended   bool
}

// answers are those that are waited for.
type answers struct {
	from map[string]bool // by the part of the name that stays
	done chan struct{}   // closed when there are none left
}

func awaitAnswers(nodes []string) *answers {
	a := &answers{map[string]bool{}, make(chan struct{})}
	for _, n := range nodes {
		a.from[nodeBase(n)] = true
	}
	return a
}

// got notes that node has answered, or is gone.
func (a *answers) got(node string) {
	if a != nil && a.from[node] {
		if delete(a.from, node); len(a.from) == 0 {
			close(a.done)
		}
	}
}

// open subscribes, and waits a moment for what the others know.
func (x *exchange) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), subscribeTime)
	defer cancel()
	_, stop, err := x.topic.broker.Subscribe(ctx, presenceTopic+x.topic.name, Retention{}, x.receive)
	if err != nil {
		return err
	}
	x.stop = stop
	nodes := x.tell.cluster.nodes()
	a := awaitAnswers(nodes)
	now := time.Now()
	x.topic.mu.Lock()
	x.waiting, x.since, x.rolls = a, now, now.Add(spread(rollTime, 0.1))
	x.tell.wheel.schedule(&x.entry, x, x.rolls)
	x.topic.mu.Unlock()
	if len(nodes) > 0 {
		x.tell.cluster.send("", presenceAsk, []byte(x.topic.name))
		x.await(a)
	}
	return nil
}

// await waits for answers. Who gives none is asked again, if it has somebody here:
// its roll tells.
func (x *exchange) await(a *answers) {
	timer := time.NewTimer(firstStateTime)
	defer timer.Stop()
	select {
	case <-a.done:
	case <-timer.C:
		x.topic.mu.Lock()
		x.rollLocked(true)
		x.topic.mu.Unlock()
	}
}

// close tells the others that there is nobody any more. The caller holds no lock.
func (x *exchange) close() {
	x.topic.mu.Lock()
	x.ended = true
	x.kickLocked()
	x.topic.mu.Unlock()
	x.tell.wheel.cancel(&x.entry)
	if x.stop != nil {
		x.stop()
	}
}

// receive is called with what the broker carries.
func (x *exchange) receive(e *Event) {
	if e.Gap != nil {
		x.topic.mu.Lock()
		x.rollLocked(true) // what others missed of this node they learn, too
		x.topic.mu.Unlock()
		return
	}
	from, t, err := parsePost(e.Data)
	if err != nil {
		x.tell.cluster.refuse(presenceAsk, err)
		return
	}
	if nodeBase(from) != x.tell.cluster.name {
		x.hear(from, t)
	}
}

// hear takes in what another node tells.
func (x *exchange) hear(from string, t *tidings) {
	x.topic.mu.Lock()
	refused := x.heard.refused
	x.hearLocked(from, t)
	refused = x.heard.refused - refused
	x.topic.mu.Unlock()
	if refused > 0 {
		x.tell.cluster.refuse(presenceAnswer, errTooMuch)
	}
}

func (x *exchange) hearLocked(from string, t *tidings) {
	// Asked under the topic's lock: a node that is given up later is taken out of the
	// list later.
	if alive, known := x.tell.cluster.alive(from); x.ended || known && !alive {
		return
	}
	node := nodeBase(from)
	d, ask := x.heard.hear(node, t)
	x.apply(d)
	if ask {
		x.askLocked(from)
	}
	if t.echo {
		x.rollLocked(false)
	}
	if x.heard.complete(node) {
		x.waiting.got(node)
	}
}

// askLocked asks a node for its state.
func (x *exchange) askLocked(node string) {
	x.tell.cluster.send(node, presenceAsk, []byte(x.topic.name))
	x.tell.wheel.schedule(&x.entry, x, earlier(x.rolls, time.Now().Add(askTime)))
}

// lose has everybody leave who was on a node that is gone.
func (x *exchange) lose(node string) {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	if !x.ended {
		x.apply(x.heard.lose(node))
		x.waiting.got(node)
	}
}

// meet asks a node that has been found for its state, if it was missed when the topic
// was opened.
func (x *exchange) meet(node string) {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	if !x.ended && time.Since(x.since) < rollTime && !x.heard.complete(nodeBase(node)) {
		x.tell.cluster.send(node, presenceAsk, []byte(x.topic.name))
	}
}

// answer has node get the state. It reports whether there is one.
func (x *exchange) answer(node string) bool {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	if x.ended {
		return false
	}
	if !slices.Contains(x.owed, node) { // it may have asked again while it waited
		x.owed = append(x.owed, node)
	}
	x.kickLocked()
	return true
}

// people returns those who are here.
func (x *exchange) people() []*entry {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	return x.mine()
}

// announce has the others compare what they know, and this node what it knows.
func (x *exchange) announce() {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	x.rollLocked(true)
}

// resume asks and answers what could not be sent while the broker was down.
func (x *exchange) resume() {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	if x.ended {
		return
	}
	for _, node := range x.heard.missing() {
		x.tell.cluster.send(node, presenceAsk, []byte(x.topic.name))
	}
	x.kickLocked()
}

// rollLocked has a roll told at once.
func (x *exchange) rollLocked(echo bool) {
	if x.ended {
		return
	}
	x.roll, x.echo = true, x.echo || echo
	x.kickLocked()
}

// expire implements [expirer]: it is time for a roll, or to ask once more.
func (x *exchange) expire(now time.Time) time.Time {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	if x.ended {
		return time.Time{}
	}
	if !now.Before(x.rolls) {
		x.heard.turn()
		x.rolls = now.Add(spread(rollTime, 0.1))
		x.rollLocked(false)
	}
	next := x.rolls
	for _, node := range x.heard.missing() {
		x.tell.cluster.send(node, presenceAsk, []byte(x.topic.name))
		next = earlier(next, now.Add(askTime))
	}
	return next
}

// kickLocked has somebody tell what there is to tell.
func (x *exchange) kickLocked() {
	if x.ended && x.say.number == 0 {
		return // nobody has heard of anybody here
	}
	if !x.busy && (x.ended || x.roll || len(x.owed) > 0 || x.say.waits()) {
		x.busy = x.tell.run(x.tellLoop)
	}
}

// errand is what one turn of tellLoop has to tell.
type errand struct {
	news  []*tidings // to all
	state []*tidings
	to    []string // who gets the state
}

// tellLoop tells until nothing is left. There is one at a time, so that changes are
// told in their order.
func (x *exchange) tellLoop() {
	for {
		e, ok := x.next()
		for _, t := range e.news {
			if !x.tell.publish(x.topic.broker, x.topic.name, t) {
				x.failed()
			}
		}
		for _, t := range e.state {
			for _, node := range e.to {
				x.tell.answer(node, x.topic.name, t)
			}
		}
		if !ok {
			return
		}
	}
}

// next takes what there is to tell; not ok means that this was the last.
func (x *exchange) next() (e errand, ok bool) {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	if x.ended {
		if x.say.number > 0 {
			e.news = []*tidings{x.say.bye()}
		}
		return e, false // busy for good
	}
	e.news = x.say.take()
	if x.roll && (x.say.number > 0 || x.echo) {
		e.news = append(e.news, x.say.roll(x.echo))
	}
	if len(x.owed) > 0 && !x.tell.cluster.cutOff() {
		e.state, e.to, x.owed = x.say.state(x.mine()), x.owed, nil
	}
	x.roll, x.echo = false, false
	x.busy = len(e.news)+len(e.to) > 0
	return e, x.busy
}

// failed notes that something could not be told: a roll says so, before long.
func (x *exchange) failed() {
	x.topic.mu.Lock()
	defer x.topic.mu.Unlock()
	if !x.ended {
		x.rolls = earlier(x.rolls, time.Now().Add(askTime))
		x.tell.wheel.schedule(&x.entry, x, x.rolls)
	}
}
