package boltlog

import (
	"reflect"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
)

func FuzzMessageRecord(f *testing.F) {
	m := realtime.SequencedMessage{SequenceNumber: 1, MinimumSequenceNumber: 2, ClientID: "client", ClientSequenceNumber: -1,
		ReferenceSequenceNumber: 1 << 40, Type: "op", Timestamp: 1700000000000, JSON: []byte(`{"type":"op"}`)}
	f.Add(encodeMessage(m))
	f.Add(encodeMessage(m)[:10])
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(7, b)
		if err != nil {
			return
		}
		again, err := decodeMessage(7, encodeMessage(m))
		if err != nil || !reflect.DeepEqual(again, m) && len(m.JSON)+len(again.JSON) > 0 {
			t.Errorf("%+v became %+v (error %v)", m, again, err)
		}
	})
}

func FuzzHeadRecord(f *testing.F) {
	head := realtime.LogHead{SequenceNumber: 9, MinimumSequenceNumber: 3, Epoch: "epoch",
		Summaries: [2]realtime.SummaryMark{{Handle: "h", SequenceNumber: 8, Covered: 7}}}
	f.Add(encodeHead(head))
	f.Add(append(encodeHead(head), 0))
	f.Add(encodeHead(head)[:7])
	f.Fuzz(func(t *testing.T, b []byte) {
		head, err := decodeHead(b)
		if err != nil {
			return
		}
		if again, err := decodeHead(encodeHead(head)); err != nil || !reflect.DeepEqual(again, head) {
			t.Errorf("%+v became %+v (error %v)", head, again, err)
		}
	})
}

func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	for _, m := range []realtime.SequencedMessage{
		{SequenceNumber: 5, JSON: []byte{}},
		{SequenceNumber: 5, MinimumSequenceNumber: -1, ClientID: "ä\x00", ClientSequenceNumber: -1, ReferenceSequenceNumber: 1<<63 - 1,
			Type: "\x00", Timestamp: -1 << 63, JSON: []byte("{}")},
	} {
		if got, err := decodeMessage(5, encodeMessage(m)); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v (error %v), want %+v", got, err, m)
		}
	}
	full := encodeHead(realtime.LogHead{SequenceNumber: 300, Epoch: "e", Summaries: [2]realtime.SummaryMark{{Handle: "h"}, {Handle: "i"}}})
	for n := range full {
		if _, err := decodeHead(full[:n]); err == nil {
			t.Errorf("%d of %d bytes were read as a head", n, len(full))
		}
	}
}
