package nats

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

func encodedEvent(t testing.TB) []byte {
	t.Helper()
	e := &realtime.Event{Name: "said", Data: json.RawMessage(`{"a":1}`), Time: time.Unix(1, 0)}
	b, err := e.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzRecord(f *testing.F) {
	f.Add((&record{position{epoch: "E", offset: 7, id: 1 << 60}, kindEvent, 3, encodedEvent(f)}).append(nil))
	f.Add((&record{position: position{epoch: strings.Repeat("e", 255), id: 9}, kind: kindPosition}).append(nil))
	f.Add([]byte{recordVersion, kindEvent, 0x80})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		again, err := parseRecord(r.append(nil))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v came back as %+v, %v", r, again, err)
		}
		if e, err := r.eventOf("t"); err == nil && (e.Offset != r.offset || e.Epoch != r.epoch || e.Topic != "t") {
			t.Errorf("the event is at %s/%d of %q, its record at %s/%d", e.Epoch, e.Offset, e.Topic, r.epoch, r.offset)
		}
	})
}

func TestRecordComesBack(t *testing.T) {
	want := record{position{epoch: "E", offset: 300, id: 1 << 63}, kindEvent, 5, encodedEvent(t)}
	got, err := parseRecord(want.append(nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestRecordsThatAreNone(t *testing.T) {
	good := (&record{position{epoch: "E", offset: 1, id: 1}, kindEvent, 5, encodedEvent(t)}).append(nil)
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"another version":     append([]byte{2}, good[1:]...),
		"another kind":        append([]byte{1, 9}, good[2:]...),
		"an event at 0":       append([]byte{1, kindEvent, 0}, good[3:]...),
		"a position of data":  append([]byte{1, kindPosition}, good[2:]...),
		"an event without it": good[:21],
		"no epoch":            bytes.Replace(good, []byte{1, 'E'}, []byte{0}, 1),
		"half":                good[:12],
	} {
		if r, err := parseRecord(b); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	b := &Broker{node: 77}
	f.Add(b.envelope(5, encodedEvent(f)))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, m []byte) {
		node, number, e := parseEnvelope(m)
		if e == nil {
			return
		}
		body, err := e.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		sender := &Broker{node: node}
		node2, number2, e2 := parseEnvelope(sender.envelope(number, body))
		if node2 != node || number2 != number || e2 == nil || e2.Name != e.Name || !bytes.Equal(e2.Data, e.Data) {
			t.Errorf("%d/%d %+v came back as %d/%d %+v", node, number, e, node2, number2, e2)
		}
	})
}

// FuzzToken checks that a name is one token, and that it can be found again, so that
// no two names share one.
func FuzzToken(f *testing.F) {
	for _, name := range []string{"chat:room1", "a.b", "*", ">", "=2A", "\x00nodes", " ", "ü"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		s := token(name)
		if strings.ContainsAny(s, ".*> \t\r\n\x00") || len(s) > 3*len(name) {
			t.Errorf("%q became %q", name, s)
		}
		var back []byte
		for i := 0; i < len(s); i++ {
			if s[i] != '=' {
				back = append(back, s[i])
				continue
			}
			back = append(back, byte(strings.IndexByte(hexDigits, s[i+1])<<4|strings.IndexByte(hexDigits, s[i+2])))
			i += 2
		}
		if string(back) != name {
			t.Errorf("%q became %q, which is %q", name, s, back)
		}
	})
}
