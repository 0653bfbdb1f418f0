package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what the figures depend on, and nothing that names the machine.
type machine struct {
	Cores  int     `json:"cores"`
	Model  string  `json:"model"`
	Kernel string  `json:"kernel"`
	Go     string  `json:"go"`
	Files  uint64  `json:"files"`  // the most open files of a process
	Others float64 `json:"others"` // share of the cores that other processes used meanwhile
}

func thisMachine(files uint64) machine {
	m := machine{Cores: runtime.NumCPU(), Model: cpuModel(), Kernel: "unknown", Files: files,
		Go: fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel, _, _ = strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	}
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("%d cores (%s), Linux %s, %s, at most %s open files per process, loopback",
		m.Cores, m.Model, m.Kernel, m.Go, thousands(int(m.Files)))
}

// cpuModel is "unknown" where the kernel does not tell, as on ARM.
func cpuModel() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
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
