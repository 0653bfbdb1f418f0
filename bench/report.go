package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// result is the JSON file: everything that was measured, and the tables made of it.
type result struct {
	Machine  machine   `json:"machine"`
	Command  string    `json:"command"`
	Date     string    `json:"date"`
	Seconds  float64   `json:"seconds"`
	Rounds   int       `json:"rounds"`
	Base     string    `json:"base"`
	Subject  string    `json:"subject"`
	Sections []section `json:"sections"`
	Samples  []sample  `json:"samples"`
}

// section is what one work has come to.
type section struct {
	Work    string   `json:"work"`
	Title   string   `json:"title"`
	Columns []column `json:"columns"`
	Absent  []string `json:"absent,omitempty"` // candidates that are not able
	Lack    string   `json:"lack,omitempty"`   // what they are without
}

type column struct {
	Figure string `json:"figure"`
	Unit   string `json:"unit"`
	Text   string `json:"text"`
	Cells  []cell `json:"cells"`
}

type cell struct {
	Peer   string  `json:"peer"`
	Value  spread  `json:"value"`
	Ratio  *spread `json:"ratio,omitempty"` // to the base, same rounds only
	Failed int     `json:"failed,omitempty"`
}

// sizes puts numbers into the texts of works and rows.
func (s scale) sizes() *strings.Replacer {
	return strings.NewReplacer("{members}", thousands(s.members), "{many}", thousands(s.many), "{topics}", thousands(s.topics),
		"{topicConns}", thousands(topicMembers*s.topics), "{conns}", thousands(s.conns),
		"{few}", thousands(s.idle[0]), "{idle}", thousands(s.idle[1]))
}

func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// sections leaves out candidates that never ran at a work.
func sections(s settings, samples []sample) (out []section) {
	sizes := s.scale.sizes()
	for _, w := range s.works {
		one := section{Work: w.name, Title: sizes.Replace(w.title), Lack: w.lack}
		if w.every > 1 && s.rounds > 1 {
			one.Title += fmt.Sprintf(" (every %s round only)", ordinal(w.every))
		}
		for _, p := range s.peers {
			if !w.has(p) {
				one.Absent = append(one.Absent, p.name)
			}
		}
		for _, r := range w.rows {
			col := column{Figure: r.name, Unit: r.unit, Text: sizes.Replace(r.text)}
			base := series(samples, s.rounds, s.base, r.name)
			for _, p := range s.peers {
				c := cell{Peer: p.name}
				ran := false
				for _, one := range samples {
					if one.Work == w.name && one.Peer == p.name {
						ran = true
						if one.Failure != "" {
							c.Failed++
						}
					}
				}
				if !ran {
					continue
				}
				values := series(samples, s.rounds, p.name, r.name)
				c.Value = spreadOf(values)
				if ratio := ratios(values, base); !r.own && ratio.Rounds > 0 {
					c.Ratio = &ratio
				}
				col.Cells = append(col.Cells, c)
			}
			one.Columns = append(one.Columns, col)
		}
		out = append(out, one)
	}
	return out
}

func writeResults(s settings, samples []sample, start time.Time, m machine) error {
	r := result{Machine: m, Command: strings.Join(append([]string{"go -C bench run ."}, os.Args[1:]...), " "),
		Date: start.UTC().Format(time.DateOnly), Seconds: math.Round(time.Since(start).Seconds()),
		Rounds: s.rounds, Base: s.base, Subject: s.subject, Sections: sections(s, samples), Samples: samples}
	files := plots(s.scale, r)
	var pictures strings.Builder
	for _, p := range files {
		fmt.Fprintf(&pictures, "![%s](%s-%s.svg)\n\n", p.title, s.name, p.name)
	}
	page := markdown(s, r, pictures.String())
	fmt.Print(page)
	if s.out == "" {
		return nil
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	contents := map[string]string{".json": string(text) + "\n", ".md": page}
	for _, p := range files {
		contents["-"+p.name+".svg"] = p.svg(r)
	}
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(s.out, s.name+name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("results: %w", err)
		}
	}
	return nil
}

func markdown(s settings, r result, pictures string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results of %s\n\n`%s` on %s. %d interleaved rounds in %.0f s. Other processes used %.0f %% of the cores meanwhile.\n\n",
		r.Date, r.Command, r.Machine, r.Rounds, r.Seconds, 100*r.Machine.Others)
	fmt.Fprintf(&b, "Each cell: the median of the rounds and their range; below it the median of the ratios to %s in the same round, and their range. ", r.Base)
	b.WriteString("Less is better unless the column says otherwise. One µs of CPU per delivery is one CPU-second per million deliveries. " +
		"Only ratios mean anything on another machine.\n\n" + summary(s, r) + pictures)
	for _, one := range r.Sections {
		b.WriteString(one.markdown(r.Base))
	}
	b.WriteString(barTable(s.subject, r.Samples, r.Rounds))
	b.WriteString("\n## Failed runs\n\n" + failures(r.Samples) + "\n## Candidates\n\n")
	for _, p := range s.peers {
		note := p.note
		if p.every > 1 && r.Rounds > 1 {
			note += fmt.Sprintf("; every %s round only, for the time it takes", ordinal(p.every))
		}
		fmt.Fprintf(&b, "* %s: %s\n", p.name, note)
	}
	return b.String()
}

func (one section) markdown(base string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s.\n\n|  |", one.Work, one.Title)
	for _, col := range one.Columns {
		fmt.Fprintf(&b, " %s, %s |", col.Text, col.Unit)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(one.Columns)) + "\n")
	for i, first := range one.Columns[0].Cells {
		fmt.Fprintf(&b, "| %s |", first.Peer)
		for _, col := range one.Columns {
			fmt.Fprintf(&b, " %s |", col.Cells[i].text(base))
		}
		b.WriteString("\n")
	}
	if len(one.Absent) > 0 {
		fmt.Fprintf(&b, "\nNot here, without %s: %s.\n", one.Lack, strings.Join(one.Absent, ", "))
	}
	b.WriteString("\n")
	return b.String()
}

func ordinal(n int) string {
	if n == 2 {
		return "second"
	}
	return strconv.Itoa(n) + "th"
}

func (c cell) text(base string) string {
	var text string
	switch {
	case c.Value.Rounds == 0:
		text = "none"
	case c.Value.Rounds == 1:
		text = short(c.Value.Median)
	default:
		text = c.Value.String()
	}
	if c.Ratio != nil && c.Peer != base {
		text += "<br>" + short(c.Ratio.Median) + "×"
		if c.Ratio.Rounds > 1 {
			text += fmt.Sprintf(" (%s–%s)", short(c.Ratio.Low), short(c.Ratio.High))
		}
	}
	if c.Failed > 0 {
		text += fmt.Sprintf("<br>failed %d×", c.Failed)
	}
	return text
}

// failures lists runs whose figures do not count: a total that is lossy, above all.
func failures(samples []sample) string {
	var b strings.Builder
	for _, one := range samples {
		if one.Failure != "" {
			fmt.Fprintf(&b, "* %s, %s, round %d: %s\n", one.Work, one.Peer, one.Round+1, one.Failure)
		}
	}
	if b.Len() == 0 {
		return "None: in every run each message arrived at each client once.\n"
	}
	return b.String() + "\nIn all other runs each message arrived at each client once.\n"
}

// String gives the median and, in brackets, the range.
func (s spread) String() string {
	return fmt.Sprintf("%s (%s–%s)", short(s.Median), short(s.Low), short(s.High))
}

// short writes three significant digits.
func short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 10000:
		return thousands(int(v))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a < 0.0005:
		return "0"
	case a < 0.1:
		return strconv.FormatFloat(v, 'f', 3, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}
