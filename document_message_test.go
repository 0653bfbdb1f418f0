package realtime

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWholeNumbersMayBeWrittenAsFloats(t *testing.T) { // document.md section 13
	for text, want := range map[string]int64{"0": 0, "-1": -1, "1.0": 1, "1e3": 1000, "9007199254740991": 1<<53 - 1, "9007199254740993": 1<<53 + 1} {
		if got, ok := wholeNumber([]byte(text)); !ok || got != want {
			t.Errorf("%s is %d, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", `"1"`, "1.5", "1e300", "-0.1", "null", "true", "[1]", "1e-1"} {
		if got, ok := wholeNumber([]byte(text)); ok {
			t.Errorf("%s is %d, want nothing", text, got)
		}
	}
}

func TestSummaryProposalIsAnObjectOrItsText(t *testing.T) { // document.md section 10
	object := `{"handle":"h","head":"","message":"m","parents":["p"],"details":{"includesProtocolTree":true}}`
	for _, contents := range []string{object, string(appendQuoted(nil, object))} {
		r, flaw := readSummary([]byte(contents))
		if flaw != "" || r.Handle != "h" || r.Message != "m" || !slices.Equal(r.Parents, []string{"p"}) || !r.ProtocolTree {
			t.Errorf("%s: %+v, %q", contents, r, flaw)
		}
	}
	for contents, missing := range map[string]string{
		`{"handle":"h","head":"x"}`:                              "message, parents",
		`{"handle":1,"head":"x","message":"m","parents":"p"}`:    "handle, parents",
		`{"handle":"h","head":"x","message":"m","parents":[1]}`:  "parents",
		`{"handle":"h","head":"x","message":"m","parents":null}`: "parents",
		`"not an object"`: "handle, head, message, parents",
		`{"handle":"h","head":"x","message":"m","parents":[],"x":}`: "handle, head, message, parents",
		``: "handle, head, message, parents",
	} {
		if _, flaw := readSummary([]byte(contents)); flaw != "Invalid summarize op: missing fields: "+missing {
			t.Errorf("%s: %q, want %s", contents, flaw, missing)
		}
	}
}

func TestRecentMessagesAreBounded(t *testing.T) {
	var r recentMessages
	add := func(from, to int64, size int) {
		for sn := from; sn <= to; sn++ {
			r.add([]SequencedMessage{{SequenceNumber: sn, JSON: make([]byte, size)}}, 10)
		}
	}
	add(1, 25, 10)
	if _, ok := r.read(14, 25, 100); ok {
		t.Error("message 15 is there")
	}
	if ms, ok := r.read(15, 25, 4); !ok || len(ms) != 4 || ms[0].SequenceNumber != 16 {
		t.Errorf("got %v, %v", ms, ok)
	}
	if ms, ok := r.read(25, 25, 4); !ok || len(ms) != 0 {
		t.Errorf("got %v, %v", ms, ok)
	}
	add(26, 29, 3<<20)
	if r.bytes > recentBytes || len(r.all)-r.first != 2 {
		t.Errorf("%d messages of %d bytes", len(r.all)-r.first, r.bytes)
	}
}

func TestDocumentVersions(t *testing.T) { // document.md section 3.8
	for offered, want := range map[string]string{
		`["^1.0.0"]`: "1.0.0", `["^0.1.0","^1.0.0"]`: "0.1.0", `["^1.0.0","^0.1.0"]`: "0.1.0", `["^9.0.0"]`: "0.1.0",
		``: "0.1.0", `[]`: "0.1.0", `7`: "0.1.0", `["^1.0.0",7]`: "0.1.0", `["1.0.0"]`: "0.1.0",
	} {
		if got := (&request{versions: json.RawMessage(offered)}).version(); got != want {
			t.Errorf("%s gives %s, want %s", offered, got, want)
		}
	}
	for offered, want := range map[string]string{`{"submit_signals_v2":false}`: "false", `{"x":1}`: "true", ``: "true", `null`: "true", `{"submit_signals_v2":true}`: "true"} {
		if got := string((&request{features: json.RawMessage(offered)}).agreed()); got != `{"submit_signals_v2":`+want+`}` {
			t.Errorf("%s gives %s", offered, got)
		}
	}
}

func TestAllowanceIsSpentAndGrows(t *testing.T) {
	a := allowance{rule: rule{step: time.Second}, burst: 3}
	now := time.Unix(1000, 0)
	for i, step := range []struct {
		after time.Duration
		n     int
		wait  time.Duration
	}{{0, 2, 0}, {0, 2, time.Second}, {0, 1, 0}, {0, 1, time.Second}, {time.Second, 1, 0}, {10 * time.Second, 50, 0}, {0, 1, time.Second}} {
		now = now.Add(step.after)
		if got := a.take(step.n, now); got != step.wait {
			t.Errorf("step %d: wait %v, want %v", i, got, step.wait)
		}
	}
	if free := (&allowance{}); free.take(1e6, now) != 0 {
		t.Error("without a rate there is a wait")
	}
}

func TestClientIDsAreRandomUUIDs(t *testing.T) {
	a, b := newClientID(), newClientID()
	if a == b || len(a) != 36 || a[14] != '4' || !strings.ContainsRune("89ab", rune(a[19])) {
		t.Errorf("got %s and %s", a, b)
	}
}

// FuzzSubmission holds that whatever comes in a submission is refused or becomes
// messages that are JSON, with the contents as they came.
func FuzzSubmission(f *testing.F) {
	f.Add([]byte(`{"clientId":"a","messageBatches":[[{"type":"op","clientSequenceNumber":1,"referenceSequenceNumber":-1,"contents":{"a":1.10}}],{"clientSequenceNumber":2,"referenceSequenceNumber":0,"type":"summarize","contents":"{}"}]}`))
	f.Add([]byte(`{"clientId":"a","contentBatches":[{"content":"x","targetedClients":["a"]},["y",{"signal":{"content":1}}],"z"]}`))
	f.Add([]byte(`{"tenantId":"acme","id":"doc1","token":"t","client":{"user":{"id":1},"user":2},"mode":"write","versions":["^1.0.0"],"lastSeenSequenceNumber":1e2}`))
	f.Add([]byte(`{"messageBatches":[[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !isJSON(data) { // the protocols have seen to that
			return
		}
		if _, batches, ok := submissionOf(data, "messageBatches"); ok {
			eachOp(batches, func(raw []byte) {
				p, fault := readProposal(raw)
				m := p.message("client", ticket{sn: 2, msn: 1, rsn: 1, csn: 1}, time.Unix(1, 0))
				if fault == "" && (!isJSON(m.JSON) || p.contents != nil && !bytes.Contains(m.JSON, p.contents)) {
					t.Errorf("%s becomes %s", raw, m.JSON)
				}
				n := nack{operation: p.raw, refusal: refusal{message: fault}}
				if !isJSON(n.data()) {
					t.Errorf("nack %s", n.data())
				}
			})
		}
		if _, batches, ok := submissionOf(data, "contentBatches"); ok {
			signals, _ := readSignals(batches, 100, 1<<20)
			for _, s := range signals {
				if !isJSON(signalData("client", s.content)) {
					t.Errorf("signal %s", signalData("client", s.content))
				}
			}
		}
		r, e := readRequest(data)
		if e != nil {
			return
		}
		r.version()
		object, ok := r.describe(&Identity{User: "u", Scopes: []string{scopeRead}, Claims: json.RawMessage(`{"user":{"id":"u"}}`)}, modeRead, time.Unix(1, 0))
		if ok && (!isJSON(object) || !isJSON(joinSignal("id", object)) || !isJSON(joinContents("id", object))) {
			t.Errorf("described as %s", object)
		}
	})
}
