package main

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
)

// The types of nodes of a summary that a client sends when it creates a document.
const (
	nodeTree       = 1
	nodeBlob       = 2
	nodeAttachment = 4
)

// node is one node of such a summary.
type node struct {
	Type    int              `json:"type"`
	Tree    map[string]*node `json:"tree"`
	Content json.RawMessage  `json:"content"`
	ID      string           `json:"id"`
}

var errSummary = errors.New("invalid summary")

// The two parts of a whole summary: what the application made, and what the server
// knows of clients and their agreements.
const (
	partApp      = ".app"
	partProtocol = ".protocol"
)

// snapshot turns a summary into the objects of a first commit's tree: the children
// of .app and the entry .protocol. The tree itself is the last of them. has tells
// of blobs that are there already.
func snapshot(root *node, has func(sha string) bool) ([]object, error) {
	if root == nil || root.Type != nodeTree {
		return nil, errSummary
	}
	app, protocol := root.Tree[partApp], root.Tree[partProtocol]
	if app == nil || app.Type != nodeTree || protocol == nil || protocol.Type != nodeTree || app.Tree[partProtocol] != nil {
		return nil, errSummary
	}
	top := maps.Clone(app.Tree)
	if top == nil {
		top = make(map[string]*node)
	}
	top[partProtocol] = protocol
	w := snapshotWriter{has: has}
	if _, err := w.tree(top, 0); err != nil {
		return nil, err
	}
	return w.objects, nil
}

// snapshotWriter collects objects, each after those that it names.
type snapshotWriter struct {
	has     func(sha string) bool
	objects []object
}

func (w *snapshotWriter) add(o object) object {
	w.objects = append(w.objects, o)
	return o
}

func (w *snapshotWriter) tree(nodes map[string]*node, depth int) (object, error) {
	if depth == maxDepth {
		return object{}, errSummary
	}
	entries := make([]entry, 0, len(nodes))
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		e, err := w.entry(escapeName(name), nodes[name], depth)
		if err != nil {
			return object{}, err
		}
		entries = append(entries, e)
	}
	return w.add(newTree(entries)), nil
}

func (w *snapshotWriter) entry(name string, n *node, depth int) (entry, error) {
	switch {
	case n == nil || name == "":
	case n.Type == nodeTree:
		tree, err := w.tree(n.Tree, depth+1)
		return tree.in(name), err
	case n.Type == nodeBlob:
		content, err := blobContent(n.Content)
		if err != nil {
			return entry{}, err
		}
		return w.add(newBlob(content)).in(name), nil
	case n.Type == nodeAttachment && isSHA(n.ID) && w.has(n.ID):
		return entry{name, modeBlob, kindBlob, n.ID}, nil
	}
	return entry{}, errSummary
}

// blobContent returns the bytes of a content: those of a text, or of an array of
// bytes, which JavaScript writes as {"0":104,"1":105}.
func blobContent(content json.RawMessage) ([]byte, error) {
	var text *string
	if err := json.Unmarshal(content, &text); err == nil && text != nil {
		return []byte(*text), nil
	}
	var numbered map[string]*uint8
	if err := json.Unmarshal(content, &numbered); err != nil || numbered == nil {
		return nil, errSummary
	}
	bytes := make([]byte, len(numbered))
	for at := range bytes {
		value := numbered[strconv.Itoa(at)]
		if value == nil {
			return nil, errSummary
		}
		bytes[at] = *value
	}
	return bytes, nil
}
