package redis

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/seed-58bc6ac1/realtime"
)

// notice is what one step published. Its text is a line
//
//	BORN NUMBER AFTER ORIGIN STEP
//
// and then the news, each a head and what is in it. All are lines with lengths,
// followed by that many bytes:
//
//	g JOINED LEFT                          a news, and who came or left with it
//	m MSN CSN RSN TIME AUTHOR TYPE JSON    a message; the last three have bytes
//	r                                      a message too long to be published
//	s FROM DATA                            a signal
//
// The first message has the number AFTER + 1.
type notice struct {
	born   string // the document's birth: what is born anew is another document
	number int64
	after  int64 // the document's newest message before
	step   stepName
	news   []*realtime.DocumentNews
	sn     int64 // the newest message now
	short  bool  // messages are missing: those without JSON
	bytes  int   // about what it costs to keep
}

// stepName names one step of one node.
type stepName struct{ origin, count string }

// errNotice is about bytes that no script of ours has written.
var errNotice = errors.New("redis: not a notice of a document")

// maxWhole bounds every number: Redis's scripts count in floats.
const maxWhole = 1 << 53

func readNotice(text string) (*notice, error) {
	head, rest, ok := strings.Cut(text, "\n")
	fields := strings.Split(head, " ")
	if !ok || len(fields) != 5 {
		return nil, errNotice
	}
	n := &notice{born: fields[0], step: stepName{fields[3], fields[4]}, bytes: len(text)}
	var err [2]error
	n.number, err[0] = readWhole(fields[1])
	n.after, err[1] = readWhole(fields[2])
	if err[0] != nil || err[1] != nil || n.number < 1 || n.after < 0 || n.born == "" {
		return nil, errNotice
	}
	items := itemReader{rest: []byte(rest), sn: n.after}
	for len(items.rest) > 0 {
		if !items.next() {
			return nil, errNotice
		}
	}
	n.news, n.sn, n.short = items.news, items.sn, items.short
	return n, nil
}

func readWhole(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && (n > maxWhole || n < -maxWhole) {
		err = errNotice
	}
	return n, err
}

// itemReader reads the items of notices and records. What it returns shares its bytes.
type itemReader struct {
	rest  []byte
	sn    int64 // of the last message
	news  []*realtime.DocumentNews
	short bool
}

// next reads one item, false if it is none.
func (r *itemReader) next() bool {
	line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
	if !ok || len(line) == 0 || len(line) > 200 {
		return false
	}
	r.rest = rest
	kind, numbers, ok := readLine(string(line))
	if !ok || kind != 'g' && len(r.news) == 0 {
		return false
	}
	switch {
	case kind == 'g' && len(numbers) == 2:
		return r.begin(numbers[0], numbers[1])
	case kind == 'm' && len(numbers) == 7:
		return r.message(numbers)
	case kind == 'r' && len(numbers) == 0:
		r.short = true
		r.add(realtime.SequencedMessage{})
		return true
	case kind == 's' && len(numbers) == 2:
		return r.signal(numbers[0], numbers[1])
	}
	return false
}

// readLine reads the kind of an item and its numbers.
func readLine(line string) (kind byte, numbers []int64, ok bool) {
	fields := strings.Split(line, " ")
	if len(fields[0]) != 1 {
		return 0, nil, false
	}
	for _, f := range fields[1:] {
		n, err := readWhole(f)
		if err != nil {
			return 0, nil, false
		}
		numbers = append(numbers, n)
	}
	return fields[0][0], numbers, true
}

// take returns the next n bytes.
func (r *itemReader) take(n int64) (b []byte, ok bool) {
	if n < 0 || n > int64(len(r.rest)) {
		return nil, false
	}
	b, r.rest = r.rest[:n:n], r.rest[n:]
	return b, true
}

func (r *itemReader) begin(joined, left int64) bool {
	came, ok1 := r.take(joined)
	went, ok2 := r.take(left)
	r.news = append(r.news, &realtime.DocumentNews{Joined: string(came), Left: string(went)})
	return ok1 && ok2
}

func (r *itemReader) message(n []int64) bool {
	author, ok1 := r.take(n[4])
	kind, ok2 := r.take(n[5])
	json, ok3 := r.take(n[6])
	if !ok1 || !ok2 || !ok3 || len(json) == 0 {
		return false
	}
	r.add(realtime.SequencedMessage{MinimumSequenceNumber: n[0], ClientSequenceNumber: n[1], ReferenceSequenceNumber: n[2],
		Timestamp: n[3], ClientID: string(author), Type: string(kind), JSON: json})
	return true
}

func (r *itemReader) add(m realtime.SequencedMessage) {
	r.sn++
	m.SequenceNumber = r.sn
	last := r.news[len(r.news)-1]
	last.Messages = append(last.Messages, m)
}

func (r *itemReader) signal(from, data int64) bool {
	last := r.news[len(r.news)-1]
	author, ok1 := r.take(from)
	signal, ok2 := r.take(data)
	last.From, last.Signal = string(author), signal
	return ok1 && ok2
}

// messages are all that the notice tells of, one after the other.
func (n *notice) messages() (all []realtime.SequencedMessage) {
	for _, news := range n.news {
		all = append(all, news.Messages...)
	}
	return all
}

// record is one message as it is in the stream.
type record struct {
	step stepName
	news *realtime.DocumentNews // with this message alone, and who came or left with it
}

func (r *record) message() *realtime.SequencedMessage { return &r.news.Messages[0] }

// readRecord reads an entry of the stream: its head is "NUMBER-0 ORIGIN STEP".
func readRecord(head, text string) (record, error) {
	fields := strings.Split(head, " ")
	if len(fields) != 3 {
		return record{}, errNotice
	}
	number, ok := strings.CutSuffix(fields[0], "-0")
	sn, err := readWhole(number)
	if err != nil || !ok || sn < 1 {
		return record{}, errNotice
	}
	items := itemReader{rest: []byte(text), sn: sn - 1}
	for range 2 { // the head of the news, and the message
		if !items.next() {
			return record{}, errNotice
		}
	}
	if len(items.rest) > 0 || len(items.news) != 1 || items.short || items.sn != sn {
		return record{}, errNotice
	}
	return record{stepName{fields[1], fields[2]}, items.news[0]}, nil
}
