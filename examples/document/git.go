package main

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// gitAPI serves the objects in which clients keep snapshots, in the words of
// GitHub's API (document.md section 12.5).
//
// Objects belong to a tenant: who may read one document of it can read any object
// whose id is known. A host for tenants that do not trust their own users would
// bind them to the document, too.
type gitAPI struct{ store store }

func (g gitAPI) repo(c *call) repo { return repo{g.store, c.tenant} }

// objectURL is where an object is found.
func objectURL(c *call, k kind, sha string) string {
	return c.url("/repos/" + url.PathEscape(c.tenant) + "/git/" + string(k) + "s/" + sha)
}

// absent turns errNotFound into the client's text, and leaves other errors alone.
func absent(err error, status int, text string) error {
	if errors.Is(err, errNotFound) {
		return refuse(status, text)
	}
	return err
}

type blobJSON struct {
	SHA      string  `json:"sha"`
	Size     *int    `json:"size,omitempty"`
	Content  *string `json:"content,omitempty"`
	Encoding string  `json:"encoding,omitempty"`
	URL      string  `json:"url"`
}

func (g gitAPI) postBlob(c *call) (int, any, error) {
	var body struct {
		Content  *string `json:"content"`
		Encoding string  `json:"encoding"`
	}
	if err := c.decode(&body); err != nil {
		return 0, nil, err
	}
	if body.Content == nil {
		return 0, nil, refuse(http.StatusBadRequest, "Missing content")
	}
	content := []byte(*body.Content)
	switch body.Encoding {
	case "utf-8", "":
	case "base64":
		var err error
		if content, err = base64.StdEncoding.DecodeString(*body.Content); err != nil {
			return 0, nil, refuse(http.StatusBadRequest, "Invalid base64 content")
		}
	default:
		return 0, nil, refuse(http.StatusBadRequest, "Invalid encoding")
	}
	o := newBlob(content)
	if err := g.store.put(c.tenant, o); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, blobJSON{SHA: o.sha, URL: objectURL(c, kindBlob, o.sha)}, nil
}

func (g gitAPI) getBlob(c *call) (int, any, error) {
	sha := c.PathValue("sha")
	content, err := g.repo(c).blob(sha)
	if err != nil {
		return 0, nil, absent(err, http.StatusNotFound, "Blob not found")
	}
	size, text := len(content), base64.StdEncoding.EncodeToString(content)
	return http.StatusOK, blobJSON{sha, &size, &text, "base64", objectURL(c, kindBlob, sha)}, nil
}

type treeJSON struct {
	SHA  string      `json:"sha"`
	URL  string      `json:"url"`
	Tree []entryJSON `json:"tree"`
}

type entryJSON struct {
	entry
	URL string `json:"url"`
}

func (g gitAPI) treeAnswer(c *call, sha string, entries []entry) treeJSON {
	answer := treeJSON{sha, objectURL(c, kindTree, sha), make([]entryJSON, len(entries))}
	for i, e := range entries {
		answer.Tree[i] = entryJSON{e, objectURL(c, e.Type, e.SHA)}
	}
	return answer
}

func (g gitAPI) getTree(c *call) (int, any, error) {
	sha := c.PathValue("sha")
	read := g.repo(c).tree
	if r := c.URL.Query().Get("recursive"); r == "1" || r == "true" {
		read = g.repo(c).list
	}
	entries, err := read(sha)
	if errors.Is(err, errTooLarge) {
		return 0, nil, refuse(http.StatusUnprocessableEntity, "Tree too large")
	}
	if err != nil {
		return 0, nil, absent(err, http.StatusNotFound, "Tree not found")
	}
	return http.StatusOK, g.treeAnswer(c, sha, entries), nil
}

func (g gitAPI) postTree(c *call) (int, any, error) {
	var body struct {
		Tree []entry `json:"tree"`
	}
	if err := c.decode(&body); err != nil {
		return 0, nil, err
	}
	if body.Tree == nil {
		return 0, nil, refuse(http.StatusBadRequest, "Missing tree")
	}
	entries, err := g.settle(c, body.Tree)
	if err != nil {
		return 0, nil, err
	}
	o := newTree(entries)
	if err := g.store.put(c.tenant, o); err != nil {
		return 0, nil, err
	}
	sorted, err := g.repo(c).tree(o.sha)
	return http.StatusCreated, g.treeAnswer(c, o.sha, sorted), err
}

// settle checks the entries of a new tree. Those that name a part of the previous
// summary by its path, such as /.channels/x, are given the id that it has in the
// head of the token's document.
func (g gitAPI) settle(c *call, entries []entry) ([]entry, error) {
	var head []entry // read when first needed
	seen := make(map[string]bool, len(entries))
	for i, e := range entries {
		if e.Path == "" || strings.Contains(e.Path, "/") || seen[e.Path] {
			return nil, refuse(http.StatusBadRequest, "Invalid tree entry: path")
		}
		seen[e.Path] = true
		if e.Type != kindBlob && e.Type != kindTree {
			return nil, refuse(http.StatusBadRequest, "Invalid tree entry: type")
		}
		if strings.HasPrefix(e.SHA, "/") {
			if head == nil {
				var err error
				if head, err = g.head(c); err != nil {
					return nil, err
				}
			}
			found, err := g.repo(c).find(head, strings.TrimPrefix(e.SHA, "/"+partApp+"/"))
			if err == nil && found.Type != e.Type {
				err = errNotFound
			}
			if err != nil {
				return nil, absent(err, http.StatusBadRequest, "Handle not found in the previous summary")
			}
			e.SHA = found.SHA
		} else if _, err := g.store.get(c.tenant, e.Type, e.SHA); err != nil {
			return nil, absent(err, http.StatusBadRequest, "Invalid tree entry: sha")
		}
		if e.Mode == "" {
			e.Mode = object{kind: e.Type}.in("").Mode
		}
		entries[i] = e
	}
	return entries, nil
}

// head returns the root of what the token's document loads from.
func (g gitAPI) head(c *call) ([]entry, error) {
	head, err := g.store.head(c.tenant, c.tokensDoc)
	if err == nil {
		var entries []entry
		if entries, err = g.repo(c).root(head); err == nil {
			return entries, nil
		}
	}
	return nil, absent(err, http.StatusBadRequest, "Handle without a previous summary")
}

type commitJSON struct {
	SHA       string     `json:"sha"`
	Tree      linkJSON   `json:"tree"`
	Parents   []linkJSON `json:"parents"`
	Message   string     `json:"message"`
	Author    signature  `json:"author"`
	Committer signature  `json:"committer"`
	URL       string     `json:"url"`
}

type linkJSON struct {
	SHA  string `json:"sha"`
	Type kind   `json:"type,omitempty"`
	URL  string `json:"url"`
}

func link(c *call, k kind, sha string) linkJSON { return linkJSON{SHA: sha, URL: objectURL(c, k, sha)} }

func commitAnswer(c *call, sha string, made commit) commitJSON {
	parents := make([]linkJSON, len(made.Parents))
	for i, p := range made.Parents {
		parents[i] = link(c, kindCommit, p)
	}
	return commitJSON{
		sha, link(c, kindTree, made.Tree), parents, made.Message,
		made.Author, made.Committer, objectURL(c, kindCommit, sha),
	}
}

func (g gitAPI) postCommit(c *call) (int, any, error) {
	var body struct {
		Message string   `json:"message"`
		Tree    string   `json:"tree"`
		Parents []string `json:"parents"`
		Author  struct {
			Name, Email string
			Date        string
		} `json:"author"`
	}
	if err := c.decode(&body); err != nil {
		return 0, nil, err
	}
	if _, err := g.repo(c).tree(body.Tree); err != nil {
		return 0, nil, absent(err, http.StatusBadRequest, "Tree not found")
	}
	if slices.ContainsFunc(body.Parents, func(sha string) bool { return !isSHA(sha) }) {
		return 0, nil, refuse(http.StatusBadRequest, "Invalid parents")
	}
	date, err := time.Parse(time.RFC3339, body.Author.Date)
	if err != nil {
		date = time.Now().UTC().Truncate(time.Second)
	}
	author := signature{body.Author.Name, body.Author.Email, date}
	made := commit{body.Tree, body.Parents, body.Message, author, author}
	o := newCommit(made)
	if err := g.store.put(c.tenant, o); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, commitAnswer(c, o.sha, made), nil
}

func (g gitAPI) getCommit(c *call) (int, any, error) {
	sha := c.PathValue("sha")
	found, err := g.repo(c).commit(sha)
	if err != nil {
		return 0, nil, absent(err, http.StatusNotFound, "Commit not found")
	}
	return http.StatusOK, commitAnswer(c, sha, found), nil
}
