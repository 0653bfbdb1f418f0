package sqllog_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// postgresSource tells a process that a test starts where its server is.
const postgresSource = "SQLLOG_TEST_POSTGRES"

// postgres returns the data source of a PostgreSQL server: that of the
// environment, or one of our own that lives as long as the tests. It listens on a
// socket in a directory of its own and on no port.
func postgres(t testing.TB) string {
	t.Helper()
	if source := os.Getenv(postgresSource); source != "" {
		return source
	}
	source, err := startPostgres()
	switch {
	case errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true":
		t.Skip("SKIPPED: PostgreSQL is not installed")
	case err != nil:
		t.Fatalf("PostgreSQL: %v", err)
	}
	return source
}

var startPostgres = sync.OnceValues(func() (string, error) {
	initdb, err := findPostgres("initdb")
	if err != nil {
		return "", err
	}
	server, err := findPostgres("postgres")
	if err != nil {
		return "", err
	}
	as, err := postgresUser()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "sqllog")
	if err != nil {
		return "", err
	}
	atExit = append(atExit, func() { os.RemoveAll(dir) })
	if as != nil {
		if err := os.Chown(dir, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
			return "", err
		}
	}
	place := filepath.Join(dir, "db")
	make := exec.Command(initdb, "-D", place, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	make.SysProcAttr, make.Dir = as, dir
	if out, err := make.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	run := exec.Command(server, "-D", place, "-k", dir, "-c", "listen_addresses=")
	run.SysProcAttr, run.Dir = as, dir
	said, err := run.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := run.Start(); err != nil {
		return "", err
	}
	atExit = append(atExit, func() {
		run.Process.Signal(syscall.SIGINT) // fast: it does not wait for clients
		run.Wait()
	})
	if err := awaitReady(said); err != nil {
		return "", err
	}
	return "host=" + dir + " user=postgres dbname=postgres sslmode=disable", nil
})

// awaitReady reads what the server says until it serves, and discards the rest.
func awaitReady(said io.ReadCloser) error {
	late := time.AfterFunc(time.Minute, func() { said.Close() })
	defer late.Stop()
	var all strings.Builder
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "ready to accept connections") {
			go io.Copy(io.Discard, said)
			return nil
		}
		all.WriteString(lines.Text() + "\n")
	}
	return fmt.Errorf("the server does not start: %s", &all)
}

// findPostgres looks in the path, and where Debian puts what is not there: the
// newest version.
func findPostgres(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
	}
	return slices.Max(found), nil
}

// postgresUser is whom the server runs as: it refuses to be root.
func postgresUser() (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// atExit is what is to be done after the tests, the last first.
var atExit []func()

func TestMain(m *testing.M) {
	code := m.Run()
	for _, f := range slices.Backward(atExit) {
		f()
	}
	os.Exit(code)
}
