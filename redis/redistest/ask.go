package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"time"
)

// patience bounds what takes a moment on an idle machine, and much longer on a
// busy one.
const patience = 30 * time.Second

// ask sends one command and returns the first line of the answer, such as +PONG.
func ask(ctx context.Context, addr, command string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			return "", err
		}
	}
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line), err
}

// cli runs redis-cli. With -e an error of the server is one of the command.
func cli(addr string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, "redis-cli", append([]string{"-e", "-h", host, "-p", port}, arguments...)...)
	out, err := command.CombinedOutput()
	text := strings.TrimSuffix(string(out), "\n")
	if err != nil {
		return text, fmt.Errorf("redis-cli %s: %w: %s", strings.Join(arguments, " "), err, text)
	}
	return text, nil
}

// permanent is an error that waiting does not mend.
type permanent struct{ error }

// wait calls try until it returns no error, for as long as patience lasts.
func wait(what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if errors.As(err, &permanent{}) {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
	}
}
