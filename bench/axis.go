package main

import (
	"math"
	"slices"
	"strconv"
)

// axis maps values to places from labelWidth on.
type axis struct {
	from, to float64
	log      bool
	width    float64
	ticks    []float64
}

func (a axis) at(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		from, to, v = math.Log(from), math.Log(to), math.Log(max(v, a.from))
	}
	if to <= from {
		return labelWidth
	}
	return labelWidth + (v-from)/(to-from)*a.width
}

// axis spans all that the rows show: from zero for bars, whose length counts,
// and in decades for dots.
func (p panel) axis(rows []plotted) axis {
	least, most := math.Inf(1), 0.0
	for _, one := range rows {
		shown := one.values
		if p.form == stacks {
			shown = one.values[len(one.values)-1:]
		}
		for _, v := range shown {
			low, high := v.Low, v.High
			if p.form == dots {
				low, high = v.Median, v.Median
			}
			least, most = min(least, low), max(most, high)
		}
	}
	if p.form != dots {
		a := axis{to: max(most, 1e-9), width: panelWidth - labelWidth - numberWidth}
		a.ticks = linearTicks(a.to)
		return a
	}
	a := axis{from: max(least, 1) / 1.15, to: max(most, 2) * 1.15, log: true, width: panelWidth - labelWidth - 16}
	a.ticks = logTicks(a.from, a.to)
	return a
}

// linearTicks returns three to six round numbers from zero on.
func linearTicks(most float64) (ticks []float64) {
	unit := math.Pow(10, math.Floor(math.Log10(most)))
	step := unit
	switch lead := most / unit; {
	case lead < 2:
		step = unit / 2
	case lead >= 5:
		step = unit * 2
	}
	for i := 0; float64(i)*step <= most; i++ {
		ticks = append(ticks, float64(i)*step)
	}
	return ticks
}

// logTicks takes some numbers of each decade, fewer when the decades are many.
func logTicks(from, to float64) (ticks []float64) {
	const most = 7
	for _, steps := range [][]float64{{1, 1.5, 2, 3, 5, 7}, {1, 2, 5}, {1, 3}, {1}} {
		ticks = nil
		for decade := math.Pow(10, math.Floor(math.Log10(from))); decade <= to; decade *= 10 {
			for _, step := range steps {
				ticks = append(ticks, step*decade)
			}
		}
		ticks = slices.DeleteFunc(ticks, func(t float64) bool { return t < from || t > to })
		if len(ticks) <= most {
			break
		}
	}
	return ticks
}

func (p panel) tickText(v float64) string {
	if p.form == dots {
		v /= 1000
	}
	if v >= 1000 {
		return thousands(int(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}
