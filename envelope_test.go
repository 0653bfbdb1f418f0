package realtime

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// wantInbound compares all that a codec decodes; data as bytes.
func wantInbound(t *testing.T, payload string, got inbound, want inbound) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%.120q:\ngot  %s\nwant %s", payload, showInbound(got), showInbound(want))
	}
}

func showInbound(in inbound) string {
	return fmt.Sprintf("op %d topic %q event %q ref %q joinRef %q data %s binary %#v recover %+v",
		in.op, in.topic, in.event, in.ref, in.joinRef, in.data, in.binary, in.recover)
}

func rawJSON(s string) json.RawMessage { return json.RawMessage(s) }

func TestEnvelopeDecodesMessages(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    inbound
	}{
		// Section 2: the fields.
		{`{"channel":"session:123","type":"send_message","data":{"message":"hi"},"ref":"7"}`,
			inbound{topic: "session:123", event: "send_message", data: rawJSON(`{"message":"hi"}`), ref: "7"}},
		{`{"type":"x"}`, inbound{topic: "global", event: "x", data: rawJSON("null")}},
		{`{"channel":null,"type":"x","ref":null,"data":null}`, inbound{topic: "global", event: "x", data: rawJSON("null")}},
		{`{"type":"x","ref":""}`, inbound{topic: "global", event: "x", data: rawJSON("null")}},
		{" \t\r\n{ \"type\" : \"x\" , \"data\" : [ 1 ,\n 2 ] } \t\r\n", inbound{topic: "global", event: "x", data: rawJSON("[ 1 ,\n 2 ]")}},
		{`{"type":"x","data":"\u0041\/\ud800"}`, inbound{topic: "global", event: "x", data: rawJSON(`"\u0041\/\ud800"`)}},
		{`{"type":"x","data":1e999999}`, inbound{topic: "global", event: "x", data: rawJSON(`1e999999`)}},
		{`{"type":"x","data":false}`, inbound{topic: "global", event: "x", data: rawJSON(`false`)}},
		{`{"type":"x","data":{"a":1,"a":2}}`, inbound{topic: "global", event: "x", data: rawJSON(`{"a":1,"a":2}`)}},
		{`{"\u0074ype":"\u0078","ch\u0061nnel":"\ud83d\ude00","r\u0065f":"\u0000"}`, inbound{topic: "😀", event: "x", data: rawJSON("null"), ref: "\x00"}},
		{`{"channel":"Ä ","type":"Ü","data":"é"}`, inbound{topic: "Ä ", event: "Ü", data: rawJSON(`"é"`)}},
		// Bounds are bytes after decoding.
		{`{"channel":"` + strings.Repeat("c", 255) + `","type":"` + strings.Repeat("t", 128) + `","ref":"` + strings.Repeat("r", 64) + `"}`,
			inbound{topic: strings.Repeat("c", 255), event: strings.Repeat("t", 128), data: rawJSON("null"), ref: strings.Repeat("r", 64)}},
		{`{"type":"` + strings.Repeat(`\u0074`, 128) + `"}`, inbound{topic: "global", event: strings.Repeat("t", 128), data: rawJSON("null")}},
		// Unknown and server-side fields are ignored, whatever they hold.
		{`{"type":"x","offset":"no","ask":7,"more":[[]],"":0,"\ud800":1}`, inbound{topic: "global", event: "x", data: rawJSON("null")}},
		// Keys differ by case.
		{`{"type":"x","Type":5,"DATA":1,"Channel":{},"Ref":[]}`, inbound{topic: "global", event: "x", data: rawJSON("null")}},
		// Of duplicate keys the last one counts, also when the first is bad.
		{`{"type":"x","type":"y","channel":"a","channel":"b","data":1,"data":2,"ref":"1","ref":"2"}`, inbound{topic: "b", event: "y", data: rawJSON("2"), ref: "2"}},
		{`{"type":5,"channel":"","ref":{},"type":"y","channel":null,"ref":"2"}`, inbound{topic: "global", event: "y", data: rawJSON("null"), ref: "2"}},
		{`{"type":"\ud800","typ\u0065":"y"}`, inbound{topic: "global", event: "y", data: rawJSON("null")}},
		// Section 3: what the types mean, and where.
		{`{"type":"ping","data":{"timestamp":1700000000000}}`, inbound{op: opPing, topic: "global", event: "ping", data: rawJSON(`{"timestamp":1700000000000}`)}},
		{`{"channel":"global","type":"ping","ref":"1"}`, inbound{op: opPing, topic: "global", event: "ping", data: rawJSON("null"), ref: "1"}},
		{`{"channel":"a","type":"ping"}`, inbound{topic: "a", event: "ping", data: rawJSON("null")}},
		{`{"type":"auth","data":{"token":"t"}}`, inbound{op: opAuth, topic: "global", event: "auth", data: rawJSON(`{"token":"t"}`)}},
		{`{"channel":"a","type":"auth","data":{"token":"t"}}`, inbound{topic: "a", event: "auth", data: rawJSON(`{"token":"t"}`)}},
		{`{"channel":"a","type":"unsubscribe","ref":"2"}`, inbound{op: opLeave, topic: "a", event: "unsubscribe", data: rawJSON("null"), ref: "2"}},
		{`{"type":"unsubscribe"}`, inbound{op: opLeave, topic: "global", event: "unsubscribe", data: rawJSON("null")}},
		{`{"channel":"a","type":"history","data":{"from":41,"limit":100}}`, inbound{op: opPage, topic: "a", event: "history", data: rawJSON(`{"from":41,"limit":100}`)}},
		{`{"channel":"a","type":"answer","ref":"q1","data":[1]}`, inbound{op: opAnswer, topic: "a", event: "answer", data: rawJSON(`[1]`), ref: "q1"}},
		{`{"channel":"a","type":"answer"}`, inbound{op: opAnswer, topic: "a", event: "answer", data: rawJSON(`null`)}},
		{`{"channel":"a","type":"Subscribe"}`, inbound{topic: "a", event: "Subscribe", data: rawJSON("null")}},
		// Subscribe, and section 4's recover.
		{`{"type":"subscribe"}`, inbound{op: opJoin, topic: "global", event: "subscribe", data: rawJSON("null")}},
		{`{"channel":"a","type":"subscribe","data":null}`, inbound{op: opJoin, topic: "a", event: "subscribe", data: rawJSON("null")}},
		{`{"channel":"a","type":"subscribe","data":{}}`, inbound{op: opJoin, topic: "a", event: "subscribe", data: rawJSON("null")}},
		{`{"channel":"a","type":"subscribe","data":{"params":null,"recover":null}}`, inbound{op: opJoin, topic: "a", event: "subscribe", data: rawJSON("null")}},
		{`{"channel":"a","type":"subscribe","data":{"params":{ "k": 1 },"recover":{"epoch":"k3f9","offset":41}},"ref":"3"}`,
			inbound{op: opJoin, topic: "a", event: "subscribe", data: rawJSON(`{ "k": 1 }`), ref: "3", recover: &Position{"k3f9", 41}}},
		{`{"channel":"a","type":"subscribe","data":{"recover":{"offset":0,"epoch":"","more":1}}}`,
			inbound{op: opJoin, topic: "a", event: "subscribe", data: rawJSON("null"), recover: &Position{"", 0}}},
		{`{"channel":"a","type":"subscribe","data":{"recover":{"epoch":"\u0065","offset":9007199254740991}}}`,
			inbound{op: opJoin, topic: "a", event: "subscribe", data: rawJSON("null"), recover: &Position{"e", 1<<53 - 1}}},
		{`{"channel":"a","type":"subscribe","data":{"recover":7,"recover":{"epoch":1,"epoch":"e","offset":"x","offset":1},"params":1,"params":{}}}`,
			inbound{op: opJoin, topic: "a", event: "subscribe", data: rawJSON("{}"), recover: &Position{"e", 1}}},
		{`{"channel":"a","type":"subscribe","data":{"Recover":5,"Params":5}}`, inbound{op: opJoin, topic: "a", event: "subscribe", data: rawJSON("null")}},
	} {
		got, err := envelopeCodec{}.decode([]byte(c.payload), false)
		if err != nil {
			t.Errorf("%.120q: %v", c.payload, err)
			continue
		}
		wantInbound(t, c.payload, got, c.want)
	}
}

// notObjects are refused by every JSON protocol of ours.
var notObjects = []string{
	``, ` `, "\n", `null`, `true`, `1`, `"type"`, `[]`, `[{"type":"x"}]`, `NaN`, `type`,
	`{`, `}`, `{}`, `{"type"}`, `{"type":}`, `{"type":"x"`, `{"type":"x",}`, `{,"type":"x"}`, `{type:"x"}`, `{'type':'x'}`,
	`{"type":"x"}}`, `{"type":"x"} x`, `{"type":"x"}{"type":"y"}`, `{"type":"x"},`, "{\"type\":\"x\"}\x00", "{\"type\":\"x\"}\v", "{\"type\":\"x\"}\u00a0",
	"\ufeff" + `{"type":"x"}`, `{"type":"x"}` + "\ufeff",
	`{"type":"x","a":NaN}`, `{"type":"x","a":Infinity}`, `{"type":"x","a":-}`, `{"type":"x","a":01}`, `{"type":"x","a":1.}`, `{"type":"x","a":undefined}`,
	`{"type":"x","a":[1,]}`, `{"type":"x","a":{"b":1,}}`, `{"type":"x","a":[}`, `{"type":"x","a":"` + "\n" + `"}`, `{"type":"x","a":"\x"}`, `{"type":"x","a":"\u12"}`,
	`{"type":"x","a` + "\t" + `":1}`, `{"type":"x" /* c */}`,
	"{\"type\":\"x\",\"a\":\"\xff\"}", "{\"type\":\"x\",\"a\":\"\xc0\xaf\"}", "{\"type\":\"x\",\"a\":\"\xe0\x80\xaf\"}", "{\"type\":\"x\",\"a\":\"\xed\xa0\x80\"}", "{\"type\":\"x\",\"a\":\"\xf4\x90\x80\x80\"}",
	"{\"type\":\"x\",\"a\":\"\xe2\x82\"}", "{\"type\":\"x\"}\xff", "\xff{\"type\":\"x\"}", "{\"type\":\"x\",\"\xff\":1}",
	`{"type":null}`, `{"type":1}`, `{"type":{}}`, `{"type":["x"]}`, `{"type":true}`, `{"type":""}`, `{"Type":"x"}`, `{"type":"x","type":null}`,
	`{"type":"` + strings.Repeat("t", 129) + `"}`, `{"type":"` + strings.Repeat("é", 65) + `"}`,
	`{"type":"\ud800"}`, `{"type":"a\udc00"}`, `{"type":"\ud800\u0041"}`,
	`{"type":"a\u0000"}`, `{"type":"\n"}`, `{"type":"\u001f"}`, `{"type":"\u007f"}`, `{"type":"\u0080"}`, `{"type":"\u009f"}`,
	"{\"type\":\"\x7f\"}", "{\"type\":\"\u0080\"}", "{\"type\":\"\u009f\"}", "{\"type\":\"\x00\"}",
	`{"type":"x","a":` + nested("[", "", "]", 64) + `}`,
	`{"type":"x","a":` + nested(`{"a":`, "1", "}", 64) + `}`,
	`{"type":"x","a":` + strings.Repeat("[", 100000) + `}`,
	`{"type":"x","a":` + nested("[", "", "]", 100000) + `}`,
}

func wantInvalidMessage(t *testing.T, c codec, payload string, binary bool) {
	t.Helper()
	got, err := c.decode([]byte(payload), binary)
	if err == nil {
		t.Errorf("%s: %.100q: accepted as %s", c.protocol(), payload, showInbound(got))
		return
	}
	if err.Code != "invalid_message" || err.Retry != RetryNever || err.Text == "" {
		t.Errorf("%s: %.100q: got error %+v", c.protocol(), payload, err)
	}
	if !reflect.DeepEqual(got, inbound{}) {
		t.Errorf("%s: %.100q: got %s beside the error, want nothing", c.protocol(), payload, showInbound(got))
	}
}

func TestEnvelopeRefusesInvalidMessages(t *testing.T) {
	for _, payload := range append([]string{
		`{"type":"x","data":` + nested("[", "", "]", 64) + `}`,
		`{"type":"x","channel":""}`, `{"type":"x","channel":1}`, `{"type":"x","channel":{}}`, `{"type":"x","channel":false}`,
		`{"type":"x","channel":"` + strings.Repeat("c", 256) + `"}`, `{"type":"x","channel":"` + strings.Repeat("é", 128) + `"}`,
		`{"type":"x","channel":"\udfff"}`, `{"type":"x","channel":"a\u0085b"}`, `{"type":"x","channel":"a\u0000"}`, "{\"type\":\"x\",\"channel\":\"\x7f\"}",
		`{"type":"x","ref":1}`, `{"type":"x","ref":{}}`, `{"type":"x","ref":false}`, `{"type":"x","ref":"\ud800"}`, `{"type":"x","ref":"\udc00\ud800"}`,
		`{"type":"x","ref":"` + strings.Repeat("r", 65) + `"}`, `{"type":"x","ref":"` + strings.Repeat("é", 33) + `"}`,
		`{"type":"x","channel":"a","channel":5}`, `{"channel":"a","data":1}`,
		`{"type":"subscribe","data":{"recover":{]}}`,
	}, notObjects...) {
		wantInvalidMessage(t, envelopeCodec{}, payload, false)
	}
	wantInvalidMessage(t, envelopeCodec{}, `{"type":"x"}`, true)
	wantInvalidMessage(t, envelopeCodec{}, "", true)
}

func TestEnvelopeAcceptsNestingUpTo64(t *testing.T) {
	for _, data := range []string{nested("[", "", "]", 63), nested(`{"a":`, "1", "}", 63), nested(`{"a":[`, "[]", "]}", 31)} {
		for _, field := range []string{"data", "other"} {
			payload := `{"type":"x","` + field + `":` + data + `}`
			got, err := envelopeCodec{}.decode([]byte(payload), false)
			if err != nil {
				t.Errorf("%.60s: %v", payload, err)
			} else if field == "data" && string(got.data) != data {
				t.Errorf("got data %s, want %s", got.data, data)
			}
		}
	}
}

func TestEnvelopeAnswersMalformedSubscribe(t *testing.T) {
	for _, data := range []string{
		`1`, `"x"`, `[]`, `true`, `{"params":1}`, `{"params":"x"}`, `{"params":[]}`, `{"params":false}`,
		`{"recover":1}`, `{"recover":"x"}`, `{"recover":[]}`, `{"recover":{}}`, `{"recover":{"epoch":"e"}}`, `{"recover":{"offset":1}}`,
		`{"recover":{"epoch":1,"offset":1}}`, `{"recover":{"epoch":null,"offset":1}}`, `{"recover":{"epoch":"\ud800","offset":1}}`,
		`{"recover":{"epoch":"e","offset":"1"}}`, `{"recover":{"epoch":"e","offset":null}}`, `{"recover":{"epoch":"e","offset":-1}}`, `{"recover":{"epoch":"e","offset":-0}}`,
		`{"recover":{"epoch":"e","offset":1.5}}`, `{"recover":{"epoch":"e","offset":1e3}}`, `{"recover":{"epoch":"e","offset":9007199254740992}}`,
		`{"recover":{"epoch":"e","offset":18446744073709551615}}`, `{"recover":{"epoch":"e","offset":18446744073709551617}}`, `{"recover":{"epoch":"e","offset":{}}}`,
	} {
		payload := `{"ref":"3","channel":"a","type":"subscribe","data":` + data + `}`
		got, err := envelopeCodec{}.decode([]byte(payload), false)
		if err == nil {
			t.Errorf("%s: accepted as %s", data, showInbound(got))
			continue
		}
		if err.Code != "invalid_data" || err.Retry != RetryNever || err.Text == "" {
			t.Errorf("%s: got error %+v", data, err)
		}
		if got.op != opJoin || got.topic != "a" || got.event != "subscribe" || got.ref != "3" || got.recover != nil {
			t.Errorf("%s: got %s beside the error, which cannot be answered so", data, showInbound(got))
		}
	}
}

// Strings outlive the message by far (topics are map keys), so they must not
// hold on to the payload; data is documented to.
func TestEnvelopeCopiesStringsAndAliasesData(t *testing.T) {
	payload := []byte(`{"channel":"abc","type":"def","ref":"ghi","data":[1],"x":0}`)
	got, err := envelopeCodec{}.decode(payload, false)
	if err != nil {
		t.Fatal(err)
	}
	if cap(got.data) != len(got.data) {
		t.Error("an append to the data would write over the payload")
	}
	clear(payload)
	if got.topic != "abc" || got.event != "def" || got.ref != "ghi" {
		t.Errorf("got %q %q %q after the payload changed", got.topic, got.event, got.ref)
	}
	one, _ := envelopeCodec{}.decode([]byte(`{"type":"x"}`), false)
	two, _ := envelopeCodec{}.decode([]byte(`{"type":"x"}`), false)
	if clear(one.data); string(two.data) != "null" {
		t.Error("two messages without data share it")
	}
}

var outbounds = []struct {
	name           string
	m              outbound
	envelope, flat string // "" for nothing
}{
	{"event", outbound{kind: kindEvent, topic: "session:1", event: "stream_output", data: rawJSON(`{"text": "a\u0041"}`)},
		`{"channel":"session:1","type":"stream_output","data":{"text": "a\u0041"}}`, `{"type":"stream_output","text": "a\u0041"}`},
	{"event with offset", outbound{kind: kindEvent, topic: "a", event: "e", data: rawJSON(`{}`), offset: 1<<53 - 1},
		`{"channel":"a","type":"e","data":{},"offset":9007199254740991}`, `{"type":"e"}`},
	{"event with ask", outbound{kind: kindEvent, topic: "a", event: "e", data: rawJSON(`[1]`), ask: "q\"1"},
		`{"channel":"a","type":"e","data":[1],"ask":"q\"1"}`, `{"type":"e","data":[1]}`},
	{"event with offset and ask", outbound{kind: kindEvent, topic: "a", event: "e", data: rawJSON(`1`), offset: 2, ask: "q"},
		`{"channel":"a","type":"e","data":1,"offset":2,"ask":"q"}`, `{"type":"e","data":1}`},
	{"event without data", outbound{kind: kindEvent, topic: "a", event: "e"},
		`{"channel":"a","type":"e","data":null}`, `{"type":"e","data":null}`},
	{"event with newlines in its data", outbound{kind: kindEvent, topic: "a", event: "e", data: rawJSON("{\n  \"b\": 1\n}\n")},
		"{\"channel\":\"a\",\"type\":\"e\",\"data\":{\n  \"b\": 1\n}\n}", `{"type":"e","b": 1}`},
	{"event with names that need escapes", outbound{kind: kindEvent, topic: "a\"\\", event: "é\n\xff", data: rawJSON(`""`)},
		`{"channel":"a\"\\","type":"é\n` + "\uFFFD" + `","data":""}`, `{"type":"é\n` + "\uFFFD" + `","data":""}`},
	{"presence_state", outbound{kind: kindEvent, topic: "a", event: "presence_state", data: rawJSON(`{"u":{"metas":[]}}`)},
		`{"channel":"a","type":"presence_state","data":{"u":{"metas":[]}}}`, `{"type":"presence_state","u":{"metas":[]}}`},
	{"reply", outbound{kind: kindReply, topic: "a", ref: "7", data: rawJSON(`{"id":1}`)},
		`{"channel":"a","type":"reply","data":{"status":"ok","response":{"id":1}},"ref":"7"}`, `{"type":"reply","id":1}`},
	{"reply of nothing", outbound{kind: kindReply, topic: "a", ref: "7"},
		`{"channel":"a","type":"reply","data":{"status":"ok","response":null},"ref":"7"}`, ``},
	{"error", outbound{kind: kindError, topic: "a", ref: "7", err: &Error{Code: "forbidden", Text: "Not \"yours\"", Retry: RetryNever}},
		`{"channel":"a","type":"error","data":{"code":"forbidden","error":"Not \"yours\"","retry":"never"},"ref":"7"}`,
		`{"type":"error","code":"forbidden","error":"Not \"yours\"","retry":"never"}`},
	{"error with a delay", outbound{kind: kindError, topic: "a", err: &Error{Code: "rate_limited", Text: "t", Retry: RetryBackoff, RetryAfter: 1500*time.Millisecond + 1}},
		`{"channel":"a","type":"error","data":{"code":"rate_limited","error":"t","retry":"backoff","retry_after_ms":1501}}`,
		`{"type":"error","code":"rate_limited","error":"t","retry":"backoff","retry_after_ms":1501}`},
	{"error without a hint or a topic", outbound{kind: kindError, err: &Error{Code: "invalid_message", Text: "t", RetryAfter: -1}},
		`{"channel":"global","type":"error","data":{"code":"invalid_message","error":"t","retry":"never"}}`,
		`{"type":"error","code":"invalid_message","error":"t","retry":"never"}`},
	{"error with details", outbound{kind: kindError, topic: "a", ref: "7", err: &Error{Code: "full", Text: "t", RetryAfter: time.Second, Data: map[string]any{"seats": 3}}},
		`{"channel":"a","type":"error","data":{"code":"full","error":"t","retry":"never","retry_after_ms":1000,"data":{"seats":3}},"ref":"7"}`,
		`{"type":"error","code":"full","error":"t","retry":"never","retry_after_ms":1000,"data":{"seats":3}}`},
	{"error with details that are no JSON", outbound{kind: kindError, topic: "a", err: &Error{Code: "full", Text: "t", Data: make(chan int)}},
		`{"channel":"a","type":"error","data":{"code":"full","error":"t","retry":"never"}}`, `{"type":"error","code":"full","error":"t","retry":"never"}`},
	{"error with broken JSON as details", outbound{kind: kindError, topic: "a", err: &Error{Code: "full", Text: "t", Data: rawJSON(`{]`)}},
		`{"channel":"a","type":"error","data":{"code":"full","error":"t","retry":"never"}}`, `{"type":"error","code":"full","error":"t","retry":"never"}`},
	{"refused with details", outbound{kind: kindRefused, topic: "a", err: &Error{Code: "full", Text: "t", Data: []int{1}}},
		`{"channel":"global","type":"subscription_error","data":{"channel":"a","code":"full","error":"t","retry":"never","data":[1]}}`, ``},
	{"event of bytes", outbound{kind: kindEvent, topic: "a", event: "e", data: rawJSON(`"AQI="`), binary: true},
		`{"channel":"a","type":"e","data":"AQI="}`, `{"type":"e","data":"AQI="}`},
	{"pong", outbound{kind: kindPong, ref: "1", data: rawJSON(`{"timestamp":1}`)},
		`{"channel":"global","type":"pong","data":{"timestamp":1},"ref":"1"}`, `{"type":"pong","timestamp":1}`},
	{"pong without data", outbound{kind: kindPong, topic: "global", data: rawJSON(`{}`)},
		`{"channel":"global","type":"pong","data":{}}`, `{"type":"pong"}`},
	{"connected", outbound{kind: kindConnected, data: rawJSON(`{"connection":"c","user":null}`)},
		`{"channel":"global","type":"connected","data":{"connection":"c","user":null}}`, `{"type":"connected","connection":"c","user":null}`},
	{"auth_success", outbound{kind: kindAuthenticated, ref: "2", data: rawJSON(`{"user":"u","expires_at":null}`)},
		`{"channel":"global","type":"auth_success","data":{"user":"u","expires_at":null},"ref":"2"}`, `{"type":"auth_success","user":"u","expires_at":null}`},
	{"joined with history", outbound{kind: kindJoined, topic: "session:123", ref: "3", data: rawJSON(`{}`), joined: &joined{&Position{"k3f9", 57}, RecoveryReplayed}},
		`{"channel":"global","type":"subscription_success","data":{"channel":"session:123","epoch":"k3f9","offset":57,"recovery":"replayed","response":{}},"ref":"3"}`, ``},
	{"joined before the first event", outbound{kind: kindJoined, topic: "a", joined: &joined{&Position{"e", 0}, RecoveryFresh}},
		`{"channel":"global","type":"subscription_success","data":{"channel":"a","epoch":"e","offset":0,"recovery":"fresh","response":null}}`, ``},
	{"joined without history", outbound{kind: kindJoined, topic: "a", joined: &joined{nil, RecoveryReload}},
		`{"channel":"global","type":"subscription_success","data":{"channel":"a","recovery":"reload","response":null}}`, ``},
	{"refused", outbound{kind: kindRefused, topic: "session:123", ref: "3", err: &Error{Code: "forbidden", Text: "Not your session", Retry: RetryNever}},
		`{"channel":"global","type":"subscription_error","data":{"channel":"session:123","code":"forbidden","error":"Not your session","retry":"never"},"ref":"3"}`, ``},
	{"refused for a while", outbound{kind: kindRefused, topic: "a", err: &Error{Code: "rate_limited", Text: "t", Retry: RetryBackoff, RetryAfter: time.Second}},
		`{"channel":"global","type":"subscription_error","data":{"channel":"a","code":"rate_limited","error":"t","retry":"backoff","retry_after_ms":1000}}`, ``},
	{"left on request", outbound{kind: kindLeft, topic: "a", ref: "4"},
		`{"channel":"global","type":"unsubscribed","data":{"channel":"a","code":"client"},"ref":"4"}`, ``},
	{"left by the server", outbound{kind: kindLeft, topic: "a", err: &Error{Code: "forbidden", Text: "t"}},
		`{"channel":"global","type":"unsubscribed","data":{"channel":"a","code":"forbidden","error":"t","retry":"never"}}`, ``},
	{"gap", outbound{kind: kindGap, topic: "a", gap: &gap{dropped: 12, policy: "drop_oldest"}},
		`{"channel":"a","type":"gap","data":{"dropped":12,"policy":"drop_oldest"}}`, `{"type":"gap","dropped":12,"policy":"drop_oldest"}`},
	{"gap in a history", outbound{kind: kindGap, topic: "a", gap: &gap{dropped: 3, policy: "catch_up", from: 5, to: 7}},
		`{"channel":"a","type":"gap","data":{"dropped":3,"policy":"catch_up","from":5,"to":7}}`, `{"type":"gap","dropped":3,"policy":"catch_up","from":5,"to":7}`},
	{"gap of a broker", outbound{kind: kindGap, topic: "a", gap: &gap{policy: "broker", unknown: true}},
		`{"channel":"a","type":"gap","data":{"dropped":null,"policy":"broker"}}`, `{"type":"gap","dropped":null,"policy":"broker"}`},
	{"gap of a new epoch", outbound{kind: kindGap, topic: "a", gap: &gap{policy: "reload", unknown: true, epoch: "e", offset: 0}},
		`{"channel":"a","type":"gap","data":{"dropped":null,"policy":"reload","epoch":"e","offset":0}}`, `{"type":"gap","dropped":null,"policy":"reload","epoch":"e","offset":0}`},
	{"closing with backoff", outbound{kind: kindClosing, closing: &closing{4004, ReasonRateLimited, "t", RetryBackoff, 2000, 8000}},
		`{"channel":"global","type":"closing","data":{"code":4004,"reason":"rate_limited","error":"t","retry":"backoff","min_delay_ms":2000,"jitter_ms":8000}}`,
		`{"type":"closing","code":4004,"reason":"rate_limited","error":"t","retry":"backoff","min_delay_ms":2000,"jitter_ms":8000}`},
	{"closing for now", outbound{kind: kindClosing, closing: &closing{4008, ReasonSlowConsumer, "t", RetryNow, 0, 0}},
		`{"channel":"global","type":"closing","data":{"code":4008,"reason":"slow_consumer","error":"t","retry":"now","min_delay_ms":0,"jitter_ms":0}}`,
		`{"type":"closing","code":4008,"reason":"slow_consumer","error":"t","retry":"now","min_delay_ms":0,"jitter_ms":0}`},
	{"closing for good", outbound{kind: kindClosing, closing: &closing{4006, ReasonForbidden, "t", RetryNever, 1, 2}},
		`{"channel":"global","type":"closing","data":{"code":4006,"reason":"forbidden","error":"t","retry":"never"}}`,
		`{"type":"closing","code":4006,"reason":"forbidden","error":"t","retry":"never"}`},
	{"closing until a new token", outbound{kind: kindClosing, closing: &closing{4001, ReasonTokenExpired, "t", RetryNewToken, 1, 2}},
		`{"channel":"global","type":"closing","data":{"code":4001,"reason":"token_expired","error":"t","retry":"new_token"}}`,
		`{"type":"closing","code":4001,"reason":"token_expired","error":"t","retry":"new_token"}`},
}

// wantEncoding checks one encoding, and that what was in dst stays there.
func wantEncoding(t *testing.T, c codec, name string, m *outbound, want string) {
	t.Helper()
	got, frame := c.encode([]byte("before"), m)
	wantFrame := frameText
	if want == "" {
		wantFrame = frameNone
	}
	if string(got) != "before"+want || frame != wantFrame {
		t.Errorf("%s: %s:\ngot  %s, frame %d\nwant before%s, frame %d", c.protocol(), name, got, frame, want, wantFrame)
	}
	if want != "" && !json.Valid([]byte(want)) {
		t.Errorf("%s: %s: the test wants what is not JSON", c.protocol(), name)
	}
}

func TestEnvelopeEncodesEveryKind(t *testing.T) {
	seen := map[kind]bool{}
	for _, c := range outbounds {
		wantEncoding(t, envelopeCodec{}, c.name, &c.m, c.envelope)
		seen[c.m.kind] = true
	}
	for k := kindEvent; k <= kindClosing; k++ {
		if !seen[k] {
			t.Errorf("kind %d is not in the table", k)
		}
	}
}

func TestEncodingAnEventDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for _, c := range []codec{envelopeCodec{}, flatCodec{}} {
		for _, o := range outbounds {
			if o.m.err != nil && o.m.err.Data != nil {
				continue // they are marshalled
			}
			if got := testing.AllocsPerRun(100, func() { c.encode(dst, &o.m) }); got != 0 {
				t.Errorf("%s: %s: got %v allocations, want 0", c.protocol(), o.name, got)
			}
		}
	}
}

func TestSealingAllocatesTheFrameAndItsBytesOnly(t *testing.T) {
	data := json.RawMessage(`{"text":"hello"}`)
	for _, c := range []codec{envelopeCodec{}, flatCodec{}} {
		got := testing.AllocsPerRun(100, func() {
			seal(c, &outbound{kind: kindReply, topic: "room:1", ref: "17", data: data})
		})
		if got > 2 && !raceEnabled {
			t.Errorf("%s: got %v allocations, want 2", c.protocol(), got)
		}
	}
}

func TestEnvelopeDecodesWhatAClientEncodes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		want := inbound{topic: randomName(random, 60), event: randomName(random, 30), ref: randomName(random, 16), data: randomJSON(random, 5)}
		want.op = envelopeOp(want.topic, want.event)
		message := map[string]any{"channel": want.topic, "type": want.event, "ref": want.ref, "data": want.data, "extra": want.data}
		// A client's encoder, not ours; it escapes <, > and & on top.
		payload, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		got, refused := envelopeCodec{}.decode(payload, false)
		if refused != nil {
			t.Fatalf("%s: %v", payload, refused)
		}
		compact, _ := json.Marshal(want.data)
		want.data = compact
		wantInbound(t, string(payload), got, want)
	}
}

// randomName returns a name that no protocol gives a meaning.
func randomName(random *rand.Rand, most int) string {
	runes := []rune("ab:/\"\\<&é\u00a0߿\u2028\uFFFD😀 ")
	name := "n"
	for range random.IntN(most / 4) {
		name += string(runes[random.IntN(len(runes))])
	}
	return name
}

func randomJSON(random *rand.Rand, depth int) json.RawMessage {
	var value any
	switch n := random.IntN(7); {
	case n == 0:
		value = nil
	case n == 1:
		value = random.Float64() * 1e6
	case n == 2:
		value = random.Int64()
	case n <= 4 || depth == 0:
		value = randomName(random, 40)
	case n == 5:
		value = []any{randomJSON(random, depth-1), randomJSON(random, depth-1)}
	default:
		value = map[string]any{randomName(random, 20): randomJSON(random, depth-1), "type": randomJSON(random, depth-1)}
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

func FuzzEnvelopeDecode(f *testing.F) {
	for _, payload := range notObjects {
		f.Add([]byte(payload))
	}
	f.Add([]byte(`{"channel":"a","type":"subscribe","data":{"params":{},"recover":{"epoch":"e","offset":41}},"ref":"3"}`))
	f.Add([]byte(`{"channel":null,"type":"\u0070ing","data":[1, 2],"ref":"\ud83d\ude00","type":"ping"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		in, err := envelopeCodec{}.decode(payload, false)
		wantWellFormed(t, payload, in, err)
		accepted := err == nil || err.Code == CodeInvalidData
		if want := acceptable(payload); accepted != want {
			t.Fatalf("%q: got accepted %v, want %v (%v)", payload, accepted, want, err)
		}
		if err != nil || in.op == opJoin {
			return
		}
		// What was decoded is encoded and decoded to the same.
		again, _ := envelopeCodec{}.encode(nil, &outbound{kind: kindEvent, topic: in.topic, event: in.event, ref: in.ref, data: in.data})
		back, err := envelopeCodec{}.decode(again, false)
		if err != nil || !reflect.DeepEqual(back, in) {
			t.Fatalf("%q: %q: got %s, %v, want %s", payload, again, showInbound(back), err, showInbound(in))
		}
	})
}

// wantWellFormed checks what holds of everything that a codec decodes.
func wantWellFormed(t *testing.T, payload []byte, in inbound, err *Error) {
	t.Helper()
	if err != nil && err.Code == "invalid_message" {
		if !reflect.DeepEqual(in, inbound{}) {
			t.Fatalf("%q: got %s beside %v", payload, showInbound(in), err)
		}
		return
	}
	if !isName(in.topic, maxTopicBytes) || !isName(in.event, maxEventBytes) || len(in.ref) > maxRefBytes || !utf8.ValidString(in.ref) {
		t.Fatalf("%q: got %s", payload, showInbound(in))
	}
	if !json.Valid(in.data) || levels(in.data) >= maxNesting {
		t.Fatalf("%q: got data %q", payload, in.data)
	}
}

// acceptable says by way of encoding/json whether payload is a message.
func acceptable(payload []byte) bool {
	if !utf8.Valid(payload) || levels(payload) > maxNesting && json.Valid(payload) {
		return false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil || fields == nil {
		return false
	}
	good := func(field string, optional bool, ok func(string) bool) bool {
		raw := fields[field]
		if raw == nil || string(raw) == "null" {
			return optional
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return false
		}
		// encoding/json hides lone surrogates behind U+FFFD.
		if strings.Contains(s, "\uFFFD") {
			_, whole := unquote(raw)
			return whole && ok(s)
		}
		return ok(s)
	}
	named := func(most int) func(string) bool {
		return func(s string) bool {
			return len(s) >= 1 && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7F && r < 0xA0 })
		}
	}
	return good("channel", true, named(255)) && good("type", false, named(128)) && good("ref", true, func(s string) bool { return len(s) <= 64 })
}

// FuzzEncode hands hostile text to every kind and codec: what comes out is one
// JSON object in UTF-8 that has the type that it should.
func FuzzEncode(f *testing.F) {
	f.Add("a", "type", `{"type":1,"\u0074ype":2,"b":[]}`, "r", uint64(3), int64(5))
	f.Add("\xff\"", "\\\n\u2028", ` [1]`, "\x00", uint64(0), int64(-1))
	f.Add("", "e", `null`, "", uint64(1<<63), int64(1e9))
	f.Fuzz(func(t *testing.T, topic, event, data, ref string, number uint64, span int64) {
		if !json.Valid([]byte(data)) || !utf8.ValidString(data) {
			data = ""
		}
		for k := kindEvent; k <= kindClosing; k++ {
			m := outbound{
				kind: k, topic: topic, event: event, ref: ref, data: rawJSON(data), offset: number, ask: ref,
				err:     &Error{Code: event, Text: topic, Retry: Retry(ref), RetryAfter: time.Duration(span)},
				joined:  &joined{&Position{topic, number}, Recovery(event)},
				gap:     &gap{dropped: number, policy: event, from: number, to: number / 2, unknown: span < 0, epoch: topic, offset: number},
				closing: &closing{int(span), Reason(topic), event, Retry(ref), span, -span},
			}
			for _, c := range []codec{envelopeCodec{}, flatCodec{}} {
				got, frame := c.encode(nil, &m)
				if frame == frameNone {
					if len(got) != 0 {
						t.Fatalf("%s: kind %d: no frame, yet %q", c.protocol(), k, got)
					}
					continue
				}
				var fields map[string]json.RawMessage // a struct would fold the case of keys
				if err := json.Unmarshal(got, &fields); err != nil || !utf8.Valid(got) {
					t.Fatalf("%s: kind %d: %q: %v", c.protocol(), k, got, err)
				}
				if c == (flatCodec{}) && k == kindReply {
					continue // its own type
				}
				_, want := envelopeNames(&m)
				want, _ = unquote(appendQuoted(nil, want)) // bytes that are not UTF-8 replaced
				if event, whole := unquote(fields["type"]); event != want || !whole {
					t.Fatalf("%s: kind %d: %q: got type %q, want %q", c.protocol(), k, got, event, want)
				}
			}
		}
	})
}

func BenchmarkEnvelopeDecode(b *testing.B) {
	for _, c := range benchPayloads {
		b.Run(c.name, func(b *testing.B) { benchmarkDecode(b, envelopeCodec{}, c.payload) })
	}
}

var benchPayloads = []struct{ name, payload string }{
	{"128B", `{"channel":"session:123","type":"send_message","data":{"message":"` + strings.Repeat("m", 50) + `"},"ref":"7"}`},
	{"1KB", `{"channel":"session:123","type":"send_message","data":{"messages":[` + strings.Repeat(`{"id":12345,"text":"hello"},`, 32) + `{}]},"ref":"7"}`},
	{"ping", `{"channel":"global","type":"ping","data":{"timestamp":1700000000000}}`},
}

func benchmarkDecode(b *testing.B, c codec, payload string) {
	text := []byte(payload)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.decode(text, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnvelopeEncode(b *testing.B) { benchmarkEncode(b, envelopeCodec{}) }

func benchmarkEncode(b *testing.B, c codec) {
	dst := make([]byte, 0, 4096)
	m := outbound{kind: kindEvent, topic: "session:123", event: "stream_output", offset: 41, data: rawJSON(`{"message":"` + strings.Repeat("m", 100) + `","id":5}`)}
	b.ReportAllocs()
	for b.Loop() {
		c.encode(dst, &m)
	}
}
