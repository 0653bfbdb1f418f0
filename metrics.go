package realtime

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are all counters of one server. Labels come from fixed sets only
// (patterns, reasons, protocols, policies): a topic's or a user's name in a
// label would be a memory leak.
type metrics struct {
	connections   *prometheus.GaugeVec   // by protocol
	handshakes    *prometheus.CounterVec // by outcome
	closes        *prometheus.CounterVec // by reason
	messagesIn    *prometheus.CounterVec // by protocol
	bytesIn       prometheus.Counter
	invalid       prometheus.Counter
	framesOut     prometheus.Counter
	bytesOut      prometheus.Counter
	writes        prometheus.Counter
	published     *prometheus.CounterVec // by pattern
	deliveries    *prometheus.CounterVec // by pattern
	drops         *prometheus.CounterVec // by policy
	queueDepth    prometheus.Histogram
	handlers      *prometheus.HistogramVec // by pattern, event
	handlerErrors *prometheus.CounterVec   // by pattern, event, code
	joins         *prometheus.CounterVec   // by pattern, outcome
	recoveries    *prometheus.CounterVec   // by outcome
	publishWrite  prometheus.Histogram
	roundTrip     prometheus.Histogram
	limited       *prometheus.CounterVec // by scope, action
	topics        prometheus.Gauge
	members       prometheus.Gauge
	presences     prometheus.Gauge
	notices       *prometheus.CounterVec // by pattern
	asks          *prometheus.CounterVec // by outcome
	tokens        *prometheus.CounterVec // by source, outcome
	brokerUp      prometheus.Gauge
	brokerState   *prometheus.GaugeVec // by state
	brokerErrors  prometheus.Counter
	nodes         prometheus.Gauge
	nodeMessages  *prometheus.CounterVec // by outcome
	connTime      prometheus.Histogram
	sequenced     prometheus.Counter
	nacks         *prometheus.CounterVec // by reason
	sessions      prometheus.Gauge
	docClients    prometheus.Gauge
	crashes       prometheus.Counter
	appends       prometheus.Histogram

	// Those of nodeMessages.
	nodeSent, nodeReceived, nodeDropped, nodeRefused counter

	// Looked up once: a lookup by label costs more than the rest of a small
	// message.
	accepted counter
	closed   map[Reason]counter
	tokensOK map[string]counter // by source

	mu        sync.Mutex // guards the following
	protocols map[string]*protocolCounters
}

// protocolCounters are the metrics of one protocol, looked up once.
type protocolCounters struct{ connections, messages counter }

// Latency buckets: a write on loopback takes microseconds, a phone on a train
// seconds.
var (
	fastBuckets = prometheus.ExponentialBuckets(20e-6, 4, 10) // 20 µs … 5 s
	slowBuckets = prometheus.ExponentialBuckets(1e-3, 2.5, 10)
	lifeBuckets = prometheus.ExponentialBuckets(1, 4, 10) // 1 s … 3 days
	depthBucket = prometheus.ExponentialBuckets(1, 4, 8)
)

func newMetrics() *metrics {
	m := &metrics{
		connections:   gauges("connections", "Open connections.", "protocol"),
		handshakes:    counters("handshakes_total", "Handshakes by outcome: accepted, or the reason of the refusal.", "outcome"),
		closes:        counters("closes_total", "Connections ended, by reason.", "reason"),
		messagesIn:    counters("messages_received_total", "Messages received from clients.", "protocol"),
		bytesIn:       count("received_bytes_total", "Payload bytes received from clients."),
		invalid:       count("invalid_messages_total", "Messages that could not be decoded."),
		framesOut:     count("frames_sent_total", "Frames written to sockets."),
		bytesOut:      count("sent_bytes_total", "Bytes written to sockets."),
		writes:        count("writes_total", "System calls that wrote to sockets; frames per write is how well a backlog coalesces."),
		published:     counters("published_total", "Events published.", "pattern"),
		deliveries:    counters("deliveries_total", "Events queued for members: published times members.", "pattern"),
		drops:         counters("drops_total", "Events that a full queue cost a member, by policy. Each is told in a gap.", "policy"),
		queueDepth:    histogram("queue_depth", "Messages that waited for a socket when it was flushed (sampled).", depthBucket),
		handlers:      histograms("handler_seconds", "Time in handlers.", slowBuckets, "pattern", "event"),
		handlerErrors: counters("handler_errors_total", "Handler calls that failed; a panic has code panic.", "pattern", "event", "code"),
		joins:         counters("joins_total", "Joins by outcome: ok, or the code of the refusal.", "pattern", "outcome"),
		recoveries:    counters("recoveries_total", "Joins by recovery outcome, and members told of events that the history or the broker has lost: gap, reload.", "outcome"),
		publishWrite:  histogram("publish_write_seconds", "Time from publish to the socket's write (sampled).", fastBuckets),
		roundTrip:     histogram("round_trip_seconds", "Round trip of heartbeat pings.", slowBuckets),
		limited:       counters("rate_limited_total", "Messages and handshakes over a limit, by limit and what was done: soft, close, refuse, warn.", "scope", "action"),
		topics:        gauge("topics", "Topics with at least one member."),
		members:       gauge("members", "Memberships."),
		presences:     gauge("presences", "Metas that clients have tracked in topics with presence."),
		notices:       counters("presence_notices_total", "Messages made for the members of a topic to tell them of presence: diffs, counts, lists.", "pattern"),
		asks:          counters("asks_total", "Answers awaited from clients, by outcome.", "outcome"),
		tokens:        counters("tokens_total", "Tokens checked, by source and outcome.", "source", "outcome"),
		brokerUp:      gauge("broker_up", "1 unless this node is cut off from the others."),
		brokerState:   gauges("broker_state", "1 for the state of the broker: healthy, degraded or down.", "state"),
		brokerErrors:  count("broker_errors_total", "Broker calls that failed."),
		nodes:         gauge("nodes", "Nodes that are there as this one knows it, itself included; 0 without a broker in common."),
		nodeMessages:  counters("node_messages_total", "Messages between nodes: sent, received, dropped because the broker was down or too slow, refused because this version cannot read them.", "outcome"),
		connTime:      histogram("connection_seconds", "Life time of connections.", lifeBuckets),
		sequenced:     count("document_ops_total", "Messages of documents that got a number, those of the server included."),
		nacks:         counters("document_nacks_total", "Submissions of ops that were refused, by reason.", "reason"),
		sessions:      gauge("document_sessions", "Documents whose session runs."),
		docClients:    gauge("document_clients", "Clients connected to documents."),
		crashes:       count("document_crashes_total", "Sessions of documents that ended by a panic, or because others wrote to their log."),
		appends:       histogram("document_append_seconds", "Time that the log took to store one submission.", fastBuckets),
		closed:        map[Reason]counter{},
		tokensOK:      map[string]counter{},
		protocols:     map[string]*protocolCounters{},
	}
	m.nodeSent, m.nodeReceived = m.nodeMessages.WithLabelValues("sent"), m.nodeMessages.WithLabelValues("received")
	m.nodeDropped, m.nodeRefused = m.nodeMessages.WithLabelValues("dropped"), m.nodeMessages.WithLabelValues("refused")
	m.accepted = m.handshakes.WithLabelValues("accepted")
	for _, row := range reasons {
		m.closed[row.Reason] = m.closes.WithLabelValues(string(row.Reason))
	}
	return m
}

// forProtocol returns the counters of a protocol, from a fixed set of names.
func (m *metrics) forProtocol(name string) *protocolCounters {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.protocols[name]
	if p == nil {
		p = &protocolCounters{m.connections.WithLabelValues(name), m.messagesIn.WithLabelValues(name)}
		m.protocols[name] = p
	}
	return p
}

// countToken counts a token that was looked at; good ones are the many.
func (m *metrics) countToken(source, outcome string) {
	if outcome != "ok" {
		m.tokens.WithLabelValues(source, outcome).Inc()
		return
	}
	m.mu.Lock()
	c := m.tokensOK[source]
	if c == nil {
		c = m.tokens.WithLabelValues(source, outcome)
		m.tokensOK[source] = c
	}
	m.mu.Unlock()
	c.Add(1)
}

// register puts every collector into r; nil registers nothing, the counters
// count all the same.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.all() {
		if err := r.Register(c); err != nil {
			for _, done := range m.all()[:i] {
				r.Unregister(done)
			}
			return err
		}
	}
	return nil
}

// unregister makes room for a later server on the same registry.
func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all() {
		r.Unregister(c)
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.connections, m.handshakes, m.closes, m.messagesIn, m.bytesIn, m.invalid,
		m.framesOut, m.bytesOut, m.writes, m.published, m.deliveries, m.drops, m.queueDepth, m.handlers,
		m.handlerErrors, m.joins, m.recoveries, m.publishWrite, m.roundTrip, m.limited, m.topics, m.members, m.presences, m.notices,
		m.asks, m.tokens, m.brokerUp, m.brokerState, m.brokerErrors, m.nodes, m.nodeMessages, m.connTime,
		m.sequenced, m.nacks, m.sessions, m.docClients, m.crashes, m.appends}
}

const namespace = "realtime"

func count(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
}

// counter and observer are as much of a metric as the rest of the package
// touches.
type (
	counter  interface{ Add(float64) }
	observer interface{ Observe(float64) }
)
