package realtime

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mount is an [http.Handler] for WebSocket connections of one server, with its
// own choice of protocols. It is made by [Server.Mount], [Server.Raw], and by
// the Server, which is itself the mount with all defaults.
type Mount struct {
	node    *node
	gate    *gate
	terms   *terms
	to      func(*conn) receiver // what a connection's messages are for
	codecs  []codec              // the first is for clients that ask for none
	plain   bool                 // refusals are plain HTTP
	sources TokenSource
	cookie  string
}

// gate is what a handshake has to pass, the same for all mounts of a server.
type gate struct {
	origins *origins
	proxies *proxies
	tickets *tickets
	noAuth  bool // no authenticator is configured
}

// MountOption sets up a mount.
type MountOption func(*Mount) error

// Protocols sets the wire protocols that clients of the mount may ask for, in
// Sec-WebSocket-Protocol. The first serves those that ask for none. Known are
// "realtime.v1" and "realtime.flat", which is also the default.
func Protocols(names ...string) MountOption {
	return func(m *Mount) error {
		m.codecs = nil
		for _, name := range names {
			c := codecNamed(name)
			if c == nil || slices.Contains(m.codecs, c) {
				return fmt.Errorf("Protocols: %q is unknown or there twice", name)
			}
			m.codecs = append(m.codecs, c)
		}
		if len(m.codecs) == 0 {
			return fmt.Errorf("Protocols: none")
		}
		return nil
	}
}

// PlainRefusals answers refused handshakes with an HTTP status (401, 403, 429,
// 503) instead of accepting them and closing with a code. Browsers show scripts
// neither the status nor the body, so it suits mounts for other clients. A server
// that drains, or has 1,024 refused connections to wait for, does so anyway.
func PlainRefusals() MountOption {
	return func(m *Mount) error {
		m.plain = true
		return nil
	}
}

// TokensFrom sets where clients of the mount may put their token, in place of
// the server's [WithTokenSources].
func TokensFrom(sources TokenSource) MountOption {
	return func(m *Mount) error {
		m.sources = sources
		return checkSources(sources, m.cookie)
	}
}

func checkSources(sources TokenSource, cookie string) error {
	if sources.has(TokenCookie) && cookie == "" {
		return fmt.Errorf("token sources: TokenCookie needs WithTokenCookie to name the cookie")
	}
	return nil
}

// allCodecs are the protocols that a mount may enable.
var allCodecs = []codec{envelopeCodec{}, flatCodec{}}

func codecNamed(name string) codec {
	for _, c := range allCodecs {
		if c.protocol() == name {
			return c
		}
	}
	return nil
}

// ServeHTTP answers a WebSocket handshake. It returns as soon as that is done:
// the connection lives on in a goroutine of its own. The checks come in the
// order of envelope.md section 1, and the first that fails answers.
func (m *Mount) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := m.node
	if n.refuses() {
		m.unavailable(w)
		return
	}
	if status, text := checkUpgrade(w, r); status != 0 {
		m.count("bad_request")
		http.Error(w, text, status)
		return
	}
	offers, bearer := parseSubprotocols(r.Header)
	enc, echo, ok := m.choose(offers)
	if !ok {
		m.count("bad_request")
		http.Error(w, "unknown subprotocol; known are: "+m.known(), http.StatusBadRequest)
		return
	}
	h := &handshake{m: m, w: w, r: r, enc: enc, echo: echo, addr: addrText(m.gate.proxies.clientIP(r))}
	id, err := h.admit(bearer)
	if err != nil {
		h.refuse(err)
		return
	}
	h.accept(id)
}

// unavailable answers for a node that drains or is isolated.
func (m *Mount) unavailable(w http.ResponseWriter) {
	reason, text := m.node.refusal()
	m.count(string(reason))
	w.Header().Set("Retry-After", strconv.Itoa(m.node.retryAfter()))
	w.Header().Set("Connection", "close")
	http.Error(w, text, http.StatusServiceUnavailable)
}

func (m *Mount) count(outcome string) { m.node.metrics.handshakes.WithLabelValues(outcome).Inc() }

func (m *Mount) known() string {
	names := make([]string, len(m.codecs))
	for i, c := range m.codecs {
		names[i] = c.protocol()
	}
	return strings.Join(names, ", ")
}

// choose picks the first offered protocol that the mount knows, or the default
// if none is offered. echo is what the answer names.
func (m *Mount) choose(offers []string) (enc codec, echo string, ok bool) {
	if len(offers) == 0 {
		return m.codecs[0], "", true
	}
	for _, offer := range offers {
		for _, c := range m.codecs {
			if c.protocol() == offer {
				return c, offer, true
			}
		}
	}
	return nil, "", false
}

// checkUpgrade looks at the headers that make a request a WebSocket handshake
// (RFC 6455 section 4.2.1). A status of 0 means that nothing is wrong.
func checkUpgrade(w http.ResponseWriter, r *http.Request) (status int, text string) {
	upgrade := hasToken(r.Header, "Upgrade", "websocket")
	connection := hasToken(r.Header, "Connection", "upgrade")
	keys := r.Header["Sec-Websocket-Key"]
	switch {
	case r.Header.Get("Upgrade") == "" && !connection:
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		return http.StatusUpgradeRequired, "this is a WebSocket endpoint"
	case r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1):
		return http.StatusBadRequest, "a WebSocket handshake is a GET of HTTP/1.1"
	case !upgrade:
		return http.StatusBadRequest, "header Upgrade does not name websocket"
	case !connection:
		return http.StatusBadRequest, "header Connection does not name Upgrade; does a proxy drop it?"
	case r.Header.Get("Sec-Websocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return http.StatusBadRequest, "header Sec-WebSocket-Version is not 13"
	case len(keys) != 1 || !isKey(keys[0]):
		return http.StatusBadRequest, "header Sec-WebSocket-Key is not 16 bytes in base64"
	}
	return 0, ""
}

func isKey(key string) bool {
	var space [32]byte
	b, err := base64.StdEncoding.AppendDecode(space[:0], []byte(strings.TrimSpace(key)))
	return err == nil && len(b) == 16
}

// hasToken reports whether one of the header's comma separated values is token,
// without regard to case.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for one := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}

// handshake is one request on its way in.
type handshake struct {
	m    *Mount
	w    http.ResponseWriter
	r    *http.Request
	enc  codec
	echo string
	addr string
}

// admit passes the request through origin, admission and token, in this order.
// An identity of nil without an error means that the token is to come in a
// message.
func (h *handshake) admit(bearer string) (*Identity, error) {
	present, err := h.m.gate.origins.check(h.r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ReasonOriginNotAllowed, err)
	}
	if err := h.withinLimits(); err != nil {
		return nil, err
	}
	cred, err := credentialRules{h.m.sources, h.m.cookie}.find(h.r, bearer, present)
	if err != nil {
		return nil, err
	}
	return h.identify(cred)
}

// withinLimits holds a handshake against the limits on connects.
func (h *handshake) withinLimits() error {
	n := h.m.node
	v := n.limits.admit(h.addr, time.Now())
	switch {
	case !v.ok:
		n.metrics.limited.WithLabelValues(v.scope, "refuse").Inc()
		return fmt.Errorf("%w: limit per %s", v.reason(), v.scope)
	case v.warned:
		n.metrics.limited.WithLabelValues(v.scope, "warn").Inc()
		n.log.Warn("realtime: over the limit, warn-only", "remote", h.addr, "limit", v.scope)
	}
	return nil
}

func (h *handshake) identify(cred credential) (*Identity, error) {
	n := h.m.node
	if cred.source == TokenTicket {
		return h.m.gate.tickets.redeem(h.r.Context(), cred.token)
	}
	ctx := newDeadline(h.r.Context(), n.authTime)
	defer ctx.end()
	id, err := n.authenticate(h.r.WithContext(ctx), cred)
	if err == nil || cred.token != "" || !h.m.sources.has(TokenMessage) || h.m.gate.noAuth {
		return id, err
	}
	if reason, _ := refusalOf(err); reason != ReasonUnauthenticated {
		return nil, err
	}
	if n.seats.perServer > 0 && n.seats.count()+int(n.waiting.Load()) >= n.seats.perServer {
		return nil, fmt.Errorf("%w: connection limit, those without a token counted", ReasonOverloaded)
	}
	return nil, nil
}

// accept takes the connection over and starts it.
func (h *handshake) accept(id *Identity) {
	n := h.m.node
	c := h.upgrade()
	if c == nil {
		return
	}
	n.metrics.accepted.Add(1)
	if id == nil {
		c.waiting = true
		n.waiting.Add(1)
		n.wheel.schedule(&c.entry, c, c.started.Add(n.authTime))
	} else {
		c.enter(id)
	}
	c.pool.flush(&c.outlet)
	go c.serve()
}

// turnAway answers 503 because Shutdown, or isolation, came between the first check and now. The
// answer that accepts the handshake was not written yet.
func (h *handshake) turnAway(c *conn) {
	reason, _ := h.m.node.refusal()
	h.m.count(string(reason))
	c.nc.SetWriteDeadline(time.Now().Add(h.m.node.linger))
	fmt.Fprintf(c.nc, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", h.m.node.retryAfter())
	c.nc.Close()
	c.in.release()
}

// upgrade makes the connection and has the node know it; nil means that the
// request has been answered.
func (h *handshake) upgrade() *conn {
	n := h.m.node
	up, err := upgrade(h.w, h.r, h.echo, n.compress)
	if err != nil {
		h.m.count("failed")
		n.log.Error("realtime: handshake", "remote", h.addr, "error", err)
		return nil
	}
	c := newConn(n, h.m.terms, up, h.enc, h.r.URL.Path, h.addr)
	c.to = h.m.to(c)
	if !n.add(&c.Client) {
		h.turnAway(c)
		return nil
	}
	return c
}

// maxRefusing bounds the refused connections that linger for their close frame.
// Beyond it, refusals are plain HTTP: a flood should not hold sockets open.
const maxRefusing = 1024

// refuse accepts the connection only to close it with a reason, since a browser
// cannot see an HTTP status; or answers with one.
func (h *handshake) refuse(err error) {
	n := h.m.node
	reason, why := h.note(err)
	if h.m.plain || n.refusing.Load() >= maxRefusing {
		h.refusePlain(reason, why)
		return
	}
	c := h.upgrade()
	if c == nil {
		return
	}
	n.refusing.Add(1)
	c.end(reason, why, nil)
	c.pool.flush(&c.outlet)
	go func() {
		defer n.refusing.Add(-1)
		c.serve()
	}()
}

// note counts and logs a refusal, and says what it means.
func (h *handshake) note(err error) (Reason, *Error) {
	reason, why := refusalOf(err)
	h.m.count(string(reason))
	if h.m.gate.noAuth {
		err = fmt.Errorf("%w; no authenticator is configured: use WithJWT, WithAuth or Anonymous", err)
	}
	h.m.node.log.Warn("realtime: handshake refused", "remote", h.addr, "url", maskURL(h.r.URL), "reason", string(reason), "error", err)
	return reason, why
}

func (h *handshake) refusePlain(reason Reason, why *Error) {
	status := http.StatusForbidden
	switch reason {
	case ReasonUnauthenticated, ReasonTokenExpired, ReasonTokenInvalid:
		status = http.StatusUnauthorized
		h.w.Header().Set("WWW-Authenticate", "Bearer")
	case ReasonRateLimited:
		status = http.StatusTooManyRequests
	case ReasonOverloaded, ReasonInternal:
		status = http.StatusServiceUnavailable
	}
	if closing := h.m.node.closing(reason, why); closing.retry == RetryBackoff {
		h.w.Header().Set("Retry-After", strconv.FormatInt((closing.minDelayMS+closing.jitterMS+999)/1000, 10))
	}
	http.Error(h.w, why.Text, status)
}

// serveTicket trades the token in the Authorization header for a ticket.
func (m *Mount) serveTicket(w http.ResponseWriter, r *http.Request) {
	h := &handshake{m: m, w: w, r: r, addr: addrText(m.gate.proxies.clientIP(r))}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "a ticket is made by POST", http.StatusMethodNotAllowed)
		return
	}
	ticket, err := h.ticket()
	if err != nil {
		m.node.log.Warn("realtime: ticket refused", "remote", h.addr, "error", err)
		h.refusePlain(refusalOf(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "{\"ticket\":%q,\"expires_in\":%d}\n", ticket, int(defaultTicketLife.Seconds()))
}

func (h *handshake) ticket() (string, error) {
	if v := h.m.node.limits.admit(h.addr, time.Now()); !v.ok {
		return "", v.reason()
	}
	cred, err := credentialRules{sources: TokenHeader}.find(h.r, "", false)
	if err != nil {
		return "", err
	}
	id, err := h.m.node.authenticate(h.r, cred)
	if err != nil {
		return "", err
	}
	return h.m.gate.tickets.issue(h.r.Context(), id, 0)
}
