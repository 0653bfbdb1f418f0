package main

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// A peer is one candidate: a library under test with the few lines that make
// it an echo and topic server. Each has one file, which calls register in init.
type peer struct {
	name string
	note string // how it was configured, shown under the table

	// start is called once, in a process of its own; compress is for the work that
	// measures permessage-deflate, and set only if compresses says so.
	start      func(compress bool) (server, error)
	compresses bool

	// argv, in place of start, runs a server that is not written in Go. It speaks
	// the control protocol of serve.go on its stdin and stdout. nil means that
	// what it needs is not installed.
	argv func() []string

	speak dialect

	// document is what the clients of documents say, with connect_document as the
	// last hello; nil if the candidate has none.
	document *dialect

	// works lists the works that the candidate takes part in, nil for all. every
	// leaves out rounds, as it does in a work: their time is for the candidates
	// against which there are most bars.
	works []string
	every int

	variant bool // of another candidate, which runs only when it is asked for
}

// server is a running candidate.
type server interface {
	// Serve accepts clients until the process ends.
	Serve(l net.Listener) error

	// Publish sends payload, a JSON object, to every member of the topic in the
	// candidate's own envelope. It may return before the sockets have taken it. It
	// is called by one goroutine. payload is the callee's to keep.
	Publish(topic int, payload []byte)
}

// dialect is what the load generator must know to be a client. In Path, Hello,
// Join and Leave "{topic}" stands for the number of the topic, in Echo
// "{payload}" for the inner JSON.
type dialect struct {
	Path        string   // of the handshake request, with its query
	Subprotocol string   // "" for none
	Header      []string // more header lines, without line ends
	Hello       []string // text messages to send after the handshake
	Ready       string   // a text that is part of the message that says "joined"; "" if there is none
	Echo        string   // a request that is answered by exactly one message
	Join, Leave string   // the same for one topic of a client that has joined; "" if the protocol has no such messages
	Authors     bool     // Ready is in connect_document_success: the clients follow and submit ops
	Lines       bool     // one frame may hold several messages, separated by line feeds
	Ping, Pong  string   // the dialect's own heartbeat: a message and its answer
}

var peers []*peer

func register(p *peer) { peers = append(peers, p) }

// inOrder puts the library and the limits first; the others follow by name of file.
func inOrder() []*peer {
	first := []string{"limit", "limitco", "realtime"} // backwards, so that -1 sorts last
	sorted := slices.Clone(peers)
	slices.SortStableFunc(sorted, func(a, b *peer) int {
		return cmp.Compare(slices.Index(first, b.name), slices.Index(first, a.name))
	})
	return sorted
}

func findPeer(name string) *peer {
	for _, p := range peers {
		if p.name == name {
			return p
		}
	}
	return nil
}

// raw is the dialect of the candidates without a protocol of their own: the
// query names the topic, a message comes back as it is.
var raw = dialect{Path: "/ws?topic={topic}", Echo: "{payload}"}

// members counts who has joined. Only candidates whose dialect has no Ready
// text need it: their clients cannot see when the join is done.
var members atomic.Int64

// rooms are the topics of candidates that have none of their own.
type rooms[C comparable] struct {
	mu     sync.RWMutex
	topics map[int][]C
}

func (r *rooms[C]) join(topic int, c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.topics == nil {
		r.topics = make(map[int][]C)
	}
	r.topics[topic] = append(r.topics[topic], c)
	members.Add(1)
}

// leave is safe to call twice.
func (r *rooms[C]) leave(topic int, c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.topics[topic]
	for i := range list {
		if list[i] == c {
			last := len(list) - 1
			list[i] = list[last]
			clear(list[last:])
			r.topics[topic] = list[:last]
			members.Add(-1)
			return
		}
	}
}

// each calls f for every member of the topic, with the lock held for reading.
func (r *rooms[C]) each(topic int, f func(C)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, c := range r.topics[topic] {
		f(c)
	}
}

// serveHTTP serves h on l as a plain net/http application would.
func serveHTTP(l net.Listener, h http.HandlerFunc) error {
	return (&http.Server{Handler: h}).Serve(l)
}

// topicOf reads the topic of the raw dialect.
func topicOf(r *http.Request) int {
	n, _ := strconv.Atoi(r.URL.Query().Get("topic")) // the load sends numbers only
	return n
}
