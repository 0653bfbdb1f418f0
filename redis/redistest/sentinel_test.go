package redistest_test

import (
	"testing"

	"github.com/seed-58bc6ac1/realtime/redis/redistest"
)

func TestReplicaHasWhatItsMasterHas(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	put(t, master, "1")
	wantValue(t, redistest.StartReplica(t, master), "1")
}

func TestFailoverMakesTheReplicaMaster(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	put(t, s.Servers[0], "1")
	if err := s.Failover(); err != nil {
		t.Fatal(err)
	}
	master, err := s.Master()
	if err != nil {
		t.Fatal(err)
	}
	if master != s.Servers[1] {
		t.Errorf("the master is %s, want %s", master.Addr, s.Servers[1].Addr)
	}
	put(t, master, "2")
}

func TestDeathOfTheMasterIsAFailover(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	s.Servers[0].Kill()
	if err := s.AwaitMaster(s.Servers[1]); err != nil {
		t.Fatal(err)
	}
	put(t, s.Servers[1], "1")
}

func TestClusterServesEverySlot(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	seen := map[string]bool{}
	for _, key := range []string{"a", "b", "c"} { // one for each master
		if _, err := c.Masters[0].CLI("-c", "SET", key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, master := range c.Masters {
		size, err := master.CLI("DBSIZE")
		if err != nil {
			t.Fatal(err)
		}
		seen[size] = true
	}
	if len(seen) != 1 || !seen["1"] {
		t.Errorf("the masters have %v keys each, want 1", seen)
	}
}
