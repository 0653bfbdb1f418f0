package realtime

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// documentRules are what the options of [Server.Documents] set (document.md section
// 14).
type documentRules struct {
	tenants *Tenants
	log     OpLog

	maxOps          int
	maxMessage      int // bytes of an op's contents; 0 until it is known
	history         int // messages in memory
	initial         int // messages at connect at most, 0 for no bound
	maxClients      int // of a document, 0 for no bound
	maxUnsummarized int64
	opRate          rule // no step: no bound
	opBurst         int

	noopTime      time.Duration
	clientTimeout time.Duration
	connectTime   time.Duration
	sessionTime   time.Duration

	keepExpired bool
	downgrade   bool
	unannounced bool

	summary func(ctx context.Context, r SummaryRequest) (handle string, err error)
	event   func(e SessionEvent)
	op      func(tenant, document string, ops []SequencedMessage)
}

func newDocumentRules() *documentRules {
	return &documentRules{
		maxOps: 100, history: 1000,
		noopTime: 250 * time.Millisecond, clientTimeout: 5 * time.Minute,
		connectTime: time.Minute, sessionTime: time.Minute,
	}
}

// DocumentOption sets up [Server.Documents].
type DocumentOption func(*documentRules) error

// SummaryRequest is a summary that a client has uploaded and proposes (document.md
// section 10). It covers the messages up to ReferenceSequenceNumber.
type SummaryRequest struct {
	Tenant, Document string
	ClientID         string
	Handle           string   // of the upload
	Head             string   // the handle acknowledged last, as the client knows it
	Message          string   // for people
	Parents          []string //
	ProtocolTree     bool     // the upload includes the protocol's state

	SequenceNumber          int64 // of the proposal
	ReferenceSequenceNumber int64
	MinimumSequenceNumber   int64
}

// SessionEvent tells of the session of one document.
type SessionEvent struct {
	Tenant, Document string
	Kind             SessionEventKind
	Err              error // SessionCrashed: the panic, or why the session lost its log
}

// SessionEventKind says what happened to a session.
type SessionEventKind string

// What happens to sessions.
const (
	SessionStarted SessionEventKind = "started"
	SessionStopped SessionEventKind = "stopped"
	SessionCrashed SessionEventKind = "crashed"
)

// DocumentTenants sets whose tokens connect to documents. It is required.
func DocumentTenants(t *Tenants) DocumentOption {
	return func(r *documentRules) error {
		if t == nil {
			return errors.New("DocumentTenants: nil")
		}
		r.tenants = t
		return nil
	}
}

// DocumentLog sets where the messages of documents are kept: by default in memory
// ([NewMemoryLog]), or by the broker if it is a [SharedBroker]. With a log of its own a
// document must not be served by two nodes.
func DocumentLog(l OpLog) DocumentOption {
	return func(r *documentRules) error {
		if l == nil {
			return errors.New("DocumentLog: nil")
		}
		r.log = l
		return nil
	}
}

// MaxOps sets how many ops one submission may have: 100 by default. Fluid runtimes
// without grouped batches may need more; such a client would be refused for ever.
func MaxOps(n int) DocumentOption {
	return atLeastOne("MaxOps", n, func(r *documentRules) { r.maxOps = n })
}

// MaxMessageSize sets how many bytes the contents of one op may have. Clients are
// told. The default is 16 MiB, or what [WithMessageBytes] leaves when 64 KiB are set
// aside for the rest of the message, but half of it at least.
func MaxMessageSize(bytes int) DocumentOption {
	return atLeastOne("MaxMessageSize", bytes, func(r *documentRules) { r.maxMessage = bytes })
}

// HistoryLimit sets how many messages of a running session stay in memory, at most
// 8 MiB of them: 1,000 by default. Older ones are read from the log.
func HistoryLimit(n int) DocumentOption {
	return atLeastOne("HistoryLimit", n, func(r *documentRules) { r.history = n })
}

// InitialMessagesLimit bounds how many messages a client gets when it connects. By
// default there is no bound: a client that loads a document needs all since the
// last summary but one, and does not come up without them. With a bound it gets
// the newest, and the log says so.
func InitialMessagesLimit(n int) DocumentOption {
	return atLeastOne("InitialMessagesLimit", n, func(r *documentRules) { r.initial = n })
}

// MaxDocumentClients sets how many clients may be connected to one document, on all
// nodes: a few more if they come at the same moment. By
// default there is no bound.
func MaxDocumentClients(n int) DocumentOption {
	return atLeastOne("MaxDocumentClients", n, func(r *documentRules) { r.maxClients = n })
}

// MaxUnsummarized refuses the ops of clients that may not summarize while more than
// n messages have come since the last acknowledged summary. It is off by default.
func MaxUnsummarized(n int) DocumentOption {
	return atLeastOne("MaxUnsummarized", n, func(r *documentRules) { r.maxUnsummarized = int64(n) })
}

func atLeastOne(name string, n int, set func(*documentRules)) DocumentOption {
	return func(r *documentRules) error {
		if n < 1 {
			return fmt.Errorf("%s(%d): at least 1", name, n)
		}
		set(r)
		return nil
	}
}

// OpRate bounds the ops of each connection to perSecond, and burst at once. One
// over it is refused with the time to wait; its signals have a bound of the same
// size, over which they are dropped. There is none by default.
func OpRate(perSecond float64, burst int) DocumentOption {
	return func(r *documentRules) error {
		if !(perSecond > 0) || perSecond > 1e6 || burst < 1 {
			return fmt.Errorf("OpRate(%v, %d): want a positive rate of at most 1e6 and a burst of at least 1", perSecond, burst)
		}
		step := time.Duration(float64(time.Second) / perSecond)
		r.opRate, r.opBurst = rule{step: step, slack: step * time.Duration(burst-1)}, burst
		return nil
	}
}

// NoopTime sets how long the server waits before it tells the clients of a minimum
// sequence number that has risen without an op: 250 ms by default, to a tenth of a
// second.
func NoopTime(d time.Duration) DocumentOption {
	return positiveTime("NoopTime", d, func(r *documentRules) { r.noopTime = d })
}

// ClientTimeout sets after which silence a writer that has not seen the others' ops
// is expelled, as it holds back the minimum sequence number: 5 minutes by default, 0
// for never.
func ClientTimeout(d time.Duration) DocumentOption {
	return func(r *documentRules) error {
		if d < 0 {
			return fmt.Errorf("ClientTimeout(%v): want no negative time", d)
		}
		r.clientTimeout = d
		return nil
	}
}

// ConnectTime sets how long a channel may stay joined without a connect_document:
// a minute by default.
func ConnectTime(d time.Duration) DocumentOption {
	return positiveTime("ConnectTime", d, func(r *documentRules) { r.connectTime = d })
}

// SessionTime sets how long the session of a document goes on without clients: a
// minute by default. The log stays.
func SessionTime(d time.Duration) DocumentOption {
	return positiveTime("SessionTime", d, func(r *documentRules) { r.sessionTime = d })
}

func positiveTime(name string, d time.Duration, set func(*documentRules)) DocumentOption {
	return func(r *documentRules) error {
		if d <= 0 {
			return fmt.Errorf("%s(%v): want a positive time", name, d)
		}
		set(r)
		return nil
	}
}

// KeepAfterExpiry leaves clients connected whose token has expired. By default
// their channel is closed, and they come back with a fresh one.
func KeepAfterExpiry() DocumentOption {
	return func(r *documentRules) error { r.keepExpired = true; return nil }
}

// DowngradeToRead lets a client that may not write connect as a reader when it asks
// to write. By default it is refused.
func DowngradeToRead() DocumentOption {
	return func(r *documentRules) error { r.downgrade = true; return nil }
}

// NoMembershipSignals leaves out the signals that tell the clients who has come and
// gone.
func NoMembershipSignals() DocumentOption {
	return func(r *documentRules) error { r.unannounced = true; return nil }
}

// OnSummary has f decide about summaries that clients have uploaded: the handle is
// what is acknowledged, and an error refuses, with the text of an [*Error] if it is
// one. Without it all are refused, which clients put up with.
//
// f runs on a goroutine of its own and may block until ctx ends; the document goes
// on meanwhile, and the answer takes the next number. A panic is the session's crash.
func OnSummary(f func(ctx context.Context, r SummaryRequest) (handle string, err error)) DocumentOption {
	return func(r *documentRules) error { r.summary = f; return nil }
}

// OnSession has f hear of sessions that start, stop and crash. f is called without
// a lock, on the goroutine on which it happened; a panic is logged.
func OnSession(f func(e SessionEvent)) DocumentOption {
	return func(r *documentRules) error { r.event = f; return nil }
}

// OnOp has f see all messages of a document, in their order, once they are stored and
// on their way to the clients. Of several nodes each sees those of the steps that it
// took: every message is seen once. f runs inside the session: it must not block nor use
// the [Session], and a panic is the session's crash. The messages must not be
// changed.
func OnOp(f func(tenant, document string, ops []SequencedMessage)) DocumentOption {
	return func(r *documentRules) error { r.op = f; return nil }
}
