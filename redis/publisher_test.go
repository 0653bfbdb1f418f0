package redis_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/redis"
	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

func TestPublisherReachesMembers(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b, p := open(t, s.URL()), redis.NewPublisher(newClient(t, s.Addr))
	ctx := context.Background()
	keep := realtime.Retention{Size: 2, Age: time.Hour}
	kept, plain := listen(t, b, "kept", keep), listen(t, b, "plain", realtime.Retention{})
	for range 3 {
		if err := p.Publish(ctx, "kept", "e", 1); err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(ctx, "plain", "e", 2, redis.Except("c")); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range kept.want(3) {
		if e.Offset != uint64(i+1) || string(e.Data) != "1" {
			t.Errorf("got %s at %d, want 1 at %d", e.Data, e.Offset, i+1)
		}
	}
	for _, e := range plain.want(3) {
		if e.Offset != 0 || string(e.Data) != "2" || e.Except != "c" {
			t.Errorf("got %s at %d except %q, want 2 without an offset except c", e.Data, e.Offset, e.Except)
		}
	}
	if err := p.Publish(ctx, "kept", "e", 1, redis.Keep(realtime.Retention{Size: 100})); err != nil {
		t.Fatal(err)
	}
	if events, _, err := b.Read(ctx, "kept", keep, 0, 10); err != nil || len(events) != 2 {
		t.Errorf("%d events are kept (%v), want the 2 of the server's retention", len(events), err)
	}
	if err := p.Publish(ctx, "new", "e", 1, redis.Keep(keep)); err != nil {
		t.Fatal(err)
	}
	if events, _, err := b.Read(ctx, "new", keep, 0, 10); err != nil || len(events) != 1 {
		t.Errorf("%d events are kept (%v), want 1", len(events), err)
	}
}

func TestTicketsAreGoodOnceOnAnyNode(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	put, take := open(t, s.URL()).Tickets(), open(t, s.URL()).Tickets()
	ctx := context.Background()
	want := &realtime.Identity{User: "ann", Tenant: "t", Scopes: []string{"a"}, Claims: []byte(`{"sub":"ann"}`), Expires: time.Now().Add(time.Hour).UTC()}
	if err := put.Put(ctx, "key", want, time.Minute); err != nil {
		t.Fatal(err)
	}
	got, err := take.Take(ctx, "key")
	if err != nil || got.User != "ann" || got.Tenant != "t" || !got.Expires.Equal(want.Expires) || string(got.Claims) != string(want.Claims) || !got.HasScope("a") {
		t.Errorf("took %+v, %v, want %+v", got, err, want)
	}
	if _, err := take.Take(ctx, "key"); !errors.Is(err, realtime.ReasonTokenInvalid) {
		t.Errorf("took it twice: %v", err)
	}
	if err := put.Put(ctx, "short", want, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if _, err := take.Take(ctx, "short"); !errors.Is(err, realtime.ReasonTokenInvalid) {
		t.Errorf("took an expired one: %v", err)
	}
}

func TestAPrefixWithBracesIsRefused(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a prefix that is a hash tag was taken: keys of one topic would be in several slots")
		}
	}()
	redis.NewPublisher(newClient(t, redistest.Start(t).Addr), redis.Prefix("{}"))
}
