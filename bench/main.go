// Command bench measures realtime against its peers and against the least that
// is possible on the machine. See README.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// counterFD is where both children find the shared page.
const counterFD = 3

func main() {
	var err error
	switch role := os.Getenv("BENCH_ROLE"); {
	case role == "load":
		err = loadMain(os.Stdout)
	case strings.HasPrefix(role, "serve "):
		err = serveMain(strings.TrimPrefix(role, "serve "), false, os.Stdin, os.Stdout)
	case strings.HasPrefix(role, "compress "):
		err = serveMain(strings.TrimPrefix(role, "compress "), true, os.Stdin, os.Stdout)
	default:
		err = driverMain()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags() (settings, error) {
	var s settings
	var works, names string
	quick := flag.Bool("quick", false, "small sizes, few rounds, works and candidates: under two minutes with the build")
	flag.IntVar(&s.rounds, "rounds", 0, "interleaved rounds (default 5, with -quick 2)")
	flag.StringVar(&works, "works", "", "works to run, separated by commas (default all, with -quick "+quickWorks+"): "+strings.Join(workNames(), ", "))
	flag.StringVar(&names, "peers", "", "candidates, separated by commas, or all (default all but variants, with -quick "+quickPeers+"): "+strings.Join(peerNames(), ", "))
	flag.StringVar(&s.base, "base", "realtime", "candidate that ratios are taken to")
	flag.StringVar(&s.subject, "subject", "realtime", "candidate that is held against the bars")
	flag.IntVar(&s.scale.members, "members", 0, "members of one topic (default 1000)")
	flag.IntVar(&s.scale.many, "many", 0, "members of a large topic (default 10000)")
	flag.IntVar(&s.scale.topics, "topics", 0, "topics of ten members (default 1000)")
	flag.IntVar(&s.scale.idle[1], "idle", 0, "most idle connections (default what the limit of open files allows, less 1000)")
	flag.IntVar(&s.scale.conns, "conns", 0, "handshakes and churns (default 2000)")
	flag.DurationVar(&s.scale.span, "span", 0, "time of one measurement (default 400ms, with -quick 200ms)")
	flag.StringVar(&s.out, "out", "results", "folder for the results, \"\" for none")
	flag.StringVar(&s.name, "name", "", "name of the result files (default latest, with -quick quick)")
	flag.DurationVar(&s.limit, "limit", 0, "start no measurement after this time (default 12m30s, with -quick 55s)")
	flag.Parse()
	if flag.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	files, err := raiseFiles()
	if err != nil {
		return s, err
	}
	s.files = files
	defaults := scale{members: 1000, many: 10000, topics: 1000, conns: 2000, span: 400 * time.Millisecond}
	defaults.idle[1] = int(min(files, maxIdle)) - ownFiles
	rounds, name, limit := 5, "latest", 12*time.Minute+30*time.Second
	if *quick {
		defaults = scale{members: 300, many: 2000, topics: 200, idle: [2]int{0, 1500}, conns: 500, span: 200 * time.Millisecond}
		rounds, name, limit = 2, "quick", 55*time.Second
		works, names = orDefault(works, quickWorks), orDefault(names, quickPeers)
	}
	s.rounds, s.name, s.limit = orDefault(s.rounds, rounds), orDefault(s.name, name), orDefault(s.limit, limit)
	s.scale.members, s.scale.many = orDefault(s.scale.members, defaults.members), orDefault(s.scale.many, defaults.many)
	s.scale.topics, s.scale.span = orDefault(s.scale.topics, defaults.topics), orDefault(s.scale.span, defaults.span)
	s.scale.conns = orDefault(s.scale.conns, defaults.conns)
	s.scale.idle[1] = orDefault(s.scale.idle[1], defaults.idle[1])
	s.scale.idle[0] = min(10000, s.scale.idle[1]*2/3)
	return s, s.choose(orDefault(works, "all"), names)
}

// What -quick runs: the library, its limits and the peers that there are bars
// against and that build fast, at the works whose connections are few.
const (
	quickWorks = "fanout,rate,topics,compression,echo,handshake,idle,stall"
	quickPeers = "realtime,limitco,limit,gws,naive"
)

// A process needs files for other things than clients, and more clients than
// maxIdle tell nothing new, they take long.
const (
	ownFiles = 1000
	maxIdle  = 51000
)

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// choose resolves the names of works and candidates.
func (s *settings) choose(works, names string) error {
	for _, w := range allWorks {
		if works == "all" || listed(works, w.name) {
			s.works = append(s.works, w)
		}
	}
	if works != "all" && len(s.works) != len(strings.Split(works, ",")) {
		return fmt.Errorf("-works %s: known are %s", works, strings.Join(workNames(), ", "))
	}
	for _, p := range inOrder() {
		switch {
		case names == "" && p.variant, names != "" && names != "all" && !listed(names, p.name):
		case p.argv != nil && p.argv() == nil:
			fmt.Fprintf(os.Stderr, "SKIPPED: %s: what it needs is not installed\n", p.name)
		default:
			s.peers = append(s.peers, p)
		}
	}
	if len(s.peers) == 0 || names != "" && names != "all" && len(s.peers) != len(strings.Split(names, ",")) {
		return fmt.Errorf("-peers %s: known are %s", names, strings.Join(peerNames(), ", "))
	}
	return nil
}

func listed(list, name string) bool {
	return strings.Contains(","+list+",", ","+name+",")
}

func peerNames() (names []string) {
	for _, p := range inOrder() {
		names = append(names, p.name)
	}
	return names
}
