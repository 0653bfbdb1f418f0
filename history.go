package realtime

import (
	"encoding/json"
	"sync/atomic"
	"time"
)

// Event is one published event on its way from the publisher through the broker
// to the members. It is not changed once the broker has it.
type Event struct {
	Topic  string
	Name   string
	Data   json.RawMessage // valid JSON
	Binary bool            // Data is the base64 string of bytes: a [Binary] was published
	keyed  bool            // key is set
	Offset uint64          // set by the broker of a topic with history, else 0
	Epoch  string          // the same
	Time   time.Time       // when it was published
	Except string          // id of the connection that does not get it, "" for none

	// Gap, if not nil, makes this no event but the news that events are missing
	// right here. Offset and Epoch are then the position after which the stream
	// goes on, and what is not named here is empty.
	Gap *Gap

	key    string // KeepLatest only
	frames [maxCodecs]atomic.Pointer[frame]
}

// Gap is a hole in a topic's stream that cannot be filled.
//
// In a topic with history the events From to To are missing, if they are of the
// epoch known until then; another epoch means that the stream began anew, and that
// nobody knows what is missing. Without history From and To are 0: events may be
// missing, any number of them.
type Gap struct{ From, To uint64 }

// Retention says how much of a topic's stream is kept. The zero value keeps
// nothing: the topic has no positions and no recovery.
type Retention struct {
	Size int           // events
	Age  time.Duration // of the oldest one
}

// Keeps reports whether anything is kept.
func (r Retention) Keeps() bool { return r.Size > 0 }

// log is the stream of one topic as far as it is kept: a ring of events with
// dense offsets. It has no lock and no clock of its own.
type log struct {
	position Position
	ring     []*Event // grows up to the retention's size
	head     int      // index of the oldest
	count    int
	touched  time.Time // when the last event came
	keep     Retention // by which it is kept, as last heard
}

// append gives e the next offset and keeps it by the rules of keep.
func (l *log) append(e *Event, keep Retention, now time.Time) {
	l.position.Offset++
	e.Offset, e.Epoch = l.position.Offset, l.position.Epoch
	l.touched = now
	l.trim(keep, now)
	if l.count == keep.Size {
		l.dropOldest()
	}
	if l.count == len(l.ring) {
		l.grow(keep.Size)
	}
	l.ring[(l.head+l.count)%len(l.ring)] = e
	l.count++
}

// grow doubles the ring, so that a thousand quiet topics do not hold a thousand
// full ones.
func (l *log) grow(most int) {
	ring := make([]*Event, min(max(4, 2*len(l.ring)), most))
	for i := range l.count {
		ring[i] = l.at(i)
	}
	l.ring, l.head = ring, 0
}

func (l *log) at(i int) *Event { return l.ring[(l.head+i)%len(l.ring)] }

func (l *log) dropOldest() {
	l.ring[l.head] = nil
	l.head = (l.head + 1) % len(l.ring)
	l.count--
}

// trim drops what is too old, or too much after the retention was lowered.
func (l *log) trim(keep Retention, now time.Time) {
	for l.count > 0 && (l.count > keep.Size || keep.Age > 0 && now.Sub(l.at(0).Time) > keep.Age) {
		l.dropOldest()
	}
	if l.count == 0 {
		l.ring, l.head = nil, 0
	}
}

// read returns up to limit events after offset, ascending.
func (l *log) read(after uint64, limit int) []*Event {
	if l.count == 0 || after >= l.position.Offset {
		return nil
	}
	oldest := l.at(0).Offset
	skip := 0
	if after >= oldest {
		skip = int(after - oldest + 1)
	}
	n := min(l.count-skip, limit)
	page := make([]*Event, max(n, 0))
	for i := range page {
		page[i] = l.at(skip + i)
	}
	return page
}
