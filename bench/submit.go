package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// Clients of documents: they submit ops, see those of all, and look whether the
// numbers have a gap.

// documentSecret signs the tokens for documents: the load makes them, the server
// checks them.
const documentSecret = "bench-secret-of-the-one-tenant"

// What a member of document {topic} says, in Phoenix's V2.
const (
	joinDocument    = `["1","1","document:bench:{topic}","phx_join",{}]`
	connectDocument = `["1","2","document:bench:{topic}","connect_document",{"tenantId":"bench","id":"{topic}","token":"{token}",` +
		`"client":{"mode":"write","details":{"capabilities":{"interactive":true}},"permission":[],"user":{"id":""},"scopes":[]},` +
		`"mode":"write","versions":["^0.4.0","^0.3.0","^0.2.0","^0.1.0"]}]`
	submission = `["1","3","document:bench:{topic}","submitOp",{"clientId":{client},"messageBatches":[[{ops}]]}]`

	// The numbers are written into the frame; JSON allows for blanks before them.
	oneOp = `{"clientSequenceNumber":            ,"referenceSequenceNumber":            ,"type":"op","contents":{payload}}`

	sequencedEvent = `[null,null,"document:bench:0","op",{"documentId":"0","op":[{ops}]}]`
	sequencedOp    = `{"clientId":"6f1f0a52-5a54-4a0a-8f0e-2c9a3a2f7c11","sequenceNumber":123456,"minimumSequenceNumber":123456,` +
		`"clientSequenceNumber":12345,"referenceSequenceNumber":123456,"type":"op","contents":{payload},"timestamp":1700000000000}`

	digits = 12
)

var (
	csnKey     = []byte(`"clientSequenceNumber":`)
	rsnKey     = []byte(`"referenceSequenceNumber":`)
	clientKey  = []byte(`{"clientId":`)
	snKey      = []byte(`,"sequenceNumber":`)
	nullClient = []byte("null")
	okStatus   = []byte(`"status":"ok"`)
	replyStart = []byte(`["1","3",`)
)

const idSize = 38 // of a UUID with its quotes

// opEventSize is the length of the event that bears so many ops.
func opEventSize(ops int) int {
	op := strings.Replace(sequencedOp, "{payload}", string(newPayload(0)), 1)
	return len(strings.Replace(sequencedEvent, "{ops}", op, 1)) + (ops-1)*(len(op)+1)
}

func documentToken(topic int) string {
	return realtimetest.FullAccessToken([]byte(documentSecret), "bench", strconv.Itoa(topic), "u1")
}

// author is a client of a document.
type author struct {
	id  []byte // with quotes
	sn  int64  // of the last message that it has seen, 0 before the first
	csn int64  // of its last op

	// A submission ready to send, but for the numbers of its ops.
	frame    []byte
	ops      int
	csnAt    int // index of the first op's numbers in frame
	rsnAt    int
	stride   int // to the next op's
	payload  int // index of the frame's payload, which the mask counts from
	returned int // own ops of the submission that is coming back
	due      int // submissions to send
}

// newAuthor reads who the client is from connect_document_success.
func newAuthor(success []byte) (*author, error) {
	at := bytes.Index(success, clientKey)
	if at < 0 || len(success) < at+len(clientKey)+idSize || success[at+len(clientKey)] != '"' {
		return nil, fmt.Errorf("no client id in %.200q", success)
	}
	at += len(clientKey)
	return &author{id: bytes.Clone(success[at : at+idSize])}, nil
}

// prepare builds the submission of so many ops.
func (a *author) prepare(topic, ops int) {
	op := strings.Replace(oneOp, "{payload}", string(newPayload(0)), 1)
	text := strings.Replace(fill(submission, topic), "{client}", string(a.id), 1)
	text = strings.Replace(text, "{ops}", strings.Repeat(op+",", ops-1)+op, 1)
	a.frame = frameOf(text)
	a.payload = len(a.frame) - len(text)
	a.csnAt = a.payload + strings.Index(text, string(csnKey)) + len(csnKey)
	a.rsnAt = a.payload + strings.Index(text, string(rsnKey)) + len(rsnKey)
	a.ops, a.stride, a.returned = ops, len(op)+1, 0
}

// next returns the frame of the next submission, good until the next call.
func (a *author) next() []byte {
	for i := range a.ops {
		a.csn++
		a.put(a.csnAt+i*a.stride, a.csn)
		a.put(a.rsnAt+i*a.stride, a.sn)
	}
	return a.frame
}

// put writes n, masked, so that it ends digits bytes behind at.
func (a *author) put(at int, n int64) {
	for i := at + digits - 1; i >= at; i-- {
		digit := byte(' ')
		if n > 0 || i == at+digits-1 {
			digit = '0' + byte(n%10)
			n /= 10
		}
		a.frame[i] = digit ^ maskKey[(i-a.payload)&3]
	}
}

// observe counts the ops in a message and checks their numbers. It reports how
// many of the author's own submissions are back with it.
func (a *author) observe(text []byte) (ops uint64, back int, err error) {
	for {
		at := bytes.Index(text, clientKey)
		if at < 0 {
			return ops, back, nil
		}
		text = text[at+len(clientKey):]
		size := idSize
		if bytes.HasPrefix(text, nullClient) {
			size = len(nullClient)
		}
		if len(text) < size || !bytes.HasPrefix(text[size:], snKey) {
			continue // a client, but no message of the document
		}
		id := text[:size]
		text = text[size+len(snKey):]
		sn := int64(0)
		for len(text) > 0 && text[0] >= '0' && text[0] <= '9' {
			sn, text = sn*10+int64(text[0]-'0'), text[1:]
		}
		if a.sn != 0 && sn != a.sn+1 {
			return ops, back, fmt.Errorf("message %d of the document came after %d", sn, a.sn)
		}
		a.sn = sn
		if size == len(nullClient) {
			continue
		}
		ops++
		if bytes.Equal(id, a.id) {
			if a.returned++; a.returned == a.ops {
				a.returned = 0
				back++
			}
		}
	}
}

// submitting is a run of runSubmit.
type submitting struct {
	until    time.Time
	open     bool // before until
	sent     uint64
	answered uint64
	out      []byte // of the last submit
	heard    uint64 // ops, by all who have
}

// documentMessage handles a piece of a message to a client of a document.
func (l *load) documentMessage(c *client, piece []byte, end bool) error {
	if !end || !c.walk.final() {
		c.text = append(c.text, piece...)
		return nil
	}
	if len(c.text) > 0 {
		c.text = append(c.text, piece...)
		piece, c.text = c.text, c.text[:0]
	}
	if bytes.HasPrefix(piece, replyStart) {
		l.submits.answered++
		if !bytes.Contains(piece, okStatus) {
			return fmt.Errorf("a submission was refused: %.300q", piece)
		}
		return nil
	}
	ops, back, err := c.author.observe(piece)
	if err != nil {
		return err
	}
	c.got += ops
	l.submits.heard += ops
	if l.submits.open {
		c.author.due += back
	}
	return nil
}

// submit sends as many submissions as are due, in one write as [load.request] does.
func (l *load) submit(c *client) error {
	out := l.submits.out[:0]
	for ; c.author.due > 0; c.author.due-- {
		out = append(out, c.author.next()...)
		l.submits.sent++
	}
	l.submits.out = out
	return l.send(c, out)
}

// runSubmit has the first Writers clients of each document submit for Seconds,
// Each ops at a time and Window submissions of each outstanding, and returns when
// every client has every op and every submission its answer.
func (l *load) runSubmit(order loadOrder) error {
	if len(l.clients)%l.topics != 0 {
		return fmt.Errorf("%d clients in %d documents", len(l.clients), l.topics)
	}
	l.reset(false)
	var writers []*client
	for i := range l.clients {
		c := &l.clients[i]
		if c.stage != stageReady || c.author == nil {
			return fmt.Errorf("client %d is not connected to a document", i)
		}
		if i/l.topics < order.Writers {
			c.author.prepare(i%l.topics, order.Each)
			writers = append(writers, c)
		}
	}
	l.submits = submitting{open: true, until: time.Now().Add(time.Duration(order.Seconds * float64(time.Second)))}
	for _, c := range writers {
		c.author.due = order.Window
		if err := l.submit(c); err != nil {
			return err
		}
	}
	alive, members := l.ready, uint64(len(l.clients)/l.topics)
	err := l.run(func() bool {
		l.submits.open = l.submits.open && time.Now().Before(l.submits.until)
		s := &l.submits
		return l.ended || l.ready < alive || !s.open && s.answered == s.sent && s.heard >= s.sent*uint64(order.Each)*members
	})
	if err == nil && l.ready < alive {
		err = fmt.Errorf("a client was closed")
	}
	if err != nil {
		return err
	}
	return l.sameNumbers()
}

// sameNumbers checks that all clients of a document have seen it up to the same number.
func (l *load) sameNumbers() error {
	for i := l.topics; i < len(l.clients); i++ {
		c, first := &l.clients[i], &l.clients[i%l.topics]
		if c.author.sn != first.author.sn || c.got != first.got {
			return fmt.Errorf("document %d: client %d has %d ops and is at %d, the first has %d and is at %d",
				i%l.topics, i, c.got, c.author.sn, first.got, first.author.sn)
		}
	}
	return nil
}
