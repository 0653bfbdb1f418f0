package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/seed-58bc6ac1/realtime"
)

// maxTopic bounds document:{tenant}:{document}, in bytes: a document with a longer
// name could be created, but never joined.
const maxTopic = 255

// documentsAPI creates documents and tells of them (document.md section 12.4).
type documentsAPI struct {
	store store
	log   realtime.OpLog
}

// create answers POST /documents/{tenant}.
func (d documentsAPI) create(c *call) (int, any, error) {
	var body struct {
		ID              *string `json:"id"`
		Summary         *node   `json:"summary"`
		SequenceNumber  int64   `json:"sequenceNumber"`
		EnableDiscovery bool    `json:"enableDiscovery"`
	}
	if err := c.decode(&body); err != nil {
		return 0, nil, err
	}
	if body.SequenceNumber != 0 {
		return 0, nil, refuse(http.StatusBadRequest, "A new document begins at sequence number 0")
	}
	id := newDocumentID()
	if body.ID != nil {
		id = *body.ID
		if err := c.mustBeFor(id); err != nil {
			return 0, nil, err
		}
		if err := d.mustBeFree(c, id); err != nil {
			return 0, nil, err
		}
	}
	head, err := d.keep(c, body.Summary)
	if err != nil {
		return 0, nil, err
	}
	err = d.store.create(c.tenant, id, head)
	if errors.Is(err, errTaken) {
		return 0, nil, errDocumentExists
	}
	if body.EnableDiscovery {
		return http.StatusCreated, map[string]any{"id": id, "session": discover(c, id)}, err
	}
	return http.StatusCreated, id, err
}

var errDocumentExists = refuse(http.StatusConflict, "Document already exists")

// mustBeFree refuses ids that are no names, and those of documents that clients
// connected to before anyone created them.
func (d documentsAPI) mustBeFree(c *call, id string) error {
	if id == "" || !utf8.ValidString(id) || len("document:"+c.tenant+":"+id) > maxTopic {
		return refuse(http.StatusBadRequest, "Invalid document id")
	}
	head, err := d.log.Head(c.Context(), realtime.DocumentID{Tenant: c.tenant, Document: id})
	if err == nil && head.SequenceNumber > 0 {
		return errDocumentExists
	}
	return err
}

// keep stores a new document's summary, if it comes with one, and returns the
// commit that is its head.
func (d documentsAPI) keep(c *call, summary *node) (head string, err error) {
	if summary == nil {
		return "", nil
	}
	objects, err := snapshot(summary, func(sha string) bool {
		_, err := d.store.get(c.tenant, kindBlob, sha)
		return err == nil
	})
	if errors.Is(err, errSummary) {
		return "", refuse(http.StatusBadRequest, "Invalid summary")
	}
	if err != nil {
		return "", err
	}
	by := serverSignature()
	first := newCommit(commit{Tree: objects[len(objects)-1].sha, Message: "New document", Author: by, Committer: by})
	return first.sha, d.store.put(c.tenant, append(objects, first)...)
}

// get answers GET /documents/{tenant}/{document}.
func (d documentsAPI) get(c *call) (int, any, error) {
	id := c.PathValue("document")
	head, err := d.log.Head(c.Context(), realtime.DocumentID{Tenant: c.tenant, Document: id})
	if err != nil {
		return 0, nil, err
	}
	if head.SequenceNumber == 0 {
		if _, err := d.store.head(c.tenant, id); err != nil {
			return 0, nil, absent(err, http.StatusNotFound, "Document not found")
		}
	}
	return http.StatusOK, map[string]any{"id": id, "tenantId": c.tenant, "sequenceNumber": head.SequenceNumber}, nil
}

// session answers GET /documents/{tenant}/session/{document}.
func (d documentsAPI) session(c *call) (int, any, error) {
	return http.StatusOK, discover(c, c.PathValue("document")), nil
}

// session tells a client where a document is served. One that has no session now
// gets it from whoever connects first.
type session struct {
	OrdererURL      string `json:"ordererUrl"`
	HistorianURL    string `json:"historianUrl"`
	DeltaStreamURL  string `json:"deltaStreamUrl"`
	IsSessionAlive  bool   `json:"isSessionAlive"`
	IsSessionActive bool   `json:"isSessionActive"`
}

func discover(c *call, document string) session {
	tenant := url.PathEscape(c.tenant)
	return session{
		c.url("/socket"), c.url("/repos/" + tenant),
		c.url("/deltas/" + tenant + "/" + url.PathEscape(document)), true, true,
	}
}

// newDocumentID returns 32 hex digits that nobody can guess.
func newDocumentID() string {
	var random [16]byte
	rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(random[:])
}

// serverSignature is for the commits that no client made.
func serverSignature() signature {
	return signature{"realtime", "realtime@localhost", time.Now().UTC().Truncate(time.Second)}
}
