package realtime

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// This file is the only door between the tests of package realtime_test and the
// inside.

// NewMemoryBroker returns the broker that a server without WithBroker has.
func NewMemoryBroker() Broker { return newMemoryBroker() }

// Polls returns a handler for clients of s that poll, in the first of its protocols.
func (s *Server) Polls() http.Handler {
	return http.HandlerFunc(newPolls(s.main, func(h *handshake) (*Identity, error) {
		h.enc = s.main.codecs[0]
		id, err := h.admit(base64.RawURLEncoding.EncodeToString([]byte(h.r.Header.Get("X-Phoenix-AuthToken"))))
		if err == nil && id == nil {
			err = ReasonUnauthenticated
		}
		return id, err
	}).serve)
}

// Check returns what is wrong with the bookkeeping of a server at rest: every
// membership is seen from both ends, and the gauges equal the counts.
func (s *Server) Check() error {
	n := s.node
	if err := n.check(); err != nil {
		return err
	}
	topics, members, conns := 0, 0, 0
	for _, count := range n.hub.all() {
		topics, members = topics+1, members+count
	}
	for _, c := range n.list() {
		if c.identity.Load() != nil {
			conns++
		}
	}
	for _, g := range []struct {
		name      string
		got, want float64
	}{
		{"topics", sum(n.metrics.topics), float64(topics)},
		{"members", sum(n.metrics.members), float64(members)},
		{"presences", sum(n.metrics.presences), float64(n.hub.presences())},
		{"connections", sum(n.metrics.connections), float64(conns)},
		{"seats", float64(n.seats.count()), float64(conns)},
	} {
		if g.got != g.want {
			return fmt.Errorf("gauge %s is %v, counted %v", g.name, g.got, g.want)
		}
	}
	return nil
}

// sum adds up the gauges and counters that c collects.
func sum(c prometheus.Collector) (total float64) {
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		return -1
	}
	for _, f := range families {
		for _, m := range f.Metric {
			total += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return total
}

// OnMember has f called whenever a connection has become a member of a topic, before
// its mailbox knows. It is set before the server serves.
func (s *Server) OnMember(f func()) {
	s.node.metrics.members = &watchedGauge{s.node.metrics.members, f}
}

type watchedGauge struct {
	prometheus.Gauge
	rises func()
}

func (g *watchedGauge) Inc() {
	g.Gauge.Inc()
	g.rises()
}

// Pack returns JSON as MessagePack.
func Pack(text string) []byte {
	packed, ok := appendPacked(nil, []byte(text))
	if !ok {
		panic("no JSON: " + text)
	}
	return packed
}

// Unpack is the reverse of Pack.
func Unpack(packed []byte) string {
	u := unpacker{in: packed}
	if u.value(maxNesting); u.fault != "" || len(u.in) > 0 {
		return "no MessagePack: " + u.fault
	}
	return string(u.out)
}

// A server as one node of many, see cluster.

func (s *Server) NodeID() string                                  { return s.node.cluster.id() }
func (s *Server) OtherNodes() []string                            { return s.node.cluster.nodes() }
func (s *Server) Alive(node string) (alive, known bool)           { return s.node.cluster.alive(node) }
func (s *Server) OnNode(f func(node string, here bool))           { s.node.cluster.watch(f) }
func (s *Server) OnReborn(f func())                               { s.node.cluster.reborn(f) }
func (s *Server) OnMail(kind byte, f func(from string, b []byte)) { s.node.cluster.handle(kind, f) }
func (s *Server) Mail(to string, kind byte, body []byte)          { s.node.cluster.send(to, kind, body) }
func (s *Server) MailCounts() (sent, received, dropped, refused float64) {
	m := s.node.metrics
	return sum(m.nodeSent.(prometheus.Collector)), sum(m.nodeReceived.(prometheus.Collector)), sum(m.nodeDropped.(prometheus.Collector)), sum(m.nodeRefused.(prometheus.Collector))
}

// NodeMail returns the data of an event from another node with one message of a kind.
func NodeMail(from string, kind byte, body []byte) []byte {
	return appendMail(from, []memo{{kind, body}})
}

// NodeMailKinds writes an event from another node in short: of each message the kind,
// three bytes of the body, and the rest as text.
func NodeMailKinds(data []byte) string {
	_, memos, err := parseMail(data)
	if err != nil {
		return err.Error()
	}
	var words []string
	for _, one := range memos {
		words = append(words, fmt.Sprintf("%d % x %s", one.kind, one.body[:min(3, len(one.body))], one.body[min(3, len(one.body)):]))
	}
	return strings.Join(words, "; ")
}

// PresencePost is what a node says of one who is present, first of all in a new life.
func PresencePost(from, key string) json.RawMessage {
	e := newEntry(key, "ref-of-"+key, "", nil)
	return appendPost(from, &tidings{kind: tidingsChange, life: 1 << 62, number: 1, joins: []*entry{e}})
}
