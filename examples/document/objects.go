package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"
)

// kind is a kind of object. Each has its own ids: a blob with the bytes of a tree
// is no tree.
type kind string

const (
	kindBlob   kind = "blob"
	kindTree   kind = "tree"
	kindCommit kind = "commit"
)

// The modes of git that we have a use for.
const (
	modeBlob = "100644"
	modeTree = "040000"
)

// object is a blob, a tree or a commit. It is never changed.
type object struct {
	kind    kind
	sha     string // of content
	content []byte
}

// entry is one line of a tree.
type entry struct {
	Path string `json:"path"` // one name, without a slash
	Mode string `json:"mode"`
	Type kind   `json:"type"`
	SHA  string `json:"sha"`
}

// commit is what a commit's content holds.
type commit struct {
	Tree      string    `json:"tree"`
	Parents   []string  `json:"parents"`
	Message   string    `json:"message"`
	Author    signature `json:"author"`
	Committer signature `json:"committer"`
}

// signature says who made a commit, and when.
type signature struct {
	Name  string    `json:"name"`
	Email string    `json:"email"`
	Date  time.Time `json:"date"`
}

func newObject(k kind, content []byte) object {
	sum := sha256.Sum256(content)
	return object{k, hex.EncodeToString(sum[:]), content}
}

func newBlob(content []byte) object { return newObject(kindBlob, content) }

// newTree returns the tree of the entries, whatever order they come in.
func newTree(entries []entry) object {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b entry) int {
		return strings.Compare(a.Path, b.Path)
	})
	return newObject(kindTree, mustJSON(orEmpty(sorted)))
}

func newCommit(c commit) object {
	c.Parents = orEmpty(c.Parents)
	return newObject(kindCommit, mustJSON(c))
}

// in returns the entry under which o, a blob or a tree, stands in a tree.
func (o object) in(path string) entry {
	mode := modeBlob
	if o.kind == kindTree {
		mode = modeTree
	}
	return entry{path, mode, o.kind, o.sha}
}

// mustJSON is for our own types of strings, numbers and times, which always encode.
func mustJSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

// orEmpty keeps a list without elements from becoming null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// isSHA reports whether s has the form of an id.
func isSHA(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// escapeName writes a name of a summary as clients write and read it in trees:
// escaped, so that a slash in a name is no border between two.
func escapeName(name string) string {
	// encodeURIComponent leaves these alone, and writes a space as %20.
	return strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").
		Replace(url.QueryEscape(name))
}

// unescapeName is the inverse; what is not escaped rightly stands for itself.
func unescapeName(name string) string {
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}

// entryNamed returns the entry of that very name.
func entryNamed(entries []entry, name string) (entry, bool) {
	at := slices.IndexFunc(entries, func(e entry) bool { return e.Path == name })
	if at < 0 {
		return entry{}, false
	}
	return entries[at], true
}
