package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestEveryBucketHoldsItsCeilingAndNoMore(t *testing.T) {
	for i := range bucketOf(math.MaxInt64) {
		top := ceilingOf(i)
		if got := bucketOf(top); got != i {
			t.Fatalf("bucket of %d is %d, want %d", top, got, i)
		}
		if got := bucketOf(top + 1); got != i+1 {
			t.Fatalf("bucket of %d is %d, want %d", top+1, got, i+1)
		}
	}
}

func TestQuantilesAreAtMostThreePercentTooHigh(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var values []int64
	for range 20_000 {
		v := int64(math.Exp(random.NormFloat64()*2 + 13)) // around 440 µs
		values = append(values, v)
		h.add(v)
	}
	slices.Sort(values)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := float64(values[min(int(q*float64(len(values))), len(values)-1)])
		if got := float64(h.quantile(q)); got < want || got > want*1.033+1 {
			t.Errorf("quantile %v: got %v, want %v to %v", q, got, want, want*1.033)
		}
	}
}

func TestHistogramTakesTheExtremes(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("empty: got %d, want 0", got)
	}
	h.add(-5) // clocks of two processes may differ by a little
	h.add(math.MaxInt64)
	if got := h.quantile(0); got != 0 {
		t.Errorf("least: got %d, want 0", got)
	}
	if got := h.quantile(1); got != math.MaxInt64 {
		t.Errorf("greatest: got %d, want %d", got, int64(math.MaxInt64))
	}
	if n := testing.AllocsPerRun(10, func() { h.add(12345) }); n != 0 {
		t.Errorf("add: got %v allocations, want 0", n)
	}
}
