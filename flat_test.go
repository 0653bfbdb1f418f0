package realtime

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestFlatDecodesMessages(t *testing.T) {
	var manyFields, fewLeft []string
	for i := range 40 {
		manyFields = append(manyFields, fmt.Sprintf(`"k%d":%d`, i%20, i))
		if i >= 20 {
			fewLeft = append(fewLeft, fmt.Sprintf(`"k%d":%d`, i%20, i))
		}
	}
	for _, c := range []struct {
		payload     string
		op          op
		event, data string
	}{
		{`{"type":"user_response","session_id":"s","response":"yes"}`, opEvent, "user_response", `{"session_id":"s","response":"yes"}`},
		{`{"type":"x"}`, opEvent, "x", `{}`},
		{`{"a":1,"type":"x","b":2}`, opEvent, "x", `{"a":1,"b":2}`},
		{`{"a":1,"b":2,"type":"x"}`, opEvent, "x", `{"a":1,"b":2}`},
		// Fields as they came: spaces, escapes, order.
		{" { \"b\" : [ 1 ] , \"type\":\"x\", \"\\u0061\":\"\\/\" } \n", opEvent, "x", `{"b" : [ 1 ],"\u0061":"\/"}`},
		{`{"type":"x","n":null,"":{},"Type":"y"}`, opEvent, "x", `{"n":null,"":{},"Type":"y"}`},
		{`{"\u0074ype":"x","a":1}`, opEvent, "x", `{"a":1}`},
		// Of duplicate keys the last one counts, however it is spelled.
		{`{"type":5,"a":1,"b":2,"\u0061":3,"type":"x"}`, opEvent, "x", `{"b":2,"\u0061":3}`},
		{`{` + strings.Join(manyFields, ",") + `,"type":"x"}`, opEvent, "x", `{` + strings.Join(fewLeft, ",") + `}`},
		// What names a channel or a ref in realtime.v1 is data here.
		{`{"type":"x","channel":7,"data":1,"ref":[],"offset":-1}`, opEvent, "x", `{"channel":7,"data":1,"ref":[],"offset":-1}`},
		{`{"type":"subscribe","channel":"a"}`, opEvent, "subscribe", `{"channel":"a"}`},
		{`{"type":"unsubscribe"}`, opEvent, "unsubscribe", `{}`},
		{`{"type":"history","from":1}`, opEvent, "history", `{"from":1}`},
		{`{"type":"answer","ref":"q"}`, opEvent, "answer", `{"ref":"q"}`},
		{`{"type":"auth","token":"t","more":1}`, opAuth, "auth", `{"token":"t","more":1}`},
		// A pong has the timestamp or nothing.
		{`{"type":"ping","timestamp":1700000000000}`, opPing, "ping", `{"timestamp":1700000000000}`},
		{`{"type":"ping"}`, opPing, "ping", `{}`},
		{`{"type":"ping","id":1}`, opPing, "ping", `{}`},
		{`{"id":1,"timestamp":1,"type":"ping","timestamp" : "b"}`, opPing, "ping", `{"timestamp" : "b"}`},
		{`{"type":"x","a":` + nested("[", "", "]", 63) + `}`, opEvent, "x", `{"a":` + nested("[", "", "]", 63) + `}`},
	} {
		got, err := flatCodec{}.decode([]byte(c.payload), false)
		if err != nil {
			t.Errorf("%.120q: %v", c.payload, err)
			continue
		}
		wantInbound(t, c.payload, got, inbound{op: c.op, topic: "global", event: c.event, ref: flatRef, data: rawJSON(c.data)})
	}
}

func TestFlatRefusesInvalidMessages(t *testing.T) {
	for _, payload := range notObjects {
		wantInvalidMessage(t, flatCodec{}, payload, false)
	}
	wantInvalidMessage(t, flatCodec{}, `{"type":"x"}`, true)
}

func TestFlatDataIsACopy(t *testing.T) {
	payload := []byte(`{"type":"x","a":1}`)
	got, err := flatCodec{}.decode(payload, false)
	if err != nil {
		t.Fatal(err)
	}
	clear(payload)
	if got.event != "x" || string(got.data) != `{"a":1}` {
		t.Errorf("got %s after the payload changed", showInbound(got))
	}
}

func TestFlatEncodesEveryKind(t *testing.T) {
	for _, c := range outbounds {
		wantEncoding(t, flatCodec{}, c.name, &c.m, c.flat)
	}
}

func TestFlatNameBeatsTheTypeInTheData(t *testing.T) {
	deep := `{"a":` + nested("[", "", "]", 500) + `,"type":1}`
	for _, c := range []struct{ data, want string }{
		{`{"type":"y","a":1}`, `{"type":"x","a":1}`},
		{`{"a":1,"type":"y"}`, `{"type":"x","a":1}`},
		{`{"a":1,"\u0074ype":"y","b":2}`, `{"type":"x","a":1,"b":2}`},
		{`{"t\u0079pe":1,"type":2,"a":{"type":"inner"},"type":3}`, `{"type":"x","a":{"type":"inner"}}`},
		{`{"type":"y"}`, `{"type":"x"}`},
		{`{"Type":"y","atype":1}`, `{"type":"x","Type":"y","atype":1}`},
		{` { "type" : "y" , "a" : 1 } `, `{"type":"x","a" : 1}`},
		{`"text"`, `{"type":"x","data":"text"}`},
		{`[{"type":"y"}]`, `{"type":"x","data":[{"type":"y"}]}`},
		{`0`, `{"type":"x","data":0}`},
		{deep, `{"type":"x",` + strings.TrimSuffix(deep[1:], `,"type":1}`) + `}`},
	} {
		wantEncoding(t, flatCodec{}, c.data, &outbound{kind: kindEvent, event: "x", data: rawJSON(c.data)}, c.want)
	}
}

func TestFlatReplyHasItsOwnType(t *testing.T) {
	for _, c := range []struct{ response, want string }{
		{`{"type":"ack","session_id":"s","status":"received"}`, `{"type":"ack","session_id":"s","status":"received"}`},
		{`{"status":"received","\u0074ype":"\u0061ck"}`, `{"type":"\u0061ck","status":"received"}`},
		{`{"status":"received"}`, `{"type":"reply","status":"received"}`},
		{`{}`, `{"type":"reply"}`},
		{`{"type":"a","type":"b","c":1}`, `{"type":"b","c":1}`},
		{`{"type":5,"c":1}`, `{"type":"reply","c":1}`},
		{`{"type":null}`, `{"type":"reply"}`},
		{`[1]`, `{"type":"reply","data":[1]}`},
		{`"type"`, `{"type":"reply","data":"type"}`},
		{`null`, ``},
		{" null\n", ``},
		{``, ``},
	} {
		wantEncoding(t, flatCodec{}, c.response, &outbound{kind: kindReply, topic: "global", ref: flatRef, data: rawJSON(c.response)}, c.want)
	}
}

func TestFlatPongRepeatsThePing(t *testing.T) {
	for ping, pong := range map[string]string{
		`{"type":"ping","timestamp":1}`:        `{"type":"pong","timestamp":1}`,
		`{"timestamp": 1.50 ,"type":"ping"}`:   `{"type":"pong","timestamp": 1.50}`,
		`{"type":"ping"}`:                      `{"type":"pong"}`,
		`{"type":"ping","type":"ping","id":1}`: `{"type":"pong"}`,
	} {
		in, err := flatCodec{}.decode([]byte(ping), false)
		if err != nil {
			t.Fatal(err)
		}
		wantEncoding(t, flatCodec{}, ping, &outbound{kind: kindPong, topic: in.topic, ref: in.ref, data: in.data}, pong)
	}
}

func TestFlatDoesNotCompareThousandsOfFieldsEachWithEach(t *testing.T) {
	// 200,000 fields: their square would take minutes.
	payload := `{"type":"x"` + strings.Repeat(`,"a":1,"b":2`, 100000) + `}`
	got, err := flatCodec{}.decode([]byte(payload), false)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"a":1,"b":2}`; string(got.data) != want {
		t.Errorf("got %.60s, want %s", got.data, want)
	}
}

func TestCodecsHaveTheirOwnSlotsAndNames(t *testing.T) {
	slots, names := map[int]bool{}, map[string]bool{}
	for _, c := range []codec{envelopeCodec{}, flatCodec{}} {
		if slots[c.slot()] || names[c.protocol()] || c.slot() < 0 || c.slot() >= maxCodecs {
			t.Errorf("%s: slot %d", c.protocol(), c.slot())
		}
		slots[c.slot()], names[c.protocol()] = true, true
	}
}

func FuzzFlatDecode(f *testing.F) {
	for _, payload := range notObjects {
		f.Add([]byte(payload))
	}
	f.Add([]byte(`{"a":1,"type":"x","\u0061":[2],"":"\ud800"}`))
	f.Add([]byte(`{"type":"ping","timestamp":1,"b":2}`))
	f.Add([]byte(`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"a":2,"type":"x"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		in, err := flatCodec{}.decode(payload, false)
		wantWellFormed(t, payload, in, err)
		if err != nil {
			return
		}
		// The data are the message's fields without the type, once each.
		var want map[string]json.RawMessage
		if err := json.Unmarshal(payload, &want); err != nil {
			t.Fatalf("%q: accepted, but %v", payload, err)
		}
		delete(want, "type")
		if in.op == opPing {
			for key := range want {
				if key != "timestamp" {
					delete(want, key)
				}
			}
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal(in.data, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %q, %v, want %q", payload, got, err, want)
		}
		count := 0
		for fields := scanObject(in.data, maxNesting); fields.next(); {
			count++
		}
		if count != len(want) {
			t.Fatalf("%q: got %d fields in %q, want %d", payload, count, in.data, len(want))
		}
		// What was decoded is encoded and decoded to the same.
		again, _ := flatCodec{}.encode(nil, &outbound{kind: kindEvent, event: in.event, data: in.data})
		back, err := flatCodec{}.decode(again, false)
		if err != nil || !reflect.DeepEqual(back, in) {
			t.Fatalf("%q: %q: got %s, %v, want %s", payload, again, showInbound(back), err, showInbound(in))
		}
	})
}

func BenchmarkFlatDecode(b *testing.B) {
	benchmarkDecode(b, flatCodec{}, `{"type":"user_response","session_id":"1234567890","response":"`+strings.Repeat("m", 60)+`"}`)
}

func BenchmarkFlatEncode(b *testing.B) { benchmarkEncode(b, flatCodec{}) }
