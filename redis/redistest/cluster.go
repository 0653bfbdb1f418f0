package redistest

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Cluster is a Redis Cluster of three masters without replicas.
type Cluster struct {
	Masters [3]*Server
}

// NewCluster starts three servers with this configuration and makes them a cluster
// in which every slot is served. The caller calls Close.
func NewCluster(config ...string) (c *Cluster, err error) {
	c = &Cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	config = append([]string{"cluster-enabled yes", "cluster-node-timeout 2000"}, config...)
	for i := range c.Masters {
		if c.Masters[i], err = New(config...); err != nil {
			return c, err
		}
	}
	arguments := append([]string{"--cluster", "create"}, c.Addrs()...)
	if _, err = cli(c.Masters[0].Addr, append(arguments, "--cluster-yes")...); err != nil {
		return c, err
	}
	return c, c.Await()
}

// Addrs returns the addresses of the masters.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, one := range c.Masters {
		addrs = append(addrs, one.Addr)
	}
	return addrs
}

// Await returns when every master takes the cluster for whole.
func (c *Cluster) Await() error {
	return wait("the cluster", func(context.Context) error {
		for _, one := range c.Masters {
			said, err := cli(one.Addr, "CLUSTER", "INFO")
			if err != nil {
				return err
			}
			for _, want := range []string{"cluster_state:ok", "cluster_known_nodes:3", "cluster_size:3"} {
				if !strings.Contains(said, want) {
					return fmt.Errorf("no %s at %s", want, one.Addr)
				}
			}
		}
		return nil
	})
}

// Close ends the masters.
func (c *Cluster) Close() error {
	var errs []error
	for _, one := range c.Masters {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	return errors.Join(errs...)
}
