package realtime

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// lateWriter puts the status off until it is told to write it, as gin does.
type lateWriter struct {
	http.ResponseWriter
	status int
}

func (w *lateWriter) WriteHeader(status int) { w.status = status }
func (w *lateWriter) WriteHeaderNow()        { w.ResponseWriter.WriteHeader(w.status) }

func (w *lateWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.ResponseWriter.(http.Hijacker).Hijack()
}

func TestAWriterThatPutsTheStatusOffIsToldToWriteIt(t *testing.T) {
	rt, err := New(Anonymous())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rt.ServeHTTP(&lateWriter{ResponseWriter: w}, r)
	}))
	defer server.Close()
	if got := handshakeWith(t, server.URL, "", maskedClose); !strings.HasPrefix(got, "HTTP/1.1 101 ") {
		t.Errorf("got %q, want a status of 101", got)
	}
}

func TestKeysOfAPageDifferByCase(t *testing.T) {
	for _, tc := range []struct {
		data  string
		from  uint64
		limit int
		ok    bool
	}{
		{`null`, 0, 100, true},
		{`{}`, 0, 100, true},
		{`{"from":7,"limit":5}`, 7, 5, true},
		{`{"FROM":7,"Limit":5}`, 0, 100, true},
		{`{"from":null,"limit":null}`, 0, 100, true},
		{`{"limit":1000}`, 0, 100, true},
		{`{"limit":0}`, 0, 0, false},
		{`{"limit":-1}`, 0, 0, false},
		{`{"from":"7"}`, 0, 0, false},
		{`[]`, 0, 0, false},
	} {
		from, limit, e := parsePage([]byte(tc.data))
		if (e == nil) != tc.ok || from != tc.from || limit != tc.limit {
			t.Errorf("%s: got %d, %d, %v, want %d, %d, ok %v", tc.data, from, limit, e, tc.from, tc.limit, tc.ok)
		}
	}
}
