package main

import (
	"encoding/xml"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

var (
	testPeers = []*peer{{name: "a", note: "one"}, {name: "b", note: "two"}, {name: "limit", note: "three", every: 2}}
	testWork  = &work{
		name: "w", title: "work of {members}", rows: []row{{name: "x", unit: "µs", text: "cost of {many}"}, {name: "y", unit: "each", text: "own", own: true}},
		can: func(p *peer) bool { return p.name != "limit" }, lack: "legs",
	}
	testSamples = []sample{
		{Work: "w", Peer: "a", Round: 0, Figures: figures{"x": 2, "y": 1}}, {Work: "w", Peer: "b", Round: 0, Figures: figures{"x": 3, "y": 7}},
		{Work: "w", Peer: "a", Round: 1, Figures: figures{"x": 4, "y": 1}}, {Work: "w", Peer: "b", Round: 1, Failure: "9 of 10 arrived"},
	}
	testSettings = settings{works: []*work{testWork}, peers: testPeers, base: "a", subject: "a", rounds: 2, scale: scale{members: 1234, many: 9}}
)

func TestTableKeepsRatiosAndFailuresApart(t *testing.T) {
	got := sections(testSettings, testSamples)
	if len(got) != 1 || got[0].Title != "work of 1,234" || len(got[0].Columns) != 2 || got[0].Columns[0].Text != "cost of 9" {
		t.Fatalf("got %+v, want one section on 1,234 with two columns", got)
	}
	if want := []string{"limit"}; !slices.Equal(got[0].Absent, want) {
		t.Errorf("absent: got %v, want %v", got[0].Absent, want)
	}
	for _, c := range []struct {
		column, peer int
		want         string
	}{
		{0, 0, "3.00 (2.00–4.00)"},
		{0, 1, "3.00<br>1.50×<br>failed 1×"}, // by the first round alone
		{1, 1, "7.00<br>failed 1×"},
	} {
		if got := got[0].Columns[c.column].Cells[c.peer].text("a"); got != c.want {
			t.Errorf("column %d, candidate %d: got %q, want %q", c.column, c.peer, got, c.want)
		}
	}
}

func TestReportNamesWhatFailedAndWhoIsMissing(t *testing.T) {
	r := result{Machine: thisMachine(20000), Command: "go run .", Rounds: 2, Base: "a", Subject: "a", Sections: sections(testSettings, testSamples), Samples: testSamples}
	got := markdown(testSettings, r, "")
	for _, want := range []string{
		"* w, b, round 2: 9 of 10 arrived\n",
		"Not here, without legs: limit.\n",
		"| a | 3.00 (2.00–4.00) | 1.00 (1.00–1.00) |\n",
		"* limit: three; every second round only",
		"at most 20,000 open files per process",
		"`go run .`",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwithout %q", got, want)
		}
	}
	if got := failures(testSamples[:2]); !strings.HasPrefix(got, "None") {
		t.Errorf("without a failure: got %q", got)
	}
	if err := failed("b", testSamples); err == nil {
		t.Error("a failed run of the subject: got no error")
	}
	if err := failed("a", testSamples); err != nil {
		t.Errorf("a failed run of another: got %v", err)
	}
}

func TestEveryChartIsXMLWithALinePerCandidate(t *testing.T) {
	var s settings
	s.peers, s.rounds, s.base, s.works = testPeers[:2], 1, "a", allWorks
	s.scale = tiny
	var samples []sample
	for _, w := range allWorks {
		for i, p := range s.peers {
			got := sample{Work: w.name, Peer: p.name, Figures: figures{}}
			for k, r := range w.rows {
				got.Figures[r.name] = math.Pow(10, float64(k+i))
			}
			samples = append(samples, got)
		}
	}
	for i := range allWorks { // of works that the test's candidates cannot do, too
		w := *allWorks[i]
		w.can = nil
		s.works = append(s.works[:i:i], append([]*work{&w}, s.works[i+1:]...)...)
	}
	r := result{Base: "a", Subject: "a", Rounds: 1, Sections: sections(s, samples)}
	charts := plots(s.scale, r)
	if len(charts) != 4 {
		t.Fatalf("got %d charts, want 4", len(charts))
	}
	for _, c := range charts {
		text := c.svg(r)
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s is no XML: %v", c.name, err)
			}
		}
		if got := strings.Count(text, ">a</text>"); got != len(c.panels) {
			t.Errorf("%s: got %d lines of a, want one in each of %d panels", c.name, got, len(c.panels))
		}
		for _, bad := range []string{"NaN", "Inf", "{"} {
			if body := text[strings.Index(text, "</style>"):]; strings.Contains(body, bad) {
				t.Errorf("%s has %q in it", c.name, bad)
			}
		}
	}
	if got := plots(s.scale, result{}); len(got) != 0 {
		t.Errorf("without figures: got %d charts, want 0", len(got))
	}
}

func TestSummaryHasTheBaseAndHowManyTimesTheOthersTake(t *testing.T) {
	w := *echoWork
	s := testSettings
	s.works = []*work{&w}
	samples := []sample{
		{Work: "echo", Peer: "a", Round: 0, Figures: figures{"echo-cpu": 2}}, {Work: "echo", Peer: "b", Round: 0, Figures: figures{"echo-cpu": 3}},
		{Work: "echo", Peer: "a", Round: 1, Figures: figures{"echo-cpu": 4}}, {Work: "echo", Peer: "b", Round: 1, Figures: figures{"echo-cpu": 14}},
		{Work: "echo", Peer: "limit", Round: 0, Failure: "lost"},
	}
	got := summary(s, result{Sections: sections(s, samples)})
	want := "| less is better | a | b | limit |\n|---|---|---|---|\n| CPU per request and reply | 3.00 µs | 2.50× | failed |\n\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := summary(s, result{}); got != "" {
		t.Errorf("without figures: got %q", got)
	}
}

func TestEveryHeadlineIsARow(t *testing.T) {
	rows := make(map[string]bool)
	for _, w := range allWorks {
		for _, r := range w.rows {
			rows[r.name] = true
		}
	}
	for _, h := range headlines {
		if !rows[h.figure] {
			t.Errorf("headline %q is no row of any work", h.figure)
		}
	}
}

func TestAxesHaveAFewRoundTicksInside(t *testing.T) {
	for _, most := range []float64{0.03, 0.7, 1, 1.9, 2, 4.99, 5, 9.9, 14, 33_000} {
		if got := linearTicks(most); len(got) < 2 || len(got) > 6 || got[len(got)-1] > most {
			t.Errorf("linear to %v: got %v", most, got)
		}
	}
	for _, c := range [][2]float64{{100, 250}, {90, 20_000}, {1, 1e7}, {7, 11}} {
		got := logTicks(c[0], c[1])
		if len(got) < 1 || len(got) > 8 || got[0] < c[0] || got[len(got)-1] > c[1] || !slices.IsSorted(got) {
			t.Errorf("logarithmic from %v to %v: got %v", c[0], c[1], got)
		}
	}
}

func TestThousandsAreSetApart(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1_020_030: "1,020,030"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
