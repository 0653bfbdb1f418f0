package realtime

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type deadlineKey struct{}

func TestADeadlineIsTheStandardLibrarys(t *testing.T) {
	cases := map[string]struct {
		parent func() (context.Context, context.CancelFunc)
		then   func(end, cancel func())
	}{
		"nothing happens":  {nil, func(func(), func()) {}},
		"time passes":      {nil, func(func(), func()) { time.Sleep(2 * time.Second) }},
		"late, then ended": {nil, func(end, _ func()) { time.Sleep(2 * time.Second); end() }},
		"it is ended":      {nil, func(end, _ func()) { end() }},
		"ended, then late": {nil, func(end, _ func()) { end(); time.Sleep(2 * time.Second) }},
		"the parent ends":  {nil, func(_, cancel func()) { cancel() }},
		"an earlier parent's": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), time.Millisecond)
		}, func(func(), func()) { time.Sleep(2 * time.Millisecond) }},
	}
	for name, c := range cases {
		for _, waits := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				if c.parent == nil {
					c.parent = func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }
				}
				parent, cancel := c.parent()
				defer cancel()
				parent = context.WithValue(parent, deadlineKey{}, "v")
				got := newDeadline(parent, time.Second)
				want, stop := context.WithTimeout(parent, time.Second)
				if waits {
					_, _ = got.Done(), want.Done()
				}
				c.then(func() { got.end(); stop() }, cancel)
				synctest.Wait()
				if got.Err() != want.Err() || context.Cause(got) != context.Cause(want) {
					t.Errorf("%s, waits %v: got %v because of %v, want %v because of %v", name, waits, got.Err(), context.Cause(got), want.Err(), context.Cause(want))
				}
				at, _ := got.Deadline()
				if other, _ := want.Deadline(); !at.Equal(other) {
					t.Errorf("%s: deadline %v, want %v", name, at, other)
				}
				if (want.Err() != nil) != ended(got) {
					t.Errorf("%s, waits %v: Done is closed: %v, want %v", name, waits, ended(got), want.Err() != nil)
				}
				if v := got.Value(deadlineKey{}); v != "v" {
					t.Errorf("%s: value %v, want v", name, v)
				}
				got.end()
				stop()
			})
		}
	}
}

func ended(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func TestAChildOfADeadlineEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeadline(context.Background(), time.Second)
		defer d.end()
		child, cancel := context.WithCancel(d)
		defer cancel()
		<-child.Done()
		if !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", child.Err(), context.DeadlineExceeded)
		}
	})
}

func TestADeadlineThatNobodyWaitsForCostsOneAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	if n := testing.AllocsPerRun(100, func() { newDeadline(parent, time.Second).end() }); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}
