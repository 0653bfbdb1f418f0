package main

import (
	"fmt"
	"sync"
)

// ledger is what all clients of the fault run have seen of the history topics, held
// against each other.
type ledger struct {
	mu      sync.Mutex // guards the following
	texts   map[place]string
	placed  map[string]place  // where an event's id was seen
	acked   map[string]string // id -> topic, of events whose publish was acknowledged
	reloads map[string]int    // topic -> how often anybody was told that it began anew
	verdict
}

// place is a position in a topic's stream.
type place struct {
	topic  string
	epoch  string
	offset uint64
}

// verdict is what was found. The first four have to be 0.
type verdict struct {
	losses     int // events that a client should have got, and was not told of
	duplicates int // offsets that came twice, and ids with two offsets
	disorders  int // offsets that went back, and epochs that changed in silence
	differing  int // offsets that were not the same event for everybody
	events     int // deliveries that were looked at
	gaps       int // gaps told
	told       int // events in them
	reloads    int // told
	examples   []string
}

func newLedger() *ledger {
	return &ledger{texts: map[place]string{}, placed: map[string]place{}, acked: map[string]string{}, reloads: map[string]int{}}
}

// wrong notes a finding, the first of them in words.
func (v *verdict) wrong(count *int, by int, format string, args ...any) {
	*count += by
	if len(v.examples) < 20 {
		v.examples = append(v.examples, fmt.Sprintf(format, args...))
	}
}

// bad is how many findings there are.
func (v *verdict) bad() int { return v.losses + v.duplicates + v.disorders + v.differing }

// reading is one client's view of one topic. Its methods are called in the order in
// which the client sees things.
type reading struct {
	ledger *ledger
	who    string
	topic  string
	epoch  string
	offset uint64 // of the last that was seen, or told to be missing
	begun  bool
}

// starts is a subscription that was answered with fresh.
func (r *reading) starts(epoch string, offset uint64) {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.begun {
		l.wrong(&l.disorders, 1, "%s: %s: a fresh start for one who was at %d", r.who, r.topic, r.offset)
	}
	r.epoch, r.offset, r.begun = epoch, offset, true
}

// continues is a subscription that was answered with complete or replayed.
func (r *reading) continues(epoch string, offset uint64, complete bool) {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case epoch != r.epoch:
		l.wrong(&l.disorders, 1, "%s: %s: recovered in epoch %s, was in %s", r.who, r.topic, epoch, r.epoch)
	case complete && offset != r.offset:
		l.wrong(&l.losses, 1, "%s: %s: told that nothing was missed at %d, was at %d", r.who, r.topic, offset, r.offset)
	}
}

// reload is the news that the stream began anew, or that the past cannot be had.
func (r *reading) reload(epoch string, offset uint64) {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.verdict.reloads++
	l.reloads[r.topic]++
	r.epoch, r.offset, r.begun = epoch, offset, true
}

// gap is the news that events are missing.
func (r *reading) gap(from, to uint64) {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps++
	switch {
	case to <= r.offset:
		l.wrong(&l.disorders, 1, "%s: %s: a gap %d-%d after %d", r.who, r.topic, from, to, r.offset)
		return
	case from > r.offset+1:
		l.wrong(&l.losses, int(from-r.offset-1), "%s: %s: a gap from %d on after %d", r.who, r.topic, from, r.offset)
	}
	l.told += int(to - r.offset)
	r.offset = to
}

// event is an event.
func (r *reading) event(offset uint64, id string) {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events++
	switch {
	case offset == r.offset:
		l.wrong(&l.duplicates, 1, "%s: %s: %d twice", r.who, r.topic, offset)
	case offset < r.offset:
		l.wrong(&l.disorders, 1, "%s: %s: %d after %d", r.who, r.topic, offset, r.offset)
	case offset > r.offset+1:
		l.wrong(&l.losses, int(offset-r.offset-1), "%s: %s: %d after %d", r.who, r.topic, offset, r.offset)
	}
	r.offset = max(r.offset, offset)
	l.placeLocked(place{r.topic, r.epoch, offset}, id, r.who)
}

// placeLocked holds an event against what others have seen.
func (l *ledger) placeLocked(at place, id, who string) {
	if known, ok := l.texts[at]; ok && known != id {
		l.wrong(&l.differing, 1, "%s: %s: %d is %s, and %s for others", who, at.topic, at.offset, id, known)
	}
	l.texts[at] = id
	if known, ok := l.placed[id]; ok && known != at {
		l.wrong(&l.duplicates, 1, "%s: %s is at %v and at %v", who, id, known, at)
	}
	l.placed[id] = at
}

// ack notes that the publish of an event was acknowledged.
func (l *ledger) ack(topic, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[id] = topic
}

// close holds what was acknowledged against what was seen. newest is where each topic
// ends, as the server says; every reading has to be there.
func (l *ledger) close(readings []*reading, newest map[string]place) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range readings {
		at := newest[r.topic]
		if r.epoch != at.epoch {
			l.wrong(&l.disorders, 1, "%s: %s: at the end in epoch %s, which is %s", r.who, r.topic, r.epoch, at.epoch)
		} else if r.offset < at.offset {
			l.wrong(&l.losses, int(at.offset-r.offset), "%s: %s: ends at %d of %d", r.who, r.topic, r.offset, at.offset)
		}
	}
	for id, topic := range l.acked {
		// Of a topic that began anew everybody was told that the past is gone.
		if _, ok := l.placed[id]; !ok && l.reloads[topic] == 0 {
			l.wrong(&l.losses, 1, "%s: %s was acknowledged, and nobody has it", topic, id)
		}
	}
	return l.verdict
}

// at returns where the reading is.
func (r *reading) at() place {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return place{r.topic, r.epoch, r.offset}
}
