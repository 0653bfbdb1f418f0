package main

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
)

func TestPayloadIsJSONOf128BytesWithItsTime(t *testing.T) {
	for _, seq := range []uint64{0, 7, math.MaxUint32} {
		before := time.Now()
		p := newPayload(seq)
		var got struct {
			At  string `json:"at"`
			Seq uint64 `json:"seq"`
		}
		if err := json.Unmarshal(p, &got); err != nil || len(p) != payloadSize || got.Seq != seq {
			t.Fatalf("got %s (%d bytes), error %v", p, len(p), err)
		}
		l := load{now: before.Add(time.Second).UnixNano()}
		l.readStamps(append([]byte(`{"channel":"x","data":`), p...))
		if took := time.Duration(l.latency.quantile(0.5)); l.latency.total != 1 || took < 900*time.Millisecond || took > 1040*time.Millisecond {
			t.Errorf("got %d samples, latency %v, want one of about 1s", l.latency.total, took)
		}
		if l.readStamps(p[:20]); l.latency.total != 1 {
			t.Error("a stamp that is cut was counted")
		}
	}
}

// What the compression work can show depends on it.
func TestRowsAreJSONOfOneKiBThatCompressesToAThird(t *testing.T) {
	for _, seq := range []uint64{0, 7, math.MaxUint64} {
		p := newRows(seq)
		if !json.Valid(p) || len(p) != rowsSize {
			t.Fatalf("got %s (%d bytes), want %d bytes of JSON", p, len(p), rowsSize)
		}
		if got := len(deflated(p)); got < rowsSize/5 || got > rowsSize*2/5 {
			t.Errorf("got %d bytes compressed, want 20 to 40 %% of %d", got, rowsSize)
		}
	}
	a, b := newRows(1), newRows(2)
	if at := bytes.Index(a, []byte("rows")); bytes.Equal(a[at:], b[at:]) {
		t.Error("two messages have the same rows")
	}
}

func TestRowsAreFoundInAnEnvelopeAndOnlyWhole(t *testing.T) {
	p := newRows(3)
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"bare":         {string(p), true},
		"in envelope":  {`{"channel":"x","data":` + string(p) + `}`, true},
		"other digits": {string(bytes.Replace(p, []byte(`"id":`), []byte(`"id":1`), 1)), false},
		"cut":          {string(p[:rowsSize-1]), false},
		"no JSON":      {string(p) + "}", false},
		"without":      {`{"text":"hello"}`, false},
	} {
		if got := holdsRows([]byte(c.text)); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
