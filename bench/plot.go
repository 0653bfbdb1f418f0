package main

import (
	"fmt"
	"html"
	"strings"
)

// plot draws the ratios of every row as bars, with their ranges as thin lines.
func plot(r result) string {
	const left, right, bar, most = 150, 560, 14, 3.0
	var b strings.Builder
	y := 24
	scale := func(v float64) float64 { return left + min(v, most)/most*(right-left) }
	for _, l := range r.Table {
		if l.Own {
			continue
		}
		fmt.Fprintf(&b, `<text x="8" y="%d" font-weight="bold">%s</text>`+"\n", y, html.EscapeString(l.Text))
		y += 8
		top := y
		for _, c := range l.Cells {
			if c.Ratio == nil {
				continue
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-6, y+bar-4, html.EscapeString(c.Peer))
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="#4a7fb5"/>`, left, y+1, scale(c.Ratio.Median)-left, bar-3)
			fmt.Fprintf(&b, `<path d="M%.1f %dH%.1f" stroke="#222"/>`, scale(c.Ratio.Low), y+bar/2, scale(c.Ratio.High))
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s×</text>`+"\n", scale(max(c.Ratio.Median, c.Ratio.High))+6, y+bar-4, short(c.Ratio.Median))
			y += bar
		}
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#b44" stroke-dasharray="3"/>`+"\n", scale(1), top, y)
		y += 24
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="640" height="%d" font-family="sans-serif" font-size="11">
<rect width="640" height="%d" fill="#fff"/>
<text x="8" y="12">Ratios to %s (dashed), bars end at %g×. %s</text>
<g transform="translate(0 12)">
%s</g></svg>
`, y+20, y+20, html.EscapeString(r.Base), most, html.EscapeString(r.Machine), b.String())
}
