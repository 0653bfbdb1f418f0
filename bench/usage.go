package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"

	"golang.org/x/sys/unix"
)

// usage is what a server process has used so far, and what it holds now.
type usage struct {
	UserNS     int64  `json:"user_ns"`
	SysNS      int64  `json:"sys_ns"`
	RSS        uint64 `json:"rss"`
	Heap       uint64 `json:"heap"`
	Stack      uint64 `json:"stack"`
	Mallocs    uint64 `json:"mallocs"`
	Goroutines uint64 `json:"goroutines"`
	Members    int64  `json:"members"`
}

func (u usage) cpu() int64 { return u.UserNS + u.SysNS }

// usageNow reads the process's own counters. With gc it first collects twice,
// so that pools are empty too, and returns what is free to the system.
func usageNow(gc bool) (usage, error) {
	if gc {
		runtime.GC()
		runtime.GC()
		debug.FreeOSMemory()
	}
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return usage{}, fmt.Errorf("getrusage: %w", err)
	}
	rss, err := residentBytes()
	if err != nil {
		return usage{}, err
	}
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/gc/heap/allocs:objects"},
		{Name: "/gc/heap/tiny/allocs:objects"},
		{Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(samples)
	at := func(i int) uint64 { return samples[i].Value.Uint64() }
	return usage{
		UserNS: unix.TimevalToNsec(r.Utime), SysNS: unix.TimevalToNsec(r.Stime),
		RSS: rss, Heap: at(0), Stack: at(1), Mallocs: at(2) + at(3), Goroutines: at(4),
		Members: members.Load(),
	}, nil
}

// residentBytes reads smaps_rollup, which is exact; statm lags behind by up to
// some pages per thread.
func residentBytes() (uint64, error) {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, fmt.Errorf("resident size: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) == 3 && string(fields[0]) == "Rss:" {
			kib, err := strconv.ParseUint(string(fields[1]), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("resident size: no Rss line")
}

// raiseFiles lifts the soft limit of open files to the hard one and returns it.
func raiseFiles() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("open files: %w", err)
	}
	r.Cur = r.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("open files: %w", err)
	}
	return r.Cur, nil
}
