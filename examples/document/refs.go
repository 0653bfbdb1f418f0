package main

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// headPrefix begins the name of a document's ref.
const headPrefix = "refs/heads/"

type refJSON struct {
	Ref    string   `json:"ref"`
	Object linkJSON `json:"object"`
	URL    string   `json:"url"`
}

func refAnswer(c *call, document, sha string) refJSON {
	object := link(c, kindCommit, sha)
	object.Type = kindCommit
	path := "/repos/" + url.PathEscape(c.tenant) + "/git/" + headPrefix + url.PathEscape(document)
	return refJSON{headPrefix + document, object, c.url(path)}
}

// listRefs answers GET refs: of all the tenant's refs the one that the token is for.
func (g gitAPI) listRefs(c *call) (int, any, error) {
	head, err := g.store.head(c.tenant, c.tokensDoc)
	if errors.Is(err, errNotFound) || err == nil && head == "" {
		return http.StatusOK, []refJSON{}, nil
	}
	return http.StatusOK, []refJSON{refAnswer(c, c.tokensDoc, head)}, err
}

func (g gitAPI) getRef(c *call) (int, any, error) {
	document := c.PathValue("document")
	head, err := g.store.head(c.tenant, document)
	if err == nil && head == "" {
		err = errNotFound
	}
	if err != nil {
		return 0, nil, absent(err, http.StatusNotFound, "Reference not found")
	}
	return http.StatusOK, refAnswer(c, document, head), nil
}

func (g gitAPI) postRef(c *call) (int, any, error) {
	var body struct{ Ref, SHA string }
	if err := c.decode(&body); err != nil {
		return 0, nil, err
	}
	document, ok := strings.CutPrefix(body.Ref, headPrefix)
	if !ok || document == "" {
		return 0, nil, refuse(http.StatusBadRequest, "Invalid ref")
	}
	if err := c.mustBeFor(document); err != nil {
		return 0, nil, err
	}
	err := g.setRef(c, document, body.SHA)
	if errors.Is(err, errMoved) {
		return 0, nil, refuse(http.StatusConflict, "Reference already exists")
	}
	return http.StatusCreated, refAnswer(c, document, body.SHA), err
}

// patchRef answers PATCH refs/heads/{document}. A ref that is there stays where it
// is: clients upload a summary before they propose it, and only one that was
// acknowledged may be what others load (document.md section 12.6). The answer tells
// where the ref is.
func (g gitAPI) patchRef(c *call) (int, any, error) {
	var body struct{ SHA string }
	if err := c.decode(&body); err != nil {
		return 0, nil, err
	}
	document := c.PathValue("document")
	err := g.setRef(c, document, body.SHA)
	if errors.Is(err, errMoved) {
		return g.getRef(c)
	}
	return http.StatusOK, refAnswer(c, document, body.SHA), err
}

// setRef gives a document its first head, or returns errMoved if it has one.
func (g gitAPI) setRef(c *call, document, sha string) error {
	if _, err := g.repo(c).commit(sha); err != nil {
		return absent(err, http.StatusBadRequest, "Commit not found")
	}
	return g.store.move(c.tenant, document, "", sha)
}
