package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// clientPatience is how long a run of the published clients may take. It waits for
// their timers: up to 17 s for long polling.
const clientPatience = time.Minute

// clientRuns is how many runs there may be at a time. They wait most of the time, but
// some of what they check is how long something takes.
var clientRuns = make(chan struct{}, 4)

// published starts the program for the clients that Phoenix and Supabase publish,
// which interop/phoenix holds, and has the checks of that name hold for all
// versions.
func published(t *testing.T, check string, args ...string) {
	t.Helper()
	needClients(t)
	t.Parallel()
	s := start(t, args...)
	drive(t, s, check)
}

// drive runs the checks of that name against a running program.
func drive(t *testing.T, s *site, check string, args ...string) {
	t.Helper()
	clientRuns <- struct{}{}
	defer func() { <-clientRuns }()
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	defer cancel()
	node := exec.CommandContext(ctx, "node", append([]string{"run.mjs", s.base, "--only", check}, args...)...)
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

const clientDir = "../../interop/phoenix"

// needClients skips the test where there is no node or no package, unless CI says
// that there has to be.
func needClients(t *testing.T) {
	t.Helper()
	missing := t.Skipf
	if os.Getenv("CI") == "true" {
		missing = t.Fatalf
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing("NOT CHECKED: %v", err)
	}
	if _, err := os.Stat(clientDir + "/node_modules"); errors.Is(err, fs.ErrNotExist) {
		missing("NOT CHECKED: run npm ci in interop/phoenix first")
	}
}

func TestCheck120_PushBeforeTheSocketIsOpen(t *testing.T)    { published(t, "120") }
func TestCheck121_ArrayBufferIsAnsweredWithOne(t *testing.T) { published(t, "121") }
func TestCheck122_LeaveClosesOnce(t *testing.T)              { published(t, "122") }
func TestCheck123_CrashedChannelRejoins(t *testing.T)        { published(t, "123") }
func TestCheck124_StoppedChannelStaysClosed(t *testing.T)    { published(t, "124") }
func TestCheck125_RefusedJoinIsRetried(t *testing.T)         { published(t, "125") }
func TestCheck126_SecondChannelReplacesTheFirst(t *testing.T) {
	published(t, "126")
}
func TestCheck127_ForcedDisconnectReconnects(t *testing.T) { published(t, "127") }

func TestCheck128_RestartReconnects(t *testing.T) {
	needClients(t)
	t.Parallel()
	s := start(t)
	restarted := sync.OnceValue(func() *site { return start(t) })
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := s.interrupt(); err != nil {
			t.Errorf("run returned %v, want nil", err)
		}
		_, _ = io.WriteString(w, restarted().base) // who does not read it fails the check
	}))
	defer control.Close()
	drive(t, s, "128", "--control", control.URL)
}

func TestCheck129_AuthTokenArrives(t *testing.T) { published(t, "129") }
func TestCheck130_ClientStaysOnWebSocketWithoutLongPolling(t *testing.T) {
	published(t, "130")
}
func TestCheck131_HeartbeatsKeepTheClientConnected(t *testing.T) {
	published(t, "131", "-idle-timeout", "1s")
}
func TestCheck132_PresenceHasNoGhosts(t *testing.T)               { published(t, "132") }
func TestCheck133_LostConnectionRejoinsEveryChannel(t *testing.T) { published(t, "133") }

func TestSupabaseClients(t *testing.T)                 { published(t, "supabase") }
func TestPublishedClientsOfEveryProtocol(t *testing.T) { published(t, "protocols") }
func TestPublishedClientsThatPoll(t *testing.T)        { published(t, "longpoll", "-longpoll") }

// What the documentation says is checked is what package.json installs.
func TestDocumentationNamesTheVersionsOfTheClients(t *testing.T) {
	text, err := os.ReadFile(clientDir + "/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var installed struct{ Dependencies map[string]string }
	if err := json.Unmarshal(text, &installed); err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/protocols.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for alias, what := range installed.Dependencies {
		version := what[strings.LastIndexByte(what, '@')+1:]
		if !strings.HasPrefix(what, "npm:") { // no client under test
			continue
		}
		if !strings.HasSuffix(alias, "-"+version) {
			t.Errorf("%s is %s", alias, what)
		}
		if found++; !bytes.Contains(docs, []byte(version)) {
			t.Errorf("docs/protocols.md does not name %s", alias)
		}
	}
	if found < 6 {
		t.Errorf("package.json has %d clients under an alias with a version, want six or more", found)
	}
}
