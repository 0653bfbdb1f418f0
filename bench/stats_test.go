package main

import (
	"math"
	"testing"
)

func TestSpreadIgnoresFailedRounds(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		values []float64
		want   spread
	}{
		"none":     {nil, spread{}},
		"all fail": {[]float64{nan, nan}, spread{}},
		"odd":      {[]float64{3, 1, 2}, spread{2, 1, 3, 3}},
		"even":     {[]float64{4, 1, 2, 3}, spread{2.5, 1, 4, 4}},
		"one fail": {[]float64{nan, 5, 1}, spread{3, 1, 5, 2}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestRatiosStayWithinARound(t *testing.T) {
	nan := math.NaN()
	// The machine is ten times slower in the second round: the ratio is not.
	got := ratios([]float64{2, 20, 3}, []float64{1, 10, 1})
	if want := (spread{2, 2, 3, 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = ratios([]float64{2, nan, 9, 4}, []float64{1, 10, nan, 1})
	if want := (spread{3, 2, 4, 2}); got != want {
		t.Errorf("with failed rounds: got %+v, want %+v", got, want)
	}
	if got := ratios([]float64{2}, []float64{0}); got != (spread{}) {
		t.Errorf("base of zero: got %+v, want nothing", got)
	}
}

func TestSeriesPutsValuesIntoTheirRounds(t *testing.T) {
	samples := []sample{
		{Peer: "a", Round: 2, Figures: figures{"x": 3}},
		{Peer: "a", Round: 0, Figures: figures{"x": 1, "y": 9}},
		{Peer: "b", Round: 1, Figures: figures{"x": 7}},
	}
	got := series(samples, 3, "a", "x")
	if got[0] != 1 || !math.IsNaN(got[1]) || got[2] != 3 {
		t.Errorf("got %v, want [1 NaN 3]", got)
	}
}
