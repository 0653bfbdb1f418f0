package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"time"
)

// sample is one candidate's figures of one work in one round.
type sample struct {
	Work    string  `json:"work"`
	Peer    string  `json:"peer"`
	Round   int     `json:"round"`
	Figures figures `json:"figures,omitempty"`
	Failure string  `json:"failure,omitempty"`
	Seconds float64 `json:"seconds"` // all of it, with starting and connecting
}

func driverMain() error {
	runtime.LockOSThread() // children die with the thread that started them
	s, err := parseFlags()
	if err != nil {
		return err
	}
	start := time.Now()
	allBefore, ownBefore := busy()
	samples := runRounds(s, start)
	all, own := busy()
	others := float64((all-allBefore)-(own-ownBefore)) / float64(time.Since(start)) / float64(runtime.NumCPU())
	m := thisMachine(s.files)
	m.Others = max(0, others)
	if err := writeResults(s, samples, start, m); err != nil {
		return err
	}
	return failed(s.subject, samples)
}

// failed is an error when a run of the subject was one. What others lose is
// theirs, and stands in the report.
func failed(subject string, samples []sample) error {
	n := 0
	for _, one := range samples {
		if one.Peer == subject && one.Failure != "" {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d runs of %s failed, as the report says", n, subject)
	}
	return nil
}

// runRounds runs every work in every round. Within a round the candidates follow
// each other closely, each time in another order, so that what disturbs the
// machine for a while disturbs them alike.
func runRounds(s settings, start time.Time) (samples []sample) {
	for round := range s.rounds {
		for _, w := range s.works {
			for i := range s.peers {
				p := s.peers[(i+round)%len(s.peers)]
				if !w.has(p) || round%max(w.every, 1) != 0 || round%max(p.every, 1) != 0 {
					continue
				}
				if time.Since(start) > s.limit {
					fmt.Fprintln(os.Stderr, "bench: out of time, the rest is left out")
					return samples
				}
				samples = append(samples, runOne(w, p, round, s.scale))
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d, %v\n", round+1, s.rounds, time.Since(start).Round(time.Second))
	}
	return samples
}

func runOne(w *work, p *peer, round int, size scale) sample {
	out := sample{Work: w.name, Peer: p.name, Round: round}
	start := time.Now()
	x, err := startPair(p, w.compress)
	if err == nil {
		defer x.stop()
		out.Figures, err = w.run(x, size)
	}
	out.Seconds = time.Since(start).Seconds()
	for name, v := range out.Figures {
		if math.IsNaN(v) || math.IsInf(v, 0) { // JSON cannot hold it, and it says nothing
			err = fmt.Errorf("%s: nothing was measured", name)
		}
	}
	if err != nil {
		out.Figures, out.Failure = nil, err.Error()
		fmt.Fprintf(os.Stderr, "%s, %s: %v\n", w.name, p.name, err)
	}
	return out
}

// series returns one value per round, NaN where the candidate has none.
func series(samples []sample, rounds int, peer, figure string) []float64 {
	values := make([]float64, rounds)
	for i := range values {
		values[i] = math.NaN()
	}
	for _, s := range samples {
		if v, ok := s.Figures[figure]; ok && s.Peer == peer {
			values[s.Round] = v
		}
	}
	return values
}
