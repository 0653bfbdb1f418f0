package redis

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/seed-58bc6ac1/realtime"
)

// publishID tells one publish from all others, also where two have the same offset
// because a failover lost the first.
type publishID [16]byte

// ids makes publish ids: eight random bytes of this node, and a counter.
type ids struct {
	base [8]byte
	last atomic.Uint64
}

func newIDs() *ids {
	i := &ids{}
	rand.Read(i.base[:])
	return i
}

func (i *ids) next() (id publishID) {
	copy(id[:], i.base[:])
	binary.BigEndian.PutUint64(id[8:], i.last.Add(1))
	return id
}

// node names the node in channels.
func (i *ids) node() string { return hex.EncodeToString(i.base[:]) }

// body is what is stored and published of e: the id and the event.
func body(id publishID, e *realtime.Event) (string, error) {
	b, err := e.AppendBinary(append(make([]byte, 0, 64+len(e.Name)+len(e.Data)), id[:]...))
	return string(b), err
}

// arrival is an event on its way in.
type arrival struct {
	epoch  string // "" on a plain topic
	offset uint64
	id     publishID
	before publishID       // that of the event before it, zero if it is not known
	event  []byte          // encoded
	own    *realtime.Event // what this node published, instead
	gap    bool            // no event, but the news that others may be missing
}

var errRecord = errors.New("not a message of a broker")

// The first byte of a message says what it is.
const (
	plainMessage  = 'p' // then the body
	gapMessage    = 'g' // then nothing: a node could not publish something
	streamMessage = 'h' // then epoch, space, offset, space, id of the event before, body
)

// parseMessage reads what came on a topic's channel.
func parseMessage(text string) (a arrival, err error) {
	if text == "" {
		return a, errRecord
	}
	kind, rest := text[0], text[1:]
	if text == string(gapMessage) {
		return arrival{gap: true}, nil
	}
	if kind == streamMessage {
		epoch, after, _ := strings.Cut(rest, " ")
		number, after, ok := strings.Cut(after, " ")
		if a.offset, err = strconv.ParseUint(number, 10, 64); err != nil || !ok || epoch == "" || a.offset == 0 || len(after) < len(a.before) {
			return a, errRecord
		}
		copy(a.before[:], after)
		a.epoch, rest = epoch, after[len(a.before):]
	} else if kind != plainMessage {
		return a, errRecord
	}
	return a, a.setBody(rest)
}

func (a *arrival) setBody(text string) error {
	if len(text) < len(a.id) {
		return errRecord
	}
	copy(a.id[:], text)
	a.event = []byte(text[len(a.id):])
	return nil
}

// decode returns the event.
func (a *arrival) decode(topic string) (*realtime.Event, error) {
	e := a.own
	if e == nil {
		e = &realtime.Event{Topic: topic}
		if err := e.UnmarshalBinary(a.event); err != nil {
			return nil, err
		}
	}
	e.Offset, e.Epoch = a.offset, a.epoch
	return e, nil
}
