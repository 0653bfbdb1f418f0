package realtime

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

func TestAnEventComesBackFromItsCode(t *testing.T) {
	for _, e := range []*Event{
		{Name: "message", Data: json.RawMessage(`{"a":[1,2.50]}`), Time: time.UnixMicro(1700000000123456)},
		{Name: "bytes", Data: json.RawMessage(`"AAEC"`), Binary: true, Except: "conn", Time: time.UnixMicro(-1)},
	} {
		b, _ := e.AppendBinary([]byte("x"))
		var got Event
		if err := got.UnmarshalBinary(b[1:]); err != nil {
			t.Fatal(err)
		}
		if got.Name != e.Name || string(got.Data) != string(e.Data) || got.Binary != e.Binary || got.Except != e.Except || !got.Time.Equal(e.Time) {
			t.Errorf("got %s %s %v %s %v, want %s %s %v %s %v", got.Name, got.Data, got.Binary, got.Except, got.Time,
				e.Name, e.Data, e.Binary, e.Except, e.Time)
		}
	}
}

func FuzzEventCode(f *testing.F) {
	b, _ := (&Event{Name: "message", Data: json.RawMessage(`{}`), Except: "c", Time: time.UnixMicro(1)}).AppendBinary(nil)
	f.Add(b)
	f.Add([]byte{1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again Event
		if e.UnmarshalBinary(b) != nil {
			return
		}
		code, _ := e.AppendBinary(nil)
		if err := again.UnmarshalBinary(code); err != nil {
			t.Fatalf("%q is refused, the code of a decoded event", code)
		}
		if second, _ := again.AppendBinary(nil); !bytes.Equal(code, second) {
			t.Errorf("%q became %q", code, second)
		}
	})
}
