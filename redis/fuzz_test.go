package redis

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// FuzzParseMessage: what comes on a channel is an event or is refused.
func FuzzParseMessage(f *testing.F) {
	text, err := body(publishID{1, 2}, &realtime.Event{Name: "n", Data: json.RawMessage("{}"), Time: time.UnixMicro(5)})
	if err != nil {
		f.Fatal(err)
	}
	before := string(make([]byte, 16))
	for _, s := range []string{"", "g", "p", "p" + text, "hE 1 " + before + text, "hE 0 " + before + text, "hE 1", "h 1 " + before, "hE 18446744073709551616 " + before + text} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseMessage(s)
		if err != nil || a.gap {
			return
		}
		if (a.epoch == "") != (a.offset == 0) {
			t.Errorf("parsed %q as epoch %q, offset %d", s, a.epoch, a.offset)
		}
		e, err := a.decode("topic")
		if err != nil {
			return
		}
		again, err := body(a.id, e)
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseMessage("p" + again)
		if err != nil {
			t.Fatalf("what was parsed is not parsed again: %v", err)
		}
		if other, err := b.decode("topic"); err != nil || other.Name != e.Name || string(other.Data) != string(e.Data) || b.id != a.id {
			t.Errorf("%v became %v (%v)", e, other, err)
		}
	})
}

// FuzzParseIdentity: what a ticket holds is an identity or is refused.
func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{"", "null", "{}", `{"User":"ann","Scopes":["a"],"Claims":{"a":1}}`, `{"Admin":true}`, "{} {}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := parseIdentity(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(id)
		if err != nil {
			t.Skip() // a time that JSON cannot hold
		}
		other, err := parseIdentity(again)
		if err != nil || other.User != id.User || other.Tenant != id.Tenant || !other.Expires.Equal(id.Expires) {
			t.Errorf("%+v became %+v (%v)", id, other, err)
		}
	})
}
