package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"
)

func TestDocumentsAreCreatedOnce(t *testing.T) { // document.md section 12.4
	x := newAPI(t)
	const path = "/documents/acme"
	x.want("GET", path+"/doc1", "", 404, `{"error":"Document not found"}`)
	x.want("POST", path, `{"id":"doc2"}`, 403, `{"error":"Token not valid for this document"}`)
	x.want("POST", path, `{"id":"doc1","summary":`+wholeSummary+`,"sequenceNumber":0}`, 201, `"doc1"`)
	x.want("POST", path, `{"id":"doc1"}`, 409, `{"error":"Document already exists"}`)
	x.want("GET", path+"/doc1", "", 200, `{"id":"doc1","tenantId":"acme","sequenceNumber":0}`)
	logged(t, x.app.ops, "doc1", numbered(1, 18)...)
	x.want("GET", path+"/doc1", "", 200, `{"id":"doc1","tenantId":"acme","sequenceNumber":18}`)
	x.want("GET", path+"/session/doc1", "", 200, `{"ordererUrl":"http://example.com/socket","historianUrl":"http://example.com/repos/acme",
		"deltaStreamUrl":"http://example.com/deltas/acme/doc1","isSessionAlive":true,"isSessionActive":true}`)
}

func TestDocumentThatWasConnectedToFirstIsTaken(t *testing.T) {
	x := newAPI(t)
	logged(t, x.app.ops, "doc1", numbered(1, 1)...)
	x.want("GET", "/documents/acme/doc1", "", 200, `{"id":"doc1","tenantId":"acme","sequenceNumber":1}`)
	x.want("POST", "/documents/acme", `{"id":"doc1"}`, 409, `{"error":"Document already exists"}`)
}

func TestDocumentsWithoutAnIDAreGivenOne(t *testing.T) {
	x := newAPI(t)
	auth := "Bearer " + signed("acme", "__new__", everything, nil)
	form := regexp.MustCompile(`^"[0-9a-f]{32}"\n$`)
	var ids []string
	for _, body := range []string{`{}`, `{"id":null,"summary":` + wholeSummary + `}`} {
		got := x.send("POST", "/documents/acme", auth, body)
		if got.Code != 201 || !form.MatchString(got.Body.String()) {
			t.Fatalf("%.80s: got %d %s, want a bare string of 32 hex digits", body, got.Code, got.Body)
		}
		ids = append(ids, got.Body.String())
	}
	if ids[0] == ids[1] {
		t.Errorf("both ids are %s", ids[0])
	}
	got := x.send("POST", "/documents/acme", auth, `{"enableDiscovery":true}`)
	var made struct {
		ID      string
		Session map[string]any
	}
	if err := json.Unmarshal(got.Body.Bytes(), &made); err != nil || got.Code != 201 ||
		made.Session["deltaStreamUrl"] != "http://example.com/deltas/acme/"+made.ID {
		t.Errorf("enableDiscovery: got %d %s (%v)", got.Code, got.Body, err)
	}
}

func TestDocumentsThatCannotBeAreRefused(t *testing.T) {
	x := newAPI(t)
	long := strings.Repeat("a", maxTopic-len("document:acme:")+1)
	for _, row := range []struct{ document, body, text string }{
		{"doc1", ``, "Invalid JSON"}, {"doc1", `7`, "Invalid JSON"}, {"doc1", `{"id":7}`, "Invalid JSON"},
		{"doc1", `{"id":"doc1","sequenceNumber":5}`, "A new document begins at sequence number 0"},
		{"doc1", `{"id":"doc1","summary":{"type":1}}`, "Invalid summary"},
		{"doc1", `{"id":"doc1","summary":{"type":"1"}}`, "Invalid JSON"},
		{"", `{"id":""}`, "Invalid document id"},
		{long, fmt.Sprintf(`{"id":%q}`, long), "Invalid document id"},
	} {
		got := x.send("POST", "/documents/acme", "Bearer "+signed("acme", row.document, everything, nil), row.body)
		wantAnswer(t, row.body, got, 400, fmt.Sprintf(`{"error":%q}`, row.text))
	}
	x.want("GET", "/documents/acme/doc1", "", 404, `{"error":"Document not found"}`)
}

// The calls with which a container loads what another one created (document.md
// section 12.6).
func TestCreatedDocumentIsLoaded(t *testing.T) {
	x := newAPI(t)
	x.want("POST", "/documents/acme", `{"id":"doc1","summary":`+wholeSummary+`}`, 201, `"doc1"`)
	fetch := func(path string, to any) {
		t.Helper()
		got := x.ask("GET", "/repos/acme/git/"+path, "")
		if err := json.Unmarshal(got.Body.Bytes(), to); err != nil || got.Code != 200 {
			t.Fatalf("%s: got %d %s (%v)", path, got.Code, got.Body, err)
		}
	}
	var ref struct{ Object struct{ SHA, Type string } }
	var made struct{ Tree struct{ SHA string } }
	var listed struct{ Tree []entry }
	fetch("refs/heads/doc1", &ref)
	fetch("commits/"+ref.Object.SHA, &made)
	fetch("trees/"+made.Tree.SHA+"?recursive=1", &listed)
	got := map[string]bool{}
	for _, e := range listed.Tree {
		got[e.Path] = true
		if e.Type == kindBlob {
			var b struct{ Size int }
			fetch("blobs/"+e.SHA, &b)
		}
	}
	want := map[string]bool{
		".channels": true, ".channels/a%2Fb": true, ".channels/empty": true, ".metadata": true, "bytes": true,
		".protocol": true, ".protocol/attributes": true, ".protocol/quorumMembers": true,
		".protocol/quorumProposals": true, ".protocol/quorumValues": true,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
