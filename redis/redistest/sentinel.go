package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// NewReplica starts a replica of a server and returns when the two are in step.
func NewReplica(of *Server, config ...string) (*Server, error) {
	host, port, err := net.SplitHostPort(of.Addr)
	if err != nil {
		return nil, err
	}
	s, err := New(append([]string{"replicaof " + host + " " + port}, config...)...)
	if err != nil {
		return nil, err
	}
	err = wait("replication", func(context.Context) error { return role(s, "master_link_status:up") })
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// masterName is under what name the sentinels know the master.
const masterName = "redistest"

// Sentinel is a master with a replica, watched by three sentinels.
type Sentinel struct {
	Name      string     // of the master, for clients that ask a sentinel
	Servers   [2]*Server // the one that was master at first, and its replica
	Sentinels [3]*Server
}

// NewSentinel starts a master and a replica with this configuration, and three
// sentinels that take the master for dead after a second without an answer. The
// caller calls Close.
func NewSentinel(config ...string) (s *Sentinel, err error) {
	s = &Sentinel{Name: masterName}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.Servers[0], err = New(config...); err != nil {
		return s, err
	}
	if s.Servers[1], err = NewReplica(s.Servers[0], config...); err != nil {
		return s, err
	}
	for i := range s.Sentinels {
		if s.Sentinels[i], err = watcher(s.Servers[0].Addr); err != nil {
			return s, err
		}
	}
	return s, s.ready()
}

// watcher starts one sentinel.
func watcher(master string) (*Server, error) {
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return nil, err
	}
	name := masterName
	return start([]string{"--sentinel"},
		fmt.Sprintf("sentinel monitor %s %s %s 2", name, host, port),
		fmt.Sprintf("sentinel down-after-milliseconds %s 1000", name),
		fmt.Sprintf("sentinel failover-timeout %s 6000", name))
}

// ready waits until every sentinel knows the replica and the other sentinels.
func (s *Sentinel) ready() error {
	return wait("the sentinels to find each other", func(context.Context) error {
		for _, one := range s.Sentinels {
			said, err := cli(one.Addr, "SENTINEL", "MASTER", s.Name)
			if err != nil {
				return err
			}
			if field(said, "num-slaves") != "1" || field(said, "num-other-sentinels") != "2" || field(said, "flags") != "master" {
				return errors.New("not yet")
			}
		}
		return nil
	})
}

// field returns the value after a name in the lines of an answer.
func field(said, name string) string {
	lines := strings.Split(said, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		if strings.TrimSpace(lines[i]) == name {
			return strings.TrimSpace(lines[i+1])
		}
	}
	return ""
}

// Addrs returns the addresses of the sentinels.
func (s *Sentinel) Addrs() []string {
	var addrs []string
	for _, one := range s.Sentinels {
		addrs = append(addrs, one.Addr)
	}
	return addrs
}

// Master returns the server that most of the sentinels take for the master.
func (s *Sentinel) Master() (*Server, error) {
	votes := map[string]int{}
	for _, one := range s.Sentinels {
		said, err := cli(one.Addr, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name)
		if err != nil {
			return nil, err
		}
		votes[strings.Join(strings.Fields(said), ":")]++
	}
	for _, server := range s.Servers {
		if votes[server.Addr] >= 2 {
			return server, nil
		}
	}
	return nil, fmt.Errorf("the sentinels do not agree on a master: %v", votes)
}

// Failover has the sentinels make the other server the master, and returns when it
// is. Both live: it is some ten seconds before the old one has become a replica
// ([Sentinel.AwaitReplica]), and what it takes until then is lost. For a failover
// because of a death Kill the master and wait with [Sentinel.AwaitMaster].
func (s *Sentinel) Failover() error {
	old, err := s.Master()
	if err != nil {
		return err
	}
	err = wait("a sentinel that begins the failover", func(context.Context) error {
		_, err := cli(s.Sentinels[0].Addr, "SENTINEL", "FAILOVER", s.Name)
		return err
	})
	if err != nil {
		return err
	}
	return s.AwaitMaster(s.other(old))
}

func (s *Sentinel) other(than *Server) *Server {
	if than == s.Servers[0] {
		return s.Servers[1]
	}
	return s.Servers[0]
}

// AwaitMaster returns when this server is the master, in its own eyes and in those
// of most of the sentinels.
func (s *Sentinel) AwaitMaster(server *Server) error {
	return wait(server.Addr+" to become master", func(context.Context) error {
		now, err := s.Master()
		if err != nil {
			return err
		}
		if now != server {
			return errors.New("another one is")
		}
		return role(server, "role:master")
	})
}

// AwaitReplica returns when this server follows the master and is in step with it.
func (s *Sentinel) AwaitReplica(server *Server) error {
	return wait(server.Addr+" to become a replica", func(context.Context) error { return role(server, "master_link_status:up") })
}

// role returns an error unless a server says this about its replication.
func role(server *Server, want string) error {
	said, err := cli(server.Addr, "INFO", "replication")
	if err == nil && !strings.Contains(said, want) {
		err = fmt.Errorf("no %s", want)
	}
	return err
}

// all returns every server there is.
func (s *Sentinel) all() (all []*Server) {
	for _, one := range append(s.Sentinels[:], s.Servers[:]...) {
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

// Close ends all of them.
func (s *Sentinel) Close() error {
	var errs []error
	for _, one := range s.all() {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}
