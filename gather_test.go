package realtime

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// openGathering is the first question of a node, to nodeB and nodeC.
func openGathering(t *testing.T) (*gatherer, *gathering) {
	g := &gatherer{open: map[uint64]*gathering{}}
	one := &gathering{id: 1, of: g, waiting: map[string]*asked{}, failed: map[string]error{}, done: make(chan struct{})}
	one.ctx, one.cancel = context.WithCancel(t.Context())
	for _, id := range []string{nodeB, nodeC} {
		one.waiting[id] = &asked{name: id}
	}
	g.open[1] = one
	return g, one
}

// partOf is a part of an answer to question 1 as it comes from another node.
func partOf(index uint64, flags byte, body string) []byte {
	b := binary.AppendUvarint(binary.AppendUvarint(nil, 1), index)
	return append(append(b, flags), body...)
}

func TestAnswersOfManyPartsAreWholeOrNone(t *testing.T) {
	type step struct {
		from string
		part []byte
	}
	for _, c := range []struct {
		name   string
		steps  []step
		failed error // of nodeB
	}{
		{"whole", []step{{nodeB, partOf(0, 0, "b")}, {nodeB, partOf(1, 0, "bb")}, {nodeB, partOf(2, partLast, "")}}, nil},
		{"the first is lost", []step{{nodeB, partOf(1, 0, "b")}, {nodeB, partOf(2, partLast, "")}}, errPartLost},
		{"one between is lost", []step{{nodeB, partOf(0, 0, "b")}, {nodeB, partOf(2, partLast, "")}}, errPartLost},
		{"one comes twice", []step{{nodeB, partOf(0, 0, "b")}, {nodeB, partOf(0, 0, "b")}}, errPartLost},
		{"more comes after the last", []step{{nodeB, partOf(0, partLast, "b")}, {nodeB, partOf(1, 0, "late")}}, nil},
		{"it fails", []step{{nodeB, partOf(0, partFailed, "why")}, {nodeB, partOf(1, 0, "late")}}, errNoAnswerer},
		{"who is not asked answers", []step{{"STRANGER0000", partOf(0, partLast, "x")}, {nodeB, partOf(0, partLast, "")}}, nil},
		{"under a new name", []step{{nodeB, partOf(0, 0, "b")}, {nodeB + ".1", partOf(1, partLast, "b")}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, one := openGathering(t)
			for _, s := range c.steps {
				g.answered(s.from, s.part)
			}
			g.answered(nodeC, partOf(0, partLast, "c"))
			var got []string
			err := one.wait(func(from string, part []byte) error {
				got = append(got, from[:1]+string(part))
				return nil
			})
			var partial *PartialError
			if (err != nil) != (c.failed != nil) || err != nil && (!errors.As(err, &partial) || !errors.Is(err, c.failed) || !slices.Equal(partial.Nodes, []string{nodeB})) {
				t.Errorf("got %v, want %v", err, c.failed)
			}
			if !slices.Contains(got, "Cc") || slices.Contains(got, "Blate") || slices.Contains(got, "Sx") {
				t.Errorf("got parts %q", got)
			}
			if g.answered(nodeB, partOf(3, 0, "late")); len(g.open) != 0 {
				t.Error("the question is not forgotten")
			}
		})
	}
}

func TestWhoHasGoneIsNotWaitedFor(t *testing.T) {
	g, one := openGathering(t)
	for _, id := range one.unseen([]string{nodeC}) {
		g.left(id)
	}
	g.answered(nodeC, partOf(0, partLast, ""))
	if err := one.wait(nil); !errors.Is(err, errNodeLeft) {
		t.Errorf("got %v, want that a node has gone", err)
	}
}

func TestQuestionsAtOnceAreBounded(t *testing.T) {
	w := newWheel()
	defer w.stop()
	c := newCluster(nil, time.Minute, newMetrics(), slog.New(slog.DiscardHandler), w)
	defer c.close()
	g := newGatherer(c)
	wait := make(chan struct{})
	var answered atomic.Int32
	g.answer(askCount, func(context.Context, []byte, func([]byte) error) error {
		answered.Add(1)
		<-wait
		return nil
	})
	for n := range uint64(2 * answerers) {
		g.asked(nodeB, append(binary.AppendUvarint(binary.AppendUvarint(nil, n), 60_000), askCount))
	}
	close(wait)
	c.work.Wait()
	if n := answered.Load(); n != answerers {
		t.Errorf("%d were answered at once, want %d", n, answerers)
	}
	if g.busy != 0 {
		t.Errorf("%d are busy afterwards", g.busy)
	}
}
