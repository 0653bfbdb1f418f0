package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a recursive listing. Trees share their parts, so a few of them can
// stand for more entries than there is memory.
const (
	maxListed = 20_000
	maxDepth  = 64
)

// repo reads one tenant's objects.
type repo struct {
	store  store
	tenant string
}

// blob returns a blob's bytes, which the caller must not change, or errNotFound.
func (r repo) blob(sha string) ([]byte, error) { return r.store.get(r.tenant, kindBlob, sha) }

// tree returns a tree's entries in the order of their names, or errNotFound.
func (r repo) tree(sha string) ([]entry, error) {
	var entries []entry
	return entries, r.decode(kindTree, sha, &entries)
}

// commit returns a commit, or errNotFound.
func (r repo) commit(sha string) (commit, error) {
	var c commit
	return c, r.decode(kindCommit, sha, &c)
}

func (r repo) decode(k kind, sha string, to any) error {
	content, err := r.store.get(r.tenant, k, sha)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, to); err != nil {
		return fmt.Errorf("%s %s: %w", k, sha, err)
	}
	return nil
}

// root returns the entries of the tree of a commit.
func (r repo) root(sha string) ([]entry, error) {
	c, err := r.commit(sha)
	if err != nil {
		return nil, err
	}
	return r.tree(c.Tree)
}

// list returns the whole tree with full paths, each tree before what is in it, or
// errTooLarge.
func (r repo) list(sha string) ([]entry, error) {
	var all []entry
	var walk func(sha, prefix string, depth int) error
	walk = func(sha, prefix string, depth int) error {
		entries, err := r.tree(sha)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if len(all) == maxListed || depth == maxDepth {
				return errTooLarge
			}
			e.Path = prefix + e.Path
			all = append(all, e)
			if e.Type != kindTree {
				continue
			}
			if err := walk(e.SHA, e.Path+"/", depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return all, walk(sha, "", 0)
}

// find returns the entry at a path below the entries, or errNotFound. The names of
// the path and of the entries may be escaped, each in its own way.
func (r repo) find(entries []entry, path string) (entry, error) {
	name, rest, more := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	at := slices.IndexFunc(entries, func(e entry) bool { return unescapeName(e.Path) == unescapeName(name) })
	switch {
	case at < 0:
		return entry{}, errNotFound
	case !more:
		return entries[at], nil
	case entries[at].Type != kindTree:
		return entry{}, errNotFound
	}
	below, err := r.tree(entries[at].SHA)
	if err != nil {
		return entry{}, err
	}
	return r.find(below, rest)
}
