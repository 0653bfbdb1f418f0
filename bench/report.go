package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// result is the JSON file: everything that was measured, and the table made of it.
type result struct {
	Machine string   `json:"machine"`
	Others  float64  `json:"others"` // share of the cores that other processes used meanwhile
	Date    string   `json:"date"`
	Seconds float64  `json:"seconds"`
	Rounds  int      `json:"rounds"`
	Base    string   `json:"base"`
	Table   []line   `json:"table"`
	Samples []sample `json:"samples"`
}

// line is one row of the table.
type line struct {
	Figure string `json:"figure"`
	Unit   string `json:"unit"`
	Text   string `json:"text"`
	Own    bool   `json:"-"`
	Cells  []cell `json:"cells"`
}

type cell struct {
	Peer   string  `json:"peer"`
	Value  spread  `json:"value"`
	Ratio  *spread `json:"ratio,omitempty"` // to the base, same rounds only
	Failed int     `json:"failed,omitempty"`
	Absent bool    `json:"-"`
}

// machine says what the figures depend on, and nothing that names the machine.
func machine() string {
	kernel := "unknown"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel, _, _ = strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	}
	return fmt.Sprintf("%d cores, %s %s/%s, Linux %s, loopback", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, kernel)
}

// busy returns the CPU time that the machine and that this process with its
// ended children have used so far.
func busy() (all, own time.Duration) {
	text, err := os.ReadFile("/proc/stat")
	var user, nice, system, idle, waiting, irq, softirq, steal int64
	_, scan := fmt.Sscanf(string(text), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &waiting, &irq, &softirq, &steal)
	if err != nil || scan != nil {
		return 0, 0
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil {
			own += time.Duration(unix.TimevalToNsec(r.Utime) + unix.TimevalToNsec(r.Stime))
		}
	}
	// Interrupts count as use of the process they hit, and what the host of a
	// virtual machine takes away disturbs as another process does. USER_HZ is 100.
	return time.Duration(user+nice+system+irq+softirq+steal) * time.Second / 100, own
}

func table(s settings, samples []sample) (lines []line) {
	sizes := strings.NewReplacer("{members}", strconv.Itoa(s.scale.members), "{many}", strconv.Itoa(s.scale.many),
		"{topics}", strconv.Itoa(s.scale.topics), "{idle}", strconv.Itoa(s.scale.idle[1]))
	for _, w := range s.works {
		for _, r := range w.rows {
			l := line{Figure: r.name, Unit: r.unit, Text: sizes.Replace(r.text), Own: r.own}
			base := series(samples, s.rounds, s.base, r.name)
			for _, p := range s.peers {
				values := series(samples, s.rounds, p.name, r.name)
				c := cell{Peer: p.name, Value: spreadOf(values)}
				if ratio := ratios(values, base); !r.own && ratio.Rounds > 0 {
					c.Ratio = &ratio
				}
				ran := false
				for _, one := range samples {
					if one.Work == w.name && one.Peer == p.name {
						ran = true
						if one.Failure != "" {
							c.Failed++
						}
					}
				}
				c.Absent = !ran
				l.Cells = append(l.Cells, c)
			}
			lines = append(lines, l)
		}
	}
	return lines
}

func writeResults(s settings, samples []sample, start time.Time, others float64) error {
	r := result{Machine: machine(), Others: others, Date: start.UTC().Format(time.DateOnly), Seconds: math.Round(time.Since(start).Seconds()),
		Rounds: s.rounds, Base: s.base, Table: table(s, samples), Samples: samples}
	page := markdown(s, r)
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
	for name, content := range map[string]string{".json": string(text) + "\n", ".md": page, ".svg": plot(r)} {
		if err := os.WriteFile(filepath.Join(s.out, s.name+name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("results: %w", err)
		}
	}
	return nil
}

func markdown(s settings, r result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results of %s\n\n%s. %d interleaved rounds in %.0f s. Other processes used %.0f %% of the cores meanwhile.\n\n",
		r.Date, r.Machine, r.Rounds, r.Seconds, 100*r.Others)
	fmt.Fprintf(&b, "Each cell: the median; below it the median of the ratios to %s in the same round, and their range. ", r.Base)
	b.WriteString("Less is better. Only ratios mean anything on another machine.\n\n| figure |")
	for _, p := range s.peers {
		fmt.Fprintf(&b, " %s |", p.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(s.peers)) + "\n")
	for _, l := range r.Table {
		fmt.Fprintf(&b, "| %s, %s |", l.Text, l.Unit)
		for _, c := range l.Cells {
			fmt.Fprintf(&b, " %s |", c)
		}
		b.WriteString("\n")
	}
	b.WriteString(barTable(s.subject, r.Samples, r.Rounds) + "\n")
	for _, p := range s.peers {
		fmt.Fprintf(&b, "* %s: %s\n", p.name, p.note)
	}
	return b.String()
}

func (c cell) String() string {
	if c.Absent {
		return "–"
	}
	var text string
	if c.Value.Rounds == 0 {
		text = "none"
	} else {
		text = short(c.Value.Median)
		if c.Ratio != nil {
			text += fmt.Sprintf("<br>%s× (%s–%s)", short(c.Ratio.Median), short(c.Ratio.Low), short(c.Ratio.High))
		}
	}
	if c.Failed > 0 {
		text += fmt.Sprintf("<br>failed %d×", c.Failed)
	}
	return text
}

// short writes three significant digits.
func short(v float64) string {
	switch a := math.Abs(v); {
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
