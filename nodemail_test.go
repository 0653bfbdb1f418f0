package realtime

import (
	"bytes"
	"strings"
	"testing"
)

func TestMailComesBackAsItWasSent(t *testing.T) {
	memos := []memo{{1, nil}, {200, []byte("two")}, {3, bytes.Repeat([]byte{0, 255}, 70000)}}
	from, got, err := parseMail(appendMail(nodeA+".3", memos))
	if err != nil || from != nodeA+".3" || len(got) != len(memos) {
		t.Fatalf("got %q, %d messages, %v", from, len(got), err)
	}
	for i, one := range got {
		if one.kind != memos[i].kind || !bytes.Equal(one.body, memos[i].body) {
			t.Errorf("message %d differs", i)
		}
	}
}

func FuzzMail(f *testing.F) {
	f.Add(appendMail(nodeA, []memo{{nodeHello, hello{true, 15000, 1}.append(nil)}, {nodeBye, nil}}))
	f.Add(appendMail(nodeB, nil))
	f.Add([]byte(`"AQ=="`))
	f.Add([]byte(`"AgxBQUFBQUFBQUFBQUEB/w=="`))
	f.Fuzz(func(t *testing.T, data []byte) {
		from, memos, err := parseMail(data)
		if err != nil {
			if !strings.Contains(err.Error(), "message between nodes") {
				t.Errorf("an error of its own: %v", err)
			}
			return
		}
		if !isNodeID(from) {
			t.Errorf("%q is no name", from)
		}
		size := 0
		for _, one := range memos {
			size += len(one.body)
			if h, ok := parseHello(one.body); ok {
				again, ok := parseHello(h.append(nil))
				if !ok || again != h {
					t.Errorf("hello %+v became %+v", h, again)
				}
			}
		}
		if size > len(data) {
			t.Errorf("%d bytes out of %d", size, len(data))
		}
		again, back, err := parseMail(appendMail(from, memos))
		if err != nil || again != from || len(back) != len(memos) {
			t.Errorf("encoded again: %q, %d messages, %v", again, len(back), err)
		}
	})
}
