package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-58bc6ac1/realtime"
)

// api is the REST half of the program, without a socket. Its tenants are acme and
// beta, its document is doc1 of acme unless a test says otherwise.
type api struct {
	t       testing.TB
	app     *app
	handler http.Handler
}

func newAPI(t testing.TB) *api {
	t.Helper()
	a := &app{tenants: realtime.NewTenants(), store: newMemoryStore(), ops: realtime.NewMemoryLog()}
	if err := a.register([]tenant{
		{"acme", [][]byte{[]byte("acme's secret")}}, {"beta", [][]byte{[]byte("beta's secret")}},
	}); err != nil {
		t.Fatal(err)
	}
	return &api{t, a, a.rest(slog.New(slog.DiscardHandler))}
}

// everything is what a token for a document may carry.
var everything = []string{scopeRead, scopeWrite, scopeSummary}

// signed returns a token of a tenant, signed with its secret.
func signed(tenant, document string, scopes []string, changes map[string]any) string {
	claims := jwt.MapClaims{
		"documentId": document, "tenantId": tenant, "scopes": scopes, "user": map[string]string{"id": "u1"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(tenant + "'s secret"))
	if err != nil {
		panic(err) // the method takes any key
	}
	return token
}

// send makes a request with an Authorization header, or without if that is "".
func (x *api) send(method, path, authorization, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	x.handler.ServeHTTP(w, r)
	return w
}

// ask makes a request with a token for everything in acme's document doc1.
func (x *api) ask(method, path, body string) *httptest.ResponseRecorder {
	return x.send(method, path, "Bearer "+signed("acme", "doc1", everything, nil), body)
}

// want asks, and holds the answer's status and JSON against what is wanted.
func (x *api) want(method, path, body string, status int, answer string) {
	x.t.Helper()
	wantAnswer(x.t, method+" "+path+" "+body, x.ask(method, path, body), status, answer)
}

func wantAnswer(t testing.TB, what string, got *httptest.ResponseRecorder, status int, answer string) {
	t.Helper()
	if got.Code != status || !sameJSON(got.Body.Bytes(), []byte(answer)) {
		t.Errorf("%.300s:\n got %d %.600s\nwant %d %.600s", what, got.Code, got.Body, status, answer)
	}
	if kind := got.Header().Get("Content-Type"); kind != "application/json" {
		t.Errorf("%.300s: Content-Type is %q", what, kind)
	}
}

func sameJSON(a, b []byte) bool {
	var one, other any
	return json.Unmarshal(a, &one) == nil && json.Unmarshal(b, &other) == nil && reflect.DeepEqual(one, other)
}

// created asks, and returns the sha of what was made.
func (x *api) created(path, body string) string {
	x.t.Helper()
	got := x.ask(http.MethodPost, path, body)
	var made struct{ SHA string }
	if err := json.Unmarshal(got.Body.Bytes(), &made); err != nil || got.Code != http.StatusCreated || !isSHA(made.SHA) {
		x.t.Fatalf("POST %s %.300s: got %d %.300s (%v), want 201 with an id", path, body, got.Code, got.Body, err)
	}
	return made.SHA
}

func (x *api) blob(content string) string {
	x.t.Helper()
	return x.created("/repos/acme/git/blobs", fmt.Sprintf(`{"content":%q,"encoding":"utf-8"}`, content))
}

func (x *api) tree(entries ...entry) string {
	x.t.Helper()
	return x.created("/repos/acme/git/trees", string(mustJSON(map[string]any{"tree": orEmpty(entries)})))
}

func (x *api) commit(tree string) string {
	x.t.Helper()
	return x.created("/repos/acme/git/commits", fmt.Sprintf(`{"message":"m","tree":%q,"parents":[],"author":{"name":"n","email":"e"}}`, tree))
}

// logged appends messages to the log of a document of acme.
func logged(t testing.TB, log realtime.OpLog, document string, messages ...realtime.SequencedMessage) {
	t.Helper()
	if err := log.Append(context.Background(), realtime.DocumentID{Tenant: "acme", Document: document}, messages); err != nil {
		t.Fatal(err)
	}
}

func TestRequestsWithoutAGoodTokenAreRefused(t *testing.T) { // document.md section 12.2
	x := newAPI(t)
	const deltas, refs = "/deltas/acme/doc1", "/repos/acme/git/refs/heads/doc1"
	token := func(changes map[string]any) string { return "Bearer " + signed("acme", "doc1", everything, changes) }
	now := time.Now().Unix()
	for _, row := range []struct {
		path, authorization string
		status              int
		text                string
	}{
		{deltas, "", 401, "Missing Authorization header"},
		{deltas, "Basic YTpi", 401, "Invalid Authorization header format. Expected: Bearer <token>"},
		{deltas, "Bearer", 401, "Invalid Authorization header format. Expected: Bearer <token>"},
		{deltas, "Bearer ", 401, "Invalid Authorization header format. Expected: Bearer <token>"},
		{deltas, signed("acme", "doc1", everything, nil), 401, "Invalid Authorization header format. Expected: Bearer <token>"},
		{"/deltas/nobody/doc1", token(nil), 401, "Unknown tenant"},
		{"/deltas/nobody/doc1", "Bearer garbage", 401, "Unknown tenant"},
		{deltas, "Bearer garbage", 401, "Invalid token format"},
		{deltas, "Bearer " + signed("beta", "doc1", everything, nil), 401, "Invalid token signature"},
		{deltas, token(map[string]any{"exp": nil}), 401, "Invalid token format"},
		{deltas, token(map[string]any{"scopes": "doc:read"}), 401, "Invalid token format"},
		{deltas, token(map[string]any{"nbf": now + 60}), 401, "Invalid token format"},
		{deltas, token(map[string]any{"exp": now - 1}), 401, "Token has expired"},
		{deltas, token(map[string]any{"tenantId": "beta"}), 403, "Token not valid for this tenant"},
		{deltas, token(map[string]any{"tenantId": "Acme"}), 403, "Token not valid for this tenant"},
		{deltas, token(map[string]any{"documentId": "doc2"}), 403, "Token not valid for this document"},
		{refs, token(map[string]any{"documentId": "doc2"}), 403, "Token not valid for this document"},
		{deltas, token(map[string]any{"scopes": []string{scopeWrite}}), 403, "Missing required scopes: doc:read"},
		{deltas, token(map[string]any{"scopes": []string{}}), 403, "Missing required scopes: doc:read"},
	} {
		got := x.send(http.MethodGet, row.path, row.authorization, "")
		wantAnswer(t, row.path+" "+row.authorization, got, row.status, fmt.Sprintf(`{"error":%q}`, row.text))
	}
}

func TestEveryCallHasItsScopes(t *testing.T) {
	x := newAPI(t)
	const sha = "/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, row := range []struct {
		method, path string
		needs        []string
	}{
		{"GET", "/deltas/acme/doc1", []string{scopeRead}},
		{"POST", "/documents/acme", []string{scopeRead, scopeWrite}},
		{"GET", "/documents/acme/doc1", []string{scopeRead}},
		{"GET", "/documents/acme/session/doc1", []string{scopeRead}},
		{"POST", "/repos/acme/git/blobs", []string{scopeRead, scopeSummary}},
		{"GET", "/repos/acme/git/blobs" + sha, []string{scopeRead}},
		{"POST", "/repos/acme/git/trees", []string{scopeRead, scopeSummary}},
		{"GET", "/repos/acme/git/trees" + sha, []string{scopeRead}},
		{"POST", "/repos/acme/git/commits", []string{scopeRead, scopeSummary}},
		{"GET", "/repos/acme/git/commits" + sha, []string{scopeRead}},
		{"GET", "/repos/acme/git/refs", []string{scopeRead}},
		{"POST", "/repos/acme/git/refs", []string{scopeRead, scopeSummary}},
		{"GET", "/repos/acme/git/refs/heads/doc1", []string{scopeRead}},
		{"PATCH", "/repos/acme/git/refs/heads/doc1", []string{scopeRead, scopeSummary}},
	} {
		got := x.send(row.method, row.path, "Bearer "+signed("acme", "doc1", []string{}, nil), "")
		wantAnswer(t, row.path, got, 403, fmt.Sprintf(`{"error":"Missing required scopes: %s"}`, strings.Join(row.needs, ", ")))
		got = x.send(row.method, row.path, "Bearer "+signed("acme", "doc1", row.needs, nil), "")
		if got.Code == 401 || got.Code == 403 {
			t.Errorf("%s %s with %v: got %d %s", row.method, row.path, row.needs, got.Code, got.Body)
		}
	}
}

func TestHealthNeedsNoToken(t *testing.T) {
	wantAnswer(t, "GET /health", newAPI(t).send("GET", "/health", "", ""), 200, `{"status":"ok"}`)
}

func TestPagesOfAnyOriginMayAsk(t *testing.T) {
	x := newAPI(t)
	got := x.send(http.MethodOptions, "/deltas/acme/doc1", "", "")
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":  "*",
		"Access-Control-Allow-Methods": "GET, POST, PATCH",
		"Access-Control-Allow-Headers": "Authorization, Content-Type",
	} {
		if header := got.Header().Get(name); header != want || got.Code != http.StatusNoContent {
			t.Errorf("%s of the preflight: got %d %q, want 204 %q", name, got.Code, header, want)
		}
	}
	if got := x.send("GET", "/deltas/acme/doc1", "", "").Header(); got.Get("Access-Control-Allow-Origin") != "*" || got.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("headers of a refusal are %v, want any origin, and no credentials", got)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	x := newAPI(t)
	x.handler = doorman{x.app.tenants, 100, slog.New(slog.DiscardHandler)}.needs(func(c *call) (int, any, error) {
		var body struct{ Content string }
		return http.StatusOK, "read", c.decode(&body)
	})
	r := func(n int) string { return `{"content":"` + strings.Repeat("a", n-14) + `"}` }
	mux := http.NewServeMux()
	mux.Handle("POST /{tenant}", x.handler)
	x.handler = mux
	x.want("POST", "/acme", r(100), 200, `"read"`)
	x.want("POST", "/acme", r(101), 413, `{"error":"Request body too large"}`)
}

// numbered returns plain ops from first to last, with bytes in them that an encoder
// of JSON might change.
func numbered(first, last int64) []realtime.SequencedMessage {
	var all []realtime.SequencedMessage
	for sn := first; sn <= last; sn++ {
		all = append(all, realtime.SequencedMessage{
			SequenceNumber: sn, ClientID: "c", Type: "op",
			JSON: fmt.Appendf(nil, `{"sequenceNumber":%d,"clientId":"c","contents":"<&> é \u00e9","n":1.0}`, sn),
		})
	}
	return all
}

func TestDeltas(t *testing.T) { // document.md section 12.3
	x := newAPI(t)
	all := numbered(1, 4100)
	logged(t, x.app.ops, "doc1", all...)
	for _, row := range []struct {
		query       string
		first, last int64 // 0 for none
	}{
		{"", 1, 2000}, {"?from=-1", 1, 2000}, {"?from=0", 1, 2000}, {"?from=-9", 1, 2000},
		{"?from=x", 1, 2000}, {"?from=1.5&to=", 1, 2000}, {"?to=x&from=4090", 4091, 4100},
		{"?from=17&to=40", 18, 40}, {"?from=17&to=18", 18, 18}, {"?from=17&to=17", 0, 0}, {"?from=17&to=3", 0, 0},
		{"?to=1", 1, 1}, {"?to=0", 0, 0}, {"?to=-1", 0, 0}, {"?to=-7", 0, 0},
		{"?from=2100", 2101, 4100}, {"?from=2099", 2100, 4099}, {"?from=4100", 0, 0}, {"?from=9000", 0, 0},
		{"?from=99999999999999999999", 1, 2000},
	} {
		var want bytes.Buffer
		for sn := row.first; sn <= row.last && sn > 0; sn++ {
			want.WriteString(`,` + string(all[sn-1].JSON))
		}
		text := `{"value":[` + strings.TrimPrefix(want.String(), ",") + `]}`
		if got := x.ask("GET", "/deltas/acme/doc1"+row.query, ""); got.Code != 200 || got.Body.String() != text {
			t.Errorf("%s: got %d %.200s… of %d bytes, want %.200s… of %d", row.query, got.Code, got.Body, got.Body.Len(), text, len(text))
		}
	}
	got := x.send("GET", "/deltas/acme/a:b%2Fc", "Bearer "+signed("acme", "a:b/c", everything, nil), "")
	wantAnswer(t, "an unknown document", got, 200, `{"value":[]}`)
}
