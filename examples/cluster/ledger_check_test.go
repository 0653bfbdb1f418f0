package main

import (
	"fmt"
	"testing"
)

// story is a run of two clients that see ten events each, with what goes wrong for
// the second.
func story(wrong func(r *reading, offset uint64, id string) bool) verdict {
	l := newLedger()
	readings := []*reading{{ledger: l, who: "ada", topic: "t"}, {ledger: l, who: "bob", topic: "t"}}
	for _, r := range readings {
		r.starts("e", 0)
	}
	for offset := uint64(1); offset <= 10; offset++ {
		id := string(rune('a' + offset))
		l.ack("t", id)
		readings[0].event(offset, id)
		if !wrong(readings[1], offset, id) {
			readings[1].event(offset, id)
		}
	}
	return l.close(readings, map[string]place{"t": {"t", "e", 10}})
}

// The checker itself has to be able to fail.
func TestLedgerFindsWhatGoesWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		wrong func(r *reading, offset uint64, id string) bool
		want  verdict
	}{
		{"nothing", func(*reading, uint64, string) bool { return false }, verdict{}},
		{"a client drops an event", func(_ *reading, offset uint64, _ string) bool { return offset == 5 }, verdict{losses: 1}},
		{"a client drops the last event", func(_ *reading, offset uint64, _ string) bool { return offset == 10 }, verdict{losses: 1}},
		{"an event comes twice", func(r *reading, offset uint64, id string) bool {
			if offset == 5 {
				r.event(offset, id)
			}
			return false
		}, verdict{duplicates: 1}},
		{"two events change places", func(r *reading, offset uint64, id string) bool {
			switch offset {
			case 5:
				return true
			case 6:
				r.event(6, id)
				r.event(5, string(rune('a'+5)))
				return true
			}
			return false
		}, verdict{losses: 1, disorders: 1}},
		{"an offset is another event", func(r *reading, offset uint64, _ string) bool {
			if offset == 5 {
				r.event(5, "other")
			}
			return offset == 5
		}, verdict{differing: 1}},
		{"an event has two offsets", func(r *reading, offset uint64, id string) bool {
			if offset == 10 {
				r.event(10, id)
				r.event(11, id)
			}
			return offset == 10
		}, verdict{duplicates: 1}},
		{"a gap that was told", func(r *reading, offset uint64, _ string) bool {
			if offset == 6 {
				r.gap(5, 6)
			}
			return offset == 5 || offset == 6
		}, verdict{}},
		{"a gap that tells too little", func(r *reading, offset uint64, _ string) bool {
			if offset == 6 {
				r.gap(6, 6)
			}
			return offset == 5 || offset == 6
		}, verdict{losses: 1}},
		{"a wrong word about a recovery", func(r *reading, offset uint64, _ string) bool {
			if offset == 5 {
				r.continues("e", 7, true)
			}
			return false
		}, verdict{losses: 1}},
		{"an epoch that changes in silence", func(r *reading, offset uint64, _ string) bool {
			if offset == 5 {
				r.continues("f", 4, false)
			}
			return false
		}, verdict{disorders: 1}},
	} {
		got := story(test.wrong)
		if got.losses != test.want.losses || got.duplicates != test.want.duplicates ||
			got.disorders != test.want.disorders || got.differing != test.want.differing {
			t.Errorf("%s: found %d losses, %d duplicates, %d disorders, %d differing (%v), want %d, %d, %d, %d", test.name,
				got.losses, got.duplicates, got.disorders, got.differing, got.examples,
				test.want.losses, test.want.duplicates, test.want.disorders, test.want.differing)
		}
	}
}

// A broker that swallows an event after it has acknowledged it is found though no
// client sees a hole.
func TestLedgerFindsWhatNobodyGot(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := &reading{ledger: l, who: "ada", topic: "t"}
	r.starts("e", 0)
	l.ack("t", "a")
	if got := l.close([]*reading{r}, map[string]place{"t": {"t", "e", 0}}); got.losses != 1 {
		t.Errorf("found %d losses, want 1", got.losses)
	}
}

// What a stream that begins anew has lost, everybody was told.
func TestReloadIsNoLoss(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := &reading{ledger: l, who: "ada", topic: "t"}
	r.starts("e", 0)
	l.ack("t", "a")
	r.reload("f", 0)
	r.event(1, "b")
	if got := l.close([]*reading{r}, map[string]place{"t": {"t", "f", 1}}); got.bad() != 0 || got.reloads != 1 {
		t.Errorf("found %+v, want one reload", got)
	}
}

// numbered is a message of a document.
func numbered(n int64, contents string) []byte {
	return fmt.Appendf(nil, `{"clientId":"c","sequenceNumber":%d,"type":"op","contents":%q}`, n, contents)
}

func TestPaperFindsWhatGoesWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		does func(p *paper, e *editor)
		want verdict
	}{
		{"nothing", func(p *paper, e *editor) { p.seen("bob", 1, numbered(2, "ada 2")); e.head = 2 }, verdict{}},
		{"a message is missing", func(p *paper, e *editor) { p.seen("ada", 1, numbered(3, "ada 2")); e.head = 3 }, verdict{losses: 2}},
		{"an op is nowhere", func(_ *paper, e *editor) { e.head = 1 }, verdict{losses: 1}},
		{"an op is there twice", func(p *paper, e *editor) {
			p.seen("ada", 1, numbered(2, "ada 2"))
			p.seen("ada", 2, numbered(3, "ada 2"))
			e.head = 3
		}, verdict{duplicates: 1}},
		{"others have it otherwise", func(p *paper, e *editor) {
			p.seen("ada", 1, numbered(2, "ada 2"))
			p.seen("bob", 1, numbered(2, "other"))
			e.head = 2
		}, verdict{differing: 1}},
		{"somebody stays behind", func(p *paper, e *editor) { p.seen("bob", 1, numbered(2, "ada 2")); e.head = 1 }, verdict{losses: 1}},
	} {
		p := newPaper("paper")
		e := &editor{person: person{name: "ada"}, paper: p, made: 2}
		p.seen("ada", 0, numbered(1, "ada 1"))
		test.does(p, e)
		p.whole = p.newest
		got := p.close([]*editor{e})
		if got.losses != test.want.losses || got.duplicates != test.want.duplicates || got.differing != test.want.differing {
			t.Errorf("%s: found %d losses, %d duplicates, %d differing (%v), want %d, %d, %d", test.name,
				got.losses, got.duplicates, got.differing, got.examples, test.want.losses, test.want.duplicates, test.want.differing)
		}
	}
}
