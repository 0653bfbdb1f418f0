package realtime

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func FuzzRelayRequest(f *testing.F) {
	r, _ := http.NewRequest("POST", "/", strings.NewReader(""))
	r.Header.Set("X-Phoenix-Longpoll-Token", "token.NODE")
	r.Header.Set("Content-Type", "application/x-ndjson")
	f.Add(appendRequest(7, r, []byte("[]")))
	f.Add([]byte{1, 3, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, r, ok := parseRequest(b)
		if !ok {
			return
		}
		pollToken(r) // looks at the URL, too
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		again, r2, ok := parseRequest(appendRequest(id, r, body))
		if !ok || again != id || r2.Method != r.Method || r2.Header.Get("Content-Type") != r.Header.Get("Content-Type") {
			t.Fatalf("%q became another request", b)
		}
		if rest, _ := io.ReadAll(r2.Body); !bytes.Equal(rest, body) {
			t.Fatalf("the body %q became %q", body, rest)
		}
	})
}
