package realtime

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Handshake is what a Phoenix client brings when it connects.
type Handshake struct {
	// Params are the URL's query and the values of the wildcards in the pattern
	// that an [http.ServeMux] matched: strings, and for a[b]=c and a[]=c maps and
	// slices of these. They are what the client says, no more.
	Params map[string]any

	// Token is the client's authToken, "" if it has none. A token among Params is
	// the host's own business.
	Token string

	// Request is the handshake, or the first poll of a client that polls.
	Request *http.Request
}

// Param returns the parameter called name if it is a string, else "".
func (h Handshake) Param(name string) string {
	s, _ := h.Params[name].(string)
	return s
}

// PhoenixOption sets up a mount for Phoenix clients.
type PhoenixOption func(*phoenixMount) error

// phoenixMount answers the handshakes of Phoenix clients (phoenix.md section 1).
type phoenixMount struct {
	Mount
	connect func(ctx context.Context, h Handshake) (*Identity, error)
	refused func(w http.ResponseWriter, r *http.Request, err error)
	poll    http.HandlerFunc // serves …/longpoll; nil without LongPoll
	packed  bool             // see MessagePack
}

// Phoenix returns a handler for unmodified clients of Phoenix Channels, versions 1
// and 2 of their protocol, on the same topics as all others. It answers every path
// that ends in /websocket, and is mounted at what clients are given as the end
// point:
//
//	router.Mount("/socket", rt.Phoenix()) // chi
//	mux.Handle("/socket/", rt.Phoenix())  // net/http
//
// Differences to the server's other mounts are those that the clients expect:
// refusals are plain HTTP with status 403; a client that sends nothing for 60 s is
// closed, not pinged; it may join 100 topics, and is in "global" only if it joins
// that; ended by [Server.Disconnect] or by silence it sees code 1001, which makes
// it reconnect, and after an undecodable message 1011. A panic in a handler ends the
// membership (phx_error), which the client joins again. Without [Connect] the
// server's authenticator decides, over the client's authToken or what the token
// sources allow.
//
// It panics on a mistake in the options.
func (s *Server) Phoenix(opts ...PhoenixOption) http.Handler {
	p, gate := &phoenixMount{Mount: *s.main}, *s.main.gate
	p.gate = &gate
	p.to, p.codecs, p.plain = newPhoenix, phoenixCodecs, true
	p.sources &^= TokenMessage
	p.terms = &terms{idle: phoenixIdle, channels: phoenixChannels, bare: true, codes: maps.Clone(phoenixCodes)}
	for _, o := range opts {
		if err := o(p); err != nil {
			panic(fmt.Sprintf("realtime: Phoenix: %v", err))
		}
	}
	return p
}

// phoenixCodecs are what vsn chooses from: for clients of Supabase, version 2 has
// another form of broadcasts.
var phoenixCodecs = []codec{phoenixV1{}, phoenixV2{}, supabaseV2{}}

const (
	// phoenixIdle is twice the interval of the clients' heartbeats (section 5.1).
	phoenixIdle = 60 * time.Second

	// phoenixChannels is Phoenix's own default (section 5.1).
	phoenixChannels = 100
)

// phoenixCodes are the codes that differ (section 5.4): a client up to 1.8.15
// stays away after 1000, and reconnects after all these.
var phoenixCodes = map[Reason]int{
	ReasonDisconnected:     1001,
	ReasonHeartbeatTimeout: 1001,
	ReasonInvalidMessage:   1011,
}

// Connect has f decide who may connect, in place of the server's authenticator. It
// may block for as long as ctx allows. The identity's Session is what Phoenix calls
// the socket's id: [Server.Disconnect] ends all connections of one.
//
// An error refuses: with status 403 and no body, but 429, 503 or 500 and the text
// for an error that holds [ReasonRateLimited], [ReasonOverloaded] or
// [ReasonInternal]; see [Refused] for other answers.
func Connect(f func(ctx context.Context, h Handshake) (*Identity, error)) PhoenixOption {
	return func(p *phoenixMount) error {
		if f == nil {
			return errors.New("Connect: nil")
		}
		p.connect = f
		p.gate.noAuth = false
		return nil
	}
}

// Refused has f answer the handshakes that are refused, whatever the reason. err
// holds a [Reason] or an [*Error].
func Refused(f func(w http.ResponseWriter, r *http.Request, err error)) PhoenixOption {
	return func(p *phoenixMount) error {
		p.refused = f
		return nil
	}
}

// Origins sets which pages may connect to this mount, in place of [WithOrigins],
// whose forms it takes.
func Origins(allowed ...string) PhoenixOption {
	return func(p *phoenixMount) error {
		list, err := newOrigins(allowed)
		if err != nil {
			return err
		}
		p.gate.origins = list
		return nil
	}
}

// IdleTimeout sets how long a client may send nothing before it is closed: by
// default 60 s, twice the interval of the clients' heartbeats. What the server
// sends does not count.
func IdleTimeout(d time.Duration) PhoenixOption {
	return func(p *phoenixMount) error {
		if d < 2*wheelTick {
			return fmt.Errorf("IdleTimeout(%v): at least %v", d, 2*wheelTick)
		}
		p.terms.idle = d
		return nil
	}
}

// MaxChannels sets how many topics a client may join: 100 by default, as in
// Phoenix.
func MaxChannels(n int) PhoenixOption {
	return func(p *phoenixMount) error {
		if n < 1 {
			return fmt.Errorf("MaxChannels(%d): at least 1", n)
		}
		p.terms.channels = n
		return nil
	}
}

// MessagePack has the mount take clients with vsn=3.0.0, too: those of documents, whose
// messages are MessagePack in frames of bytes. Handlers see what they send as JSON,
// bytes inside it as base64 strings, which other clients get as such, and these
// clients as bytes again. Numbers go to them as JavaScript has them: integers beyond
// 2^53 are rounded. A message of text ends the connection, like one that cannot be
// decoded. There is no MessagePack for clients that poll.
func MessagePack() PhoenixOption {
	return func(p *phoenixMount) error {
		p.packed = true
		return nil
	}
}

// ServeHTTP answers a handshake. The checks come in the order of section 1.6.
func (p *phoenixMount) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch transport := transportOf(r.URL.Path); {
	case transport == "longpoll" && p.poll != nil:
		p.poll(w, r)
	case transport != "websocket":
		http.NotFound(w, r)
	case p.node.refuses():
		p.unavailable(w)
	case r.Method != http.MethodGet:
		p.count("bad_request")
		w.WriteHeader(http.StatusBadRequest)
	default:
		p.shake(w, r)
	}
}

// transportOf returns the last part of a path, whatever the slashes around it.
func transportOf(path string) string {
	path = strings.TrimRight(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

func (p *phoenixMount) shake(w http.ResponseWriter, r *http.Request) {
	h := &handshake{m: &p.Mount, w: w, r: r, addr: addrText(p.gate.proxies.clientIP(r))}
	id, err := p.admit(h)
	if err != nil {
		p.refuse(h, err)
		return
	}
	if fault := upgradeFault(r); fault != "" {
		p.count("bad_request")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, fault)
		return
	}
	h.accept(id)
}

// admit passes a handshake through origin, subprotocol, version, limits and the
// host's own say, in this order. It settles h's protocol.
func (p *phoenixMount) admit(h *handshake) (*Identity, error) {
	present, err := p.gate.origins.check(h.r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ReasonOriginNotAllowed, err)
	}
	shake := Handshake{Params: paramsOf(h.r), Request: h.r}
	if h.echo, shake.Token, err = phoenixOffer(h.r.Header); err != nil {
		return nil, err
	}
	if token := h.r.Header.Get("X-Phoenix-AuthToken"); token != "" { // of clients that poll
		shake.Token = token
	}
	packed := p.packed && transportOf(h.r.URL.Path) == "websocket"
	if h.enc, err = phoenixVersion(shake.Params, packed); err != nil {
		return nil, err
	}
	if err := h.withinLimits(); err != nil {
		return nil, err
	}
	if p.connect == nil {
		return p.authenticate(h, shake.Token, present)
	}
	return p.ask(shake)
}

// authenticate has the server's authenticator decide.
func (p *phoenixMount) authenticate(h *handshake, token string, present bool) (*Identity, error) {
	cred, err := boundCredential(TokenSubprotocol, token)
	if token == "" {
		cred, err = credentialRules{p.sources, p.cookie}.find(h.r, "", present)
	}
	if err != nil {
		return nil, err
	}
	return h.identify(cred)
}

// ask has the host decide. A panic of its is an internal error.
func (p *phoenixMount) ask(shake Handshake) (id *Identity, err error) {
	ctx := newDeadline(shake.Request.Context(), p.node.authTime)
	defer ctx.end()
	defer func() {
		if v := recover(); v != nil {
			p.node.panicked("Connect", v)
			id, err = nil, ReasonInternal
		}
	}()
	id, err = p.connect(ctx, shake)
	switch {
	case err != nil:
		return nil, authError(err, shake.Token != "")
	case id == nil:
		return nil, fmt.Errorf("%w: Connect returned neither an identity nor an error", ReasonInternal)
	}
	return id, nil
}

// refuse answers a handshake that is not to be.
func (p *phoenixMount) refuse(h *handshake, err error) {
	reason, why := h.note(err)
	if p.refused != nil {
		p.refused(h.w, h.r, err)
		return
	}
	status, text := http.StatusForbidden, ""
	switch reason {
	case ReasonRateLimited:
		status, text = http.StatusTooManyRequests, why.Text
	case ReasonOverloaded:
		status, text = http.StatusServiceUnavailable, why.Text
	case ReasonInternal:
		status, text = http.StatusInternalServerError, why.Text
	}
	h.w.WriteHeader(status)
	io.WriteString(h.w, text)
}

// bearerPhoenix begins the offer that carries the token: not base64url, as its name
// says, but either alphabet (section 1.4).
const bearerPhoenix = "base64url.bearer.phx."

// phoenixOffer returns what is to be echoed of the offered subprotocols, and the
// token among them.
func phoenixOffer(h http.Header) (echo, token string, err error) {
	var bearers, rest []string
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for item := range strings.SplitSeq(line, ",") {
			item = strings.TrimSpace(item)
			if bearer, ok := strings.CutPrefix(item, bearerPhoenix); ok {
				bearers = append(bearers, bearer)
			} else if item != "" {
				rest = append(rest, item)
			}
		}
	}
	if len(bearers) == 1 {
		if token, err = decodePhoenixToken(bearers[0]); err != nil {
			return "", "", err
		}
	}
	switch {
	case slices.Contains(rest, "phoenix"):
		return "phoenix", token, nil
	case len(rest) > 0 || len(bearers) > 1:
		return "", "", fmt.Errorf("%w: no known subprotocol is offered", ReasonForbidden)
	}
	return "", token, nil
}

func decodePhoenixToken(bearer string) (string, error) {
	if base64.RawStdEncoding.DecodedLen(len(bearer)) > maxTokenBytes {
		return "", invalid(errors.New("token is too long"))
	}
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(bearer, "="))
	token, err := base64.RawStdEncoding.DecodeString(standard)
	if err != nil {
		return "", invalid(errors.New("bearer item of Sec-WebSocket-Protocol is not base64"))
	}
	return string(token), nil
}

// upgradeFault says what keeps a GET from being a WebSocket handshake, "" if
// nothing does.
func upgradeFault(r *http.Request) string {
	keys := r.Header.Values("Sec-WebSocket-Key")
	switch {
	case !hasToken(r.Header, "Connection", "upgrade"):
		return `the "connection" header must contain "upgrade"`
	case !hasToken(r.Header, "Upgrade", "websocket"):
		return `the "upgrade" header must contain "websocket"`
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return `the "sec-websocket-version" header must be "13"`
	case len(keys) != 1 || !isKey(keys[0]):
		return `the "sec-websocket-key" header must be 16 bytes in base64`
	case !r.ProtoAtLeast(1, 1):
		return "a WebSocket handshake is a GET of HTTP/1.1"
	}
	return ""
}
