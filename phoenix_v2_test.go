package realtime

import (
	"testing"
)

func TestPhoenixV2DecodesTheExamples(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    inbound
	}{
		{`["3","3","room:1","phx_join",{"user":"alice"}]`, inbound{op: opJoin, topic: "room:1", event: "phx_join", ref: `"3"`, joinRef: `"3"`, data: rawJSON(`{"user":"alice"}`)}},
	} {
		got, err := phoenixV2{}.decode([]byte(c.payload), false)
		if err != nil {
			t.Errorf("%.120q: %v", c.payload, err)
			continue
		}
		wantInbound(t, c.payload, got, c.want)
	}
}
