package realtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// relay takes requests to the node that they are for: a balancer may bring them to
// any. There is none (nil) on a node that is alone.
type relay struct {
	cluster *cluster

	mu      sync.Mutex // guards the following
	last    uint64
	open    map[uint64]*relayed   // requests that wait for another node
	running map[farRequest]func() // requests of other nodes: ends one
	servers []func(http.ResponseWriter, *http.Request) bool
}

// farRequest names a request of another node.
type farRequest struct {
	node string
	id   uint64
}

// relayed is a request that waits for the answer of another node.
type relayed struct {
	node   string      // by nodeBase
	answer chan []byte // has room for one; nil: there is nobody to answer
}

// relayHeaders are those that are sent along, in this order.
var relayHeaders = [...]string{"X-Phoenix-Longpoll-Token", "Content-Type"}

// maxRelayed bounds the requests of others that are served at the same time: as many
// as one node has sessions, at 10 s for a poll, and 100 MB if each took 2 KB.
const maxRelayed = 50_000

// maxRelayBody bounds a request's body, or an answer's.
const maxRelayBody = maxNodeBody - 4<<10

var (
	errRelayLong = errors.New("realtime: too long for another node")
	errRelayNode = errors.New("realtime: the node is not there")
	errRelayLate = errors.New("realtime: no answer from the node in time")
	errRelayNone = errors.New("realtime: the node knows nothing of it")
)

func newRelay(c *cluster) *relay {
	r := &relay{cluster: c, open: map[uint64]*relayed{}, running: map[farRequest]func(){}}
	c.handle(nodeRequest, r.requested)
	c.handle(nodeResponse, r.answered)
	c.handle(nodeAbandon, r.abandoned)
	return r
}

// serve has f asked whether it serves requests that other nodes send here: it
// returns false, at once, for one that it knows nothing of.
func (r *relay) serve(f func(http.ResponseWriter, *http.Request) bool) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers = append(r.servers, f)
}

// name is how requests for this node are marked, "" when it is alone.
func (r *relay) name() string {
	if r == nil {
		return ""
	}
	return r.cluster.name
}

// ask has the node called name answer a request, and returns the body. It waits until
// ctx ends, which the other node is told.
func (r *relay) ask(ctx context.Context, name string, req *http.Request) ([]byte, error) {
	to := r.find(name)
	if to == "" {
		return nil, errRelayNode
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxRelayBody+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxRelayBody:
		return nil, errRelayLong
	}
	id, one := r.begin(name)
	defer r.end(id)
	if !r.cluster.post(to, nodeRequest, appendRequest(id, req, body)) {
		return nil, ErrBrokerDown
	}
	select {
	case answer := <-one.answer:
		if answer == nil {
			return nil, errRelayNone
		}
		return answer, nil
	case <-ctx.Done():
		r.cluster.post(to, nodeAbandon, binary.AppendUvarint(nil, id))
		return nil, errRelayLate
	}
}

// find returns the id of a node that is there, "" if it is not.
func (r *relay) find(name string) string {
	if r == nil || name == r.cluster.name {
		return ""
	}
	for _, id := range r.cluster.nodes() {
		if nodeBase(id) == name {
			return id
		}
	}
	return ""
}

func (r *relay) begin(node string) (id uint64, one *relayed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	one = &relayed{node: node, answer: make(chan []byte, 1)}
	r.open[r.last] = one
	return r.last, one
}

func (r *relay) end(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, id)
}

func appendRequest(id uint64, req *http.Request, body []byte) []byte {
	fields := []string{req.Method}
	for _, name := range relayHeaders {
		fields = append(fields, req.Header.Get(name))
	}
	return append(appendRecord(binary.AppendUvarint(nil, id), fields...), body...)
}

// parseRequest is the way back.
func parseRequest(b []byte) (id uint64, req *http.Request, ok bool) {
	id, b, ok = cutNumber(b)
	if !ok {
		return 0, nil, false
	}
	fields, body, ok := cutRecord(b, 1+len(relayHeaders))
	if !ok {
		return 0, nil, false
	}
	req = &http.Request{Method: fields[0], URL: &url.URL{}, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
	for i, name := range relayHeaders {
		req.Header.Set(name, fields[1+i])
	}
	return id, req, true
}

// requested takes a request of another node.
func (r *relay) requested(from string, b []byte) {
	id, req, ok := parseRequest(b)
	if !ok {
		r.cluster.refuse(nodeRequest, errNodeMail)
		return
	}
	w := &farWriter{to: from, id: id, cluster: r.cluster, header: http.Header{}}
	ctx, cancel := context.WithCancel(r.cluster.ctx)
	key := farRequest{from, id}
	if !r.admit(key, cancel) || !r.cluster.spawn(func(context.Context) {
		defer r.over(key)
		r.run(w, req.WithContext(ctx))
	}) {
		cancel()
		r.over(key)
		w.none()
	}
}

// admit notes a request of another node, unless there are too many.
func (r *relay) admit(key farRequest, cancel func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.running) >= maxRelayed {
		return false
	}
	r.running[key] = cancel
	return true
}

// over notes that a request of another node is not served any more.
func (r *relay) over(key farRequest) {
	r.mu.Lock()
	cancel := r.running[key]
	delete(r.running, key)
	r.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (r *relay) run(w *farWriter, req *http.Request) {
	r.mu.Lock()
	servers := r.servers
	r.mu.Unlock()
	for _, f := range servers {
		if f(w, req) {
			return
		}
	}
	w.none()
}

// abandoned ends a request that nobody waits for.
func (r *relay) abandoned(from string, b []byte) {
	if id, _, ok := cutNumber(b); ok {
		r.over(farRequest{from, id})
	}
}

// answered takes the answer of another node.
func (r *relay) answered(from string, b []byte) {
	id, b, ok := cutNumber(b)
	if !ok || len(b) == 0 {
		r.cluster.refuse(nodeResponse, errNodeMail)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.open[id]
	if one == nil || one.node != nodeBase(from) {
		return // too late
	}
	delete(r.open, id)
	if b[0] == relayNone {
		one.answer <- nil
	} else {
		one.answer <- b[1:]
	}
}

// The first byte of an answer, after the request's number.
const (
	relayBody byte = 0 // the body follows
	relayNone byte = 1 // the node knows nothing of what is asked for
)

// relayTooLong has a client that polls reconnect, and join again: what waits for it
// cannot get there.
var relayTooLong = []byte(`{"status":500}`)

// farWriter sends what is written to it in one piece to another node. An error means
// that it cannot have got there.
type farWriter struct {
	to      string
	id      uint64
	cluster *cluster
	header  http.Header
}

func (w *farWriter) Header() http.Header { return w.header }
func (w *farWriter) WriteHeader(int)     {}

func (w *farWriter) Write(b []byte) (int, error) {
	if len(b) > maxRelayBody {
		w.post(relayBody, relayTooLong)
		return 0, errRelayLong
	}
	if !w.post(relayBody, b) {
		return 0, ErrBrokerDown
	}
	return len(b), nil
}

func (w *farWriter) none() { w.post(relayNone, nil) }

func (w *farWriter) post(kind byte, b []byte) bool {
	body := append(binary.AppendUvarint(make([]byte, 0, len(b)+12), w.id), kind)
	return w.cluster.post(w.to, nodeResponse, append(body, b...))
}

// relayTime is how long another node may take beyond what it waits for itself.
const relayTime = 2 * time.Second
