package redistest

import (
	"os/exec"
	"runtime"
	"sync"
)

// process is a running program. One that is not killed any more by its test dies
// with this process, where the system can see to that.
type process struct {
	command *exec.Cmd
	said    *tail
	ended   chan struct{} // closed when it is gone and waited for
}

// startProcess starts a program. One goroutine stays on the thread that did so
// until the program has ended: Linux kills the child when its parent's thread is
// gone, not its parent.
func startProcess(name string, arguments ...string) (*process, error) {
	p := &process{command: exec.Command(name, arguments...), said: &tail{}, ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = p.said, p.said
	dieWithParent(p.command)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err != nil {
			return
		}
		_ = p.command.Wait() // that it was killed is no news
		close(p.ended)
	}()
	return p, <-started
}

// kill ends it, also when it is paused, and waits for its end.
func (p *process) kill() {
	_ = p.command.Process.Kill() // an error means that it has ended
	<-p.ended
}

func (p *process) log() string { return p.said.String() }

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex // guards the following
	text []byte
}

// tailBytes is enough for what a server says before it gives up.
const tailBytes = 16 << 10

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append([]byte(nil), t.text[over:]...)
	}
	return len(text), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
