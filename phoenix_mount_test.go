package realtime

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPhoenixParams(t *testing.T) { // phoenix.md section 1.2
	for query, want := range map[string]string{
		"":                               `{}`,
		"user_id=7&o%5Bx%5D=y":           `{"o":{"x":"y"},"user_id":"7"}`,
		"a=1&&vsn=2.0.0":                 `{"a":"1","vsn":"2.0.0"}`,
		"a=1&a=2":                        `{"a":"2"}`,
		"arr%5B0%5D=1&arr%5B1%5D=2":      `{"arr":{"0":"1","1":"2"}}`,
		"l[]=1&l[]=2":                    `{"l":["1","2"]}`,
		"o[a][b]=1&o[a][c]=2&o[d]=3":     `{"o":{"a":{"b":"1","c":"2"},"d":"3"}}`,
		"o=1&o[a]=2":                     `{"o":{"a":"2"}}`,
		"o[a]=2&o=1":                     `{"o":"1"}`,
		"o[a=1&o]=2&[x]=3&o[[a]]=4":      `{"[x]":"3","o[[a]]":"4","o[a":"1","o]":"2"}`,
		"s=a%20b+c&bad=%zz&=nothing":     `{"s":"a b c"}`,
		"flag":                           `{"flag":""}`,
		"d" + strings.Repeat("[x]", 9):   `{"d` + strings.Repeat("[x]", 9) + `":""}`,
		"deep" + strings.Repeat("[]", 3): `{"deep":[[[""]]]}`,
	} {
		r := httptest.NewRequest("GET", "/socket/websocket", nil)
		r.URL.RawQuery = query
		got, err := json.Marshal(paramsOf(r))
		if err != nil || string(got) != want {
			t.Errorf("%s gives %s, %v; want %s", query, got, err, want)
		}
	}
}

func TestPhoenixParamsHaveTheRoutesWildcards(t *testing.T) { // phoenix.md section 1.1
	var got map[string]any
	mux := http.NewServeMux()
	mux.HandleFunc("/ws/{tenant}/websocket", func(_ http.ResponseWriter, r *http.Request) { got = paramsOf(r) })
	mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/ws/acme/websocket?tenant=evil&a=b", nil))
	if got["tenant"] != "acme" || got["a"] != "b" {
		t.Errorf("got %v", got)
	}
}

func TestPhoenixVersions(t *testing.T) { // phoenix.md section 1.3
	for query, want := range map[string]string{
		"":                       "phoenix.v1",
		"vsn=1.0.0":              "phoenix.v1",
		"vsn=1.0.7":              "phoenix.v1",
		"vsn=2.0.0":              "phoenix.v2",
		"vsn=2.0.9":              "phoenix.v2",
		"vsn=2.0.0%2Bx":          "phoenix.v2",
		"vsn=2.0.1-rc.1":         "phoenix.v2",
		"vsn=2.0.0&apikey=k":     "supabase.v2",
		"vsn=1.0.0&apikey=k":     "phoenix.v1",
		"vsn=2.0.0-rc.1":         "",
		"vsn=2.0.0-":             "",
		"vsn=2.0.0%2B":           "",
		"vsn=1.1.0":              "",
		"vsn=2.1.0":              "",
		"vsn=3.0.0":              "phoenix.v3.msgpack",
		"vsn=3.0.4&apikey=k":     "phoenix.v3.msgpack",
		"vsn=3.1.0":              "",
		"vsn=4.0.0":              "",
		"vsn=123.1.1":            "",
		"vsn=2":                  "",
		"vsn=2.0":                "",
		"vsn=2.0.0.0":            "",
		"vsn=02.0.0":             "",
		"vsn=+2.0.0":             "",
		"vsn=abc":                "",
		"vsn=":                   "",
		"vsn[]=2.0.0":            "",
		"vsn=99999999999999.0.0": "",
	} {
		r := httptest.NewRequest("GET", "/socket/websocket", nil)
		r.URL.RawQuery = query
		for _, packed := range []bool{false, true} {
			want := want
			if want == "phoenix.v3.msgpack" && !packed {
				want = ""
			}
			c, err := phoenixVersion(paramsOf(r), packed)
			if want == "" && err == nil || want != "" && (err != nil || c.protocol() != want) {
				t.Errorf("%s, MessagePack %v, gives %v, %v; want %q", query, packed, c, err, want)
			}
		}
	}
}

func TestPhoenixOffers(t *testing.T) { // phoenix.md section 1.4
	for offer, want := range map[string]string{ // echo and token, or "" for a refusal
		"":                                       "/",
		"phoenix":                                "phoenix/",
		"phoenix, base64url.bearer.phx.MTIzNA":   "phoenix/1234",
		"base64url.bearer.phx.MTIzNA,phoenix":    "phoenix/1234",
		"base64url.bearer.phx.MTIzNA==, phoenix": "phoenix/1234",
		"base64url.bearer.phx.MTIzNA":            "/1234",
		"phoenix, base64url.bearer.phx.+-8":      "phoenix/\xfb\xef",
		"phoenix, base64url.bearer.phx.MTIzNA, base64url.bearer.phx.MTIzNA": "phoenix/",
		"base64url.bearer.phx.MTIzNA, base64url.bearer.phx.MTIzNA":          "",
		"mqtt":                              "",
		"mqtt, phoenix":                     "phoenix/",
		"phoenix, base64url.bearer.phx.!!!": "",
		"phoenix, base64url.bearer.phx." + strings.Repeat("A", 2*maxTokenBytes): "",
	} {
		echo, token, err := phoenixOffer(http.Header{"Sec-Websocket-Protocol": {offer}})
		if want == "" && err == nil || want != "" && (err != nil || echo+"/"+token != want) {
			t.Errorf("%.80s gives %q, %q, %v; want %q", offer, echo, token, err, want)
		}
	}
}

func TestPhoenixOrigins(t *testing.T) { // phoenix.md section 5.2
	list, err := newOrigins([]string{"//example.com", "http://scheme.com", "//port.com:81", "//*.ex.com"})
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]bool{
		"https://example.com":     true,
		"http://example.com:8080": true,
		"http://sub.example.com":  false,
		"http://notallowed.com":   false,
		"http://scheme.com":       true,
		"http://scheme.com:8080":  false,
		"https://scheme.com":      false,
		"https://port.com:81":     true,
		"http://port.com":         false,
		"https://ex.com":          true,
		"https://a.b.ex.com":      true,
		"https://prefix-ex.com":   false,
		"null":                    false,
		"file://":                 false,
		"":                        false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Origin", origin)
		if _, err := list.check(r); (err == nil) != want {
			t.Errorf("%q: %v, want it let in: %v", origin, err, want)
		}
	}
	for _, entry := range []string{"//", "//a.*.com", "//*", "//*.*.com", "//ex.com/"} {
		if _, err := newOrigins([]string{entry}); err == nil {
			t.Errorf("%q is taken for an origin", entry)
		}
	}
}

// FuzzPhoenixHandshake: whatever a client puts into its URL, the answer is one of
// HTTP's own.
func FuzzPhoenixHandshake(f *testing.F) {
	f.Add("vsn=2.0.0&o[x]=y&l[]=1", "phoenix, base64url.bearer.phx.MTIzNA", "https://example.com")
	f.Add("vsn[]=1&&a[[]]=%zz", "mqtt", "null")
	s, err := New(Anonymous())
	if err != nil {
		f.Fatal(err)
	}
	h := s.Phoenix(Origins("//example.com"))
	f.Fuzz(func(t *testing.T, query, offer, origin string) {
		r := httptest.NewRequest("GET", "/socket/websocket", nil)
		r.URL.RawQuery = query
		r.Header.Set("Sec-WebSocket-Protocol", offer)
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 400 && (w.Code != 403 || w.Body.Len() > 0) {
			t.Errorf("answered %d %q", w.Code, w.Body)
		}
	})
}
