package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// chart is one picture: panels in two columns, in each panel a line per
// candidate, always in the same order.
type chart struct {
	name, title string
	legend      []swatch
	panels      []panel
}

// panel shows figures of one work that share an axis.
type panel struct {
	title, unit string
	form        form
	marks       []mark
}

// form is how a panel shows a candidate's figures.
type form uint8

const (
	single form = iota // a bar for the only mark, coloured by who the candidate is
	stacks             // a bar of all marks but the last, which is their sum
	dots               // a sign per mark on a logarithmic axis
)

// mark is one figure of a panel; class names its colour and sign in style.
type mark struct{ figure, class string }

// swatch is an entry of the legend.
type swatch struct{ class, text string }

const (
	chartWidth  = 960
	panelWidth  = chartWidth/2 - 24
	labelWidth  = 84 // of a candidate's name
	numberWidth = 62 // of the number behind a bar
	lineHeight  = 19
	panelHead   = 26
	panelFoot   = 34
	chartHead   = 64
)

// style follows the reader's choice of a light or dark page.
const style = `<style>
svg{--page:#fff;--text:#1f2328;--weak:#59636e;--grid:#dde2e7;--own:#0969da;--peer:#93a1b0;--limit:#cdd4db;--mid:#b07800;--far:#cf222e;--heap:#8250df;--rest:#4b9aa0}
@media (prefers-color-scheme:dark){svg{--page:#0d1117;--text:#e6edf3;--weak:#9da7b3;--grid:#2b323c;--own:#4493f8;--peer:#77869a;--limit:#444e5a;--mid:#d29922;--far:#ff7b72;--heap:#a371f7;--rest:#3d8f96}}
text{font:12px system-ui,sans-serif;fill:var(--text)}
.title{font-size:15px;font-weight:600}.head{font-weight:600}.weak{fill:var(--weak);font-size:11px;font-weight:400}.subject{font-weight:600}
.page{fill:var(--page)}.grid{stroke:var(--grid)}.range{stroke:var(--text)}.rail{stroke:var(--grid);stroke-width:3}
.own,.p50,.without{fill:var(--own)}.peer{fill:var(--peer)}.heap{fill:var(--heap)}.rest{fill:var(--rest)}.limit{fill:var(--limit)}.p99,.stack{fill:var(--mid)}.p999,.with{fill:var(--far)}
</style>
`

// svg draws the chart; its height follows from the panels.
func (c chart) svg(r result) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<text class="title" x="16" y="26">%s</text>`+"\n", html.EscapeString(c.title))
	x := 16.0
	for _, s := range c.legend {
		b.WriteString(sign(s.class, x+5, 46))
		fmt.Fprintf(&b, `<text class="weak" x="%.0f" y="50">%s</text>`+"\n", x+15, html.EscapeString(s.text))
		x += 34 + 5.7*float64(len([]rune(s.text)))
	}
	y := chartHead
	for pair := range slices.Chunk(c.panels, 2) {
		tall := 0
		for i, p := range pair {
			fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", 16+i*(panelWidth+16), y)
			tall = max(tall, p.draw(&b, r))
			b.WriteString("</g>\n")
		}
		y += tall
	}
	foot := fmt.Sprintf("%s, %s, medians of %d rounds", r.Date, r.Machine, r.Rounds)
	fmt.Fprintf(&b, `<text class="weak" x="16" y="%d">%s</text>`+"\n", y+6, html.EscapeString(foot))
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n",
		chartWidth, y+18, chartWidth, y+18, html.EscapeString(c.title)) + style +
		fmt.Sprintf(`<rect class="page" width="%d" height="%d"/>`+"\n", chartWidth, y+18) + b.String() + "</svg>\n"
}

// draw returns the height of the panel.
func (p panel) draw(b *strings.Builder, r result) int {
	rows := p.rows(r)
	a := p.axis(rows)
	bottom := panelHead + lineHeight*len(rows)
	unit := p.unit
	if p.form == dots {
		unit = "ms" // the figures are in µs
	}
	fmt.Fprintf(b, `<text class="head" x="0" y="14">%s<tspan class="weak">, %s</tspan></text>`+"\n", html.EscapeString(p.title), unit)
	for _, tick := range a.ticks {
		x := a.at(tick)
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %dV%d"/><text class="weak" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, panelHead-4, bottom, x, bottom+14, p.tickText(tick))
	}
	for i, one := range rows {
		y := float64(panelHead + lineHeight*i)
		class := ""
		if one.peer == r.Subject {
			class = ` class="subject"`
		}
		fmt.Fprintf(b, `<text%s x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", class, labelWidth-8, y+13, html.EscapeString(one.peer))
		switch p.form {
		case single:
			one.bar(b, a, y, one.class(r.Subject))
		case stacks:
			one.stack(b, a, y, p.marks)
		case dots:
			one.signs(b, a, y, p.marks)
		}
	}
	return bottom + panelFoot
}

// plotted is one candidate's line in a panel: a spread per mark.
type plotted struct {
	peer   string
	values []spread
}

// rows leaves out candidates that lack a figure.
func (p panel) rows(r result) (out []plotted) {
	for i, m := range p.marks {
		for _, c := range r.column(m.figure).Cells {
			if i == 0 {
				out = append(out, plotted{peer: c.Peer})
			}
			for k := range out {
				if out[k].peer == c.Peer && c.Value.Rounds > 0 {
					out[k].values = append(out[k].values, c.Value)
				}
			}
		}
	}
	return slices.DeleteFunc(out, func(one plotted) bool { return len(one.values) < len(p.marks) })
}

// column is empty if the figure was not measured.
func (r result) column(figure string) column {
	for _, one := range r.Sections {
		for _, col := range one.Columns {
			if col.Figure == figure {
				return col
			}
		}
	}
	return column{}
}

func (one plotted) class(subject string) string {
	switch {
	case one.peer == subject:
		return "own"
	case strings.HasPrefix(one.peer, "limit"):
		return "limit"
	}
	return "peer"
}

func (one plotted) bar(b *strings.Builder, a axis, y float64, class string) {
	v := one.values[0]
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%.1f" width="%.1f" height="%d"/>`+"\n", class, labelWidth, y+3, max(a.at(v.Median)-labelWidth, 1), lineHeight-6)
	one.total(b, a, y, v)
}

// total draws the range and writes the number behind it.
func (one plotted) total(b *strings.Builder, a axis, y float64, v spread) {
	middle := y + lineHeight/2.0
	fmt.Fprintf(b, `<path class="range" d="M%.1f %.1fH%.1f"/>`, a.at(v.Low), middle, a.at(v.High))
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f">%s</text>`+"\n", a.at(max(v.High, v.Median))+5, y+13, short(v.Median))
}

func (one plotted) stack(b *strings.Builder, a axis, y float64, marks []mark) {
	sum := one.values[len(one.values)-1]
	from := 0.0
	for i, m := range marks[:len(marks)-1] {
		to := min(from+max(one.values[i].Median, 0), sum.Median)
		fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d"/>`+"\n", m.class, a.at(from), y+3, a.at(to)-a.at(from), lineHeight-6)
		from = to
	}
	fmt.Fprintf(b, `<rect class="rest" x="%.1f" y="%.1f" width="%.1f" height="%d"/>`+"\n", a.at(from), y+3, max(a.at(sum.Median)-a.at(from), 0), lineHeight-6)
	one.total(b, a, y, sum)
}

func (one plotted) signs(b *strings.Builder, a axis, y float64, marks []mark) {
	least, most := math.Inf(1), math.Inf(-1)
	for _, v := range one.values {
		least, most = min(least, v.Median), max(most, v.Median)
	}
	middle := y + lineHeight/2.0
	fmt.Fprintf(b, `<path class="rail" d="M%.1f %.1fH%.1f"/>`+"\n", a.at(least), middle, a.at(most))
	for i, m := range marks {
		b.WriteString(sign(m.class, a.at(one.values[i].Median), middle))
	}
}

// sign differs in form as well as in colour, for those who see few colours.
func sign(class string, x, y float64) string {
	d := "h10v10h-10z" // a square, for bars
	x0, y0 := x-5, y-5
	switch class {
	case "p50", "without":
		return fmt.Sprintf(`<circle class="%s" cx="%.1f" cy="%.1f" r="5"/>`+"\n", class, x, y)
	case "p99":
		d, x0, y0 = "l5.5 5.5l-5.5 5.5l-5.5 -5.5z", x, y-5.5
	case "p999", "with":
		d, x0, y0 = "l5.5 9.5h-11z", x, y-5.5
	}
	return fmt.Sprintf(`<path class="%s" d="M%.1f %.1f%s"/>`+"\n", class, x0, y0, d)
}
