package redis

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
)

// text is the notice as the script writes it.
func (n *notice) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d %s %s\n", n.born, n.number, n.after, n.step.origin, n.step.count)
	for _, news := range n.news {
		writeNews(&b, news)
	}
	return b.String()
}

func writeNews(b *strings.Builder, news *realtime.DocumentNews) {
	fmt.Fprintf(b, "g %d %d\n%s%s", len(news.Joined), len(news.Left), news.Joined, news.Left)
	for _, m := range news.Messages {
		if m.JSON == nil {
			b.WriteString("r\n")
			continue
		}
		fmt.Fprintf(b, "m %d %d %d %d %d %d %d\n%s%s%s", m.MinimumSequenceNumber, m.ClientSequenceNumber, m.ReferenceSequenceNumber,
			m.Timestamp, len(m.ClientID), len(m.Type), len(m.JSON), m.ClientID, m.Type, m.JSON)
	}
	if news.Signal != nil {
		fmt.Fprintf(b, "s %d %d\n%s%s", len(news.From), len(news.Signal), news.From, news.Signal)
	}
}

var noticeSeeds = []string{
	"born 1 0 node 1\ng 1 0\nAm 0 -1 0 5 0 4 2\njoin{}s 0 4\ncame",
	"born 2 1 node 2\ng 0 0\nm 0 1 1 5 1 2 2\nAop{}r\n",
	"born 3 3 other 1\ng 0 1\nAm 3 -1 3 5 0 5 2\nleave{}g 0 0\nm 3 -1 3 5 0 11 2\nsummaryNack{}",
	"born 9 3 other 7\ng 0 0\ns 1 0\nA",
	"", "\n", "born 1 0 node 1\n", "born 0 0 node 1\n", "born 1 -1 node 1\n", "born 9007199254740993 0 node 1\n",
	"born 1 0 node 1\nm 0 1 1 5 1 2 2\nAop{}", "born 1 0 node 1\ng 0 9223372036854775807\n", "born 1 0 node 1\ng -1 0\n",
	"born 1 0 node 1\ng 0 0\nm 0 1 1 5 1 2\n", "born 1 0 node 1\ng 0 0\nm 0 1 1 5 0 0 0\n", "born 1 0 node 1\nx\n",
}

func FuzzNotice(f *testing.F) {
	for _, s := range noticeSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := readNotice(text)
		if err != nil {
			return
		}
		again, err := readNotice(n.text())
		if err != nil {
			t.Fatalf("%q was read, and %q is not: %v", text, n.text(), err)
		}
		again.bytes = n.bytes
		if !reflect.DeepEqual(n, again) {
			t.Errorf("%q is another notice than %q", text, n.text())
		}
	})
}

func FuzzDocumentRecord(f *testing.F) {
	f.Add("5-0 node 1", "g 1 0\nAm 0 -1 0 5 0 4 2\njoin{}")
	f.Add("5-0 node 1", "g 0 0\nr\n")
	f.Add("5-1 node 1", "g 0 0\nm 0 1 1 5 1 2 2\nAop{}")
	f.Add("-0 node", "")
	f.Fuzz(func(t *testing.T, head, text string) {
		r, err := readRecord(head, text)
		if err != nil {
			return
		}
		if m := r.message(); m.SequenceNumber < 1 || len(m.JSON) == 0 || len(r.news.Messages) != 1 {
			t.Errorf("%q %q is the record %+v", head, text, r)
		}
		var b strings.Builder
		writeNews(&b, r.news)
		again, err := readRecord(head, b.String())
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%q is another record than %q: %v", text, b.String(), err)
		}
	})
}

// FuzzDocumentReply has the parts of an answer, their fields separated by lines.
func FuzzDocumentReply(f *testing.F) {
	f.Add("born 3 7 5 acmt", "0\n400\nBadRequestError\nGap\ngap\n0", "h\n5\n4\n\n0\n0", "A\n1 write n", "A\n{}")
	f.Add("- 0 0 0 ", "", "", "", "")
	f.Add("- 0 0 0", "1", "1\n2\n3\n4\n5\n6", "A\n1 none n", "A")
	f.Fuzz(func(t *testing.T, head, refusal, marks, places, objects string) {
		r := &stepReply{}
		if r.readHead(head) == nil && r.number > maxWhole {
			t.Errorf("the number %d", r.number)
		}
		r.readRefusal(split(refusal))
		readMarks(split(marks))
		clients, err := readClients(pairs(places), pairs(objects))
		if err == nil && len(clients) != len(pairs(places)) {
			t.Errorf("%d clients of %q", len(clients), places)
		}
	})
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func pairs(text string) map[string]string {
	all := map[string]string{}
	lines := split(text)
	for i := 0; i+1 < len(lines); i += 2 {
		all[lines[i]] = lines[i+1]
	}
	return all
}
