package realtime

import (
	"strings"
	"testing"
)

func TestTheOutboxIsBounded(t *testing.T) {
	for _, c := range []struct {
		name string
		body string
		want int
	}{
		{"by messages", "x", outboxNotes},
		{"by bytes", strings.Repeat("x", 64<<10), outboxBytes / (64 << 10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o outbox
			n := 0
			for ; n < 2*outboxNotes; n++ {
				if ok, _ := o.put(letter{"topic", memo{1, []byte(c.body)}}); !ok {
					break
				}
			}
			if n != c.want {
				t.Errorf("%d were taken, want %d", n, c.want)
			}
			if o.room() == nil {
				t.Error("a full box has room")
			}
			out := 0
			for _, memos := o.take(); memos != nil; _, memos = o.take() {
				out += len(memos)
			}
			if out != n || o.bytes != 0 || o.room() != nil || o.empty() != nil {
				t.Errorf("%d came out, %d bytes are left, want %d and none", out, o.bytes, n)
			}
		})
	}
}

// A target that a later version narrows must not mean more here.
func TestATargetOfALaterVersionIsRefused(t *testing.T) {
	want := Target{Connection: "c", User: "u", Session: "s", TokenID: "t", Tenant: "x"}
	if got, rest, ok := cutTarget(append(appendTarget(nil, want), "rest"...)); got != want || string(rest) != "rest" || !ok {
		t.Errorf("got %+v, %q, %v", got, rest, ok)
	}
	if got, _, ok := cutTarget(appendRecord(nil, "", "u", "", "", "", "more")); ok {
		t.Errorf("got %+v, want it refused", got)
	}
}
