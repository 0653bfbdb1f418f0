package realtime

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// remote is what an application asks of one node and what concerns the connections of
// the others, too.
type remote struct {
	node  *node
	lane  lane
	query *gatherer
}

// laneTasks bounds what others have asked for and this node has not done yet.
const laneTasks = 4096

// lane does one thing after the other, off the goroutine that hears of it.
type lane struct {
	mu   sync.Mutex // guards the following
	todo []func()
	busy bool
}

// register has the node do what others ask of it. It is called before the cluster
// starts.
func (r *remote) register() {
	if r.node.cluster == nil {
		return
	}
	r.node.cluster.handle(nodeClose, r.closed)
	r.node.cluster.handle(nodePush, r.pushed)
	r.query.answer(askMembers, r.listed)
	r.query.answer(askCount, r.counted)
	r.query.answer(askClients, r.answered)
}

// do has f done after what was asked for before.
func (r *remote) do(f func()) {
	l := &r.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.todo) == laneTasks {
		r.node.metrics.nodeDropped.Add(1)
		return
	}
	l.todo = append(l.todo, f)
	if !l.busy {
		l.busy = r.node.cluster.spawn(func(context.Context) { l.workLoop() })
	}
}

func (l *lane) workLoop() {
	for {
		l.mu.Lock()
		todo := l.todo
		l.todo, l.busy = nil, len(todo) > 0
		l.mu.Unlock()
		if len(todo) == 0 {
			return
		}
		for _, f := range todo {
			f()
		}
	}
}

// appendTarget appends t as a record.
func appendTarget(b []byte, t Target) []byte {
	return appendRecord(b, t.Connection, t.User, t.Session, t.TokenID, t.Tenant)
}

// cutTarget refuses a target with more in it than this version knows: without that
// it would mean others.
func cutTarget(b []byte) (t Target, rest []byte, ok bool) {
	f, rest, ok := cutRecord(b, 5)
	if !ok || len(f) != 5 {
		return t, nil, false
	}
	return Target{Connection: f[0], User: f[1], Session: f[2], TokenID: f[3], Tenant: f[4]}, rest, true
}

// disconnect has the other nodes close the connections that t means.
func (r *remote) disconnect(t Target, why *Error) {
	if r.node.cluster == nil || t == (Target{}) {
		return
	}
	b := appendTarget(nil, t)
	if why != nil {
		b = appendRecord(b, why.Text, string(why.Retry), strconv.FormatInt(why.RetryAfter.Milliseconds(), 10))
	}
	r.node.cluster.send("", nodeClose, b)
}

// closed does what disconnect asks for.
func (r *remote) closed(_ string, b []byte) {
	t, b, ok := cutTarget(b)
	var why *Error
	if ok && len(b) > 0 {
		why, ok = cutWhy(b)
	}
	if !ok {
		r.node.cluster.refuse(nodeClose, errNodeMail)
		return
	}
	r.do(func() {
		for _, c := range r.node.meant(t) {
			c.link.disconnect(ReasonDisconnected, why, nil)
		}
	})
}

func cutWhy(b []byte) (*Error, bool) {
	f, _, ok := cutRecord(b, 3)
	if !ok {
		return nil, false
	}
	ms, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || ms < 0 || ms > time.Hour.Milliseconds()*24 {
		return nil, false
	}
	why := &Error{Text: f[0], Retry: Retry(f[1]), RetryAfter: time.Duration(ms) * time.Millisecond}
	if !slices.Contains([]Retry{RetryNever, RetryNow, RetryBackoff, RetryNewToken}, why.Retry) {
		why.Retry = ""
	}
	return why, true
}

// push has the other nodes push an event to the connections that t means.
func (r *remote) push(t Target, topic, event string, data json.RawMessage, binary bool) error {
	if r.node.cluster == nil || t == (Target{}) {
		return nil
	}
	b := append(appendRecord(appendTarget(nil, t), topic, event, mark(binary)), data...)
	if len(b) > maxNodeBody {
		return fmt.Errorf("push to other nodes: %w", errNodeLong)
	}
	r.node.cluster.send("", nodePush, b)
	return nil
}

// mark writes a flag as a field.
func mark(set bool) string {
	if set {
		return "1"
	}
	return ""
}

// pushed does what push asks for.
func (r *remote) pushed(_ string, b []byte) {
	t, b, ok := cutTarget(b)
	f, data, ok2 := cutRecord(b, 3)
	if !ok || !ok2 || checkName(f[1], maxEventBytes) != nil || !isJSON(data) {
		r.node.cluster.refuse(nodePush, errNodeMail)
		return
	}
	m := outbound{kind: kindEvent, topic: f[0], event: f[1], data: data, binary: f[2] != ""}
	r.do(func() {
		for _, c := range r.node.meant(t) {
			one := m
			c.link.post(&one) // who is not in the topic does not get it
		}
	})
}

// Member is one membership of a client in a topic.
type Member struct {
	Node       string // see [Server.Node]
	Connection string // as [Client.ID] returns it
	User       string
	Session    string
	Tenant     string
	Protocol   string
}

// memberOf describes a client of this node.
func (n *node) memberOf(c *Client) Member {
	id := c.Identity()
	return Member{Node: n.cluster.id(), Connection: c.id, User: id.User, Session: id.Session, Tenant: id.Tenant, Protocol: c.Protocol()}
}

// members lists those of a topic on the other nodes.
func (r *remote) members(ctx context.Context, topic string) ([]Member, error) {
	if r.node.cluster == nil {
		return nil, nil
	}
	var all []Member
	err := r.query.ask(ctx, askMembers, []byte(topic)).wait(func(from string, b []byte) error {
		for len(b) > 0 {
			f, rest, ok := cutRecord(b, 5)
			if !ok {
				return errNodeMail
			}
			b = rest
			all = append(all, Member{Node: from, Connection: f[0], User: f[1], Session: f[2], Tenant: f[3], Protocol: f[4]})
		}
		return nil
	})
	return all, err
}

// listed answers askMembers.
func (r *remote) listed(_ context.Context, topic []byte, reply func([]byte) error) error {
	t := r.node.hub.lookup(string(topic))
	if t == nil {
		return nil
	}
	var b []byte
	for c := range t.all() {
		m := r.node.memberOf(c)
		b = appendRecord(b, m.Connection, m.User, m.Session, m.Tenant, m.Protocol)
		if len(b) > partBytes {
			if err := reply(b); err != nil {
				return err
			}
			b = nil
		}
	}
	return reply(b)
}

// count returns how many members a topic has on the other nodes.
func (r *remote) count(ctx context.Context, topic string) (int, error) {
	if r.node.cluster == nil {
		return 0, nil
	}
	total := 0
	err := r.query.ask(ctx, askCount, []byte(topic)).wait(func(_ string, b []byte) error {
		n, _, ok := cutNumber(b)
		if !ok || n > 1<<40 {
			return errNodeMail
		}
		total += int(n)
		return nil
	})
	return total, err
}

// counted answers askCount.
func (r *remote) counted(_ context.Context, topic []byte, reply func([]byte) error) error {
	n := 0
	if t := r.node.hub.lookup(string(topic)); t != nil {
		n = t.size()
	}
	return reply(binary.AppendUvarint(nil, uint64(n)))
}

// answerErrors are the errors that an answer may have, by the names under which they
// go from node to node.
var answerErrors = map[string]error{
	"closed": ErrClosed, "not_joined": ErrNotJoined, "not_supported": ErrNotSupported,
	"deadline": context.DeadlineExceeded, "canceled": context.Canceled,
}

func answerErrorName(err error) string {
	if err == nil {
		return ""
	}
	for name, one := range answerErrors {
		if errors.Is(err, one) {
			return name
		}
	}
	return err.Error()
}

func namedAnswerError(name string) error {
	if name == "" {
		return nil
	}
	if err := answerErrors[name]; err != nil {
		return err
	}
	return errors.New(name)
}

// question has the members of a topic on the other nodes asked.
func (r *remote) question(ctx context.Context, topic, event string, data json.RawMessage) *gathering {
	if r.node.cluster == nil {
		return nil
	}
	return r.query.ask(ctx, askClients, append(appendRecord(nil, topic, event), data...))
}

// answers waits for what they say.
func (r *remote) answers(one *gathering) ([]Answer, error) {
	if one == nil {
		return nil, nil
	}
	var all []Answer
	err := one.wait(func(from string, b []byte) error {
		for len(b) > 0 {
			f, rest, ok := cutRecord(b, 4)
			if !ok || f[2] == "" && !isJSON([]byte(f[3])) {
				return errNodeMail
			}
			b = rest
			one := Answer{Node: from, Connection: f[0], User: f[1], Err: namedAnswerError(f[2])}
			if one.Err == nil {
				one.Data = json.RawMessage(f[3])
			}
			all = append(all, one)
		}
		return nil
	})
	return all, err
}

// answered answers askClients.
func (r *remote) answered(ctx context.Context, question []byte, reply func([]byte) error) error {
	f, data, ok := cutRecord(question, 2)
	if !ok || checkName(f[1], maxEventBytes) != nil || !isJSON(data) {
		return errNodeMail
	}
	t := r.node.hub.lookup(f[0])
	if t == nil {
		return nil
	}
	var b []byte
	m := &outbound{kind: kindEvent, topic: f[0], event: f[1], data: data}
	for _, one := range r.node.asks.ask(ctx, t.clients(), m) {
		if len(one.Data) > maxNodeBody/2 {
			one.Data, one.Err = nil, errNodeLong
		}
		b = appendRecord(b, one.Connection, one.User, answerErrorName(one.Err), string(one.Data))
		if len(b) > partBytes {
			if err := reply(b); err != nil {
				return err
			}
			b = nil
		}
	}
	return reply(b)
}
