package realtime

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// tidings are one message of a node about those of its own members who are present
// in one topic.
//
// A node numbers its changes from 1 on, for as long as it has the topic: its life.
// A later life has a greater number, and began with nobody. Who has missed a change
// asks for the state.
type tidings struct {
	kind   tidingsKind
	life   uint64
	number uint64 // of the change, or of the last one that is in it

	joins  []*entry // of a change, or a part of a state
	leaves []string // refs, of a change
	part   int      // of a state, from 0 on
	last   bool     // there are no more parts
	count  int      // of a roll: how many entries there are
	echo   bool     // of a roll: the others shall send theirs
}

// tidingsKind says what tidings are.
type tidingsKind byte

const (
	tidingsChange tidingsKind = 1 + iota
	tidingsState              // a part of all entries, as of a number
	tidingsRoll               // number and count: who knows others has missed something
	tidingsBye                // there is nobody, and the life has ended
)

// Bounds of tidings. What another node sends is checked like any other input: it may
// be of another version, or broken.
const (
	tidingsVersion = 1
	tidingsBytes   = 128 << 10        // that one message takes, about: brokers carry a megabyte at least, as base64
	maxTidings     = 2 * tidingsBytes // that are looked at
	maxEntryRef    = 64
	maxTextBytes   = maxMetaBytes + 4*maxEntryRef // with what the server adds
)

var (
	errTidings = errors.New("not presence of another node")
	errTooMuch = errors.New("more presence of another node than is kept")
)

// appendPost returns tidings of a node as the data of an event: a JSON string of
// base64, as brokers carry bytes.
func appendPost(from string, t *tidings) json.RawMessage {
	b := t.append(appendText(nil, from))
	data := make([]byte, 0, base64.StdEncoding.EncodedLen(len(b))+2)
	return append(base64.StdEncoding.AppendEncode(append(data, '"'), b), '"')
}

// parsePost is the way back.
func parsePost(data json.RawMessage) (from string, t *tidings, err error) {
	if len(data) < 2 || len(data) > base64.StdEncoding.EncodedLen(maxTidings) {
		return "", nil, errTidings
	}
	b, err := base64.StdEncoding.AppendDecode(nil, data[1:len(data)-1])
	if err != nil {
		return "", nil, errTidings
	}
	from, b, ok := cutText(b)
	if !ok || !isNodeID(from) {
		return "", nil, errTidings
	}
	t, err = decodeTidings(b)
	return from, t, err
}

// append appends the encoded form.
func (t *tidings) append(b []byte) []byte {
	b = append(b, tidingsVersion, byte(t.kind))
	b = binary.AppendUvarint(b, t.life)
	b = binary.AppendUvarint(b, t.number)
	switch t.kind {
	case tidingsChange:
		b = binary.AppendUvarint(b, uint64(len(t.leaves)))
		for _, ref := range t.leaves {
			b = appendText(b, ref)
		}
		b = appendEntryCodes(b, t.joins)
	case tidingsState:
		b = binary.AppendUvarint(b, uint64(t.part))
		b = appendEntryCodes(append(b, flag(t.last)), t.joins)
	case tidingsRoll:
		b = append(binary.AppendUvarint(b, uint64(t.count)), flag(t.echo))
	}
	return b
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func appendEntryCodes(b []byte, entries []*entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		b = appendText(appendText(appendText(b, e.key), e.ref), string(e.text))
	}
	return b
}

// decodeTidings returns what append has encoded. It keeps no part of b.
func decodeTidings(b []byte) (*tidings, error) {
	if len(b) < 2 || len(b) > maxTidings || b[0] != tidingsVersion {
		return nil, errTidings
	}
	c := tidingsCode{rest: b[2:]}
	t := &tidings{kind: tidingsKind(b[1]), life: c.number(), number: c.number()}
	switch t.kind {
	case tidingsChange:
		for n := c.length(1); n > 0 && !c.bad; n-- {
			t.leaves = append(t.leaves, c.ref())
		}
		t.joins = c.entries()
	case tidingsState:
		t.part, t.last = c.length(0), c.flag()
		t.joins = c.entries()
	case tidingsRoll:
		t.count, t.echo = c.length(0), c.flag()
	case tidingsBye:
	default:
		return nil, errTidings
	}
	if c.bad || len(c.rest) > 0 {
		return nil, errTidings
	}
	return t, nil
}

// decodeEntries returns what appendEntryCodes has encoded. It keeps no part of b.
func decodeEntries(b []byte) ([]*entry, error) {
	c := tidingsCode{rest: b}
	es := c.entries()
	if len(b) > maxTidings || c.bad || len(c.rest) > 0 {
		return nil, errTidings
	}
	return es, nil
}

// tidingsCode is what is left of an encoded form.
type tidingsCode struct {
	rest []byte
	bad  bool
}

func (c *tidingsCode) number() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// length returns a number of things that take at least size bytes each, all of which
// must be there; with size 0 any number that a node may have.
func (c *tidingsCode) length(size int) int {
	v := c.number()
	if v > 1<<31-1 || size > 0 && v > uint64(len(c.rest)/size) {
		c.bad = true
		return 0
	}
	return int(v)
}

func (c *tidingsCode) flag() bool { return c.length(0) == 1 }

func (c *tidingsCode) text(most int) string {
	s, rest, ok := cutText(c.rest)
	if !ok || len(s) > most {
		c.bad = true
		return ""
	}
	c.rest = rest
	return s
}

func (c *tidingsCode) ref() string {
	ref := c.text(maxEntryRef)
	c.bad = c.bad || ref == ""
	return ref
}

func (c *tidingsCode) entries() []*entry {
	n := c.length(3)
	var es []*entry
	for ; n > 0 && !c.bad; n-- {
		e := &entry{key: c.text(maxKeyBytes), ref: c.ref(), text: json.RawMessage(c.text(maxTextBytes))}
		c.bad = c.bad || e.key == "" || !utf8.ValidString(e.key) || !isMeta(e.text)
		es = append(es, e)
	}
	return es
}

// isMeta reports whether text can stand in a state: anything else would break the
// message of every member.
func isMeta(text json.RawMessage) bool {
	return bytes.HasPrefix(text, []byte("{")) && isJSON(text)
}
