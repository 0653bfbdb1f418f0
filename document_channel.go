package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// documentChannel is what one connection has to do with one document, from the join
// of the topic to its end: joined, then connected (document.md section 2.3). Its
// handlers are called one at a time.
type documentChannel struct {
	registry *registry
	client   *Client
	topic    string
	id       DocumentID
	forget   func()     // of a join that came to nothing
	entry    wheelEntry // the time to connect, and then the token's expiry

	// Owned by the handlers.
	who     *Identity
	ops     allowance
	signals allowance

	mu      sync.Mutex // guards the following
	session *Session   // nil while not connected
	part    *participant
}

func newDocumentChannel(r *registry, c *Client, topic string, id DocumentID) *documentChannel {
	ch := &documentChannel{registry: r, client: c, topic: topic, id: id}
	ch.ops, ch.signals = allowance{rule: r.opRate, burst: r.opBurst}, allowance{rule: r.opRate, burst: r.opBurst}
	return ch
}

// begin starts the time in which the client has to connect.
func (ch *documentChannel) begin() {
	ch.registry.node.wheel.schedule(&ch.entry, ch, time.Now().Add(ch.registry.connectTime))
}

// expire implements [expirer]: the client has not connected in time, or its token is
// no good any more.
func (ch *documentChannel) expire(time.Time) time.Time {
	if _, p := ch.connected(); p != nil {
		p.end(errTokenOver)
		return time.Time{}
	}
	if ch.client.Unsubscribe(ch.topic, errConnectTime) != nil {
		ch.forget()
	}
	return time.Time{}
}

var (
	errTokenOver   = &Error{Code: string(ReasonTokenExpired), Text: "Token has expired", Retry: RetryNewToken}
	errConnectTime = &Error{Code: string(ReasonUnauthenticated), Text: "No connect_document in time", Retry: RetryNewToken}
)

// connected returns the session and the client's part in it, nil while there is none.
func (ch *documentChannel) connected() (*Session, *participant) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.session, ch.part
}

// left ends what the channel has begun.
func (ch *documentChannel) left() {
	ch.registry.node.wheel.cancel(&ch.entry)
	if s, p := ch.connected(); p != nil {
		s.leave(p)
	}
}

// connect handles connect_document.
func (ch *documentChannel) connect(ctx context.Context, m Message) (any, error) {
	p, e := ch.admit(ctx, m)
	if e != nil {
		ch.client.Push(ch.topic, eventConnectFailed, e.Data)
		return nil, e
	}
	if p == nil {
		return Nothing, nil // there is nobody to tell
	}
	return json.RawMessage(append(appendQuoted([]byte(`{"clientId":`), p.id), '}')), nil
}

// admit passes a connect_document through the checks of document.md section 3.2.
func (ch *documentChannel) admit(ctx context.Context, m Message) (*participant, *Error) {
	if _, p := ch.connected(); p != nil {
		return nil, documentError("already_connected", 400, "Already connected")
	}
	r, e := readRequest(m.Data)
	if e != nil {
		return nil, e
	}
	who, mode, e := r.allow(ch.registry.documentRules, ch.id)
	if e != nil {
		return nil, e
	}
	object, ok := r.describe(who, mode, time.Now())
	if !ok {
		return nil, invalidRequest("client")
	}
	to, ok := m.reply.to.(*channel)
	if !ok {
		return nil, documentError("session_failed", 500, "Failed to start document session")
	}
	p := &participant{id: newClientID(), mode: mode, object: object, client: ch.client, ch: to}
	if p.member, _ = to.membership(); p.member == nil {
		return nil, nil
	}
	a := &admission{p: p, summaries: who.HasScope(scopeSummary), claims: claimsOf(who), version: r.version(),
		features: r.agreed(), lastSeen: r.lastSeen}
	ch.registry.node.wheel.cancel(&ch.entry) // it has come in time, however long this takes
	if e := ch.enter(ctx, a); e != nil {
		ch.begin()
		return nil, e
	}
	if ch.who = who; !ch.registry.keepExpired {
		ch.registry.node.wheel.schedule(&ch.entry, ch, who.Expires)
	}
	return p, nil
}

const (
	// patience is how long a client is made to wait for a session that is starting
	// anew: with the error that it would get instead its container would be over.
	patience = 5 * time.Second

	// againTime is the time between two attempts.
	againTime = 100 * time.Millisecond
)

// enter makes the client a participant, as soon as there is a session.
func (ch *documentChannel) enter(ctx context.Context, a *admission) *Error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		s, err := ch.registry.find(ctx, ch.id)
		if err == nil {
			if err = s.order.connect(a); err == nil {
				ch.mu.Lock()
				ch.session, ch.part = s, a.p
				ch.mu.Unlock()
				return nil
			}
		}
		if errors.Is(err, errTooManyClients) {
			return documentError("too_many_clients", 429, "Too many clients connected to document")
		}
		select {
		case <-time.After(againTime):
		case <-ctx.Done():
			ch.registry.node.log.Log(ctx, brokerLevel(err), "realtime: connect_document", "conn", ch.client.id, "tenant", ch.id.Tenant,
				"document", ch.id.Document, "error", err)
			return documentError("session_failed", 500, "Failed to start document session")
		}
	}
}

// submitOp handles submitOp.
func (ch *documentChannel) submitOp(_ context.Context, m Message) (any, error) {
	s, p := ch.connected()
	ops, refused := ch.gate(p, m.Data)
	if refused != nil {
		ch.refuse(s, p, refused)
		return nil, refused.asError()
	}
	sn, refused, err := s.order.submit(p, ops)
	switch {
	case err != nil:
		return Nothing, nil // the channel is being closed
	case refused != nil:
		ch.countNack(refused)
		return nil, refused.asError()
	}
	return json.RawMessage(fmt.Appendf(nil, `{"sequenceNumber":%d}`, sn)), nil
}

// refuse tells the client of a nack of the gate.
func (ch *documentChannel) refuse(s *Session, p *participant, n *nack) {
	ch.countNack(n)
	if p == nil {
		ch.client.Push(ch.topic, eventNack, n.data())
		return
	}
	s.nack(p, n)
}

func (ch *documentChannel) countNack(n *nack) {
	ch.registry.node.metrics.nacks.WithLabelValues(n.reason).Inc()
}

// gate checks a submission as a whole (document.md section 5.2).
func (ch *documentChannel) gate(p *participant, data []byte) ([]proposal, *nack) {
	id, batches, ok := submissionOf(data, "messageBatches")
	switch {
	case !ok:
		return nil, gateNack(400, badRequestError, "malformed", "Malformed submitOp: missing clientId or messageBatches")
	case p == nil:
		return nil, gateNack(400, badRequestError, "not_authenticated", "Client not connected")
	case id != p.id:
		return nil, gateNack(400, badRequestError, "client_id_mismatch", fmt.Sprintf("Client ID mismatch: expected %s, got %s", p.id, id))
	case p.mode == modeRead && ch.who.HasScope(scopeWrite):
		return nil, gateNack(400, badRequestError, "read_only", "Read-only clients cannot submit operations")
	case p.mode == modeRead:
		return nil, gateNack(403, invalidScopeError, "read_only", "Read-only clients cannot submit operations")
	case !ch.who.HasScope(scopeWrite):
		return nil, gateNack(403, invalidScopeError, "missing_scope", "Missing doc:write scope")
	}
	n, raws := 0, [][]byte(nil)
	eachOp(batches, func(raw []byte) {
		if n++; n <= ch.registry.maxOps {
			raws = append(raws, raw)
		}
	})
	if n > ch.registry.maxOps {
		return nil, gateNack(400, badRequestError, "batch_too_large", fmt.Sprintf("Batch size %d exceeds maximum %d", n, ch.registry.maxOps))
	}
	if wait := ch.ops.take(n, time.Now()); wait > 0 {
		over := gateNack(429, throttlingError, "throttled", "Too many operations")
		over.retryAfter = int((wait + time.Second - 1) / time.Second)
		return nil, over
	}
	return ch.proposals(raws)
}

// proposals reads the ops of a submission.
func (ch *documentChannel) proposals(raws [][]byte) ([]proposal, *nack) {
	ops := make([]proposal, len(raws))
	for i, raw := range raws {
		var fault string
		if ops[i], fault = readProposal(raw); fault != "" {
			refused := gateNack(400, badRequestError, "malformed", "Malformed operation: "+fault)
			refused.operation = raw
			return nil, refused
		}
	}
	for i := range ops {
		if size := len(ops[i].contents); size > ch.registry.maxMessage {
			return nil, gateNack(413, badRequestError, "message_too_large",
				fmt.Sprintf("Message size %d exceeds limit %d", size, ch.registry.maxMessage))
		}
	}
	return ops, nil
}

// submitSignal handles submitSignal.
func (ch *documentChannel) submitSignal(_ context.Context, m Message) (any, error) {
	s, p := ch.connected()
	id, batches, ok := submissionOf(m.Data, "contentBatches")
	if e := checkSender(p, id, ok); e != nil {
		return nil, e
	}
	signals, ok := readSignals(batches, ch.registry.maxOps, ch.registry.maxMessage)
	switch {
	case !ok:
		return nil, ignored("batch_too_large")
	case ch.signals.take(len(signals), time.Now()) > 0:
		return nil, ignored("throttled")
	}
	return accepted(s.order.signals(p, signals))
}

// noop handles the event noop (document.md section 7.1).
func (ch *documentChannel) noop(_ context.Context, m Message) (any, error) {
	s, p := ch.connected()
	fields, ok := readObject(m.Data)
	id := fields.get("clientId")
	if e := checkSender(p, idOf(id), ok && isString(id)); e != nil {
		return nil, e
	}
	rsn, ok := wholeNumber(fields.get("referenceSequenceNumber"))
	switch {
	case p.mode == modeRead:
		return nil, ignored("read_only")
	case !ok:
		return nil, ignored("malformed")
	case !s.order.refer(p, rsn):
		return nil, ignored("invalid_rsn")
	}
	return accepted(nil)
}

// checkSender says why a push other than an op is ignored, nil if it is not.
func checkSender(p *participant, id string, ok bool) *Error {
	switch {
	case !ok:
		return ignored("malformed")
	case p == nil:
		return ignored("not_authenticated")
	case id != p.id:
		return ignored("client_id_mismatch")
	}
	return nil
}

func accepted(err error) (any, error) {
	if told, ok := errors.AsType[*Error](err); ok {
		return nil, told
	}
	if err != nil {
		return Nothing, nil // the channel is being closed
	}
	return json.RawMessage("{}"), nil
}

// opsPage is how many messages one op event has at most (document.md section 7.4).
const opsPage = 2000

// requestOps handles requestOps. It waits for the client to read what it has been
// given before it reads more.
func (ch *documentChannel) requestOps(ctx context.Context, m Message) (any, error) {
	s, p := ch.connected()
	if p == nil {
		return nil, ignored("not_authenticated")
	}
	fields, _ := readObject(m.Data)
	after, ok := wholeNumber(fields.get("from"))
	if !ok {
		return nil, ignored("malformed")
	}
	after = max(after, 0)
	for to := s.State().SequenceNumber; after < to; {
		page, err := s.page(after, to, opsPage)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].SequenceNumber
		if !ch.send(ctx, p, opData(ch.id.Document, page)) {
			return Nothing, nil
		}
	}
	return accepted(nil)
}

// send queues an op event for this client alone, and waits until there is room for
// it. It reports false if the client has gone.
func (ch *documentChannel) send(ctx context.Context, p *participant, data []byte) bool {
	s, _ := ch.connected()
	f := s.noticeOf(eventOp, data).frame(ch.client.enc)
	for f != nil {
		switch p.push(f) {
		case pushWake:
			ch.client.pool.flush(&ch.client.outlet)
			return true
		case pushQueued:
			return true
		case pushClosed:
			return false
		}
		idle := ch.client.out.whenIdle()
		if idle == nil {
			continue
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// other handles what no client of the protocol sends.
func (ch *documentChannel) other(_ context.Context, m Message) (any, error) {
	ch.registry.node.log.Debug("realtime: unknown event on a document", "conn", ch.client.id, "tenant", ch.id.Tenant,
		"document", ch.id.Document, "event", m.Event)
	return Nothing, nil
}
