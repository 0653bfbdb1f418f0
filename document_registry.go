package realtime

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// registry finds the sessions of documents, and starts those that do not run.
type registry struct {
	household

	mu       sync.Mutex // guards the following
	sessions map[DocumentID]*Session
	closed   bool
}

func newRegistry(h household) *registry {
	r := &registry{household: h, sessions: map[DocumentID]*Session{}}
	r.household.forget = r.drop
	if r.debts != nil {
		r.debts.show = r.show
		r.node.cluster.watch(r.watch)
		r.node.cluster.reborn(r.reborn)
	}
	return r
}

func (r *registry) ordering(s *Session) ordering {
	if r.debts == nil {
		return &ownOrder{Session: s}
	}
	return &sharedOrder{Session: s, common: r.debts.common, debts: r.debts}
}

// show has the host see messages that came of a document whose session is over.
func (r *registry) show(id DocumentID, messages []SequencedMessage) {
	r.count.ops.Add(float64(len(messages)))
	if r.op != nil {
		r.node.guard("OnOp", func() { r.op(id.Tenant, id.Document, messages) })
	}
}

// watch has the clients of a node that is gone leave the documents that this one has.
func (r *registry) watch(node string, here bool) {
	if here {
		return
	}
	for _, s := range r.list() {
		r.debts.owe(s.id, &DocumentStep{Kind: StepBury, Nodes: []string{node}})
	}
}

// reborn ends the sessions of a node whose clients the others had leave: these come
// back with other client ids.
func (r *registry) reborn() {
	for _, s := range r.list() {
		r.node.spawn(s.quit)
	}
}

// find returns the session of a document, which it starts if it does not run, and
// waits for that until ctx ends. Of several who ask at once one starts it.
func (r *registry) find(ctx context.Context, id DocumentID) (*Session, error) {
	for {
		s, err := r.get(id)
		if err != nil {
			return nil, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if s.failed != nil {
			return nil, s.failed
		}
		if s.ctx.Err() == nil {
			return s, nil
		}
		r.drop(s)
	}
}

func (r *registry) get(id DocumentID) (*Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[id]; s != nil {
		return s, nil
	}
	if r.closed {
		return nil, ErrServerClosed
	}
	s, err := r.newSession(id)
	if err != nil {
		return nil, err
	}
	if !r.node.spawn(func() { r.start(s) }) {
		return nil, ErrServerClosed
	}
	r.sessions[id] = s
	return s, nil
}

func (r *registry) newSession(id DocumentID) (*Session, error) {
	name, err := r.topics.build([]string{id.Tenant, id.Document})
	if err != nil {
		return nil, err
	}
	s := &Session{household: &r.household, id: id, stream: stream{name, r.rules}, ready: make(chan struct{})}
	s.order = r.ordering(s)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// startTime is how long the log may take to start a session.
const startTime = 10 * time.Second

// start reads the log. Those who want the session wait.
func (r *registry) start(s *Session) {
	defer close(s.ready)
	ctx, cancel := context.WithTimeout(s.ctx, startTime)
	defer cancel()
	if err := open(ctx, s); err != nil {
		s.abort(fmt.Errorf("start session of %s: %w", s.stream.name, err))
		s.node.log.Log(s.ctx, brokerLevel(err), "realtime: document session", "tenant", s.id.Tenant, "document", s.id.Document, "error", err)
		r.drop(s)
		return
	}
	r.count.sessions.Add(1)
	s.tellHost(SessionEvent{Tenant: s.id.Tenant, Document: s.id.Document, Kind: SessionStarted})
}

func open(ctx context.Context, s *Session) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{value: v, stack: debug.Stack()}
		}
	}()
	return s.order.open(ctx)
}

// drop forgets a session that is over.
func (r *registry) drop(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[s.id] == s {
		delete(r.sessions, s.id)
	}
}

// list returns the sessions as of now, those that are starting included.
func (r *registry) list() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.sessions))
}

// close stops all sessions, and starts none any more.
func (r *registry) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, s := range r.list() {
		s.quit()
	}
	if r.debts != nil {
		r.debts.close()
	}
}

// quit ends a session, even one that has not started.
func (s *Session) quit() {
	select {
	case <-s.ready:
		s.stop()
	default: // cancelled, its start fails
		s.cancel()
	}
}
