package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	hiSHA   = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4" // of "hi"
	noSHA   = "0000000000000000000000000000000000000000000000000000000000000000"
	gitBase = "http://example.com/repos/acme/git/"
)

func TestBlobs(t *testing.T) { // document.md section 12.5
	x := newAPI(t)
	made := fmt.Sprintf(`{"sha":%q,"url":%q}`, hiSHA, gitBase+"blobs/"+hiSHA)
	for _, row := range []struct {
		body   string
		status int
		answer string
	}{
		{`{"content":"aGk=","encoding":"base64"}`, 201, made},
		{`{"content":"hi","encoding":"utf-8"}`, 201, made},
		{`{"content":"hi"}`, 201, made},
		{`{"content":"a","encoding":"base64"}`, 400, `{"error":"Invalid base64 content"}`},
		{`{"content":"aGk","encoding":"base64"}`, 400, `{"error":"Invalid base64 content"}`},
		{`{"content":"hi","encoding":"latin1"}`, 400, `{"error":"Invalid encoding"}`},
		{`{"encoding":"utf-8"}`, 400, `{"error":"Missing content"}`},
		{`{"content":7}`, 400, `{"error":"Invalid JSON"}`},
		{`{"content":"hi"} x`, 400, `{"error":"Invalid JSON"}`},
		{``, 400, `{"error":"Invalid JSON"}`},
	} {
		x.want("POST", "/repos/acme/git/blobs", row.body, row.status, row.answer)
	}
	x.want("GET", "/repos/acme/git/blobs/"+hiSHA, "", 200,
		fmt.Sprintf(`{"sha":%q,"size":2,"content":"aGk=","encoding":"base64","url":%q}`, hiSHA, gitBase+"blobs/"+hiSHA))
	for _, sha := range []string{noSHA, "x", strings.ToUpper(hiSHA), hiSHA + "0", x.tree()} {
		x.want("GET", "/repos/acme/git/blobs/"+sha, "", 404, `{"error":"Blob not found"}`)
	}
	got := x.send("GET", "/repos/beta/git/blobs/"+hiSHA, "Bearer "+signed("beta", "doc1", everything, nil), "")
	wantAnswer(t, "another tenant", got, 404, `{"error":"Blob not found"}`)
}

func TestBlobsOfAnyBytes(t *testing.T) {
	x := newAPI(t)
	for content, encoded := range map[string]string{"": "", "\xff\x00": "/wA=", "é": "w6k="} {
		sha := x.created("/repos/acme/git/blobs", fmt.Sprintf(`{"content":%q,"encoding":"base64"}`, encoded))
		if sha != newBlob([]byte(content)).sha {
			t.Errorf("%q: got id %s", content, sha)
		}
		x.want("GET", "/repos/acme/git/blobs/"+sha, "", 200, fmt.Sprintf(
			`{"sha":%q,"size":%d,"content":%q,"encoding":"base64","url":%q}`, sha, len(content), encoded, gitBase+"blobs/"+sha))
	}
}

func TestTreesListEachTreeBeforeWhatIsInIt(t *testing.T) {
	x := newAPI(t)
	blob := x.blob("hi")
	inner := x.tree(entry{"z", modeBlob, kindBlob, blob}, entry{"a", modeBlob, kindBlob, blob})
	outer := x.tree(entry{"b.txt", modeBlob, kindBlob, blob}, entry{"b", modeTree, kindTree, inner}, entry{"a", modeBlob, kindBlob, blob})
	line := func(path string, k kind, sha string) string {
		return fmt.Sprintf(`{"path":%q,"mode":%q,"type":%q,"sha":%q,"url":%q}`, path, object{kind: k}.in("").Mode, k, sha, gitBase+string(k)+"s/"+sha)
	}
	answer := func(lines ...string) string {
		return fmt.Sprintf(`{"sha":%q,"url":%q,"tree":[%s]}`, outer, gitBase+"trees/"+outer, strings.Join(lines, ","))
	}
	flat := answer(line("a", kindBlob, blob), line("b", kindTree, inner), line("b.txt", kindBlob, blob))
	x.want("GET", "/repos/acme/git/trees/"+outer, "", 200, flat)
	x.want("GET", "/repos/acme/git/trees/"+outer+"?recursive=0", "", 200, flat)
	x.want("GET", "/repos/acme/git/trees/"+outer+"?recursive=1", "", 200, answer(
		line("a", kindBlob, blob), line("b", kindTree, inner), line("b/a", kindBlob, blob), line("b/z", kindBlob, blob),
		line("b.txt", kindBlob, blob)))
	for _, sha := range []string{noSHA, blob, "x"} {
		x.want("GET", "/repos/acme/git/trees/"+sha+"?recursive=1", "", 404, `{"error":"Tree not found"}`)
	}
}

func TestTreesThatShareTheirPartsAreListedUpToABound(t *testing.T) {
	x := newAPI(t)
	sha := x.tree()
	for range 20 { // a million entries in twenty trees
		sha = x.tree(entry{"a", modeTree, kindTree, sha}, entry{"b", modeTree, kindTree, sha})
	}
	x.want("GET", "/repos/acme/git/trees/"+sha+"?recursive=1", "", 422, `{"error":"Tree too large"}`)
	deep := x.tree()
	for range maxDepth {
		deep = x.tree(entry{"a", modeTree, kindTree, deep})
	}
	if got := x.ask("GET", "/repos/acme/git/trees/"+deep+"?recursive=1", ""); got.Code != 200 {
		t.Errorf("%d deep: got %d %.200s, want 200", maxDepth, got.Code, got.Body)
	}
	deep = x.tree(entry{"a", modeTree, kindTree, deep})
	x.want("GET", "/repos/acme/git/trees/"+deep+"?recursive=1", "", 422, `{"error":"Tree too large"}`)
}

func TestTreesWithBadEntriesAreRefused(t *testing.T) {
	x := newAPI(t)
	blob := x.blob("hi")
	one := func(path, mode, kind, sha string) string {
		return fmt.Sprintf(`{"path":%q,"mode":%q,"type":%q,"sha":%q}`, path, mode, kind, sha)
	}
	good := one("a", "100644", "blob", blob)
	for body, text := range map[string]string{
		`{}`:                                   "Missing tree",
		`[]`:                                   "Invalid JSON",
		`{"tree":[7]}`:                         "Invalid JSON",
		`{"tree":[` + good + `,{}]}`:           "Invalid tree entry: path",
		`{"tree":[` + good + `,null]}`:         "Invalid tree entry: path",
		`{"tree":[` + good + `,` + good:        "Invalid JSON",
		`{"tree":[` + good + `,` + good + `]}`: "Invalid tree entry: path",
		`{"tree":[` + one("a/b", "100644", "blob", blob) + `]}`:        "Invalid tree entry: path",
		`{"tree":[` + one("a", "100644", "commit", blob) + `]}`:        "Invalid tree entry: type",
		`{"tree":[` + one("a", "040000", "tree", blob) + `]}`:          "Invalid tree entry: sha",
		`{"tree":[` + one("a", "100644", "blob", noSHA) + `]}`:         "Invalid tree entry: sha",
		`{"tree":[` + one("a", "100644", "blob", "") + `]}`:            "Invalid tree entry: sha",
		`{"tree":[` + one("a", "040000", "tree", "/a") + `]}`:          "Handle without a previous summary",
		`{"tree":[` + one("a", "100644", "blob", "/.app/board") + `]}`: "Handle without a previous summary",
	} {
		x.want("POST", "/repos/acme/git/trees", body, 400, fmt.Sprintf(`{"error":%q}`, text))
	}
}

func TestHandlesNamePartsOfThePreviousSummary(t *testing.T) { // document.md section 12.6
	x := newAPI(t)
	blob := x.blob("hi")
	inner := x.tree(entry{"x", modeBlob, kindBlob, blob}, entry{"a%2Fb", modeBlob, kindBlob, blob})
	root := x.tree(entry{".channels", modeTree, kindTree, inner}, entry{"100%", modeTree, kindTree, inner})
	head := x.commit(root)
	x.want("POST", "/repos/acme/git/refs", fmt.Sprintf(`{"ref":"refs/heads/doc1","sha":%q}`, head), 201, refOf("doc1", head))
	for handle, want := range map[string]string{
		"/.channels": inner, "/.channels/x": blob, "/.app/.channels/x": blob, "/.channels/a%2Fb": blob,
		"/%2Echannels/x": blob, "/100%25": inner, "/100%/x": blob,
	} {
		k := kindBlob
		if want == inner {
			k = kindTree
		}
		got := x.tree(entry{"e", object{kind: k}.in("").Mode, k, handle})
		if wanted := newTree([]entry{object{kind: k, sha: want}.in("e")}).sha; got != wanted {
			t.Errorf("%s: got another tree than with the id itself", handle)
		}
	}
	for _, e := range []entry{
		{"e", modeTree, kindTree, "/none"}, {"e", modeTree, kindTree, "/"}, {"e", modeTree, kindTree, "/.app"},
		{"e", modeBlob, kindBlob, "/.channels"}, {"e", modeTree, kindTree, "/.channels/x"},
		{"e", modeBlob, kindBlob, "/.channels/x/y"}, {"e", modeBlob, kindBlob, "/.channels/a/b"},
	} {
		body := mustJSON(map[string]any{"tree": []entry{e}})
		x.want("POST", "/repos/acme/git/trees", string(body), 400, `{"error":"Handle not found in the previous summary"}`)
	}
	other := x.send("POST", "/repos/acme/git/trees", "Bearer "+signed("acme", "doc2", everything, nil),
		`{"tree":[{"path":"e","mode":"100644","type":"blob","sha":"/.channels/x"}]}`)
	wantAnswer(t, "another document's token", other, 400, `{"error":"Handle without a previous summary"}`)
}

func TestCommits(t *testing.T) {
	x := newAPI(t)
	tree := x.tree()
	got := x.ask("POST", "/repos/acme/git/commits", fmt.Sprintf(
		`{"message":"m","tree":%q,"parents":[%q],"author":{"name":"n","email":"e","date":"2024-05-01T10:00:00Z"}}`, tree, noSHA))
	var made struct{ SHA string }
	if err := json.Unmarshal(got.Body.Bytes(), &made); err != nil {
		t.Fatal(err)
	}
	person := `{"name":"n","email":"e","date":"2024-05-01T10:00:00Z"}`
	answer := fmt.Sprintf(`{"sha":%q,"tree":{"sha":%q,"url":%q},"parents":[{"sha":%q,"url":%q}],"message":"m","author":%s,"committer":%s,"url":%q}`,
		made.SHA, tree, gitBase+"trees/"+tree, noSHA, gitBase+"commits/"+noSHA, person, person, gitBase+"commits/"+made.SHA)
	wantAnswer(t, "POST commits", got, 201, answer)
	x.want("GET", "/repos/acme/git/commits/"+made.SHA, "", 200, answer)
	x.want("GET", "/repos/acme/git/commits/"+tree, "", 404, `{"error":"Commit not found"}`)
	x.want("POST", "/repos/acme/git/commits", `{"tree":"`+noSHA+`"}`, 400, `{"error":"Tree not found"}`)
	x.want("POST", "/repos/acme/git/commits", `{"tree":"`+tree+`","parents":["HEAD"]}`, 400, `{"error":"Invalid parents"}`)

	var undated struct{ Author, Committer signature }
	got = x.ask("GET", "/repos/acme/git/commits/"+x.commit(tree), "")
	if err := json.Unmarshal(got.Body.Bytes(), &undated); err != nil || time.Since(undated.Author.Date).Abs() > time.Minute ||
		undated.Author != undated.Committer || !strings.Contains(got.Body.String(), `"parents":[]`) {
		t.Errorf("a commit without date and parents: got %s (%v), want the time of now", got.Body, err)
	}
}

func refOf(document, sha string) string {
	return fmt.Sprintf(`{"ref":"refs/heads/%s","object":{"sha":%q,"type":"commit","url":%q},"url":%q}`,
		document, sha, gitBase+"commits/"+sha, gitBase+"refs/heads/"+document)
}

func TestRefs(t *testing.T) {
	x := newAPI(t)
	const refs, own = "/repos/acme/git/refs", "/repos/acme/git/refs/heads/doc1"
	first, second := x.commit(x.tree()), x.commit(x.tree(entry{"a", modeBlob, kindBlob, x.blob("hi")}))
	body := func(sha string) string { return fmt.Sprintf(`{"sha":%q,"force":true}`, sha) }
	x.want("GET", own, "", 404, `{"error":"Reference not found"}`)
	x.want("GET", refs, "", 200, `[]`)
	x.want("PATCH", own, body(noSHA), 400, `{"error":"Commit not found"}`)
	x.want("PATCH", own, body(first), 200, refOf("doc1", first))
	x.want("GET", own, "", 200, refOf("doc1", first))
	x.want("GET", refs, "", 200, "["+refOf("doc1", first)+"]")
	x.want("POST", refs, fmt.Sprintf(`{"ref":"refs/heads/doc1","sha":%q}`, second), 409, `{"error":"Reference already exists"}`)
	x.want("POST", refs, fmt.Sprintf(`{"ref":"refs/heads/doc2","sha":%q}`, first), 403, `{"error":"Token not valid for this document"}`)
	x.want("POST", refs, fmt.Sprintf(`{"ref":"refs/tags/doc1","sha":%q}`, first), 400, `{"error":"Invalid ref"}`)
	x.want("PATCH", "/repos/acme/git/refs/heads/doc2", body(first), 403, `{"error":"Token not valid for this document"}`)

	// A ref that is there stays: only an acknowledged summary is what others load.
	x.want("PATCH", own, body(second), 200, refOf("doc1", first))
	x.want("GET", own, "", 200, refOf("doc1", first))

	for _, escaped := range []string{"a:b", "a%2Fb", "%C3%A9", "a/b"} {
		document := unescapeName(escaped)
		auth := "Bearer " + signed("acme", document, everything, nil)
		got := x.send("PATCH", "/repos/acme/git/refs/heads/"+escaped, auth, body(first))
		if got.Code != 200 || !strings.Contains(got.Body.String(), `"ref":"refs/heads/`+document+`"`) {
			t.Errorf("%s: got %d %s, want its ref", escaped, got.Code, got.Body)
		}
	}
}

// FuzzTree holds that whatever is posted as a tree is a tree or is refused.
func FuzzTree(f *testing.F) {
	x := newAPI(f)
	blob := x.blob("hi")
	head := x.commit(x.tree(entry{"a", modeBlob, kindBlob, blob}))
	x.want("PATCH", "/repos/acme/git/refs/heads/doc1", fmt.Sprintf(`{"sha":%q}`, head), 200, refOf("doc1", head))
	for _, body := range []string{
		`{"tree":[]}`, `{"tree":null}`, `{"tree":[{"path":"a","mode":"","type":"blob","sha":"` + blob + `"}]}`,
		`{"tree":[{"path":"b","type":"blob","sha":"/a"}]}`, `{"tree":[{"path":"%","type":"tree","sha":"/a/b"}]}`, `{"tree":[{"sha":"/%zz"}]}`,
	} {
		f.Add(body)
	}
	auth := "Bearer " + signed("acme", "doc1", everything, map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()})
	f.Fuzz(func(t *testing.T, body string) {
		got := x.send("POST", "/repos/acme/git/trees", auth, body)
		if got.Code == http.StatusBadRequest {
			return
		}
		var made struct{ SHA string }
		if err := json.Unmarshal(got.Body.Bytes(), &made); err != nil || got.Code != http.StatusCreated {
			t.Fatalf("%q: got %d %.300s (%v), want 201 or 400", body, got.Code, got.Body, err)
		}
		if listed := x.send("GET", "/repos/acme/git/trees/"+made.SHA+"?recursive=1", auth, ""); listed.Code != http.StatusOK {
			t.Fatalf("%q: made, but GET answers %d %.300s", body, listed.Code, listed.Body)
		}
	})
}
