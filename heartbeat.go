package realtime

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// wheelTick is how late an entry may fire. Heartbeats are counted in
	// seconds, so a tenth of one is exact enough, and ten wake-ups a second are
	// the most that a server pays for all its connections together.
	wheelTick = 100 * time.Millisecond

	// wheelSlots makes a turn of 51.2 s, longer than the 25 s between pings, so
	// that a heartbeat is looked at only when it is due. A deadline further away
	// is passed over once per turn: 70 times an hour.
	wheelSlots = 512
)

// expirer is asked when its time has come. It returns when it wants to be asked
// again, the zero time for never.
//
// expire runs on the wheel's goroutine, so one that waits delays every other
// entry. No lock of the wheel is held: it may schedule and cancel entries, its
// own included.
type expirer interface {
	expire(now time.Time) (next time.Time)
}

// wheelEntry is one deadline. It is embedded in what owns it, so that to
// schedule does not allocate; the zero value is idle. It must not be copied
// while scheduled. The wheel's lock guards it.
type wheelEntry struct {
	next  *wheelEntry
	prev  **wheelEntry // the pointer that points here, nil while idle
	owner expirer
	due   int64 // in ticks since the wheel's base
}

// wheel is one timer for all deadlines of a server. An entry fires never before
// its time and at most one tick after it, as long as no expire dawdles.
//
// Deadlines are meant to be lazy: activity does not touch the wheel, and the
// owner, asked in the end, says when the next look is due.
//
// The wheel has one goroutine while it has entries and none otherwise. A wheel
// may be made outside a testing/synctest bubble and used inside one: the clock
// is not read, and no channel made, before the first entry.
type wheel struct {
	mu    sync.Mutex // guards the following and all entries
	idle  sync.Cond  // broadcast after each expire
	slots [wheelSlots]*wheelEntry
	visit *wheelEntry // what is left of the slot that the goroutine has in hand
	count int         // entries in slots and in visit

	running *wheelEntry // its expire runs now
	runs    uint64      // how many have run: tells one run of an entry from the next
	touched bool        // running was scheduled or cancelled meanwhile

	base    time.Time     // when tick 0 was; set when the goroutine starts
	done    int64         // the last tick whose slot was emptied
	wake    int64         // the tick until which the goroutine sleeps; before done while it is awake
	kick    chan struct{} // ends its sleep
	exited  chan struct{} // closed when it ends; nil before the first start
	alive   bool
	stopped bool
}

func newWheel() *wheel {
	w := new(wheel)
	w.idle.L = &w.mu
	return w
}

// schedule asks owner once at has come, in place of any earlier appointment of
// e. A time in the past means the next tick. It does not block.
//
// While e's expire runs, schedule and cancel beat the time that it returns. at
// should carry a monotonic reading, as time.Now().Add does; one without moves
// with adjustments of the wall clock. After stop it does nothing.
func (w *wheel) schedule(e *wheelEntry, owner expirer, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.unlinkLocked(e)
	if e == w.running {
		w.touched = true
	}
	if !w.alive {
		w.startLocked()
	}
	e.owner = owner
	w.placeLocked(e, at)
	if e.due < w.wake {
		w.kickLocked()
	}
}

// cancel makes e idle. When it returns, e's expire is not running and will not
// run, unless e is scheduled anew: it waits for one that runs. So the caller
// must hold no lock that expire takes, and must not be an expire itself.
func (w *wheel) cancel(e *wheelEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlinkLocked(e)
	if w.count == 0 && w.alive {
		w.kickLocked() // there is nothing left to sleep for
	}
	if e != w.running {
		return
	}
	w.touched = true
	for run := w.runs; w.running == e && w.runs == run; {
		w.idle.Wait()
	}
}

// stop makes all entries idle, for good, and waits for the goroutine and the
// expire that it may be in.
func (w *wheel) stop() {
	w.mu.Lock()
	w.stopped = true
	exited := w.exited
	if w.alive {
		w.kickLocked()
	}
	w.mu.Unlock()
	if exited != nil {
		<-exited
	}
}

// placeLocked links e, which must be idle, into the slot of its time.
func (w *wheel) placeLocked(e *wheelEntry, at time.Time) {
	since := at.Sub(w.base)
	e.due = int64(since / wheelTick)
	if since%wheelTick > 0 {
		e.due++ // never early
	}
	e.due = max(e.due, w.done+1)
	w.linkLocked(e)
}

func (w *wheel) linkLocked(e *wheelEntry) {
	head := &w.slots[e.due%wheelSlots]
	e.next, e.prev = *head, head
	if e.next != nil {
		e.next.prev = &e.next
	}
	*head = e
	w.count++
}

func (w *wheel) unlinkLocked(e *wheelEntry) {
	if e.prev == nil {
		return
	}
	*e.prev = e.next
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.next, e.prev = nil, nil
	w.count--
}

func (w *wheel) kickLocked() {
	select {
	case w.kick <- struct{}{}:
	default: // one is waiting already
	}
}

func (w *wheel) startLocked() {
	w.base, w.done, w.wake = time.Now(), 0, -1
	w.kick, w.exited = make(chan struct{}, 1), make(chan struct{})
	w.alive = true
	go w.runLoop(w.kick, w.exited)
}

// runLoop fires entries until there are none left.
func (w *wheel) runLoop(kick <-chan struct{}, exited chan<- struct{}) {
	defer close(exited)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.fireDue()
		wait, ok := w.sleep()
		if !ok {
			return
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-kick:
		}
	}
}

// sleep says how long nothing will be due; not ok means that the goroutine has
// to end.
func (w *wheel) sleep() (wait time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.count == 0 {
		w.alive = false
		w.clearLocked()
		return 0, false
	}
	w.wake = w.done + 1
	for w.slots[w.wake%wheelSlots] == nil {
		w.wake++ // ends: count is not 0 and visit is empty
	}
	return time.Until(w.base.Add(time.Duration(w.wake) * wheelTick)), true
}

// clearLocked unlinks everything, so that no connection keeps another in memory.
func (w *wheel) clearLocked() {
	for w.visit != nil {
		w.unlinkLocked(w.visit)
	}
	for i := range w.slots {
		for w.slots[i] != nil {
			w.unlinkLocked(w.slots[i])
		}
	}
}

// fireDue empties the slots of all ticks that have passed. After a long pause
// that is one turn at most.
func (w *wheel) fireDue() {
	w.mu.Lock()
	w.wake = -1
	now := int64(time.Since(w.base) / wheelTick)
	for t := max(w.done+1, now-wheelSlots+1); t <= now && !w.stopped; t++ {
		w.done = t // what is scheduled from here on goes into later slots
		w.takeLocked(&w.slots[t%wheelSlots])
		for w.visit != nil && !w.stopped {
			w.stepLocked(t)
		}
	}
	w.mu.Unlock()
}

// takeLocked moves a slot's whole list to visit, in one step however long it is.
func (w *wheel) takeLocked(slot **wheelEntry) {
	w.visit, *slot = *slot, nil
	if w.visit != nil {
		w.visit.prev = &w.visit
	}
}

// stepLocked deals with the first entry of visit. It lets go of the lock for a
// moment even if there is nothing to fire, so that nobody waits for a long list.
func (w *wheel) stepLocked(tick int64) {
	e := w.visit
	w.unlinkLocked(e)
	if e.due > tick { // a later turn
		w.linkLocked(e)
		w.mu.Unlock()
		w.mu.Lock()
		return
	}
	w.running, w.touched = e, false
	owner := e.owner
	w.mu.Unlock()

	next := owner.expire(time.Now())

	w.mu.Lock()
	w.running = nil
	w.runs++
	if !w.touched && !next.IsZero() {
		w.placeLocked(e, next)
	}
	w.idle.Broadcast()
}

// spread returns interval changed by a random part of at most part in either
// direction: spread(25*time.Second, 0.1) lies between 22.5 s and 27.5 s. Connections
// that came at the same moment, after a restart say, do not beat together then.
func spread(interval time.Duration, part float64) time.Duration {
	return interval + time.Duration(float64(interval)*part*(2*rand.Float64()-1))
}
