package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-58bc6ac1/realtime"
)

// systemMessage returns a join or a leave, or another message of the server, as it
// stands in a log.
func systemMessage(sn, msn int64, kind string, data any) realtime.SequencedMessage {
	text := string(mustJSON(data))
	return realtime.SequencedMessage{
		SequenceNumber: sn, MinimumSequenceNumber: msn, ClientSequenceNumber: -1, ReferenceSequenceNumber: sn - 1, Type: kind,
		JSON: mustJSON(map[string]any{"clientId": nil, "sequenceNumber": sn, "type": kind, "contents": data, "data": text}),
	}
}

func joinOf(sn, msn int64, id string) realtime.SequencedMessage {
	return systemMessage(sn, msn, "join", map[string]any{"clientId": id, "detail": map[string]any{"user": map[string]string{"id": id}, "mode": "write"}})
}

func opOf(sn, msn int64, kind, contents string) realtime.SequencedMessage {
	return realtime.SequencedMessage{
		SequenceNumber: sn, MinimumSequenceNumber: msn, ClientID: "a", Type: kind,
		JSON: fmt.Appendf(nil, `{"clientId":"a","sequenceNumber":%d,"type":%q,"contents":%s}`, sn, kind, contents),
	}
}

// history is a document on which a joins, b comes and goes, and two values are
// proposed, of which one is accepted.
func history() []realtime.SequencedMessage {
	return []realtime.SequencedMessage{
		joinOf(1, 0, "a"),
		joinOf(2, 0, "b"),
		opOf(3, 0, "propose", `"{\"key\":\"code\",\"value\":{\"package\":\"q\"}}"`),
		opOf(4, 1, "op", `"x"`),
		systemMessage(5, 3, "leave", "b"),
		opOf(6, 3, "propose", `{"key":"extra","value":1}`),
		opOf(7, 3, "propose", `"no JSON"`),
		joinOf(8, 5, "c"),
	}
}

func TestProtocolAdvancesAsClientsDo(t *testing.T) { // document.md section 12.6
	want := map[int64]map[string]string{
		0: {"quorumMembers": `[]`, "quorumProposals": `[]`, "quorumValues": `[]`, "attributes": `{"minimumSequenceNumber":0,"sequenceNumber":0}`},
		2: {"quorumMembers": `[["a",{"client":{"mode":"write","user":{"id":"a"}},"sequenceNumber":1}],["b",{"client":{"mode":"write","user":{"id":"b"}},"sequenceNumber":2}]]`},
		4: {"quorumProposals": `[[3,{"sequenceNumber":3,"key":"code","value":{"package":"q"}},[]]]`, "quorumValues": `[]`,
			"attributes": `{"minimumSequenceNumber":1,"sequenceNumber":4}`},
		5: {"quorumMembers": `[["a",{"client":{"mode":"write","user":{"id":"a"}},"sequenceNumber":1}]]`, "quorumProposals": `[]`,
			"quorumValues": `[["code",{"key":"code","value":{"package":"q"},"approvalSequenceNumber":5,"commitSequenceNumber":-1,"sequenceNumber":3}]]`},
		8: {"quorumMembers": `[["a",{"client":{"mode":"write","user":{"id":"a"}},"sequenceNumber":1}],["c",{"client":{"mode":"write","user":{"id":"c"}},"sequenceNumber":8}]]`,
			"quorumProposals": `[[6,{"sequenceNumber":6,"key":"extra","value":1},[]]]`, "attributes": `{"minimumSequenceNumber":5,"sequenceNumber":8}`},
	}
	s := newMemoryStore()
	p := new(protocol)
	messages := history()
	for at := int64(0); ; at++ {
		objects := p.objects()
		if err := s.put("acme", objects...); err != nil {
			t.Fatal(err)
		}
		tree := objects[len(objects)-1].sha
		got := files(t, repo{s, "acme"}, tree)
		for name, text := range want[at] {
			if got[name] != text {
				t.Errorf("%s at %d:\n got %s\nwant %s", name, at, got[name], text)
			}
		}
		// What was written is read as it was.
		entries, err := repo{s, "acme"}.tree(tree)
		if err != nil {
			t.Fatal(err)
		}
		if p, err = (repo{s, "acme"}).protocol(entries); err != nil {
			t.Fatal(err)
		}
		if at == int64(len(messages)) {
			break
		}
		if err := p.apply(messages[at]); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.apply(opOf(10, 5, "op", `1`)); err == nil {
		t.Error("a message after a gap was taken")
	}
}

// proposed is a document that was created, with its history and an upload.
type proposed struct {
	*api
	first      string // head at creation
	summarizer summarizer
	request    realtime.SummaryRequest
}

// uploads returns one whose upload has entries, and refers to message 5.
func uploads(t *testing.T, entries func(x *api) []entry) *proposed {
	t.Helper()
	x := newAPI(t)
	x.want("POST", "/documents/acme", `{"id":"doc1","summary":`+wholeSummary+`}`, 201, `"doc1"`)
	logged(t, x.app.ops, "doc1", history()...)
	first, err := x.app.store.head("acme", "doc1")
	if err != nil {
		t.Fatal(err)
	}
	upload := x.commit(x.tree(entries(x)...))
	x.want("PATCH", "/repos/acme/git/refs/heads/doc1", fmt.Sprintf(`{"sha":%q,"force":true}`, upload), 200, refOf("doc1", first))
	return &proposed{x, first, summarizer{x.app.store, x.app.ops}, realtime.SummaryRequest{
		Tenant: "acme", Document: "doc1", ClientID: "a", Handle: upload, Head: first, Message: "m", Parents: []string{first},
		SequenceNumber: 9, ReferenceSequenceNumber: 5, MinimumSequenceNumber: 5,
	}}
}

// plain is an upload of the application's part alone.
func plain(x *api) []entry {
	return []entry{{"state", modeBlob, kindBlob, x.blob("new")}, {".channels", modeTree, kindTree, "/.channels"}}
}

// whole is one with the protocol's state, at message at.
func whole(at int64) func(x *api) []entry {
	return func(x *api) []entry {
		attributes := x.blob(fmt.Sprintf(`{"minimumSequenceNumber":3,"sequenceNumber":%d}`, at))
		return []entry{
			{partApp, modeTree, kindTree, x.tree(plain(x)...)},
			{partProtocol, modeTree, kindTree, x.tree(entry{"attributes", modeBlob, kindBlob, attributes}, entry{"quorumMembers", modeBlob, kindBlob, x.blob("[]")})},
		}
	}
}

// loaded returns the files that clients load.
func (p *proposed) loaded() map[string]string {
	p.t.Helper()
	head, err := p.app.store.head("acme", "doc1")
	if err != nil {
		p.t.Fatal(err)
	}
	r := repo{p.app.store, "acme"}
	made, err := r.commit(head)
	if err != nil {
		p.t.Fatal(err)
	}
	return files(p.t, r, made.Tree)
}

func TestAcceptedSummaryIsWhatOthersLoad(t *testing.T) {
	for name, row := range map[string]struct {
		upload           func(x *api) []entry
		members, present string
	}{
		"without the protocol": {plain, `[["a",{"client":{"mode":"write","user":{"id":"a"}},"sequenceNumber":1}]]`, "quorumValues"},
		"with the protocol":    {whole(5), `[]`, "attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			p := uploads(t, row.upload)
			if got := p.loaded(); got["state"] != "" || got[".metadata"] == "" {
				t.Errorf("before it is accepted clients load %q", got)
			}
			handle, err := p.summarizer.accept(t.Context(), p.request)
			if err != nil {
				t.Fatal(err)
			}
			p.want("GET", "/repos/acme/git/refs/heads/doc1", "", 200, refOf("doc1", handle))
			made, err := repo{p.app.store, "acme"}.commit(handle)
			if err != nil || len(made.Parents) != 1 || made.Parents[0] != p.first {
				t.Errorf("got the commit %+v (%v), want the old head as its parent", made, err)
			}
			got := p.loaded()
			for path, want := range map[string]string{
				"state": "new", ".channels/a%2Fb": "slash", ".protocol/quorumMembers": row.members,
				".protocol/attributes": `{"minimumSequenceNumber":3,"sequenceNumber":5}`,
			} {
				if got[path] != want {
					t.Errorf("%s is %q, want %q", path, got[path], want)
				}
			}
			if _, ok := got[".protocol/"+row.present]; !ok || strings.Contains(fmt.Sprint(got), ".app") {
				t.Errorf("clients load %q", got)
			}
		})
	}
}

func TestSummariesFollowEachOther(t *testing.T) {
	p := uploads(t, plain)
	first, err := p.summarizer.accept(t.Context(), p.request)
	if err != nil {
		t.Fatal(err)
	}
	next := p.request
	next.ReferenceSequenceNumber = 8
	for head, want := range map[string]bool{p.first: false, noSHA: false, "": false, first: true} {
		next.Head = head
		if _, err := p.summarizer.accept(t.Context(), next); (err == nil) != want {
			t.Errorf("based on %q: got %v, want accepted %v", head, err, want)
		}
	}
	got := p.loaded()
	want := `[["a",{"client":{"mode":"write","user":{"id":"a"}},"sequenceNumber":1}],["c",{"client":{"mode":"write","user":{"id":"c"}},"sequenceNumber":8}]]`
	if got[".protocol/quorumMembers"] != want || !strings.Contains(got[".protocol/quorumValues"], `"q"`) {
		t.Errorf("got %q, want the members and values at 8", got)
	}
}

// A process may be killed after the head moved and before the log has the
// acknowledgement. The clients then go on from the summary that they know.
func TestSummaryBasedOnTheLastAcknowledgedOneIsAccepted(t *testing.T) {
	p := uploads(t, plain)
	ack := systemMessage(9, 5, "summaryAck", map[string]any{"handle": p.first, "summaryProposal": map[string]any{"summarySequenceNumber": 4}})
	logged(t, p.app.ops, "doc1", ack)
	lost, err := p.summarizer.accept(t.Context(), p.request)
	if err != nil {
		t.Fatal(err)
	}
	next := p.request
	next.ReferenceSequenceNumber = 8
	handle, err := p.summarizer.accept(t.Context(), next) // based on p.first again
	if err != nil {
		t.Fatal(err)
	}
	if made, err := (repo{p.app.store, "acme"}).commit(handle); err != nil || made.Parents[0] != lost {
		t.Errorf("got %+v (%v), want a child of %s", made, err, lost)
	}
}

func TestSummariesThatCannotBeLoadedAreRefused(t *testing.T) {
	one := func(path string, k kind, made func(x *api) string) func(x *api) []entry {
		return func(x *api) []entry { return []entry{{path, object{kind: k}.in("").Mode, k, made(x)}} }
	}
	emptyTree := func(x *api) string { return x.tree() }
	text := func(x *api) string { return x.blob("hi") }
	both := func(app, own func(x *api) []entry) func(x *api) []entry {
		return func(x *api) []entry { return append(app(x), own(x)...) }
	}
	protocolInApp := func(x *api) string { return x.tree(one(partProtocol, kindTree, emptyTree)(x)...) }
	protocolAt := func(attributes string) func(x *api) string {
		return func(x *api) string { return x.tree(entry{"attributes", modeBlob, kindBlob, x.blob(attributes)}) }
	}
	for name, row := range map[string]struct {
		upload func(x *api) []entry
		change func(r *realtime.SummaryRequest)
		text   string
	}{
		"unknown handle":        {plain, func(r *realtime.SummaryRequest) { r.Handle = noSHA }, "Unknown summary handle"},
		"a blob as handle":      {plain, func(r *realtime.SummaryRequest) { r.Handle = hiSHA }, "Unknown summary handle"},
		"another head":          {plain, func(r *realtime.SummaryRequest) { r.Head = noSHA }, "Summary is not based on the latest one"},
		"another document":      {plain, func(r *realtime.SummaryRequest) { r.Document = "doc2" }, "Summary is not based on the latest one"},
		"app alone":             {one(partApp, kindTree, emptyTree), nil, "Summary has .app or .protocol without the other"},
		"protocol alone":        {one(partProtocol, kindTree, emptyTree), nil, "Summary has .app or .protocol without the other"},
		"app is a blob":         {both(one(partApp, kindBlob, text), one(partProtocol, kindTree, emptyTree)), nil, "Summary has an .app or .protocol that is no tree"},
		"protocol is a blob":    {both(one(partApp, kindTree, emptyTree), one(partProtocol, kindBlob, text)), nil, "Summary has an .app or .protocol that is no tree"},
		"protocol in app":       {both(one(partApp, kindTree, protocolInApp), one(partProtocol, kindTree, protocolAt(`{"sequenceNumber":5}`))), nil, "Summary has two .protocol trees"},
		"protocol of another":   {whole(4), nil, "Summary has the .protocol of another message"},
		"protocol is no JSON":   {both(one(partApp, kindTree, emptyTree), one(partProtocol, kindTree, protocolAt(`{`))), nil, "Summary has the .protocol of another message"},
		"protocol without much": {both(one(partApp, kindTree, emptyTree), one(partProtocol, kindTree, emptyTree)), nil, "Summary has the .protocol of another message"},
	} {
		p := uploads(t, row.upload)
		if row.change != nil {
			row.change(&p.request)
		}
		_, err := p.summarizer.accept(t.Context(), p.request)
		if told, ok := errors.AsType[*realtime.Error](err); !ok || told.Text != row.text {
			t.Errorf("%s: got %v, want %q", name, err, row.text)
		}
		if head, err := p.app.store.head("acme", "doc1"); head != p.first {
			t.Errorf("%s: the head moved to %s (%v)", name, head, err)
		}
	}
}

func TestSummaryOlderThanTheLatestIsRefused(t *testing.T) {
	p := uploads(t, plain)
	head, err := p.summarizer.accept(t.Context(), p.request)
	if err != nil {
		t.Fatal(err)
	}
	p.request.Head, p.request.ReferenceSequenceNumber = head, 4
	_, err = p.summarizer.accept(t.Context(), p.request)
	if told, ok := errors.AsType[*realtime.Error](err); !ok || told.Text != "Summary is older than the latest one" {
		t.Errorf("got %v, want it refused as older", err)
	}
}

func TestSummaryOfMessagesThatTheLogHasNotIsAFault(t *testing.T) {
	p := uploads(t, plain)
	p.request.ReferenceSequenceNumber = 100
	_, err := p.summarizer.accept(t.Context(), p.request)
	if _, told := errors.AsType[*realtime.Error](err); err == nil || told {
		t.Errorf("got %v, want an error that clients are not told", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p.request.ReferenceSequenceNumber = 8
	if _, err := p.summarizer.accept(ended, p.request); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that of the context", err)
	}
}

func TestDocumentWithoutSnapshotTakesAFirstSummary(t *testing.T) {
	x := newAPI(t)
	logged(t, x.app.ops, "doc1", history()...)
	request := realtime.SummaryRequest{Tenant: "acme", Document: "doc1", ReferenceSequenceNumber: 2,
		Handle: x.commit(x.tree(entry{"state", modeBlob, kindBlob, x.blob("new")}))}
	handle, err := summarizer{x.app.store, x.app.ops}.accept(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	p := &proposed{api: x}
	if got := p.loaded(); got["state"] != "new" || strings.Count(got[".protocol/quorumMembers"], "client") != 2 {
		t.Errorf("%s: got %v", handle, got)
	}
}
