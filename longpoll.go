package realtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// pollWindow is how long a poll waits for messages, and a POST until they are
	// read. phoenix.js gives a request up after 20 s.
	pollWindow = 10 * time.Second

	// pollAnswer is how long writing one answer may take.
	pollAnswer = 5 * time.Second
)

// LongPoll has the mount serve …/longpoll, too: plain requests for clients whose
// network lets no WebSocket through. A session passes the checks of a handshake,
// counts as a connection in every limit, and ends 15 s after its last poll. It lives
// on the node that began it; of several nodes with a broker in common ([SharedBroker])
// any takes its requests, and has that one answer, up to a megabyte each. Without one a
// balancer has to send a client to the same server. What is refused is told by the status 403 in JSON, without
// [Refused].
//
// Messages of bytes cannot be polled: such events and replies are dropped. Pages
// of other origins may read the answers, if [Origins] lets them connect, but never
// with cookies.
func LongPoll() PhoenixOption {
	return func(p *phoenixMount) error {
		p.poll = newPolls(&p.Mount, p.admit).serve
		return nil
	}
}

// polls are the long-polling sessions of one mount.
type polls struct {
	// Set by newPolls, never changed.
	mount  *Mount
	window time.Duration
	key    pollKey
	admit  pollAdmit

	mu   sync.Mutex // guards the following
	open map[pollID]*pollSession
}

// pollAdmit passes the first request of a session through what a handshake of the
// mount has to pass, up to the identity, which is nil only with an error. It settles
// the protocol of h.
type pollAdmit func(h *handshake) (*Identity, error)

func newPolls(m *Mount, admit pollAdmit) *polls {
	p := &polls{mount: m, window: pollWindow, key: newPollKey(), admit: admit, open: map[pollID]*pollSession{}}
	m.node.relay.serve(p.serveFar)
	return p
}

// serve answers one request (phoenix.md appendix A). The status is in the body:
// a page of another origin sees no other.
func (p *polls) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*") // and so never with credentials
	h.Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodGet:
		p.get(w, r)
	case http.MethodPost:
		p.post(w, r)
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "get, post, options")
		h.Set("Access-Control-Allow-Headers", strings.Join(r.Header.Values("Access-Control-Request-Headers"), ", "))
		h.Set("Access-Control-Max-Age", "3600")
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}

// get polls a session, or begins one.
func (p *polls) get(w http.ResponseWriter, r *http.Request) {
	s := p.find(r)
	switch {
	case s == nil && p.forward(w, r):
	case s == nil && p.mount.node.refuses():
		p.mount.unavailable(w)
	case s == nil:
		p.begin(w, r)
	case !p.permits(r):
		writeStatus(w, http.StatusForbidden)
	default:
		s.poll(w, r)
	}
}

// permits reports whether the page that sent r may connect: a token is not enough.
func (p *polls) permits(r *http.Request) bool {
	_, err := p.mount.gate.origins.check(r)
	return err == nil
}

// begin starts a session, or refuses.
func (p *polls) begin(w http.ResponseWriter, r *http.Request) {
	n := p.mount.node
	h := &handshake{m: p.mount, w: w, r: r, addr: addrText(p.mount.gate.proxies.clientIP(r))}
	id, err := p.admit(h)
	if err != nil {
		h.note(err)
		writeStatus(w, http.StatusForbidden)
		return
	}
	s := p.newSession(h)
	if !n.add(&s.conn.Client) {
		s.conn.in.release()
		p.mount.unavailable(w)
		return
	}
	n.metrics.accepted.Add(1)
	entered := s.conn.enter(id)
	if entered {
		p.keep(s)
	}
	s.conn.pool.flush(&s.conn.outlet)
	go s.conn.serve()
	if !entered {
		writeStatus(w, http.StatusForbidden)
		return
	}
	writeWhole(w, s.answer(http.StatusGone, nil))
}

// post hands what the client sends to its session.
func (p *polls) post(w http.ResponseWriter, r *http.Request) {
	s := p.find(r)
	switch {
	case s == nil && p.forward(w, r):
	case s == nil:
		writeStatus(w, http.StatusGone)
	case !p.permits(r):
		writeStatus(w, http.StatusForbidden)
	default:
		writeStatus(w, s.receive(w, r))
	}
}

// pollSession is one client that polls: its connection, which is its own socket.
type pollSession struct {
	pollConn
	polls *polls
	conn  *conn
	id    pollID
	token string
	entry wheelEntry
}

func (p *polls) newSession(h *handshake) *pollSession {
	s := &pollSession{polls: p, id: newPollID()}
	s.token = p.named(p.key.sign(s.id, time.Now()))
	s.init(h.addr, func() { s.conn.touch() }, s.dropped)
	s.conn = newConn(p.mount.node, p.mount.terms, &upgraded{nc: s}, h.enc, h.r.URL.Path, h.addr)
	s.conn.to = p.mount.to(s.conn)
	return s
}

// dropped notes that a message of bytes could not be kept.
func (s *pollSession) dropped(bytes int) {
	s.polls.mount.node.log.Debug("realtime: bytes dropped for a client that polls", "conn", s.conn.id, "bytes", bytes)
}

// poll answers with what waits, as soon as there is something.
func (s *pollSession) poll(w http.ResponseWriter, r *http.Request) {
	window := s.polls.window
	if idle := s.conn.terms.idle; idle > 0 {
		window = min(window, idle/2)
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(window + pollAnswer)) // the host's may be shorter
	s.conn.touch()
	batch, gone := s.take(r.Context(), window)
	delivered := false
	defer func() {
		s.settle(batch, delivered)
		s.conn.touch()
		if s.spent() {
			s.polls.drop(s)
		}
	}()
	status := http.StatusNoContent
	switch {
	case gone:
		// After 410, clients up to 1.7 go on in a new session without their channels;
		// after 500, all of them reconnect and join again.
		status = http.StatusInternalServerError
	case batch != nil:
		status = http.StatusOK
	}
	if r.Context().Err() == nil {
		delivered = writeWhole(w, s.answer(status, batch)) == nil
	}
}

// receive hands the messages of a POST to the connection and returns the status.
func (s *pollSession) receive(w http.ResponseWriter, r *http.Request) int {
	by := time.Now().Add(s.polls.window)
	http.NewResponseController(w).SetReadDeadline(by)
	limit := s.polls.mount.node.messageBytes
	body := newPostBody(http.MaxBytesReader(w, r.Body, postBytes(limit)), r.Header.Get("Content-Type"), limit)
	for {
		op, payload, err := body.next()
		if err == nil {
			err = s.deliver(op, payload, by)
		}
		switch {
		case err == nil:
		case err == io.EOF:
			if body.cut() {
				s.polls.mount.node.log.Debug("realtime: a POST of too many messages was cut", "conn", s.conn.id, "messages", maxPostLines)
			}
			return http.StatusOK
		case err == errMessageTooLarge:
			s.fail(err)
			return http.StatusRequestEntityTooLarge
		case errors.Is(err, net.ErrClosed):
			return http.StatusGone
		case errors.Is(err, os.ErrDeadlineExceeded):
			return http.StatusRequestTimeout
		default:
			return http.StatusBadRequest // the body has broken off
		}
	}
}

// Close implements [net.Conn]: the connection has ended. The session is kept until
// a poll has been told so, or for as long as any without polls.
func (s *pollSession) Close() error {
	err := s.pollConn.Close()
	if s.spent() {
		s.polls.drop(s)
	}
	return err
}

// expire implements [expirer]: it ends the session some time after its last poll.
func (s *pollSession) expire(now time.Time) time.Time {
	if left := s.polls.life() - s.unpolled(now); left > 0 {
		return now.Add(left)
	}
	s.polls.forget(s)
	s.fail(io.EOF)
	return time.Time{}
}

// life is how long a session lives without a poll.
func (p *polls) life() time.Duration { return p.window * 3 / 2 }

func (p *polls) keep(s *pollSession) {
	p.mu.Lock()
	p.open[s.id] = s
	p.mu.Unlock()
	p.mount.node.wheel.schedule(&s.entry, s, time.Now().Add(p.life()))
}

func (p *polls) forget(s *pollSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, s.id)
}

// drop forgets a session before its time. It must not be called from its expire.
func (p *polls) drop(s *pollSession) {
	p.forget(s)
	p.mount.node.wheel.cancel(&s.entry)
}

// find returns the session whose token r brings, nil if there is none.
func (p *polls) find(r *http.Request) *pollSession {
	token, _, _ := strings.Cut(pollToken(r), ".")
	id, ok := p.key.verify(token, time.Now())
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[id]
}

// named adds this node's name to the token of one of its sessions, behind what is
// signed, so that any node can have it answer: balancers need not know whose a poll is.
func (p *polls) named(token string) string {
	if name := p.mount.node.relay.name(); name != "" {
		return token + "." + name
	}
	return token
}

// serveFar serves a request that came to another node, whose mount has looked at the
// page that sent it.
func (p *polls) serveFar(w http.ResponseWriter, r *http.Request) bool {
	s := p.find(r)
	switch {
	case s == nil:
		return false
	case r.Method == http.MethodGet:
		s.poll(w, r)
	default:
		writeStatus(w, s.receive(w, r))
	}
	return true
}

// forward has the node answer whose session r is for. It returns false, and has
// written nothing, if there is no such session.
func (p *polls) forward(w http.ResponseWriter, r *http.Request) bool {
	token := pollToken(r)
	_, name, ok := strings.Cut(token, ".")
	if !ok || p.mount.node.relay.find(name) == "" {
		return false
	}
	if !p.permits(r) {
		writeStatus(w, http.StatusForbidden)
		return true
	}
	by := time.Now().Add(p.window + relayTime)
	if r.Method == http.MethodGet {
		r.Body = http.NoBody
	} else {
		http.NewResponseController(w).SetReadDeadline(by)
	}
	http.NewResponseController(w).SetWriteDeadline(by.Add(pollAnswer))
	ctx, cancel := context.WithDeadline(r.Context(), by)
	defer cancel()
	far := r.WithContext(ctx)
	far.Header = http.Header{"X-Phoenix-Longpoll-Token": {token}, "Content-Type": r.Header["Content-Type"]}
	body, err := p.mount.node.relay.ask(ctx, name, far)
	switch {
	case errors.Is(err, errRelayNone), errors.Is(err, errRelayNode):
		return false
	case errors.Is(err, errRelayLong):
		writeStatus(w, http.StatusRequestEntityTooLarge)
	case errors.Is(err, errRelayLate) && r.Method == http.MethodGet:
		writeWhole(w, append(appendQuoted([]byte(`{"status":204,"token":`), token), `,"messages":[]}`...)) // the next one may reach it
	case err != nil:
		writeStatus(w, http.StatusRequestTimeout)
	default:
		writeWhole(w, body)
	}
	return true
}

// answer is the body for a poll: messages are JSON strings with commas between.
func (s *pollSession) answer(status int, messages []byte) []byte {
	b := make([]byte, 0, 64+len(s.token)+len(messages))
	b = strconv.AppendInt(append(b, `{"status":`...), int64(status), 10)
	b = append(append(append(b, `,"token":"`...), s.token...), `","messages":[`...)
	return append(append(b, messages...), "]}"...)
}

// writeStatus answers with nothing but a status.
func writeStatus(w http.ResponseWriter, status int) {
	writeWhole(w, fmt.Appendf(nil, `{"status":%d}`, status))
}

// writeWhole writes a whole answer through to the socket. The error tells that the
// client cannot have got it.
func writeWhole(w http.ResponseWriter, body []byte) error {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
