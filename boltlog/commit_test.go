package boltlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// disk commits when it is told to.
type disk struct {
	commits [][]string
	next    chan error // of the commit that waits; closed: a panic
}

func (d *disk) commit(batch []*addition) {
	var names []string
	for _, a := range batch {
		names = append(names, string(a.bucket))
	}
	d.commits = append(d.commits, names)
	err, ok := <-d.next
	if !ok {
		panic("the disk is gone")
	}
	for _, a := range batch {
		a.err = err
	}
}

func named(name string, size int) *addition {
	return &addition{bucket: []byte(name), size: size, turn: make(chan struct{}, 1)}
}

func (d *disk) want(t *testing.T, want ...[]string) {
	t.Helper()
	if !slices.EqualFunc(d.commits, want, slices.Equal) {
		t.Errorf("commits %v, want %v", d.commits, want)
	}
}

func TestWhatArrivesMeanwhileIsCommittedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{next: make(chan error)}
		c := &committer{commit: d.commit}
		got := make(chan string, 10)
		add := func(name string) {
			go func() { got <- fmt.Sprint(name, " ", c.do(t.Context(), named(name, 1))) }()
			synctest.Wait()
		}
		add("a")
		add("b")
		add("c")
		d.want(t, []string{"a"}) // alone, since nothing waited
		d.next <- nil
		synctest.Wait()
		d.want(t, []string{"a"}, []string{"b", "c"})
		add("d")
		d.next <- errors.New("full")
		d.next <- nil
		synctest.Wait()
		d.want(t, []string{"a"}, []string{"b", "c"}, []string{"d"})
		all := []string{<-got, <-got, <-got, <-got}
		slices.Sort(all)
		if want := []string{"a <nil>", "b full", "c full", "d <nil>"}; !slices.Equal(all, want) {
			t.Errorf("got %q, want %q", all, want)
		}
		add("e") // the committer is at rest again
		d.next <- nil
		synctest.Wait()
		d.want(t, []string{"a"}, []string{"b", "c"}, []string{"d"}, []string{"e"})
	})
}

func TestCommitIsBounded(t *testing.T) {
	c := &committer{}
	for range 2*maxAdditions + 1 {
		c.queue = append(c.queue, named("small", 1))
	}
	c.queue = append(c.queue, named("large", maxAdditionBytes+1), named("half", maxAdditionBytes/2), named("half", maxAdditionBytes/2), named("small", 1))
	for _, want := range []int{maxAdditions, maxAdditions, 1, 1, 2, 1} {
		if got := len(c.take()); got != want {
			t.Errorf("a commit of %d additions, want %d", got, want)
		}
	}
}

func TestContextEndsWhatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{next: make(chan error)}
		c := &committer{commit: d.commit}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- c.do(ctx, named("first", 1)) }()
		synctest.Wait()
		go func() { second <- c.do(ctx, named("second", 1)) }()
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that waits got %v, want %v", err, context.Canceled)
		}
		d.next <- nil
		if err := <-first; err != nil {
			t.Errorf("the one that is being written got %v, want nil", err)
		}
		d.want(t, []string{"first"})
	})
}

func TestPanicOfOneCommitIsAnErrorForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{next: make(chan error)}
		c := &committer{commit: d.commit}
		go c.do(t.Context(), named("first", 1))
		synctest.Wait()
		panicked, second, third := make(chan any, 1), make(chan error, 1), make(chan error, 1)
		go func() {
			defer func() { panicked <- recover() }()
			c.do(t.Context(), named("leader", 1))
		}()
		synctest.Wait()
		go func() { second <- c.do(t.Context(), named("second", 1)) }()
		synctest.Wait()
		d.next <- nil
		synctest.Wait() // the leader and the second are being written
		go func() { third <- c.do(t.Context(), named("third", 1)) }()
		synctest.Wait()
		broken := d.next
		d.next = make(chan error)
		close(broken)
		if got := <-panicked; got != "the disk is gone" {
			t.Errorf("the leader panicked with %v, want the commit's panic", got)
		}
		if err := <-second; !errors.Is(err, errPanic) {
			t.Errorf("the second got %v, want %v", err, errPanic)
		}
		d.next <- nil
		if err := <-third; err != nil {
			t.Errorf("the third got %v, want nil", err)
		}
	})
}
