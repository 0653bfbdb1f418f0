package redis

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// repairLocked begins a repair: everything up to now is read and told.
func (f *feed) repairLocked() {
	f.again = true
	if f.begun && !f.over {
		f.startLocked(f.repair)
	}
}

// fillLocked begins to read the messages of one notice that were too long for it.
func (f *feed) fillLocked(n *notice) {
	f.startLocked(func() error { return f.fill(n) })
}

// startLocked runs a repair, and then whatever became necessary meanwhile, until it
// works or the feed stops.
func (f *feed) startLocked(first func() error) {
	if f.repairing || f.stopped.Load() {
		return
	}
	f.repairing = true
	f.documents.repairs.Go(func() {
		for pause, work := 50*time.Millisecond, first; ; work = f.repair {
			err := work()
			if f.ctx.Err() != nil {
				return
			}
			if err != nil {
				f.sleep(pause)
				pause = min(2*pause, 2*time.Second)
				continue
			}
			if f.done() {
				return
			}
		}
	})
}

func (f *feed) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.ctx.Done():
	}
}

// done ends a repair, if it was the last one for now.
func (f *feed) done() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.again && !f.over {
		return false
	}
	f.repairing = false
	f.drainLocked()
	return true
}

// fill completes a notice with the messages that it only counts.
func (f *feed) fill(n *notice) error {
	ctx, cancel := context.WithTimeout(f.ctx, f.documents.timeout)
	defer cancel()
	at := n.after
	for _, news := range n.news {
		for i := range news.Messages {
			records, err := f.documents.records(ctx, f.at, at, at+1, 1)
			if err != nil {
				return err
			}
			if len(records) == 0 || records[0].step != n.step {
				f.needsRepair()
				return nil
			}
			news.Messages[i] = *records[0].message()
			at++
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.short = false; n.after != f.sn {
		f.again = true
	}
	return nil
}

func (f *feed) needsRepair() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.again = true
}

// repair tells everything up to where the document stands. The signals that did not
// arrive are lost; those that did are told in their places.
func (f *feed) repair() error {
	ctx, cancel := context.WithTimeout(f.ctx, 2*f.documents.timeout)
	defer cancel()
	f.mu.Lock()
	f.again = false
	born, next, sn, last := f.born, f.next, f.sn, f.last
	f.mu.Unlock()
	r, err := f.documents.run(ctx, f.at, onlyArguments("stand"))
	if err != nil {
		f.needsRepair()
		return err
	}
	if born != "" && r.born != born || r.number < next-1 || r.outcome.SequenceNumber < sn {
		f.lose(errAnotherDocument)
		return nil
	}
	signals := f.signalsUntil(r.number)
	if err := f.replay(ctx, sn, last, r.outcome.SequenceNumber, &signals); err != nil {
		f.needsRepair()
		return err
	}
	f.resume(r, signals)
	return nil
}

func (f *feed) lose(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loseLocked(why)
}

// placed is a signal and where it belongs: right after a message.
type placed struct {
	after int64
	step  stepName
	news  *realtime.DocumentNews
}

// signalsUntil takes the signals out of the notices up to a number that are waiting.
func (f *feed) signalsUntil(number int64) (signals []placed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, waiting := range slices.Sorted(maps.Keys(f.waiting)) {
		n, after := f.waiting[waiting], int64(0)
		if waiting > number {
			break
		}
		after = n.after
		for _, news := range n.news {
			if after += int64(len(news.Messages)); news.Signal != nil {
				only := &realtime.DocumentNews{Signal: news.Signal, From: news.From}
				signals = append(signals, placed{after, n.step, only})
			}
		}
	}
	return signals
}

// replay tells the messages after sn, whose text was last, and up to another number.
func (f *feed) replay(ctx context.Context, sn int64, last []byte, to int64, signals *[]placed) error {
	after := sn
	if last != nil {
		after-- // it must be the same still
	}
	for after < to {
		page, err := f.documents.records(ctx, f.at, after, to, 1000)
		if err != nil {
			return err
		}
		if len(page) == 0 || page[0].message().SequenceNumber > max(after, sn)+1 {
			f.lose(errMessagesGone)
			return nil
		}
		if first := page[0].message(); first.SequenceNumber == sn {
			if !bytes.Equal(first.JSON, last) {
				f.lose(errAnotherDocument)
				return nil
			}
			page = page[1:]
			after = sn
		}
		if len(page) > 0 {
			f.tellPage(page, signals)
			after = page[len(page)-1].message().SequenceNumber
		}
	}
	return nil
}

// tellPage tells messages, those of one step together, and the signals between them.
func (f *feed) tellPage(page []record, signals *[]placed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(page) > 0 {
		f.signalLocked(signals, page[0].message().SequenceNumber-1)
		n := 1
		for n < len(page) && page[n].continues(&page[0]) {
			page[0].news.Messages = append(page[0].news.Messages, *page[n].message())
			n++
		}
		f.newsLocked(page[0].news, page[0].step)
		page = page[n:]
	}
}

// continues reports whether two records belong to one news.
func (r *record) continues(first *record) bool {
	return r.step == first.step && r.news.Joined+r.news.Left+first.news.Joined+first.news.Left == ""
}

// signalLocked tells the signals that belong after a message or before it.
func (f *feed) signalLocked(signals *[]placed, after int64) {
	for len(*signals) > 0 && (*signals)[0].after <= after {
		f.newsLocked((*signals)[0].news, (*signals)[0].step)
		*signals = (*signals)[1:]
	}
}

// resume goes on after what r says of the document. Readers have no messages: who of
// them came or left is found by looking.
func (f *feed) resume(r *stepReply, signals []placed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.signalLocked(&signals, r.outcome.SequenceNumber)
	here := map[string]bool{}
	for _, c := range r.standing.Clients {
		here[c.ID] = true
		if !f.clients[c.ID] {
			f.newsLocked(&realtime.DocumentNews{Joined: c.ID}, stepName{})
		}
	}
	for id := range f.clients {
		if !here[id] {
			f.newsLocked(&realtime.DocumentNews{Left: id}, stepName{})
		}
	}
	f.born = r.born
	for number, n := range f.waiting {
		if number <= r.number {
			f.dropLocked(n)
		}
	}
	f.passLocked(r.number + 1)
}
