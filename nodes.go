package realtime

import (
	"context"
	"fmt"
	"slices"
)

// Node returns the name of this node among those that have a broker in common, ""
// without one. A server gets one when it is made. It gets another when it was cut off
// for so long that the others have given it up.
func (s *Server) Node() string { return s.node.cluster.id() }

// Nodes returns the names of all nodes that are there as this one knows it, itself
// included, sorted; none without a broker in common.
func (s *Server) Nodes() []string {
	if s.node.cluster == nil {
		return nil
	}
	all := append(s.node.cluster.nodes(), s.Node())
	slices.Sort(all)
	return all
}

// Members returns the members of topic on all nodes, in no order. It asks the other
// nodes and waits for them until ctx ends, or for 10 s if it has no deadline. It is
// for topics whose members are worth a list; there is a [Server.Count].
//
// The error is [ErrUnknownTopic], or a [*PartialError] beside what the others said.
func (s *Server) Members(ctx context.Context, topic string) ([]Member, error) {
	if s.node.hub.patternOf(topic) == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownTopic, topic)
	}
	far, err := s.remote.members(ctx, topic)
	for c := range s.Clients(topic) {
		far = append(far, s.node.memberOf(c))
	}
	return far, err
}

// Count returns how many members topic has on all nodes. It waits and fails as
// [Server.Members] does.
func (s *Server) Count(ctx context.Context, topic string) (int, error) {
	if s.node.hub.patternOf(topic) == nil {
		return 0, fmt.Errorf("%w: %q", ErrUnknownTopic, topic)
	}
	n, err := s.remote.count(ctx, topic)
	if t := s.node.hub.lookup(topic); t != nil {
		n += t.size()
	}
	return n, err
}
