package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// The checks of REST.

func TestCheck110_HealthIsToldToAnyone(t *testing.T) {
	check(t).fetch(t, "", "GET", "/health", "", http.StatusOK, `{"status":"ok"}`)
}

// refusedBy is the pattern of an answer of REST that refuses.
func refusedBy(text string) string { return fields{"error": text}.String() }

func TestCheck111_DocumentIsCreatedOnce(t *testing.T) {
	s := check(t)
	token := tokenFor("doc1")
	s.fetch(t, token, "POST", "/documents/acme", `{"id":"doc1"}`, http.StatusCreated, `"doc1"`)
	s.fetch(t, token, "POST", "/documents/acme", `{"id":"doc1"}`, http.StatusConflict, refusedBy("Document already exists"))
	s.fetch(t, token, "GET", "/documents/acme/doc1", "", http.StatusOK, `{"id":"doc1","tenantId":"acme","sequenceNumber":0}`)
	s.fetch(t, tokenFor("doc2"), "POST", "/documents/acme", `{"id":"doc1"}`, http.StatusForbidden, refusedBy("Token not valid for this document"))
	s.fetch(t, tokenFor("doc2"), "GET", "/documents/acme/doc2", "", http.StatusNotFound, refusedBy("Document not found"))
	made := s.fetch(t, tokenFor("__new__"), "POST", "/documents/acme", `{}`, http.StatusCreated, `"<any>"`)
	var id string
	if err := json.Unmarshal([]byte(made), &id); err != nil || len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("got %s (%v), want 32 hex digits", made, err)
	}
	s.fetch(t, tokenFor(id), "GET", "/documents/acme/"+id, "", http.StatusOK, fmt.Sprintf(`{"id":%q,"tenantId":"acme","sequenceNumber":0}`, id))
}

// initial is the summary that a new document comes with.
const initial = `{"type":1,"tree":{
	".app":{"type":1,"tree":{".channels":{"type":1,"tree":{"root":{"type":2,"content":"{\"a\":1}"}}},".metadata":{"type":2,"content":"{}"},
		"bytes":{"type":2,"content":{"0":104,"1":105}}}},
	".protocol":{"type":1,"tree":{
		"attributes":{"type":2,"content":"{\"minimumSequenceNumber\":0,\"sequenceNumber\":0}"},
		"quorumMembers":{"type":2,"content":"[]"},"quorumProposals":{"type":2,"content":"[]"},
		"quorumValues":{"type":2,"content":"[[\"code\",{\"key\":\"code\",\"value\":{\"package\":\"p\"},\"approvalSequenceNumber\":0,\"commitSequenceNumber\":0,\"sequenceNumber\":0}]]"}}}}}`

// create makes doc1 with the initial summary and returns the commit and the paths
// of its tree with their blobs.
func (s *site) create(t *testing.T) (commit string, blobs map[string]string) {
	t.Helper()
	token := tokenFor("doc1")
	s.fetch(t, token, "POST", "/documents/acme", `{"id":"doc1","summary":`+initial+`}`, http.StatusCreated, `"doc1"`)
	commit = s.head(t, token)
	return commit, s.tree(t, token, commit)
}

// head returns the commit of doc1.
func (s *site) head(t *testing.T, token string) string {
	t.Helper()
	var ref struct{ Object struct{ SHA string } }
	s.read(t, token, "refs/heads/doc1", `{"ref":"refs/heads/doc1","object":{"sha":"<hash>","type":"commit","url":"<any>"},"url":"<any>"}`, &ref)
	return ref.Object.SHA
}

// read fetches a git object of acme.
func (s *site) read(t *testing.T, token, path, pattern string, into any) {
	t.Helper()
	text := s.fetch(t, token, "GET", "/repos/acme/git/"+path, "", http.StatusOK, pattern)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// entry of a tree, as it is read.
type treeEntry struct{ Path, Mode, Type, SHA, URL string }

// entries returns a commit's whole tree.
func (s *site) entries(t *testing.T, token, commit string) []treeEntry {
	t.Helper()
	signature := fields{"name": anyValue, "email": anyValue, "date": anyValue}
	var c struct{ Tree struct{ SHA string } }
	s.read(t, token, "commits/"+commit, fields{
		"sha": commit, "tree": fields{"sha": aHash, "url": anyValue}, "parents": anyValue, "message": anyValue,
		"author": signature, "committer": signature, "url": anyValue,
	}.String(), &c)
	var tree struct{ Tree []treeEntry }
	s.read(t, token, "trees/"+c.Tree.SHA+"?recursive=1", fields{"sha": c.Tree.SHA, "url": anyValue, "tree": anyValue}.String(), &tree)
	return tree.Tree
}

// tree returns the contents of all blobs of a commit, by path.
func (s *site) tree(t *testing.T, token, commit string) map[string]string {
	t.Helper()
	contents := map[string]string{}
	for _, one := range s.entries(t, token, commit) {
		if one.Type == "tree" {
			contents[one.Path] = "tree"
			continue
		}
		var blob struct {
			Content string
			Size    int
		}
		s.read(t, token, "blobs/"+one.SHA, fields{"sha": one.SHA, "size": anyValue, "content": anyValue, "encoding": "base64", "url": anyValue}.String(), &blob)
		text, err := base64.StdEncoding.DecodeString(blob.Content)
		if err != nil || len(text) != blob.Size {
			t.Fatalf("blob %s: %d bytes (%v), want %d", one.SHA, len(text), err, blob.Size)
		}
		contents[one.Path] = string(text)
	}
	return contents
}

func TestCheck112_InitialSummaryCanBeLoaded(t *testing.T) {
	s := check(t)
	_, got := s.create(t)
	for path, want := range map[string]string{
		".channels": "tree", ".channels/root": `{"a":1}`, ".metadata": "{}", "bytes": "hi", ".protocol": "tree",
		".protocol/attributes": `{"minimumSequenceNumber":0,"sequenceNumber":0}`, ".protocol/quorumMembers": "[]", ".protocol/quorumProposals": "[]",
	} {
		if got[path] != want {
			t.Errorf("%s: got %q, want %q", path, got[path], want)
		}
	}
	if _, ok := got[".app"]; ok || len(got) != 9 {
		t.Errorf("got %q, want nine paths without .app", got)
	}
	m := s.writer(t)
	if m.hello.CheckpointSequenceNumber != 1 {
		t.Errorf("the own join is %d, want 1", m.hello.CheckpointSequenceNumber)
	}
}

func TestCheck113_DeltasAreARange(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	a.fill(2100, 1)
	for query, want := range map[string][]int64{
		"?from=17&to=40": from(18, 40), "?from=2095": from(2096, 2100), "?to=3": from(1, 3), "": from(1, 2000), "?from=-1&to=2": from(1, 2),
		"?from=x&to=y": from(1, 2000), "?from=100": from(101, 2100), "?from=50&to=50": nil, "?from=3000": nil, "?from=0&to=1": from(1, 1),
	} {
		if got := numbers(t, s.deltas(t, "doc1", query)); !slices.Equal(got, want) {
			t.Errorf("%q: got %d, want %d", query, got, want)
		}
	}
	s.fetch(t, tokenFor("unknown"), "GET", "/deltas/acme/unknown?from=0", "", http.StatusOK, `{"value":[]}`)
}

func TestCheck114_MessageIsTheSameEverywhere(t *testing.T) {
	s := check(t)
	a := s.writer(t)
	a.submit(a.made(1, fields{"contents": json.RawMessage(`{"z":1.50,"a":"é\u00e9<&>"}`), "metadata": fields{"b": true}}))
	a.want(a.echo(2, 1))
	b := s.reader(t)
	a.want(b.joinSignal())
	id := a.id
	a.leave()
	b.want(b.leaves(id, 3, 3), leaveSignal(id))
	a.join("2").connect("write")
	b.want(a.joins(4, 3), a.joinSignal())
	rest := s.deltas(t, "doc1", "")
	if len(rest) != 4 {
		t.Fatalf("got %s, want four messages", rest)
	}
	a.requested(0, 4) // which the audit compares with what came before
	b.requested(0, 4)
	for i, text := range rest {
		sn := int64(i + 1)
		if !bytes.Equal(a.messages[sn], text) || !bytes.Equal(b.messages[sn], text) {
			t.Errorf("message %d: REST %s\nA %s\nB %s", sn, text, a.messages[sn], b.messages[sn])
		}
	}
}

// upload posts a git object of acme and returns its sha.
func (s *site) upload(t *testing.T, token, kind, body, pattern string) string {
	t.Helper()
	var made struct{ SHA string }
	text := s.fetch(t, token, "POST", "/repos/acme/git/"+kind, body, http.StatusCreated, pattern)
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		t.Fatal(err)
	}
	return made.SHA
}

const blobPattern = `{"sha":"<hash>","url":"<any>"}`

func TestCheck115_BlobIsNamedByItsContent(t *testing.T) {
	s := check(t)
	token := tokenFor("doc1")
	for body, want := range map[string]string{
		`{"content":"aGk=","encoding":"base64"}`: "hi", `{"content":"é\n","encoding":"utf-8"}`: "é\n", `{"content":"","encoding":"utf-8"}`: "",
	} {
		sum := sha256.Sum256([]byte(want))
		sha := s.upload(t, token, "blobs", body, blobPattern)
		if sha != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: got %s, want its SHA-256, %x", body, sha, sum)
		}
		s.fetch(t, token, "GET", "/repos/acme/git/blobs/"+sha, "", http.StatusOK, fields{
			"sha": sha, "size": len(want), "content": base64.StdEncoding.EncodeToString([]byte(want)), "encoding": "base64", "url": anyValue,
		}.String())
		beta := mint("beta-secret", claims("doc1").with(fields{"tenantId": "beta"}))
		s.fetch(t, beta, "GET", "/repos/beta/git/blobs/"+sha, "", http.StatusNotFound, refusedBy("Blob not found"))
	}
	s.fetch(t, token, "GET", "/repos/acme/git/blobs/"+strings.Repeat("0", 64), "", http.StatusNotFound, refusedBy("Blob not found"))
	s.fetch(t, token, "POST", "/repos/acme/git/blobs", `{"content":"!","encoding":"base64"}`, http.StatusBadRequest, refusedBy("Invalid base64 content"))
}

func TestCheck116_TreeIsReadAsAWhole(t *testing.T) {
	s := check(t)
	commit, _ := s.create(t)
	seen := map[string]bool{}
	for _, one := range s.entries(t, tokenFor("doc1"), commit) {
		if i := strings.LastIndexByte(one.Path, '/'); i >= 0 && !seen[one.Path[:i]] {
			t.Errorf("%s comes before its tree", one.Path)
		}
		wantMode := map[string]string{"blob": "100644", "tree": "040000"}[one.Type]
		if !hashForm.MatchString(one.SHA) || one.Mode != wantMode || one.URL == "" || strings.HasPrefix(one.Path, "/") {
			t.Errorf("got %+v, want mode %s, a hash and an address", one, wantMode)
		}
		seen[one.Path] = true
	}
	if !seen[".channels/root"] || !seen[".protocol/attributes"] {
		t.Errorf("got %v, want full paths", seen)
	}
}

func TestCheck117_PatchMakesAMissingRef(t *testing.T) {
	s := check(t)
	token := tokenFor("doc1")
	blob := s.upload(t, token, "blobs", `{"content":"hi","encoding":"utf-8"}`, blobPattern)
	tree := s.upload(t, token, "trees", `{"tree":[{"path":"a","mode":"100644","type":"blob","sha":"`+blob+`"}]}`,
		`{"sha":"<hash>","url":"<any>","tree":[{"path":"a","mode":"100644","type":"blob","sha":"`+blob+`","url":"<any>"}]}`)
	commit := s.upload(t, token, "commits", `{"message":"m","tree":"`+tree+`","parents":[],"author":{"name":"n","email":"e"}}`, `"<any>"`)
	const path = "/repos/acme/git/refs/heads/doc1"
	body := `{"sha":"` + commit + `","force":true}`
	s.fetch(t, token, "GET", path, "", http.StatusNotFound, refusedBy("Reference not found"))
	s.fetch(t, tokenFor("doc2"), "PATCH", path, body, http.StatusForbidden, refusedBy("Token not valid for this document"))
	pattern := fields{"ref": "refs/heads/doc1", "object": fields{"sha": commit, "type": "commit", "url": anyValue}, "url": anyValue}.String()
	s.fetch(t, token, "PATCH", path, body, http.StatusOK, pattern)
	s.fetch(t, token, "GET", path, "", http.StatusOK, pattern)
	s.fetch(t, token, "POST", "/repos/acme/git/refs", `{"ref":"refs/heads/doc1","sha":"`+commit+`"}`, http.StatusConflict, refusedBy("Reference already exists"))
	if got := s.tree(t, token, commit); len(got) != 1 || got["a"] != "hi" {
		t.Errorf("got %q, want one file", got)
	}
}

func TestCheck118_RestNeedsAToken(t *testing.T) {
	s := check(t)
	now := time.Now().Unix()
	beta := claims("doc1").with(fields{"tenantId": "beta"})
	for _, test := range []struct {
		authorization, method, path string
		status                      int
		text                        string
	}{
		{"", "GET", "/deltas/acme/doc1", 401, "Missing Authorization header"},
		{"Basic dTpw", "GET", "/deltas/acme/doc1", 401, "Invalid Authorization header format. Expected: Bearer <token>"},
		{"Bearer " + mint(secretOne, claims("doc1").with(fields{"exp": now - 1})), "GET", "/deltas/acme/doc1", 401, "Token has expired"},
		{"Bearer " + vectorD, "GET", "/deltas/acme/doc1", 401, "Invalid token signature"},
		{"Bearer " + vectorA, "GET", "/deltas/nobody/doc1", 401, "Unknown tenant"},
		{"Bearer " + vectorE, "GET", "/deltas/acme/doc1", 401, "Invalid token format"},
		{"Bearer garbage", "GET", "/deltas/acme/doc1", 401, "Invalid token format"},
		{"Bearer " + mint(secretOne, claims("doc1").with(fields{"nbf": now + 60})), "GET", "/deltas/acme/doc1", 401, "Invalid token format"},
		{"Bearer " + tokenFor("doc1", "doc:read", "doc:write"), "POST", "/repos/acme/git/blobs", 403, "Missing required scopes: summary:write"},
		{"Bearer " + tokenFor("doc1", "doc:read"), "POST", "/documents/acme", 403, "Missing required scopes: doc:write"},
		{"Bearer " + tokenFor("doc1", "summary:write"), "GET", "/deltas/acme/doc1", 403, "Missing required scopes: doc:read"},
		{"Bearer " + tokenFor("doc2"), "GET", "/deltas/acme/doc1", 403, "Token not valid for this document"},
		{"Bearer " + mint(secretOne, beta), "GET", "/deltas/acme/doc1", 403, "Token not valid for this tenant"},
	} {
		header := http.Header{}
		if test.authorization != "" {
			header.Set("Authorization", test.authorization)
		}
		body := ""
		if test.method == "POST" {
			body = "{}"
		}
		status, text := s.request(t, header, test.method, test.path, body)
		if found := differs(text, refusedBy(test.text)); status != test.status || found != "" {
			t.Errorf("%.20s %s %s: got %d %s, want %d %s", test.authorization, test.method, test.path, status, text, test.status, test.text)
		}
	}
}
