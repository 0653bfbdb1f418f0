package realtime

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// simStep is one thing that happens: which one, to whom, and how much.
type simStep struct{ kind, who, n uint8 }

// simSteps is what may happen. A step that makes no sense when its time comes does
// nothing, so that any part of a history is a history.
var simSteps = []struct {
	name   string
	weight int
	online bool // needs a person with an active connection
	do     func(w *world, p *editor, n int)
}{
	{"connects", 10, false, func(w *world, p *editor, n int) {
		if p.link == nil {
			p.connect()
		}
	}},
	{"edits", 22, false, func(w *world, p *editor, n int) { p.edit(1+n%3, asSeen) }},
	{"edits without RSN", 3, true, func(w *world, p *editor, n int) {
		p.edit(1+n%2, func(int64) int64 { return -1 })
	}},
	{"edits, too far ahead", 1, true, func(w *world, p *editor, n int) {
		p.edit(1, func(seen int64) int64 { return seen + 1 + int64(n%3)*1000 })
	}},
	{"edits, far behind", 2, true, func(w *world, p *editor, n int) {
		p.edit(1, func(int64) int64 { return max(0, p.msn-int64(n%3)) })
	}},
	{"arrives", 30, true, func(w *world, p *editor, n int) {
		for l, i := p.link, 0; i <= n%3 && len(l.out) > 0; i++ {
			w.arrive(l)
		}
	}},
	{"receives", 25, false, func(w *world, p *editor, n int) {
		for i := 0; i <= n%8 && p.link != nil && len(p.link.in) > 0; i++ {
			p.receive()
		}
	}},
	{"submits again", 4, true, func(w *world, p *editor, n int) {
		if again := p.link.last; again != nil && n%2 == 0 {
			p.link.out = append(p.link.out, again)
		} else if len(p.link.out) > 0 {
			p.link.out[0] = slices.Concat(again, p.link.out[0])
		}
	}},
	{"loses a submission", 1, true, func(w *world, p *editor, n int) {
		if len(p.link.out) > 0 {
			p.link.out = p.link.out[1:]
		}
	}},
	{"submits a noop", 5, true, func(w *world, p *editor, n int) { p.submit(typeNoop, p.seen, n%2 == 0) }},
	{"refers", 5, true, func(w *world, p *editor, n int) {
		op := simOp{submission: submission{kind: typeRefer, rsn: p.seen + int64(n%7/6)*1000}}
		p.link.out = append(p.link.out, []simOp{op})
	}},
	{"summarizes", 1, true, func(w *world, p *editor, n int) { p.submit(typeSummarize, p.seen, false) }},
	{"forges", 1, true, func(w *world, p *editor, n int) {
		p.submit([]string{"join", "leave", "summaryAck"}[n%3], p.seen, false)
	}},
	{"drops", 3, false, func(w *world, p *editor, n int) {
		if p.link != nil {
			p.drop()
		}
	}},
	{"is missed", 4, false, func(w *world, p *editor, n int) { w.bury() }},
	{"sees time pass", 8, false, func(w *world, p *editor, n int) {
		w.tick([]time.Duration{100 * time.Millisecond, 250 * time.Millisecond, simCheck, 2 * simCheck}[n%4])
	}},
	{"sees a summary answered", 1, false, func(w *world, p *editor, n int) { w.attend(w.doc.answer) }},
	{"has bad storage", 2, false, func(w *world, p *editor, n int) { w.log.fails = 1 + n%3 }},
	{"has storage that lies", 1, false, func(w *world, p *editor, n int) { w.log.cut = true }},
	{"sees how the server dies", 1, false, func(w *world, p *editor, n int) {
		w.doc.crash()
		w.crashed()
	}},
}

func (s simStep) String() string {
	return fmt.Sprintf("%c %s %d", 'A'+rune(s.who), simSteps[s.kind].name, s.n)
}

func (w *world) step(s simStep) {
	if w.tracing {
		w.trace = append(w.trace, s.String())
	}
	p := w.people[s.who]
	if kind := simSteps[s.kind]; !kind.online || p.active {
		kind.do(w, p, int(s.n))
	}
}

// simHistory is the history of a seed.
func simHistory(seed uint64) []simStep {
	r := rand.New(rand.NewPCG(seed, 5))
	var kinds []uint8
	for kind, s := range simSteps {
		for range s.weight {
			kinds = append(kinds, uint8(kind))
		}
	}
	people := 1 + r.IntN(4)
	steps := make([]simStep, 20+r.IntN(100))
	for i := range steps {
		steps[i] = simStep{kinds[r.IntN(len(kinds))], uint8(r.IntN(people)), uint8(r.IntN(256))}
	}
	return steps
}
