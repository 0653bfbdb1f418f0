//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime/examples/internal/web"
)

// guest is a client of realtime.v1 that does one thing after the other.
type guest struct {
	*wire
	t *testing.T
}

func newGuest(t *testing.T, base, user string) *guest {
	t.Helper()
	token, err := mint(user, "")
	if err != nil {
		t.Fatal(err)
	}
	w, err := dialWire(t.Context(), base, "/ws", "realtime.v1", "bearer."+token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.hangUp)
	return &guest{w, t}
}

func (g *guest) send(text string) {
	g.t.Helper()
	if err := g.write(g.t.Context(), text); err != nil {
		g.t.Fatal(err)
	}
}

// want reads up to the first message of a type.
func (g *guest) want(kind string) frame {
	g.t.Helper()
	for {
		select {
		case text, ok := <-g.frames:
			var f frame
			if !ok {
				g.t.Fatalf("the connection ended before %s", kind)
			}
			if err := json.Unmarshal(text, &f); err != nil {
				g.t.Fatal(err)
			}
			if f.Type == kind {
				return f
			}
		case <-time.After(patience):
			g.t.Fatalf("no %s came", kind)
		}
	}
}

// enters joins a room and returns the node, the epoch and the recovery.
func (g *guest) enters(room, data string) (node, epoch, recovery string) {
	g.t.Helper()
	g.send(fmt.Sprintf(`{"channel":%q,"type":"subscribe","ref":"1","data":%s}`, room, data))
	var in struct {
		Epoch, Recovery string
		Response        struct{ Node string }
	}
	if err := json.Unmarshal(g.want("subscription_success").Data, &in); err != nil {
		g.t.Fatal(err)
	}
	return in.Response.Node, in.Epoch, in.Recovery
}

// press presses a button.
func (s *site) press(t *testing.T, path string, want int) {
	t.Helper()
	answer, err := http.Post(s.base+"/cluster/"+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != want {
		t.Errorf("%s: got %d, want %d", path, answer.StatusCode, want)
	}
}

func TestEveryConnectionGoesToTheNextNodeAndAllHearAll(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	on := map[string]bool{}
	var guests []*guest
	for i := range 3 {
		g := newGuest(t, s.base, fmt.Sprint("guest", i))
		node, _, _ := g.enters("room:a", "{}")
		on[node] = true
		guests = append(guests, g)
	}
	if len(on) != 3 {
		t.Fatalf("three connections are on %v, want three nodes", on)
	}
	guests[0].send(`{"channel":"room:a","type":"say","data":{"text":"hello"}}`)
	for _, g := range guests {
		if f := g.want("said"); f.Offset != 1 || !strings.Contains(string(f.Data), "hello") {
			t.Errorf("got %+v, want the first event", f)
		}
	}
}

func TestWhoComesBackOnAnotherNodeGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	stays, goes := newGuest(t, s.base, "stays"), newGuest(t, s.base, "goes")
	staysOn, epoch, _ := stays.enters("room:b", "{}")
	goesOn, _, _ := goes.enters("room:b", "{}")
	if staysOn == goesOn {
		t.Fatalf("both are on %s", goesOn)
	}
	s.press(t, "nodes/"+goesOn+"/kill", http.StatusNoContent)
	s.press(t, "nodes/"+goesOn+"/kill", http.StatusConflict)
	for range 3 {
		stays.send(`{"channel":"room:b","type":"say","data":{"text":"hello"}}`)
		stays.want("said")
	}
	back := newGuest(t, s.base, "goes")
	node, _, recovery := back.enters("room:b", fmt.Sprintf(`{"recover":{"epoch":%q,"offset":0}}`, epoch))
	if node != staysOn || recovery != "replayed" {
		t.Errorf("back on %s with %s, want %s and replayed", node, recovery, staysOn)
	}
	for n := uint64(1); n <= 3; n++ {
		if f := back.want("said"); f.Offset != n {
			t.Errorf("got offset %d, want %d", f.Offset, n)
		}
	}
	s.press(t, "nodes/"+goesOn+"/start", http.StatusNoContent)
	s.press(t, "nodes/nobody/start", http.StatusNotFound)
}

func TestButtonsAreNotForForeignPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/cluster/redis/flush", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("got %d, want 403", answer.StatusCode)
	}
}

func TestPageLoadsUnderItsPolicyAndMakesNoMarkup(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	err := fs.WalkDir(pageFiles, "page", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := pageFiles.ReadFile(path)
		for _, door := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"} {
			if strings.Contains(string(text), door) {
				t.Errorf("%s uses %s", path, door)
			}
		}
		if err != nil {
			return err
		}
		answer, err := http.Get(s.base + strings.TrimSuffix(strings.TrimPrefix(path, "page"), "index.html"))
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Security-Policy") != web.Policy {
			t.Errorf("%s: got %d under %q", path, answer.StatusCode, answer.Header.Get("Content-Security-Policy"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWithoutRedisItSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", "")
	err := run(t.Context(), []string{"-addr", "127.0.0.1:0"}, strings.NewReader(""), io.Discard, io.Discard)
	if !errors.Is(err, errNoRedis) || !strings.Contains(err.Error(), "-redis") {
		t.Errorf("got %v, want what to install", err)
	}
}

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-nodes", "0"}, {"-nodes", "99"}, {"extra"}, {"-nonsense"}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), strings.NewReader(""), io.Discard, io.Discard)
		if err == nil || ctx.Err() != nil {
			t.Errorf("%v: got %v, want an error at once", args, err)
		}
		cancel()
	}
}

// The whole program, whose nodes drain when it is told to end.
func TestInterruptEndsEverything(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		newSite(t, 1) // which skips
	}
	t.Setenv(childVariable, "1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-addr", "127.0.0.1:0", "-nodes", "2"}, strings.NewReader(""), stdout, io.Discard)
		stdout.CloseWithError(errors.Join(io.ErrUnexpectedEOF, err))
		ended <- err
	}()
	said, err := bufio.NewReader(out).ReadString('\n')
	base, ok := strings.CutPrefix(strings.TrimSpace(said), "listening on ")
	if err != nil || !ok {
		t.Fatalf("it said %q (%v), want its address", said, err)
	}
	g := newGuest(t, base, "ada")
	g.want("connected")
	cancel()
	if f := g.want("closing"); !strings.Contains(string(f.Data), `"shutdown"`) {
		t.Errorf("got %s, want shutdown", f.Data)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("run returned %v, want nil", err)
		}
	case <-time.After(2 * patience):
		t.Error("it is still running")
	}
}
