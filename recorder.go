package realtime

import (
	"fmt"
	"sync"
	"time"
)

// recorder keeps the last protocol events of one connection, without payloads,
// for the log of an abnormal end: what the client did before it.
type recorder struct {
	mu    sync.Mutex // guards the following
	notes []note     // a ring once it is full
	next  int        // where the ring goes on
	since time.Time
}

type note struct {
	what noteKind
	name string // of a fixed set: a handler's event, a code, a pattern
	n    int
	at   time.Duration
}

type noteKind uint8

const (
	noteMessage noteKind = iota
	noteJoined
	noteLeft
	noteError
	notePing
	noteSilent
	noteClosed
	noteAuth
	noteGap
)

var noteNames = [...]string{"message", "joined", "left", "error", "ping", "silent", "peer closed", "auth", "gap"}

// maxNotes is how far back the recorder reaches: a page in a log, 1.5 KB in
// memory, and none of it for a connection that does little.
const maxNotes = 32

func (r *recorder) add(what noteKind, name string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.since.IsZero() {
		r.since = now
	}
	one := note{what, name, n, now.Sub(r.since)}
	if len(r.notes) < maxNotes {
		r.notes = append(r.notes, one)
		return
	}
	r.notes[r.next] = one
	r.next = (r.next + 1) % maxNotes
}

// list returns the notes in words, the oldest first.
func (r *recorder) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	words := make([]string, 0, len(r.notes))
	for i := range r.notes {
		one := r.notes[(r.next+i)%len(r.notes)]
		text := fmt.Sprintf("+%v %s", one.at.Round(time.Millisecond), noteNames[one.what])
		if one.name != "" {
			text += " " + one.name
		}
		if one.n != 0 {
			text += fmt.Sprintf(" %d", one.n)
		}
		words = append(words, text)
	}
	return words
}
