package realtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
)

// Documents are documents whose ops get one total order each, for clients of Fluid
// over Phoenix Channels and for any other. It is made by [Server.Documents].
//
// A document needs no creation. Whoever holds a token of its tenant for it may
// connect; the first message has number 1.
type Documents struct {
	word     string // that its topics begin with
	registry *registry
	channels sync.Map // channelKey to *documentChannel
}

type channelKey struct {
	client *Client
	topic  string
}

// Documents declares the topics of documents, such as
// "document:{tenant}:{document}": a first word, the tenant, and the document's name,
// which may hold colons. Any other topic of that first word is refused as
// "invalid_topic". Joining needs no right and tells nothing; connect_document wants
// a token that one of the tenants has signed ([DocumentTenants]) for the document, with
// the scope doc:read, and doc:write for ops.
//
// What clients say and hear is described in docs/protocols.md. Like [Server.Topic] it
// must be called before the server serves, and panics on a mistake.
func (s *Server) Documents(pattern string, opts ...DocumentOption) *Documents {
	d, err := s.documents(pattern, opts)
	if err != nil {
		panic(fmt.Sprintf("realtime: Documents(%q): %v", pattern, err))
	}
	return d
}

func (s *Server) documents(pattern string, opts []DocumentOption) (*Documents, error) {
	set := newDocumentRules()
	for _, o := range opts {
		if err := o(set); err != nil {
			return nil, err
		}
	}
	if set.tenants == nil {
		return nil, errors.New("want DocumentTenants")
	}
	n := s.node
	common, err := n.commonOrder(set)
	if err != nil {
		return nil, err
	}
	if set.maxMessage == 0 {
		set.maxMessage = int(min(16<<20, max(n.messageBytes-64<<10, n.messageBytes/2)))
	}
	word, err := firstWord(pattern)
	if err != nil {
		return nil, err
	}
	d := &Documents{word: word}
	topics, err := s.declare(strings.TrimSuffix(pattern, "}")+"...}", []TopicOption{Join(d.join), Left(d.left), gapless})
	if err != nil {
		return nil, err
	}
	if _, err := s.declare(word+":*", []TopicOption{Join(refuseTopic)}); err != nil {
		return nil, err
	}
	d.registry = newRegistry(household{
		documentRules: set, debts: common, node: n, topics: &topics.template, count: newDocumentCounters(n.metrics),
		rules: &rules{policy: catchUp, drops: n.metrics.drops.WithLabelValues(string(catchUp))},
	})
	n.atClose(d.registry.close)
	s.shareDocuments(d)
	d.handle(topics)
	return d, nil
}

// commonOrder returns what has documents ordered together with other nodes, nil if this
// one orders them alone, in a log.
func (n *node) commonOrder(set *documentRules) (*debts, error) {
	if n.cluster == nil && set.log == nil {
		set.log = NewMemoryLog()
	}
	if set.log != nil {
		return nil, nil
	}
	if b, ok := n.cluster.broker.(interface{ Documents() DocumentOrder }); ok {
		if order := b.Documents(); order != nil {
			return newDebts(order, n), nil
		}
	}
	return nil, errors.New("the broker of WithBroker cannot order documents for several nodes: " +
		"want DocumentLog, and no document on two nodes, or a broker with the method Documents")
}

// firstWord returns the word that topics of pattern begin with.
func firstWord(pattern string) (string, error) {
	t, err := parseTemplate(pattern)
	if err != nil {
		return "", err
	}
	ok := len(t.segments) == 3 && t.segments[0].literal != "" && t.segments[1].param != ""
	if last := len(t.segments) - 1; !ok || t.segments[last].param == "" || t.segments[last].rest {
		return "", errors.New(`want a pattern such as "document:{tenant}:{document}"`)
	}
	return t.segments[0].literal, nil
}

// gapless: a document has numbers of its own, and is read again where they stop.
func gapless(p *Pattern) error { p.gapless = true; return nil }

// refuseTopic is the join function of topics that name no document.
func refuseTopic(context.Context, *Client, Message) (any, error) {
	return nil, &Error{Code: "invalid_topic", Text: "The topic names no document", Retry: RetryNever,
		Data: map[string]string{"reason": "invalid_topic"}}
}

// handle sets the handlers of the channel's events.
func (d *Documents) handle(topics *Pattern) {
	for event, h := range map[string]func(*documentChannel, context.Context, Message) (any, error){
		eventConnect:      (*documentChannel).connect,
		eventSubmitOp:     (*documentChannel).submitOp,
		eventSubmitSignal: (*documentChannel).submitSignal,
		eventNoop:         (*documentChannel).noop,
		eventRequestOps:   (*documentChannel).requestOps,
		"*":               (*documentChannel).other,
	} {
		topics.Handle(event, func(ctx context.Context, c *Client, m Message) (any, error) {
			ch, ok := d.channels.Load(channelKey{c, m.Topic})
			if !ok {
				return Nothing, nil // it is being closed
			}
			answer, err := h(ch.(*documentChannel), ctx, m)
			if _, told := errors.AsType[*Error](err); (told || err == nil) && !wantsAnswer(m) {
				return Nothing, nil
			}
			return answer, err
		})
	}
}

// wantsAnswer reports whether the client wants an answer beside the events: only a message
// with a ref gets one (document.md section 2.4).
func wantsAnswer(m Message) bool { return m.reply.ref != "" && m.reply.ref != noRef }

// join lets everybody in: it tells nothing, and starts nothing but the time to
// connect.
func (d *Documents) join(_ context.Context, c *Client, m Message) (any, error) {
	key := channelKey{c, m.Topic}
	if _, here := d.channels.Load(key); here {
		return nil, nil // a token was refreshed, which is not the document's
	}
	id := DocumentID{Tenant: m.params[0].Value, Document: m.params[1].Value}
	ch := newDocumentChannel(d.registry, c, m.Topic, id)
	ch.forget = func() { d.channels.CompareAndDelete(key, ch) }
	d.channels.Store(key, ch)
	ch.begin()
	return struct{}{}, nil
}

func (d *Documents) left(c *Client, topic string, _ Reason) {
	if ch, ok := d.channels.LoadAndDelete(channelKey{c, topic}); ok {
		ch.(*documentChannel).left()
	}
}

// Session returns the session of a document, which is started if it does not run. It
// blocks on the log then, until ctx ends. The error is ctx's, the log's, or
// [ErrServerClosed].
func (d *Documents) Session(ctx context.Context, tenant, document string) (*Session, error) {
	return d.registry.find(ctx, DocumentID{Tenant: tenant, Document: document})
}

// Sessions iterates over the sessions that run on this node, as of now, in no order. No
// lock is held meanwhile.
func (d *Documents) Sessions() iter.Seq2[DocumentID, *Session] {
	return func(yield func(DocumentID, *Session) bool) {
		for _, s := range d.registry.list() {
			if s.running() && !yield(s.id, s) {
				return
			}
		}
	}
}

// DisconnectTenant closes the channels of a tenant's connected clients, and returns how
// many those were on this node; the others are told, and not waited for. They may come
// back: [Tenants.Unregister] ends that.
func (d *Documents) DisconnectTenant(tenant string) int {
	d.registry.node.cluster.send("", nodeDocuments, append(appendText(nil, d.word), tenant...))
	return d.disconnectTenant(tenant)
}

// shareDocuments has d obey what other nodes say of tenants, beside those before it.
func (s *Server) shareDocuments(d *Documents) {
	s.ofTenants = append(slices.Clip(s.ofTenants), func(word, tenant string) {
		if word == d.word {
			d.disconnectTenant(tenant)
		}
	})
	all := s.ofTenants
	s.node.cluster.handle(nodeDocuments, func(_ string, body []byte) {
		word, tenant, _ := cutText(body)
		s.node.spawn(func() {
			for _, f := range all {
				f(word, string(tenant))
			}
		})
	})
}

func (d *Documents) disconnectTenant(tenant string) int {
	n := 0
	for _, ch := range d.channels.Range {
		ch := ch.(*documentChannel)
		if ch.id.Tenant != tenant {
			continue
		}
		if _, p := ch.connected(); p != nil && p.end(errDocumentClosed) {
			n++
		}
	}
	return n
}
