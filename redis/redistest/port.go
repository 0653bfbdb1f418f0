package redistest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports of the servers. They are below those that systems give to outgoing
// connections: a client that dials a dead server again and again would otherwise be
// given the server's own port one day, and be connected to itself. 10000 above each
// is the port on which the nodes of a cluster talk.
const (
	firstPort = 12000
	lastPort  = 21999
	busOffset = 10000
)

// freePort returns a port on which nobody listens, nor on its bus.
func freePort() (int, error) {
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if free(port) && free(port+busOffset) {
			return port, nil
		}
	}
	return 0, errors.New("no free port")
}

func free(port int) bool {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
