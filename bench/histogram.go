package main

import "math/bits"

// histogram counts durations in buckets that grow with the value: 32 per
// doubling, so a quantile is at most 3.2 % off. Its size is fixed; add does not
// allocate. Sums of histograms are sums of their buckets.
type histogram struct {
	counts [64 * 32]uint64
	total  uint64
}

func bucketOf(ns int64) int {
	if ns < 0 {
		ns = 0
	}
	v := uint64(ns)
	if v < 64 {
		return int(v) // one value per bucket up to 63
	}
	shift := bits.Len64(v) - 6
	return shift*32 + int(v>>shift)
}

// ceilingOf is the greatest value in bucket i.
func ceilingOf(i int) int64 {
	if i < 64 {
		return int64(i)
	}
	shift := i/32 - 1
	return int64(uint64(i%32+32+1)<<shift - 1)
}

func (h *histogram) add(ns int64) {
	h.counts[bucketOf(ns)]++
	h.total++
}

// quantile returns an upper bound of the value below which the share q of all
// values lies, 0 when there are none.
func (h *histogram) quantile(q float64) int64 {
	if h.total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.total)), h.total-1)
	for i, n := range h.counts {
		if rank < n {
			return ceilingOf(i)
		}
		rank -= n
	}
	return ceilingOf(len(h.counts) - 1)
}
