package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// clientDir has the driver with which containers of the Fluid Framework use a server
// of documents, and what they do then.
const clientDir = "../../interop/fluid"

// containerPatience is how long the containers of one check may take. Those that
// restart the server wait for their own timers.
const containerPatience = 3 * time.Minute

// containerRuns is how many processes of them there may be at a time: each keeps a
// core busy.
var containerRuns = make(chan struct{}, 2)

// needContainers skips the test where there is no node or no package, unless CI says
// that there has to be.
func needContainers(t *testing.T) {
	t.Helper()
	missing := t.Skipf
	if os.Getenv("CI") == "true" {
		missing = t.Fatalf
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing("NOT CHECKED: %v", err)
	}
	if _, err := os.Stat(clientDir + "/node_modules"); errors.Is(err, fs.ErrNotExist) {
		missing("NOT CHECKED: run npm ci in interop/fluid first")
	}
}

// containers has the containers of one check use a running program.
func (s *site) containers(t *testing.T, check string, args ...string) {
	t.Helper()
	containerRuns <- struct{}{}
	defer func() { <-containerRuns }()
	ctx, cancel := context.WithTimeout(t.Context(), containerPatience)
	defer cancel()
	args = append([]string{"run.mjs", s.base, "--only", check, "--tenant", "acme:" + secretOne}, args...)
	node := exec.CommandContext(ctx, "node", args...)
	node.Dir = clientDir
	node.WaitDelay = time.Second
	output, err := node.CombinedOutput()
	if err = errors.Join(err, ctx.Err()); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if !bytes.Contains(output, []byte("PASS")) {
		t.Fatalf("nothing was checked:\n%s", output)
	}
	t.Logf("\n%s", output)
}

func checkContainers(t *testing.T, number string) {
	t.Helper()
	needContainers(t)
	check(t).containers(t, number)
}

func TestCheck124_ContainersShareADocument(t *testing.T) { checkContainers(t, "124") }
func TestCheck125_NackedContainerComesBack(t *testing.T) { checkContainers(t, "125") }
func TestCheck127_LongDocumentLoads(t *testing.T)        { checkContainers(t, "127") }
func TestCheck129_ContainersShareADocumentOverMessagePack(t *testing.T) {
	checkContainers(t, "129")
}

func TestCheck128_ContainerLoadsFromTheLastSummary(t *testing.T) {
	checkContainers(t, "128")
}

// The connection is also lost because the process is killed, and started again with
// what is on disk.
func TestCheck126_LostContainerComesBack(t *testing.T) {
	needContainers(t)
	t.Parallel()
	directory := t.TempDir()
	first := spawn(t, directory)
	var mu sync.Mutex
	running := first
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		running.kill()
		running = spawn(t, directory)
		_, _ = io.WriteString(w, running.base) // who does not read it fails the check
	}))
	defer control.Close()
	first.containers(t, "126", "--control", control.URL)
}
