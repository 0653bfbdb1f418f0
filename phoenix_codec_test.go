package realtime

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// phoenixOutbounds has what goes out as it stands on the wire, "" for nothing. What
// starts neither with [ nor with { is a frame of bytes.
var phoenixOutbounds = []struct {
	name             string
	m                outbound
	v1, v2, supabase string // supabase "=": as v2
}{
	// Sections 2.1 and 2.2.
	{"reply to a join", outbound{kind: kindJoined, topic: "room:1", joinRef: `"3"`, ref: `"3"`, data: rawJSON(`{}`), joined: &joined{nil, RecoveryFresh}},
		`{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"3"}`,
		`["3","3","room:1","phx_reply",{"status":"ok","response":{}}]`, "="},
	{"reply to a message", outbound{kind: kindReply, topic: "room:1", joinRef: `"3"`, ref: `"8"`, data: rawJSON(`{"id":1}`)},
		`{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{"id":1}},"ref":"8"}`,
		`["3","8","room:1","phx_reply",{"status":"ok","response":{"id":1}}]`, "="},
	{"push", outbound{kind: kindEvent, topic: "room:1", event: "joined", joinRef: `"3"`, data: rawJSON(`{"status":"connected"}`)},
		`{"topic":"room:1","event":"joined","payload":{"status":"connected"},"ref":null}`,
		`["3",null,"room:1","joined",{"status":"connected"}]`, "="},
	{"broadcast", outbound{kind: kindEvent, topic: "room:1", event: "new_msg", data: rawJSON(`{"body":"hi"}`), offset: 7, ask: "q"},
		`{"topic":"room:1","event":"new_msg","payload":{"body":"hi"},"ref":null}`,
		`[null,null,"room:1","new_msg",{"body":"hi"}]`, "="},
	{"heartbeat reply", outbound{kind: kindPong, topic: "x", joinRef: `"1"`, ref: `"9"`, data: rawJSON(`{"a":1}`)},
		`{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"9"}`,
		`[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]`, "="},
	{"channel crashed", outbound{kind: kindLeft, topic: "room:1", joinRef: `"3"`, ref: `"22"`, err: ReasonInternal.asError()},
		`{"topic":"room:1","event":"phx_error","payload":{"reason":"channel_crash"},"ref":"3"}`,
		`["3","3","room:1","phx_error",{"reason":"channel_crash"}]`, "="},
	{"channel closed", outbound{kind: kindLeft, topic: "room:1", joinRef: `"3"`, ref: `"22"`},
		`{"topic":"room:1","event":"phx_close","payload":{},"ref":"3"}`,
		`["3","3","room:1","phx_close",{}]`, "="},
	{"channel closed by the server", outbound{kind: kindLeft, topic: "room:1", joinRef: `"3"`, err: &Error{Code: "forbidden", Text: "t"}},
		`{"topic":"room:1","event":"phx_close","payload":{},"ref":"3"}`,
		`["3","3","room:1","phx_close",{}]`, "="},
	// Section 2.4.
	{"crash of a join without join_ref", outbound{kind: kindLeft, topic: "t", joinRef: "null", err: ReasonInternal.asError()},
		`{"topic":"t","event":"phx_error","payload":{"reason":"channel_crash"},"ref":null}`, `[null,null,"t","phx_error",{"reason":"channel_crash"}]`, "="},
	{"close without any ref", outbound{kind: kindLeft, topic: "t"},
		`{"topic":"t","event":"phx_close","payload":{},"ref":null}`, `[null,null,"t","phx_close",{}]`, "="},
	{"refs that are numbers", outbound{kind: kindReply, topic: "t", joinRef: "7", ref: "-1.5e3"},
		`{"topic":"t","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":-1.5e3}`, `[7,-1.5e3,"t","phx_reply",{"status":"ok","response":{}}]`, "="},
	{"unmatched topic at a join", outbound{kind: kindRefused, topic: "no:1", joinRef: `"4"`, ref: `"4"`, err: &Error{Code: CodeUnknownChannel, Text: "t"}},
		`{"topic":"no:1","event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"ref":"4"}`,
		`[null,"4","no:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`, "="},
	{"unmatched topic of a message", outbound{kind: kindError, topic: "no:1", joinRef: `"4"`, ref: `"11"`, err: &Error{Code: CodeNotSubscribed, Text: "t"}},
		`{"topic":"no:1","event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"ref":"11"}`,
		`[null,"11","no:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`, "="},
	{"too many channels", outbound{kind: kindRefused, topic: "t", joinRef: `"5"`, ref: `"6"`, err: &Error{Code: CodeTooManyChannels, Text: "t"}},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"too many channels joined"}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]`, "="},
	{"join crashed", outbound{kind: kindRefused, topic: "t", joinRef: `"5"`, ref: `"6"`, err: errJoinCrashed},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"join crashed"}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]`, "="},
	{"refused by a join function", outbound{kind: kindRefused, topic: "t", joinRef: `"5"`, ref: `"6"`, err: &Error{Code: "forbidden", Text: "Not \"yours\""}},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"forbidden","message":"Not \"yours\""}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"reason":"forbidden","message":"Not \"yours\""}}]`, "="},
	{"refused with a response", outbound{kind: kindRefused, topic: "t", joinRef: `"5"`, ref: `"6"`, err: &Error{Code: "x", Text: "t", Data: map[string]any{"why": "because"}}},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"why":"because"}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"why":"because"}}]`, "="},
	// Section 3.7.
	{"error of a handler", outbound{kind: kindError, topic: "t", joinRef: `"5"`, ref: `"6"`, err: &Error{Code: "x", Text: "t", Data: rawJSON(`{"a" : 1}`)}},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"a":1}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"a":1}}]`, "="},
	{"error with what is no JSON", outbound{kind: kindError, topic: "t", joinRef: `"5"`, ref: `"6"`, err: &Error{Code: "x", Text: "t", Data: func() {}}},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"x","message":"t"}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"reason":"x","message":"t"}}]`, "="},
	{"error with null", outbound{kind: kindError, topic: "t", joinRef: `"5"`, ref: `"6"`, err: &Error{Code: "x", Text: "t", Data: json.RawMessage(nil)}},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"x","message":"t"}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"reason":"x","message":"t"}}]`, "="},
	{"plain error of a handler", outbound{kind: kindError, topic: "t", joinRef: `"5"`, ref: `"6"`, err: ReasonInternal.asError()},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"internal"}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"reason":"internal"}}]`, "="},
	{"internal error with words", outbound{kind: kindError, topic: "t", joinRef: `"5"`, ref: `"6"`, err: &Error{Code: "internal", Text: "try later"}},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"internal","message":"try later"}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"reason":"internal","message":"try later"}}]`, "="},
	{"unknown event", outbound{kind: kindError, topic: "t", joinRef: `"5"`, ref: `"6"`, err: &Error{Code: CodeUnknownEvent, Text: "t"}},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"unhandled event"}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{"reason":"unhandled event"}}]`, "="},
	{"error that answers nothing", outbound{kind: kindError, topic: "t", err: &Error{Code: "x"}}, ``, ``, "="},
	{"status of the host's own", outbound{kind: kindReply, topic: "t", joinRef: `"5"`, ref: `"6"`, status: "ign\"ored", data: rawJSON(` {"n":1}`)},
		`{"topic":"t","event":"phx_reply","payload":{"status":"ign\"ored","response": {"n":1}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"ign\"ored","response": {"n":1}}]`, "="},
	{"status without response", outbound{kind: kindReply, topic: "t", joinRef: `"5"`, ref: `"6"`, status: "error", data: rawJSON(" null")},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{}},"ref":"6"}`,
		`["5","6","t","phx_reply",{"status":"error","response":{}}]`, "="},
	{"response that is no object", outbound{kind: kindReply, topic: "t", joinRef: `"5"`, ref: `"6"`, data: rawJSON("[1]")},
		`{"topic":"t","event":"phx_reply","payload":{"status":"ok","response":[1]},"ref":"6"}`, `["5","6","t","phx_reply",{"status":"ok","response":[1]}]`, "="},
	// Payloads of events are objects.
	{"event without data", outbound{kind: kindEvent, topic: "t", event: "e"}, `{"topic":"t","event":"e","payload":{},"ref":null}`, `[null,null,"t","e",{}]`, "="},
	{"event of null", outbound{kind: kindEvent, topic: "t", event: "e", data: rawJSON("\nnull ")}, `{"topic":"t","event":"e","payload":{},"ref":null}`, `[null,null,"t","e",{}]`, "="},
	{"event of a string", outbound{kind: kindEvent, topic: "t", event: "e", data: rawJSON(`"n"`)},
		`{"topic":"t","event":"e","payload":{"data":"n"},"ref":null}`, `[null,null,"t","e",{"data":"n"}]`, "="},
	{"event of an array", outbound{kind: kindEvent, topic: "t", event: "e", data: rawJSON(`[{}]`)},
		`{"topic":"t","event":"e","payload":{"data":[{}]},"ref":null}`, `[null,null,"t","e",{"data":[{}]}]`, "="},
	{"names that need escapes", outbound{kind: kindEvent, topic: "a\"\\", event: "é\n\xff", data: rawJSON(`{}`)},
		`{"topic":"a\"\\","event":"é\n` + "\uFFFD" + `","payload":{},"ref":null}`, `[null,null,"a\"\\","é\n` + "\uFFFD" + `",{}]`, "="},
	{"gap", outbound{kind: kindGap, topic: "t", joinRef: `"3"`, gap: &gap{dropped: 3, policy: "catch_up", from: 5, to: 7}},
		`{"topic":"t","event":"gap","payload":{"dropped":3,"policy":"catch_up","from":5,"to":7},"ref":null}`,
		`[null,null,"t","gap",{"dropped":3,"policy":"catch_up","from":5,"to":7}]`, "="},
	{"gap of a new epoch", outbound{kind: kindGap, topic: "t", gap: &gap{policy: "reload", unknown: true, epoch: "e", offset: 7}},
		`{"topic":"t","event":"gap","payload":{"dropped":null,"policy":"reload","epoch":"e","offset":7},"ref":null}`,
		`[null,null,"t","gap",{"dropped":null,"policy":"reload","epoch":"e","offset":7}]`, "="},
	{"what Phoenix does not have: connected", outbound{kind: kindConnected, data: rawJSON(`{}`)}, ``, ``, "="},
	{"what Phoenix does not have: authenticated", outbound{kind: kindAuthenticated, ref: `"1"`, data: rawJSON(`{}`)}, ``, ``, "="},
	{"what Phoenix does not have: closing", outbound{kind: kindClosing, closing: &closing{code: 1012}}, ``, ``, "="},
	// Sections 2.3 and 8.3: bytes.
	{"push of bytes", outbound{kind: kindEvent, topic: "room:1", event: "binpush", joinRef: `"3"`, data: rawJSON(`"CQ=="`), binary: true},
		``, "\x00\x01\x06\x07" + "3room:1binpush\x09", "\x04\x06\x07\x00\x00room:1binpush\x09"},
	{"reply of bytes", outbound{kind: kindReply, topic: "room:1", joinRef: `"3"`, ref: `"11"`, data: rawJSON(`"AQIDBA=="`), binary: true},
		`{"topic":"room:1","event":"phx_reply","payload":{"status":"error","response":{"reason":"binary payload"}},"ref":"11"}`,
		"\x01\x01\x02\x06\x02" + "311room:1ok\x01\x02\x03\x04",
		`["3","11","room:1","phx_reply",{"status":"error","response":{"reason":"binary payload"}}]`},
	{"broadcast of bytes", outbound{kind: kindEvent, topic: "room:1", event: "binb", data: rawJSON(`"Bw=="`), binary: true},
		``, "\x02\x06\x04room:1binb\x07", "\x04\x06\x04\x00\x00room:1binb\x07"},
	{"answer to a join of bytes", outbound{kind: kindJoined, topic: "t", joinRef: `"3"`, ref: `"4"`, data: rawJSON(`"+/8="`), binary: true},
		`{"topic":"t","event":"phx_reply","payload":{"status":"ok","response":{"data":"+/8="}},"ref":"4"}`,
		"\x01\x01\x01\x01\x0234tok\xfb\xff", `["3","4","t","phx_reply",{"status":"ok","response":{"data":"+/8="}}]`},
	{"reply of bytes with a status and odd refs", outbound{kind: kindReply, topic: "t", joinRef: `7`, ref: `"a\"b"`, status: "later", data: rawJSON(`""`), binary: true},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"binary payload"}},"ref":"a\"b"}`,
		"\x01\x01\x03\x01\x057a\"btlater", `[7,"a\"b","t","phx_reply",{"status":"error","response":{"reason":"binary payload"}}]`},
	{"reply of bytes without refs", outbound{kind: kindReply, topic: "t", joinRef: "null", data: rawJSON(`null`), binary: true},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"binary payload"}},"ref":null}`,
		"\x01\x00\x00\x01\x02tok", `[null,null,"t","phx_reply",{"status":"error","response":{"reason":"binary payload"}}]`},
	{"event of no bytes at all", outbound{kind: kindEvent, topic: "t", event: "e", data: rawJSON(`null`), binary: true}, ``, "\x02\x01\x01te", "\x04\x01\x01\x00\x00te"},
	{"event of bytes that are not base64", outbound{kind: kindEvent, topic: "t", event: "e", data: rawJSON(`"A"`), binary: true}, ``, ``, ``},
	{"event of bytes that are an object", outbound{kind: kindEvent, topic: "t", event: "e", data: rawJSON(`{}`), binary: true}, ``, ``, ``},
	{"event of bytes with a name too long", outbound{kind: kindEvent, topic: "t", event: strings.Repeat("e", 256), data: rawJSON(`""`), binary: true}, ``, ``, ``},
	{"reply of bytes with a status too long", outbound{kind: kindReply, topic: "t", ref: "1", status: strings.Repeat("s", 256), data: rawJSON(`""`), binary: true},
		`{"topic":"t","event":"phx_reply","payload":{"status":"error","response":{"reason":"binary payload"}},"ref":1}`,
		`[null,1,"t","phx_reply",{"status":"error","response":{"reason":"binary payload"}}]`, "="},
}

func TestPhoenixEncodesEveryKind(t *testing.T) {
	seen := map[kind]bool{}
	for _, o := range phoenixOutbounds {
		if o.supabase == "=" {
			o.supabase = o.v2
		}
		for i, want := range []string{o.v1, o.v2, o.supabase} {
			wantPhoenixFrame(t, phoenixCodecs[i], o.name, &o.m, want)
		}
		seen[o.m.kind] = true
	}
	for k := kindEvent; k <= kindClosing; k++ {
		if !seen[k] {
			t.Errorf("kind %d is not in the table", k)
		}
	}
}

// wantPhoenixFrame checks one encoding, and that what was in dst stays there.
func wantPhoenixFrame(t *testing.T, c codec, name string, m *outbound, want string) {
	t.Helper()
	if want == "" || want[0] == '[' || want[0] == '{' {
		wantEncoding(t, c, name, m, want)
		return
	}
	got, frame := c.encode([]byte("before"), m)
	if string(got) != "before"+want || frame != frameBinary {
		t.Errorf("%s: %s:\ngot  %q, frame %d\nwant before%q, frame %d", c.protocol(), name, got, frame, want, frameBinary)
	}
}

func TestEncodingForPhoenixDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for _, c := range phoenixCodecs {
		for _, o := range phoenixOutbounds {
			want := 0.0
			switch {
			case o.m.err != nil && o.m.err.Data != nil:
				continue // it is marshalled
			case strings.Contains(o.m.ref, `\`), strings.Contains(string(o.m.data), `"A"`):
				want = 2 // an escape in a frame of bytes; an error of the decoder
			}
			if got := testing.AllocsPerRun(100, func() { c.encode(dst, &o.m) }); got > want {
				t.Errorf("%s: %s: got %v allocations, want %v", c.protocol(), o.name, got, want)
			}
		}
	}
}

func TestEveryCodecHasASlotOfItsOwn(t *testing.T) {
	names := map[string]bool{}
	slots := map[int]string{}
	for _, c := range []codec{envelopeCodec{}, flatCodec{}, phoenixV1{}, phoenixV2{}, supabaseV2{}, phoenixV3{}} {
		if slots[c.slot()] != "" || c.slot() < 0 || c.slot() >= maxCodecs {
			t.Errorf("%s: slot %d of %d, which %q may have", c.protocol(), c.slot(), maxCodecs, slots[c.slot()])
		}
		if names[c.protocol()] {
			t.Errorf("two codecs are called %s", c.protocol())
		}
		slots[c.slot()], names[c.protocol()] = c.protocol(), true
	}
}

func TestBinaryIsBase64AsJSON(t *testing.T) {
	for _, c := range []struct {
		bytes Binary
		want  string
	}{{Binary{}, `""`}, {Binary{1, 2}, `"AQI="`}, {Binary{0xfb, 0xff}, `"+/8="`}} {
		got, err := marshal(c.bytes)
		if err != nil || string(got) != c.want {
			t.Errorf("% x: got %s, %v, want %s", []byte(c.bytes), got, err, c.want)
		}
		var back Binary
		if err := json.Unmarshal(got, &back); err != nil || !bytes.Equal(back, c.bytes) {
			t.Errorf("%s: got % x, %v, want % x", got, []byte(back), err, []byte(c.bytes))
		}
	}
}

func TestPublishedBytesReachEveryProtocolOnce(t *testing.T) {
	e := &Event{Topic: "room:1", Name: "binb", Data: rawJSON(`"Bw=="`), Binary: true}
	for _, c := range []struct {
		codec codec
		op    opcode
		want  string
	}{
		{envelopeCodec{}, frameText, `{"channel":"room:1","type":"binb","data":"Bw=="}`},
		{flatCodec{}, frameText, `{"type":"binb","data":"Bw=="}`},
		{phoenixV2{}, frameBinary, "\x02\x06\x04room:1binb\x07"},
		{supabaseV2{}, frameBinary, "\x04\x06\x04\x00\x00room:1binb\x07"},
		{phoenixV3{}, frameBinary, "\x95\xc0\xc0\xa6room:1\xa4binb\xc4\x01\x07"},
	} {
		f := e.frame(c.codec, &stream{})
		if f == nil || opcode(f.wire[0]&bitsOp) != c.op || string(payloadOf(f.wire)) != c.want {
			t.Errorf("%s: got %+v, want %q", c.codec.protocol(), f, c.want)
		}
		if e.frame(c.codec, &stream{}) != f {
			t.Errorf("%s: encoded twice", c.codec.protocol())
		}
	}
	if f := e.frame(phoenixV1{}, &stream{}); f != nil {
		t.Errorf("phoenix.v1: got %q, want nothing", f.wire)
	}
}

// seenMessage is a message as a client decodes it, by means of its own.
type seenMessage struct {
	joinRef, ref any // as JSON has them
	topic, event string
	status       string
	payload      any // JSON or []byte
}

// seeText decodes text as a client of V1 or V2 does.
func seeText(t *testing.T, text []byte) (m seenMessage) {
	t.Helper()
	var payload json.RawMessage
	var err error
	if text[0] == '[' {
		err = json.Unmarshal(text, &[]any{&m.joinRef, &m.ref, &m.topic, &m.event, &payload})
	} else {
		object := map[string]json.RawMessage{}
		err = json.Unmarshal(text, &object)
		for key, to := range map[string]any{"topic": &m.topic, "event": &m.event, "payload": &payload, "ref": &m.ref} {
			if err == nil {
				err = json.Unmarshal(object[key], to)
			}
		}
		if err == nil && len(object) != 4 {
			err = fmt.Errorf("%d keys", len(object))
		}
	}
	if err != nil || !utf8.Valid(text) {
		t.Fatalf("%q: %v", text, err)
	}
	m.payload = payload
	if m.event == "phx_reply" {
		var reply struct {
			Status   string
			Response json.RawMessage
		}
		if err := json.Unmarshal(payload, &reply); err != nil || reply.Response == nil {
			t.Fatalf("%q: %v", text, err)
		}
		m.status, m.payload = reply.Status, reply.Response
	}
	return m
}

// seeBytes decodes a frame of bytes as clients do: sizes, then slices.
func seeBytes(t *testing.T, frame []byte) (m seenMessage) {
	t.Helper()
	heads := map[byte][]string{
		0: {"joinRef", "topic", "event"},
		1: {"joinRef", "ref", "topic", "status"},
		2: {"topic", "event"},
		4: {"topic", "event", "meta"},
	}
	names, known := heads[frame[0]]
	if !known {
		t.Fatalf("% x: unknown kind", frame)
	}
	at := 1 + len(names)
	if frame[0] == 4 {
		if frame[at] != 0 {
			t.Fatalf("% x: encoding %d", frame, frame[at])
		}
		at++
	}
	fields := map[string]string{}
	for i, name := range names {
		end := at + int(frame[1+i])
		fields[name] = string(frame[at:end])
		at = end
	}
	m = seenMessage{topic: fields["topic"], event: fields["event"], status: fields["status"], payload: frame[at:]}
	if frame[0] == 0 || frame[0] == 1 {
		m.joinRef = fields["joinRef"]
	}
	if frame[0] == 1 {
		m.ref, m.event = fields["ref"], "phx_reply"
	}
	return m
}

func TestPhoenixClientsSeeWhatWasSent(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		want := seenMessage{joinRef: randomName(random, 60), ref: nil, topic: randomName(random, 60), event: randomName(random, 30)}
		m := outbound{kind: kindEvent, topic: want.topic, event: want.event, joinRef: string(appendQuoted(nil, want.joinRef.(string)))}
		if random.IntN(2) == 0 {
			want.ref, want.event, want.status = randomName(random, 60), "phx_reply", randomName(random, 30)
			m.kind, m.ref, m.status = kindReply, string(appendQuoted(nil, want.ref.(string))), want.status
		}
		object, _ := json.Marshal(map[string]json.RawMessage{"a": randomJSON(random, 3)})
		want.payload, m.data = json.RawMessage(object), object
		for _, c := range phoenixCodecs {
			got, op := c.encode(nil, &m)
			w := want
			if c == (phoenixV1{}) {
				w.joinRef = nil
			}
			if seen := seeText(t, got); op != frameText || !reflect.DeepEqual(seen, w) {
				t.Fatalf("%s: %s:\ngot  %+v\nwant %+v", c.protocol(), got, seen, w)
			}
		}
		bytes := make([]byte, random.IntN(50))
		for i := range bytes {
			bytes[i] = byte(random.Uint32())
		}
		want.payload = bytes
		m.binary, m.data = true, rawJSON(`"`+base64.StdEncoding.EncodeToString(bytes)+`"`)
		got, op := phoenixV2{}.encode(nil, &m)
		if seen := seeBytes(t, got); op != frameBinary || !reflect.DeepEqual(seen, want) {
			t.Fatalf("% x:\ngot  %+v\nwant %+v", got, seen, want)
		}
		if got, op = (supabaseV2{}).encode(nil, &m); m.kind == kindEvent {
			want.joinRef = nil // kind 4 has none
			if seen := seeBytes(t, got); op != frameBinary || !reflect.DeepEqual(seen, want) {
				t.Fatalf("% x:\ngot  %+v\nwant %+v", got, seen, want)
			}
		}
	}
}

// wantPhoenix checks what holds of everything that a Phoenix codec decodes, and
// that an answer has the refs that came.
func wantPhoenix(t *testing.T, c codec, payload []byte, in inbound, err *Error) {
	t.Helper()
	if err != nil && err.Code != badNameCode(in.topic) {
		if !reflect.DeepEqual(in, inbound{}) {
			t.Fatalf("%q: got %s beside %v", payload, showInbound(in), err)
		}
		return
	}
	if named := isName(in.topic, 255) && isName(in.event, 128); named != (err == nil) {
		t.Fatalf("%q: got %s, %v", payload, showInbound(in), err)
	}
	if in.op != phoenixOp(in.topic, in.event) || !json.Valid(in.data) || !utf8.Valid(in.data) || levels(in.data) >= maxNesting {
		t.Fatalf("%q: got %s", payload, showInbound(in))
	}
	for _, ref := range []string{in.ref, in.joinRef} {
		if !json.Valid([]byte(ref)) || !utf8.ValidString(ref) || strings.ContainsAny(ref[:1], "{[tf") {
			t.Fatalf("%q: got %s", payload, showInbound(in))
		}
	}
	answer, _ := c.encode(nil, &outbound{kind: kindReply, topic: in.topic, ref: in.ref, joinRef: in.joinRef})
	if c == (phoenixV3{}) {
		answer, _ = unpack(answer)
	}
	seen := seeText(t, answer)
	if c != (phoenixV1{}) && !sameJSON(t, seen.joinRef, in.joinRef) || !sameJSON(t, seen.ref, in.ref) || seen.topic != strings.ToValidUTF8(in.topic, "\uFFFD") && utf8.ValidString(in.topic) {
		t.Fatalf("%q: answered with %s", payload, answer)
	}
	if again := fmt.Sprintf("[%s,%s,", in.joinRef, in.ref); c != (phoenixV1{}) && c != (phoenixV3{}) && !strings.HasPrefix(string(answer), again) {
		t.Fatalf("%q: answered with %s, want the refs as in %s", payload, answer, again)
	}
}

func sameJSON(t *testing.T, got any, text string) bool {
	t.Helper()
	var want any
	if json.Unmarshal([]byte(text), &want) != nil {
		return got == nil // a number beyond a float64
	}
	return reflect.DeepEqual(got, want)
}

// wantedRef says by way of encoding/json whether raw may be a ref, and what its
// text is then. A nil raw is a missing one.
func wantedRef(raw json.RawMessage) (string, bool) {
	if raw == nil || string(raw) == "null" {
		return "null", true
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		_, whole := unquote(raw)
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		_ = e.Encode(s)
		return strings.TrimSpace(text.String()), whole && len(s) <= 255
	}
	return string(raw), strings.ContainsRune("-0123456789", rune(raw[0])) && len(raw) <= 255
}

// wantFields compares a decoded message with its fields as encoding/json has
// them; nil fields are missing.
func wantFields(t *testing.T, payload []byte, in inbound, err *Error, joinRef, ref, topic, event, data json.RawMessage) {
	t.Helper()
	wantJoinRef, ok1 := wantedRef(joinRef)
	wantRef, ok2 := wantedRef(ref)
	var wantTopic, wantEvent string
	ok := ok1 && ok2 && isString(topic) && isString(event) && data != nil && ref != nil
	if ok {
		var whole1, whole2 bool
		wantTopic, whole1 = unquote(topic)
		wantEvent, whole2 = unquote(event)
		var s1, s2 string
		_ = json.Unmarshal(topic, &s1)
		_ = json.Unmarshal(event, &s2)
		if s1 != wantTopic || s2 != wantEvent {
			t.Fatalf("%q: topic %q and event %q", payload, s1, s2)
		}
		ok = whole1 && whole2
	}
	if accepted := err == nil || err.Code == badNameCode(in.topic); accepted != ok {
		t.Fatalf("%q: got accepted %v, want %v (%v)", payload, accepted, ok, err)
	}
	if !ok {
		return
	}
	sameRefs := sameText(in.ref, wantRef) && sameText(in.joinRef, wantJoinRef)
	if !sameRefs || in.topic != wantTopic || in.event != wantEvent || !bytes.Equal(in.data, data) || in.binary != nil {
		t.Fatalf("%q: got %s, want ref %s joinRef %s", payload, showInbound(in), wantRef, wantJoinRef)
	}
}

// sameText compares JSON texts, strings by what they stand for: there is more
// than one way to escape.
func sameText(a, b string) bool {
	if a == b {
		return true
	}
	var s1, s2 string
	return json.Unmarshal([]byte(a), &s1) == nil && json.Unmarshal([]byte(b), &s2) == nil && a != "null" && b != "null" && s1 == s2
}

// phoenixGarbage is refused by both text forms, fatally.
var phoenixGarbage = []string{
	``, ` `, `null`, `1`, `"x"`, `not json`, `[`, `{`, `[]`, `{}`, `[null]`, `{"topic":"a"}`, `["1","2","t"]`, `[null,null,"t","e"]`, `[null,null,"t","e",{}`,
	`[null,null,"t","e",{}]]`, `[null,null,"t","e",{},]`, `[null,null,"t","e",{]]`, `[null,null,"t","e",NaN]`, `[,null,"t","e",{}]`, "\ufeff" + `[null,null,"t","e",{}]`,
	`[null,null,"t","e",` + nested("[", "", "]", 64) + `]`, `[null,null,"t","e",{},` + nested("[", "", "]", 64) + `]`, strings.Repeat("[", 100000),
	`{"topic":"t","event":"e","payload":{}}`, `{"topic":"t","event":"e","ref":"1"}`, `{"topic":"t","payload":{},"ref":"1"}`, `{"event":"e","payload":{},"ref":"1"}`,
	`{"Topic":"t","event":"e","payload":{},"ref":"1"}`, `{"topic":"t","event":"e","payload":{},"ref":"1",}`, `{"topic":"t","event":"e","payload":` + nested("[", "", "]", 64) + `,"ref":"1"}`,
}

// phoenixBadFields are fields, in the order of V2, that are refused fatally.
var phoenixBadFields = [][5]string{
	{`true`, `null`, `"t"`, `"e"`, `{}`}, {`{}`, `null`, `"t"`, `"e"`, `{}`}, {`[]`, `null`, `"t"`, `"e"`, `{}`}, {`"\ud800"`, `null`, `"t"`, `"e"`, `{}`},
	{`null`, `false`, `"t"`, `"e"`, `{}`}, {`null`, `{"a":1}`, `"t"`, `"e"`, `{}`}, {`null`, `["1"]`, `"t"`, `"e"`, `{}`}, {`null`, `"\udc00x"`, `"t"`, `"e"`, `{}`},
	{`null`, `"` + strings.Repeat("r", 256) + `"`, `"t"`, `"e"`, `{}`}, {`null`, strings.Repeat("7", 256), `"t"`, `"e"`, `{}`}, {`"` + strings.Repeat("é", 128) + `"`, `null`, `"t"`, `"e"`, `{}`},
	{`null`, `null`, `null`, `"e"`, `{}`}, {`null`, `null`, `1`, `"e"`, `{}`}, {`null`, `null`, `{}`, `"e"`, `{}`}, {`null`, `null`, `"\ud800"`, `"e"`, `{}`},
	{`null`, `null`, `"t"`, `null`, `{}`}, {`null`, `null`, `"t"`, `7`, `{}`}, {`null`, `null`, `"t"`, `["e"]`, `{}`}, {`null`, `null`, `"t"`, `"\udfff"`, `{}`},
}

// phoenixBadNames are topics and events that no topic or handler can have.
var phoenixBadNames = []struct{ topic, event string }{
	{"", "e"}, {"t", ""}, {strings.Repeat("t", 256), "e"}, {"t", strings.Repeat("e", 129)}, {"a\x00b", "e"}, {"a\u0085", "e"}, {"t", "e\n"}, {"t", "\x7f"}, {"", "phx_join"}, {"\x01", "phx_leave"},
}

// badNameCode is the error of a message with a bad name.
func badNameCode(topic string) string {
	if !isName(topic, maxTopicBytes) {
		return CodeUnknownChannel
	}
	return CodeInvalidData
}

// FuzzPhoenixEncode hands hostile text to every kind and codec: what comes out as
// text is a message in UTF-8 with an object as its payload.
func FuzzPhoenixEncode(f *testing.F) {
	f.Add("a", "type", ` {"a":1}`, "r", "ok", true)
	f.Add("\xff\"", "\\\n\u2028", " [1]", "\x00", "\xff", false)
	f.Add("t", "e", `"AQI="`, "", "", true)
	f.Fuzz(func(t *testing.T, topic, event, data, ref, status string, binary bool) {
		if !json.Valid([]byte(data)) || !utf8.ValidString(data) {
			data = ""
		}
		for k := kindEvent; k <= kindClosing; k++ {
			m := outbound{kind: k, topic: topic, event: event, ref: string(appendQuoted(nil, ref)), joinRef: string(appendQuoted(nil, status)),
				data: rawJSON(data), binary: binary, status: status, err: &Error{Code: event, Text: topic, Data: rawJSON(data)}, gap: &gap{policy: event}}
			for _, c := range phoenixCodecs {
				switch got, op := c.encode(nil, &m); op {
				case frameNone:
					if len(got) != 0 {
						t.Fatalf("%s: kind %d: no frame, yet %q", c.protocol(), k, got)
					}
				case frameBinary:
					seeBytes(t, got)
				default:
					if seen := seeText(t, got); k == kindEvent && !holdsFields(seen.payload) {
						t.Fatalf("%s: %q: the payload is no object", c.protocol(), got)
					}
				}
			}
		}
	})
}

func holdsFields(payload any) bool {
	var fields map[string]json.RawMessage
	return json.Unmarshal(payload.(json.RawMessage), &fields) == nil && fields != nil
}
