package boltlog

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/seed-58bc6ac1/realtime"
)

// documentsBucket has a bucket for each document. Its name ends in the version of
// what is described here.
var documentsBucket = []byte("realtime documents 1")

// Keys in the bucket of a document. Messages come last, so that they are added
// at the end of the tree.
const (
	headKey   = 'h' // alone: the head, without the clients that are open
	openKey   = 'j' // before a client id: the number of its join
	numberKey = 'm' // before a number: the message
)

// trimStep is how many messages one transaction drops.
const trimStep = 1000

func prepare(tx *bbolt.Tx) error {
	_, err := tx.CreateBucketIfNotExists(documentsBucket)
	return err
}

// bucketName is unambiguous for any bytes, and never empty.
func bucketName(id realtime.DocumentID) []byte {
	name := binary.AppendUvarint(nil, uint64(len(id.Tenant)))
	return append(append(name, id.Tenant...), id.Document...)
}

func messageKey(number int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{numberKey}, uint64(number))
}

func clientKey(client string) []byte { return append([]byte{openKey}, client...) }

// addition is one append on its way.
type addition struct {
	bucket   []byte
	messages []realtime.SequencedMessage
	effects  []realtime.LogEffect
	records  [][]byte
	size     int

	turn  chan struct{} // it was committed, or leads
	leads bool          // guarded by the committer's lock; set before turn is sent
	err   error         // set before turn is sent, or by the leader itself
}

// newAddition does what can be done before the transaction, and refuses what the
// database would.
func newAddition(id realtime.DocumentID, messages []realtime.SequencedMessage) (*addition, error) {
	a := &addition{
		bucket: bucketName(id), messages: messages, turn: make(chan struct{}, 1),
		effects: make([]realtime.LogEffect, len(messages)), records: make([][]byte, len(messages)),
	}
	if len(a.bucket) > bbolt.MaxKeySize {
		return nil, errors.New("boltlog: the document's name is too long")
	}
	for i, m := range messages {
		var err error
		if a.effects[i], err = m.Effect(); err != nil {
			return nil, err
		}
		if len(a.effects[i].Joined) >= bbolt.MaxKeySize {
			return nil, fmt.Errorf("boltlog: message %d: the client's id is too long", m.SequenceNumber)
		}
		a.records[i] = encodeMessage(m)
		if a.size += len(a.records[i]); len(a.records[i]) > bbolt.MaxValueSize {
			return nil, fmt.Errorf("boltlog: message %d is too large", m.SequenceNumber)
		}
	}
	return a, nil
}

// store writes the addition into its document. What it refuses it notes in err
// before it has written anything; what it returns ends the transaction.
func (a *addition) store(documents *bbolt.Bucket) error {
	var head realtime.LogHead
	b := documents.Bucket(a.bucket)
	if b != nil {
		var err error
		if head, err = decodeHead(b.Get([]byte{headKey})); err != nil {
			a.err = fmt.Errorf("boltlog: append: %w", err)
			return nil
		}
	}
	for i, m := range a.messages {
		if m.SequenceNumber != head.SequenceNumber+1+int64(i) {
			a.err = realtime.ErrSequenceTaken
			return nil
		}
	}
	if b == nil {
		var err error
		if b, err = documents.CreateBucket(a.bucket); err != nil {
			return err
		}
		head.Epoch = rand.Text()[:12]
	}
	b.FillPercent = 0.9 // numbers only grow
	return document{b}.add(head, a)
}

// document is the bucket of one document in a transaction.
type document struct{ *bbolt.Bucket }

func (d document) add(head realtime.LogHead, a *addition) error {
	for i, m := range a.messages {
		head.SequenceNumber, head.MinimumSequenceNumber = m.SequenceNumber, m.MinimumSequenceNumber
		if err := d.Put(messageKey(m.SequenceNumber), a.records[i]); err != nil {
			return err
		}
		if err := d.apply(&head, m.SequenceNumber, a.effects[i]); err != nil {
			return err
		}
	}
	return d.Put([]byte{headKey}, encodeHead(head))
}

// apply changes the head, which add stores, and the clients that are open.
func (d document) apply(head *realtime.LogHead, number int64, e realtime.LogEffect) error {
	if e.Summary.Handle != "" {
		if record := d.Get(messageKey(e.Summary.SequenceNumber)); record != nil {
			m, _ := decodeMessage(e.Summary.SequenceNumber, record) // 0 of a damaged one: nothing is known
			e.Summary.Covered = m.ReferenceSequenceNumber
		}
		head.Summaries = [2]realtime.SummaryMark{e.Summary, head.Summaries[0]}
	}
	if e.Left != "" {
		return d.Delete(clientKey(e.Left))
	}
	if e.Joined != "" {
		return d.Put(clientKey(e.Joined), binary.BigEndian.AppendUint64(nil, uint64(number)))
	}
	return nil
}

func (d document) head() (realtime.LogHead, error) {
	head, err := decodeHead(d.Get([]byte{headKey}))
	if err != nil {
		return realtime.LogHead{}, err
	}
	type client struct {
		id     string
		number uint64
	}
	var open []client
	c := d.Cursor()
	for k, v := c.Seek([]byte{openKey}); k != nil && k[0] == openKey; k, v = c.Next() {
		if len(v) != 8 {
			return realtime.LogHead{}, errors.New("the record of a client is damaged")
		}
		open = append(open, client{string(k[1:]), binary.BigEndian.Uint64(v)})
	}
	slices.SortFunc(open, func(a, b client) int { return cmp.Compare(a.number, b.number) })
	for _, one := range open {
		head.Open = append(head.Open, one.id)
	}
	return head, nil
}

func (d document) read(after, to int64, limit int) ([]realtime.SequencedMessage, error) {
	if after == math.MaxInt64 {
		return nil, nil
	}
	if to < 0 {
		to = math.MaxInt64
	}
	var page []realtime.SequencedMessage
	size := 0
	c := d.Cursor()
	for k, v := c.Seek(messageKey(max(after, 0) + 1)); k != nil && len(page) < limit; k, v = c.Next() {
		number := int64(binary.BigEndian.Uint64(k[1:]))
		if size += len(v); number > to || size > maxPage && len(page) > 0 {
			break
		}
		m, err := decodeMessage(number, bytes.Clone(v)) // the file's pages are only lent
		if err != nil {
			return nil, err
		}
		page = append(page, m)
	}
	return page, nil
}

// trim drops some of the messages below a number and reports whether there may be
// more. The cursor does not stand still while it deletes, so the keys come first.
func (d document) trim(below int64) (more bool, err error) {
	var keys [][]byte
	c := d.Cursor()
	for k, _ := c.Seek([]byte{numberKey}); k != nil && len(keys) < trimStep; k, _ = c.Next() {
		if int64(binary.BigEndian.Uint64(k[1:])) >= below {
			break
		}
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := d.Delete(k); err != nil {
			return false, err
		}
	}
	return len(keys) == trimStep, nil
}
