package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// unavailable is err as the reason why something could not be done at the moment, with
// [realtime.ErrBrokerDown] in its chain.
func unavailable(doing string, err error) error {
	return fmt.Errorf("redis: %s: %w: %w", doing, realtime.ErrBrokerDown, err)
}

// weight is what an error says about the server.
type weight uint8

const (
	harmless weight = iota // nothing: the one command was wrong
	partial                // it refuses to store, but carries messages
	doubtful               // a connection is lost: another may be had at once
	fatal                  // it cannot be used
)

// refusals are the answers of a server that takes no commands, or no writes.
var refusals = []struct {
	prefix string
	weight weight
	hint   string
}{
	{"READONLY", fatal, "the server is a replica: a failover is under way, or the address is wrong"},
	{"LOADING", fatal, "the server is loading its data"},
	{"BUSY", fatal, "the server is busy with a script"},
	{"MASTERDOWN", fatal, "the server is a replica without its master"},
	{"CLUSTERDOWN", fatal, "the cluster is not complete"},
	{"TRYAGAIN", doubtful, "the cluster moves the slot"},
	{"MOVED", doubtful, "the cluster has moved the slot"},
	{"ASK", doubtful, "the cluster moves the slot"},
	{"UNBLOCKED", doubtful, "the server changes its role"},
	{"NOAUTH", fatal, "the server wants a password"},
	{"WRONGPASS", fatal, "the password is wrong"},
	{"NOPERM", fatal, "the user may not do this: it needs scripts, hashes, streams, strings, and channels"},
	{"OOM", partial, "the server's memory is full"},
	{"MISCONF", partial, "the server cannot save its data and takes none"},
	{"NOREPLICAS", partial, "the server has too few replicas and takes no data"},
}

// refusalOf finds what the server's answer means, nil if it is none of these. An error
// in a script begins with another word in front of its own.
func refusalOf(text string) (w weight, hint string) {
	for _, r := range refusals {
		if strings.HasPrefix(text, r.prefix) || strings.Contains(text, "-"+r.prefix+" ") {
			return r.weight, r.hint
		}
	}
	return harmless, ""
}

var errTimeout = errors.New("no answer in time")

// explain puts in words what the client and the server put in codes.
func explain(err error, timeout time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (%v)", errTimeout, timeout)
	}
	if answer, ok := rueidis.IsRedisErr(err); ok {
		if _, hint := refusalOf(answer.Error()); hint != "" {
			return fmt.Errorf("%s: %w", hint, err)
		}
	}
	return err
}

// severity says what an explained error means for the server's state.
func severity(err error) weight {
	var answer *rueidis.RedisError
	switch {
	case errors.Is(err, errTimeout):
		return fatal
	case errors.As(err, &answer):
		w, _ := refusalOf(answer.Error())
		return w
	case errors.Is(err, rueidis.ErrClosing):
		return fatal
	}
	return doubtful
}

// because returns err with its cause, which may be nil, in one line.
func because(err, cause error) error {
	if cause == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
