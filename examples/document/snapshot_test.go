package main

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// wholeSummary is what a client creates a document with.
const wholeSummary = `{"type":1,"tree":{
	".app":{"type":1,"tree":{
		".channels":{"type":1,"tree":{"a/b":{"type":2,"content":"slash"},"empty":{"type":1,"tree":{}}}},
		".metadata":{"type":2,"content":"{}"},
		"bytes":{"type":2,"content":{"0":255,"1":0,"2":104}}}},
	".protocol":{"type":1,"tree":{
		"attributes":{"type":2,"content":"{\"minimumSequenceNumber\":0,\"sequenceNumber\":0}"},
		"quorumMembers":{"type":2,"content":"[]"},
		"quorumProposals":{"type":2,"content":"[]"},
		"quorumValues":{"type":2,"content":"[[\"code\",{\"key\":\"code\",\"value\":{\"package\":\"p\"},\"approvalSequenceNumber\":0,\"commitSequenceNumber\":0,\"sequenceNumber\":0}]]"}}}}}`

func parseNode(t testing.TB, text string) *node {
	t.Helper()
	var n *node
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// files returns the contents of all blobs under a tree, by their paths. A tree
// without entries stands as its path with a slash.
func files(t testing.TB, r repo, tree string) map[string]string {
	t.Helper()
	entries, err := r.list(tree)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for i, e := range entries {
		if e.Type == kindTree {
			if i+1 == len(entries) || !strings.HasPrefix(entries[i+1].Path, e.Path+"/") {
				found[e.Path+"/"] = ""
			}
			continue
		}
		content, err := r.blob(e.SHA)
		if err != nil {
			t.Fatalf("%s: %v", e.Path, err)
		}
		found[e.Path] = string(content)
	}
	return found
}

func TestSnapshotHasTheChildrenOfAppAndTheProtocol(t *testing.T) { // document.md section 12.4
	s := newMemoryStore()
	objects, err := snapshot(parseNode(t, wholeSummary), func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.put("acme", objects...); err != nil {
		t.Fatal(err)
	}
	got := files(t, repo{s, "acme"}, objects[len(objects)-1].sha)
	want := map[string]string{
		".channels/a%2Fb": "slash", ".channels/empty/": "", ".metadata": "{}", "bytes": "\xff\x00h",
		".protocol/attributes":    `{"minimumSequenceNumber":0,"sequenceNumber":0}`,
		".protocol/quorumMembers": "[]", ".protocol/quorumProposals": "[]",
		".protocol/quorumValues": `[["code",{"key":"code","value":{"package":"p"},"approvalSequenceNumber":0,"commitSequenceNumber":0,"sequenceNumber":0}]]`,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestSnapshotsThatAreNoneAreRefused(t *testing.T) {
	const protocol = `".protocol":{"type":1}`
	deep := strings.Repeat(`{"type":1,"tree":{"a":`, maxDepth) + `{"type":1}` + strings.Repeat(`}}`, maxDepth)
	for _, text := range []string{
		`null`, `{}`, `{"type":2,"content":""}`, `{"type":1}`, `{"type":1,"tree":{".app":{"type":1}}}`,
		`{"type":1,"tree":{` + protocol + `}}`,
		`{"type":1,"tree":{".app":null,` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":2,"content":""},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{".protocol":{"type":1}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":null}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"":{"type":1}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":2}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":2,"content":null}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":2,"content":7}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":2,"content":{"1":7}}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":2,"content":{"0":256}}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":2,"content":{"0":null}}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":3,"handle":"/x"}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":4,"id":"` + noSHA + `"}}},` + protocol + `}}`,
		`{"type":1,"tree":{".app":` + deep + `,` + protocol + `}}`,
	} {
		if objects, err := snapshot(parseNode(t, text), func(string) bool { return false }); !errors.Is(err, errSummary) {
			t.Errorf("%.120s: got %d objects, %v, want %v", text, len(objects), err, errSummary)
		}
	}
}

func TestSnapshotNamesBlobsThatAreThereAlready(t *testing.T) {
	text := `{"type":1,"tree":{".app":{"type":1,"tree":{"a":{"type":4,"id":"` + hiSHA + `"}}},".protocol":{"type":1}}}`
	objects, err := snapshot(parseNode(t, text), func(sha string) bool { return sha == hiSHA })
	if err != nil {
		t.Fatal(err)
	}
	if last := string(objects[len(objects)-1].content); !strings.Contains(last, `"path":"a","mode":"100644","type":"blob","sha":"`+hiSHA+`"`) {
		t.Errorf("got %s, want an entry for the blob", last)
	}
}

// FuzzSnapshot holds that a summary is refused, or that everything it names is
// there and nothing of it is lost.
func FuzzSnapshot(f *testing.F) {
	f.Add(wholeSummary)
	f.Add(`{"type":1,"tree":{".app":{"type":1,"tree":{"%2F":{"type":2,"content":"a"},"/":{"type":2,"content":{}}}},".protocol":{"type":1}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var root *node
		if json.Unmarshal([]byte(text), &root) != nil {
			return
		}
		objects, err := snapshot(root, func(string) bool { return false })
		if err != nil {
			return
		}
		s := newMemoryStore()
		if err := s.put("acme", objects...); err != nil {
			t.Fatal(err)
		}
		got := slices.Sorted(maps.Keys(files(t, repo{s, "acme"}, objects[len(objects)-1].sha)))
		want := leaves(root.Tree[partApp], "")
		want = append(want, leaves(root.Tree[partProtocol], partProtocol+"/")...)
		if len(root.Tree[partProtocol].Tree) == 0 {
			want = append(want, partProtocol+"/")
		}
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	})
}

// leaves returns the paths of what files returns.
func leaves(n *node, prefix string) (paths []string) {
	for name, child := range n.Tree {
		path := prefix + escapeName(name)
		switch {
		case child.Type == nodeTree && len(child.Tree) == 0:
			paths = append(paths, path+"/")
		case child.Type == nodeTree:
			paths = append(paths, leaves(child, path+"/")...)
		default:
			paths = append(paths, path)
		}
	}
	return paths
}

// FuzzName holds that a name comes back from a tree, and is no path there.
func FuzzName(f *testing.F) {
	for _, name := range []string{"a", "a/b", "100%", "a b+c", "%2F", "!'()*~-_.", "é"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		escaped := escapeName(name)
		if got := unescapeName(escaped); got != name || strings.Contains(escaped, "/") {
			t.Errorf("%q became %q, and that %q", name, escaped, got)
		}
	})
}

func TestNamesAreEscapedAsClientsDo(t *testing.T) {
	for name, want := range map[string]string{ // encodeURIComponent
		".channels": ".channels", "a/b": "a%2Fb", "a b": "a%20b", "a+b": "a%2Bb", "!'()*~-_.": "!'()*~-_.",
		"100%": "100%25", "é": "%C3%A9", "a%20": "a%2520", "%21": "%2521",
	} {
		if got := escapeName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
