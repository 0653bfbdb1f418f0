package realtime

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const ndjson = "application/x-ndjson"

// posted reads a whole body; each message is its opcode and its payload.
func posted(b *postBody) (got []string, err error) {
	for {
		op, payload, err := b.next()
		if err != nil {
			return got, err
		}
		got = append(got, fmt.Sprintf("%d %s", op, payload))
	}
}

func TestAPostIsSplitIntoMessages(t *testing.T) { // phoenix.md appendix A
	long := strings.Repeat("x", 20)
	for _, c := range []struct {
		name, kind, body string
		want             []string
		err              error
	}{
		{"one frame", "text/plain", "[1]\n[2]", []string{"1 [1]\n[2]"}, io.EOF},
		{"no type", "", "[1]", []string{"1 [1]"}, io.EOF},
		{"a broken type", "application/x-ndjson; charset", "[1]\n[2]", []string{"1 [1]", "1 [2]"}, io.EOF},
		{"an empty frame", "", "", []string{"1 "}, io.EOF},
		{"a frame at the limit", "", long, []string{"1 " + long}, io.EOF},
		{"a frame over it", "", long + "x", nil, errMessageTooLarge},
		{"lines", ndjson, "[1]\n[2]", []string{"1 [1]", "1 [2]"}, io.EOF},
		{"with a charset", ndjson + "; charset=utf-8", "[1]\n[2]", []string{"1 [1]", "1 [2]"}, io.EOF},
		{"a last newline", ndjson, "[1]\n", []string{"1 [1]"}, io.EOF},
		{"empty lines", ndjson, "\n\n[1]\r\n\r\n\n[2]\n\n", []string{"1 [1]", "1 [2]"}, io.EOF},
		{"nothing", ndjson, "", nil, io.EOF},
		{"bytes", ndjson, "AAEC\n[1]\n/+8=\n", []string{"2 \x00\x01\x02", "1 [1]", "2 \xff\xef"}, io.EOF},
		{"an object of V1", ndjson, `{"ref":null}`, []string{`1 {"ref":null}`}, io.EOF},
		{"neither", ndjson, "AAE", []string{"1 AAE"}, io.EOF},
		{"a line at the limit", ndjson, "[" + long[1:] + "\n[2]", []string{"1 [" + long[1:], "1 [2]"}, io.EOF},
		{"a line over it", ndjson, "[1]\n[" + long + "\n[2]", []string{"1 [1]"}, errMessageTooLarge},
		{"a very long one", ndjson, "[" + strings.Repeat("x", 1<<20), nil, errMessageTooLarge},
		{"bytes at the limit", ndjson, base64.StdEncoding.EncodeToString([]byte(long)) + "\r\n", []string{"2 " + long}, io.EOF},
		{"bytes over it", ndjson, base64.StdEncoding.EncodeToString([]byte(long + "x")), nil, errMessageTooLarge},
	} {
		for _, src := range []io.Reader{strings.NewReader(c.body), iotest.OneByteReader(strings.NewReader(c.body))} {
			body := newPostBody(src, c.kind, int64(len(long)))
			got, err := posted(body)
			if body.cut() {
				t.Errorf("%s: counts as cut", c.name)
			}
			if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
				t.Errorf("%s: got %q, %v, want %q, %v", c.name, got, err, c.want, c.err)
			}
		}
	}
}

func TestAPostOfMoreThanAHundredMessagesIsCut(t *testing.T) { // phoenix.md appendix A
	body := strings.Repeat("[1]\n", 100) + "\n[101]\n"
	all := newPostBody(strings.NewReader(body), ndjson, 10)
	got, err := posted(all)
	if !all.cut() {
		t.Error("it is not noticed")
	}
	if len(got) != 100 || slices.Contains(got, "1 [101]") || err != io.EOF {
		t.Errorf("got %d messages and %v, want the first 100", len(got), err)
	}
}

func TestABodyOverItsBoundIsTooLarge(t *testing.T) {
	for _, kind := range []string{"", ndjson} {
		bounded := http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(strings.NewReader("[1]\n[2]")), 5)
		if got, err := posted(newPostBody(bounded, kind, 10)); err != errMessageTooLarge {
			t.Errorf("type %q: got %q, %v, want errMessageTooLarge", kind, got, err)
		}
	}
	if got, least := postBytes(64<<10), int64(100*(64<<10)); got < least {
		t.Errorf("a body of %d bytes is allowed, want %d: a hundred full messages", got, least)
	}
}

func TestAMessageHoldsNoMoreMemoryThanItsLimit(t *testing.T) {
	body := newPostBody(io.LimitReader(endless{}, 1<<30), ndjson, 1<<10)
	if n := testing.AllocsPerRun(1, func() {
		if _, _, err := body.next(); err != errMessageTooLarge {
			t.Errorf("got %v, want errMessageTooLarge", err)
		}
	}); n > 10 {
		t.Errorf("%v allocations for a line that never ends, want a few", n)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("["), len(p))), nil }

// modelBody splits a body the plain way.
func modelBody(body string, limit int) (want []string, err error) {
	for line := range strings.SplitAfterSeq(body, "\n") {
		if len(want) == maxPostLines {
			break
		}
		text := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		payload, bad := base64.StdEncoding.DecodeString(text)
		switch {
		case len(line) > (limit+2)/3*4+2:
			return want, errMessageTooLarge
		case text == "":
		case text[0] == '[' || bad != nil:
			if len(text) > limit {
				return want, errMessageTooLarge
			}
			want = append(want, "1 "+text)
		case len(payload) > limit:
			return want, errMessageTooLarge
		default:
			want = append(want, "2 "+string(payload))
		}
	}
	return want, io.EOF
}

func FuzzPostBody(f *testing.F) {
	for _, s := range []string{"", "[1]\n[2]\r\n", "AAEC\n/+8=\n{}\n\n", strings.Repeat("[]\n", 120), "A\rA==\n", "[" + strings.Repeat("x", 50)} {
		f.Add(s, 20)
	}
	f.Fuzz(func(t *testing.T, body string, limit int) {
		limit = min(max(limit, 0), 1<<10)
		want, wantErr := modelBody(body, limit)
		for _, src := range []io.Reader{strings.NewReader(body), iotest.HalfReader(strings.NewReader(body))} {
			if got, err := posted(newPostBody(src, ndjson, int64(limit))); !slices.Equal(got, want) || err != wantErr {
				t.Errorf("got %q, %v, want %q, %v", got, err, want, wantErr)
			}
		}
	})
}
