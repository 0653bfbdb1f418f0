package realtime

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestMessagesOfTheServerChangeTheHead(t *testing.T) {
	for _, c := range []struct {
		name, client, kind, json string
		want                     LogEffect
		err                      string
	}{
		{"a join", "", "join", `{"clientId":null,"type":"join","contents":{"clientId":"x"},"data":"{\"clientId\":\"a\\u00e4\",\"detail\":{\"clientId\":\"no\"}}"}`,
			LogEffect{Joined: "aä"}, ""},
		{"a leave", "", "leave", `{"data":"\"a\""}`, LogEffect{Left: "a"}, ""},
		{"an acknowledged summary", "", "summaryAck", `{"data":"{\"handle\":\"h\",\"summaryProposal\":{\"summarySequenceNumber\":41}}"}`,
			LogEffect{Summary: SummaryMark{Handle: "h", SequenceNumber: 41}}, ""},
		{"a refused summary", "", "summaryNack", `{"data":"{\"summaryProposal\":{\"summarySequenceNumber\":41}}"}`, LogEffect{}, ""},
		{"a noop", "", "noop", `{"contents":null}`, LogEffect{}, ""},
		{"a client's join", "b", "join", `{"data":"{\"clientId\":\"a\"}"}`, LogEffect{}, ""},
		{"a client's leave", "b", "leave", `{"data":"\"a\""}`, LogEffect{}, ""},
		{"a client's ack", "b", "summaryAck", `not even JSON`, LogEffect{}, ""},
		{"a join without data", "", "join", `{"contents":{"clientId":"a"}}`, LogEffect{}, "join message 7: "},
		{"a join of nobody", "", "join", `{"data":"{}"}`, LogEffect{}, "no client id"},
		{"a leave of nobody", "", "leave", `{"data":"\"\""}`, LogEffect{}, "no client id"},
		{"a leave that is an object", "", "leave", `{"data":"{}"}`, LogEffect{}, "leave message 7: "},
		{"an ack without a handle", "", "summaryAck", `{"data":"{}"}`, LogEffect{}, "no handle"},
		{"data that is no string", "", "join", `{"data":{"clientId":"a"}}`, LogEffect{}, "join message 7: "},
		{"half a message", "", "leave", `{"data":"\"a\""`, LogEffect{}, "leave message 7: "},
	} {
		m := SequencedMessage{SequenceNumber: 7, ClientID: c.client, Type: c.kind, JSON: json.RawMessage(c.json)}
		got, err := m.Effect()
		if got != c.want {
			t.Errorf("%s: effect %+v, want %+v", c.name, got, c.want)
		}
		if text := fmt.Sprint(err); (err == nil) != (c.err == "") || !strings.Contains(text, c.err) && err != nil {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
	}
}

func FuzzMessagesOfTheServerChangeTheHead(f *testing.F) {
	f.Add("join", `{"data":"{\"clientId\":\"a\"}"}`)
	f.Add("leave", `{"data":"\"a\""}`)
	f.Add("summaryAck", `{"data":"{\"handle\":\"h\",\"summaryProposal\":{\"summarySequenceNumber\":41}}"}`)
	f.Fuzz(func(t *testing.T, kind, text string) {
		m := SequencedMessage{Type: kind, JSON: json.RawMessage(text)}
		effect, err := m.Effect()
		changes := effect.Joined != "" || effect.Left != "" || effect.Summary.Handle != ""
		known := kind == "join" || kind == "leave" || kind == "summaryAck"
		if err != nil && changes {
			t.Errorf("effect %+v beside the error %v", effect, err)
		}
		if err == nil && changes != known {
			t.Errorf("%q has the effect %+v", kind, effect)
		}
	})
}
