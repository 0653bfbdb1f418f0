package nats_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-58bc6ac1/realtime"
)

// TestAKeptPositionIsNoEvent has the position of a quiet topic written anew: nobody
// notices, and it is there when the events are not.
func TestAKeptPositionIsNoEvent(t *testing.T) {
	h := newHost(t)
	a := h.node()
	b, nc := connect(t, h.server.URL())
	here, there := record(t, a, "t", hour), record(t, b, "t", hour)
	ctx := context.Background()
	keep := func() {
		t.Helper()
		if err := a.Keep(ctx, "t"); err != nil {
			t.Fatal(err)
		}
	}
	keep()
	mustPublish(t, a, "t", hour, count(1, 3)...)
	keep()
	mustPublish(t, b, "t", hour, "4")
	here.want(4)
	keep()
	wantRun(t, here.want(4), here.from.Epoch, 1)
	wantRun(t, there.want(4), here.from.Epoch, 1)
	events, newest, err := b.Read(ctx, "t", hour, 0, 100)
	if err != nil || newest != (realtime.Position{Epoch: here.from.Epoch, Offset: 4}) {
		t.Fatalf("read up to %v, %v, want 4", newest, err)
	}
	wantRun(t, events, here.from.Epoch, 1)
	if len(events) != 4 {
		t.Errorf("read %d events, want 4", len(events))
	}

	js, _ := jetstream.New(nc)
	stream, err := js.Stream(ctx, "realtime")
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject("realtime.h.t"), jetstream.WithPurgeKeep(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	events, newest, err = b.Read(ctx, "t", hour, 0, 100)
	if err != nil || len(events) != 0 || newest.Offset != 4 {
		t.Errorf("read %d events up to %v, %v, want none up to 4", len(events), newest, err)
	}
	late := record(t, h.node(), "t", hour)
	if late.from != newest {
		t.Errorf("joined at %v, want %v", late.from, newest)
	}
	mustPublish(t, a, "t", hour, "5")
	wantRun(t, late.want(1), newest.Epoch, 5)
	wantRun(t, here.want(5), newest.Epoch, 1)
}

// TestTheStreamGrows uses more events than the stream was made for.
func TestTheStreamGrows(t *testing.T) {
	h := newHost(t)
	a, b := h.node(), h.node()
	mustPublish(t, a, "t", hour, count(1, 150)...)
	small := realtime.Retention{Size: 5, Age: time.Hour}
	mustPublish(t, b, "other", small, "1") // b knows of small ones only
	for _, keep := range []realtime.Retention{hour, small} {
		events, newest, err := b.Read(context.Background(), "t", keep, 0, 1000)
		if want := min(150, keep.Size); err != nil || len(events) != want || newest.Offset != 150 {
			t.Fatalf("read %d events up to %v, %v, want %d up to 150", len(events), newest, err, want)
		}
		wantRun(t, events, newest.Epoch, uint64(151-len(events)))
	}
	for after := range uint64(150) { // any page, by whatever the node remembers
		events, newest, err := a.Read(context.Background(), "t", hour, after, 3)
		if want := min(3, int(150-after)); err != nil || len(events) != want {
			t.Fatalf("after %d: read %d events, %v, want %d", after, len(events), err, want)
		}
		wantRun(t, events, newest.Epoch, after+1)
	}
}
