package main

import (
	"math"
	"slices"
)

// spread is the median of some rounds with their least and greatest value.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Rounds int     `json:"rounds"`
}

// spreadOf ignores NaN, the mark of a round that failed.
func spreadOf(values []float64) spread {
	kept := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(kept) == 0 {
		return spread{}
	}
	slices.Sort(kept)
	mid := len(kept) / 2
	median := kept[mid]
	if len(kept)%2 == 0 {
		median = (kept[mid-1] + kept[mid]) / 2
	}
	return spread{Median: median, Low: kept[0], High: kept[len(kept)-1], Rounds: len(kept)}
}

// ratios divides round by round: only values of the same round were measured
// under the same conditions. A round that either side lacks counts for neither.
func ratios(values, base []float64) spread {
	var out []float64
	for i := range min(len(values), len(base)) {
		if base[i] > 0 {
			out = append(out, values[i]/base[i])
		}
	}
	return spreadOf(out)
}
