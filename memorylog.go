package realtime

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
)

const (
	// memoryHistory is how many of the newest messages the log in memory keeps
	// in any case (document.md section 12.1).
	memoryHistory = 1000

	// maxLogPage bounds the bytes of one page of messages.
	maxLogPage = 4 << 20

	// logBlock is how many messages are copied at most when the log grows: 96 KiB.
	logBlock = 1024
)

// memoryLog is the log of a single node that forgets everything with its
// process.
type memoryLog struct {
	mu        sync.RWMutex // guards the following
	documents map[DocumentID]*documentLog
}

// documentLog is the log of one document. Its numbers have no gap, so a message
// is found by its number.
type documentLog struct {
	mu     sync.RWMutex // guards the following
	head   LogHead
	blocks [][]SequencedMessage // logBlock each, the last one at most
	base   int64                // number of the first message in blocks
	oldest int64                // number of the first message kept, base or later
}

// NewMemoryLog returns a log in memory. It drops a message once it is older than
// the newest 1,000 and part of the last but one acknowledged summary, since then
// nobody who loads the document can ask for it. Without summaries it grows; a
// host that cannot have that calls Trim, and documents can then only be loaded by
// clients that have what is missing.
func NewMemoryLog() OpLog {
	return &memoryLog{documents: map[DocumentID]*documentLog{}}
}

// Append implements [OpLog].
func (l *memoryLog) Append(ctx context.Context, id DocumentID, messages []SequencedMessage) error {
	if err := ctx.Err(); err != nil || len(messages) == 0 {
		return err
	}
	effects := make([]LogEffect, len(messages))
	for i, m := range messages {
		var err error
		if effects[i], err = m.Effect(); err != nil {
			return err
		}
	}
	return l.find(id, true).append(messages, effects)
}

// Read implements [OpLog].
func (l *memoryLog) Read(ctx context.Context, id DocumentID, after, to int64, limit int) ([]SequencedMessage, error) {
	d := l.find(id, false)
	if err := ctx.Err(); err != nil || d == nil {
		return nil, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.readLocked(after, to, limit), nil
}

// Head implements [OpLog].
func (l *memoryLog) Head(ctx context.Context, id DocumentID) (LogHead, error) {
	d := l.find(id, false)
	if err := ctx.Err(); err != nil || d == nil {
		return LogHead{}, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	head := d.head
	head.Open = slices.Clone(head.Open)
	return head, nil
}

// Trim implements [OpLog].
func (l *memoryLog) Trim(ctx context.Context, id DocumentID, below int64) error {
	d := l.find(id, false)
	if err := ctx.Err(); err != nil || d == nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trimLocked(below)
	return nil
}

// find returns the log of a document, nil if there is none and none is to be made.
func (l *memoryLog) find(id DocumentID, create bool) *documentLog {
	l.mu.RLock()
	d := l.documents[id]
	l.mu.RUnlock()
	if d != nil || !create {
		return d
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d = l.documents[id]; d == nil {
		d = &documentLog{base: 1, oldest: 1}
		l.documents[id] = d
	}
	return d
}

func (d *documentLog) append(messages []SequencedMessage, effects []LogEffect) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, m := range messages {
		if m.SequenceNumber != d.head.SequenceNumber+1+int64(i) {
			return ErrSequenceTaken
		}
	}
	if d.head.Epoch == "" {
		d.head.Epoch = rand.Text()[:12]
	}
	for i, m := range messages {
		d.addLocked(m)
		d.applyLocked(effects[i])
	}
	if covered := d.head.Summaries[1].Covered; covered > 0 {
		d.trimLocked(min(covered, d.head.SequenceNumber-memoryHistory) + 1)
	}
	return nil
}

func (d *documentLog) addLocked(m SequencedMessage) {
	d.head.SequenceNumber, d.head.MinimumSequenceNumber = m.SequenceNumber, m.MinimumSequenceNumber
	last := len(d.blocks) - 1
	if last < 0 || len(d.blocks[last]) == logBlock {
		d.blocks = append(d.blocks, nil)
		last++
	}
	d.blocks[last] = append(d.blocks[last], m)
}

func (d *documentLog) applyLocked(e LogEffect) {
	if gone := e.Joined + e.Left; gone != "" { // one of them is ""
		d.head.Open = slices.DeleteFunc(d.head.Open, func(id string) bool { return id == gone })
	}
	if e.Joined != "" {
		d.head.Open = append(d.head.Open, e.Joined)
	}
	if e.Summary.Handle != "" {
		if m := d.atLocked(e.Summary.SequenceNumber); m != nil {
			e.Summary.Covered = m.ReferenceSequenceNumber
		}
		d.head.Summaries = [2]SummaryMark{e.Summary, d.head.Summaries[0]}
	}
}

// atLocked returns the message with a number, nil if it is not there.
func (d *documentLog) atLocked(number int64) *SequencedMessage {
	if number < d.oldest || number > d.head.SequenceNumber {
		return nil
	}
	at := number - d.base
	return &d.blocks[at/logBlock][at%logBlock]
}

func (d *documentLog) readLocked(after, to int64, limit int) []SequencedMessage {
	if to < 0 || to > d.head.SequenceNumber {
		to = d.head.SequenceNumber
	}
	after = max(after, d.oldest-1)
	if after >= to || limit < 1 {
		return nil
	}
	first := after + 1
	page := make([]SequencedMessage, 0, min(int64(limit), to-first+1, logBlock))
	size := 0
	for number := first; number <= to && len(page) < limit; number++ {
		m := d.atLocked(number)
		if size += len(m.JSON); size > maxLogPage && len(page) > 0 {
			break
		}
		page = append(page, *m)
	}
	return page
}

// trimLocked drops the messages below a number: whole blocks, and in the first
// one that stays what they refer to.
func (d *documentLog) trimLocked(below int64) {
	below = min(below, d.head.SequenceNumber+1)
	for len(d.blocks) > 0 && d.base+int64(len(d.blocks[0])) <= below {
		d.base += int64(len(d.blocks[0]))
		d.blocks[0] = nil
		d.blocks = d.blocks[1:]
	}
	for d.oldest = max(d.oldest, d.base); d.oldest < below; d.oldest++ {
		*d.atLocked(d.oldest) = SequencedMessage{}
	}
}
