package main

import (
	"context"
	"os"
	"os/exec"
	"testing"
)

// childVariable makes the test binary be the program.
const childVariable = "DOCUMENT_EXAMPLE_CHILD"

// child is the program as a process of its own, that can be killed.
type child struct {
	*site
	command *exec.Cmd
	stop    context.CancelFunc
}

// spawn starts it with a durable log.
func spawn(t *testing.T, directory string) *child {
	t.Helper()
	return spawnWith(t, storeFlags(t, directory)...)
}

// spawnWith starts it with flags that say where its documents are.
func spawnWith(t *testing.T, where ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &child{stop: cancel}
	args := append(append([]string{"-addr", "127.0.0.1:0"}, where...), tenantFlags()...)
	c.command = exec.CommandContext(ctx, self, args...)
	c.command.Env = append(os.Environ(), childVariable+"=1")
	log := &lines{}
	c.command.Stderr = log
	out, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("log of the process:\n%s", log)
		}
	})
	c.site = &site{base: listening(t, out)}
	return c
}

// kill ends the process as kill -9 does, and waits for its end.
func (c *child) kill() {
	c.stop()
	_ = c.command.Wait() // which says that it was killed, or that it had ended
}
