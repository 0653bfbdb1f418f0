package realtime

import (
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const everySource = TokenHeader | TokenSubprotocol | TokenTicket | TokenQuery | TokenCookie | TokenMessage

func TestFirstCredentialThatIsThereDecides(t *testing.T) {
	all := []string{"Authorization: Bearer h", "Sec-WebSocket-Protocol: bearer.cw", "Cookie: session=c", "Origin: https://a.example"}
	cases := []struct {
		name    string
		sources TokenSource
		target  string
		headers []string
		checked bool
		want    credential
		wantErr bool
	}{
		{"none", everySource, "/ws", nil, true, credential{}, false},
		{"all: header", everySource, "/ws?ticket=t&token=q", all, true, credential{TokenHeader, "h"}, false},
		{"without header: subprotocol", everySource, "/ws?ticket=t&token=q", all[1:], true, credential{TokenSubprotocol, "s"}, false},
		{"then ticket, whatever the order in the query", everySource, "/ws?token=q&ticket=t", all[2:], true, credential{TokenTicket, "t"}, false},
		{"then query", everySource, "/ws?token=q", all[2:], true, credential{TokenQuery, "q"}, false},
		{"then cookie", everySource, "/ws", all[2:], true, credential{TokenCookie, "c"}, false},

		{"header off", everySource &^ TokenHeader, "/ws", all, true, credential{TokenSubprotocol, "s"}, false},
		{"subprotocol off", everySource &^ TokenSubprotocol, "/ws?ticket=t", all[1:], true, credential{TokenTicket, "t"}, false},
		{"ticket off", everySource &^ TokenTicket, "/ws?ticket=t&token=q", nil, true, credential{TokenQuery, "q"}, false},
		{"query off", everySource &^ TokenQuery, "/ws?token=q", all[2:], true, credential{TokenCookie, "c"}, false},
		{"query off by default", defaultTokenSources, "/ws?token=q", nil, true, credential{}, false},
		{"cookie off by default", defaultTokenSources, "/ws", all[2:], true, credential{}, false},

		{"empty header", everySource, "/ws?token=q", []string{"Authorization: Bearer "}, true, credential{TokenQuery, "q"}, false},
		{"another scheme", everySource, "/ws?token=q", []string{"Authorization: Basic dTpw"}, true, credential{TokenQuery, "q"}, false},
		{"scheme in another case", everySource, "/ws", []string{"Authorization: bEARER  h"}, true, credential{TokenHeader, "h"}, false},
		{"scheme that begins alike", everySource, "/ws", []string{"Authorization: BearerX h"}, true, credential{}, false},
		{"second line", everySource, "/ws", []string{"Authorization: Basic dTpw", "Authorization: Bearer h"}, true, credential{TokenHeader, "h"}, false},
		{"empty subprotocol", everySource, "/ws?token=q", []string{"Sec-WebSocket-Protocol: bearer."}, true, credential{TokenQuery, "q"}, false},
		{"empty ticket", everySource, "/ws?ticket=&token=q", nil, true, credential{TokenQuery, "q"}, false},
		{"empty token", everySource, "/ws?token=", all[2:], true, credential{TokenCookie, "c"}, false},
		{"empty cookie", everySource, "/ws", []string{"Cookie: session=", "Origin: https://a.example"}, true, credential{}, false},

		{"cookie without Origin", everySource, "/ws", all[2:3], true, credential{}, false},
		{"cookie with an Origin that was not checked", everySource, "/ws", all[2:], false, credential{}, false},
		{"cookie of another name", everySource, "/ws", []string{"Cookie: other=c", "Origin: https://a.example"}, true, credential{}, false},

		{"JWT as it is", everySource, "/ws", []string{"Sec-WebSocket-Protocol: realtime.v1, bearer.a.b.c"}, true, credential{TokenSubprotocol, "a.b.c"}, false},
		{"subprotocol that is no base64", everySource, "/ws?token=q", []string{"Sec-WebSocket-Protocol: bearer.x"}, true, credential{}, true},
		{"padded base64", everySource, "/ws?token=q", []string{"Sec-WebSocket-Protocol: bearer.cw=="}, true, credential{}, true},
		{"overlong header", everySource, "/ws", []string{"Authorization: Bearer " + strings.Repeat("h", maxTokenBytes+1)}, true, credential{}, true},
		{"overlong subprotocol", everySource, "/ws", []string{"Sec-WebSocket-Protocol: bearer." + strings.Repeat("AAAA", maxTokenBytes/3+1)}, true, credential{}, true},
		{"overlong query", everySource, "/ws?token=" + strings.Repeat("q", maxTokenBytes+1), all[2:], true, credential{}, true},
		{"escaped query", everySource, "/ws?token=a%2Bb", nil, true, credential{TokenQuery, "a+b"}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", c.target, nil)
			for _, header := range c.headers {
				name, value, _ := strings.Cut(header, ": ")
				r.Header.Add(name, value)
			}
			_, bearer := parseSubprotocols(r.Header)
			got, err := credentialRules{c.sources, "session"}.find(r, bearer, c.checked)
			if got != c.want || (err != nil) != c.wantErr {
				t.Fatalf("got %+v, %v, want %+v, error %v", got, err, c.want, c.wantErr)
			}
			if err != nil && !errors.Is(err, ReasonTokenInvalid) {
				t.Errorf("got %v, want token_invalid", err)
			}
		})
	}
}

func TestSubprotocolsAreSplitFromBearers(t *testing.T) {
	cases := []struct {
		name   string
		lines  []string
		offers []string
		bearer string
	}{
		{"no header", nil, nil, ""},
		{"several lines and commas", []string{"a, b", "c"}, []string{"a", "b", "c"}, ""},
		{"bearer between", []string{"a,bearer.x\t, b"}, []string{"a", "b"}, "x"},
		{"only a bearer is no offer", []string{"bearer.a.b.c"}, nil, "a.b.c"},
		{"first full bearer counts", []string{"bearer.", "bearer.x,bearer.y"}, nil, "x"},
		{"empty items", []string{",, a ,", ""}, []string{"a"}, ""},
		{"the prefix has a case", []string{"Bearer.x"}, []string{"Bearer.x"}, ""},
		{"a protocol called bearer", []string{"bearer"}, []string{"bearer"}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/ws", nil)
			for _, line := range c.lines {
				r.Header.Add("Sec-WebSocket-Protocol", line)
			}
			offers, bearer := parseSubprotocols(r.Header)
			if !slices.Equal(offers, c.offers) || bearer != c.bearer {
				t.Errorf("got %q, %q, want %q, %q", offers, bearer, c.offers, c.bearer)
			}
		})
	}
}

func TestMaskURLHidesCredentials(t *testing.T) {
	cases := []struct{ url, want string }{
		{"/ws", "/ws"},
		{"https://u:p@h/a%20b?x=1#f", "/a%20b?x=1"},
		{"/ws?token=s", "/ws?token=***"},
		{"/ws?vsn=2.0.0&ticket=s&x=1", "/ws?vsn=2.0.0&ticket=***&x=1"},
		{"/ws?password=s&access_token=s&apikey=s", "/ws?password=***&access_token=***&apikey=***"},
		{"/ws?TOKEN=s&Token=s", "/ws?TOKEN=***&Token=***"},
		{"/ws?%74oken=s", "/ws?%74oken=***"},
		{"/ws?token+=s", "/ws?token+=***"},
		{"/ws?token=a=b", "/ws?token=***"},
		{"/ws?token=", "/ws?token=***"},
		{"/ws?x=1;token=s", "/ws?***"},
		{"/ws?%zz=s&x=%zz", "/ws?***&x=***"},
		{"/ws?eyJhbGciOiJIUzI1NiJ9", "/ws?***"},
		{"/ws?j=eyJhbGciOiJIUzI1NiJ9.e30.c", "/ws?j=***"},
		{"/ws?next=%2Fws%3Ftoken%3Ds", "/ws?next=***"},
		{"/ws?x=", "/ws?x="},
		{"/ws?tokens=3", "/ws?tokens=3"},
	}
	for _, c := range cases {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := maskURL(u); got != c.want {
			t.Errorf("%s: got %s, want %s", c.url, got, c.want)
		}
	}
}

func TestAnonymousLetsEveryoneInAsNobody(t *testing.T) {
	for _, token := range []string{"", "garbage"} {
		id, err := anonymous(httptest.NewRequest("GET", "/ws", nil), token)
		if err != nil || id.User != "" {
			t.Errorf("token %q: got %+v, %v, want nobody", token, id, err)
		}
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add("Bearer h", "realtime.v1, bearer.cw", "ticket=t&token=q", "session=c")
	f.Add("bearer\tx", "bearer.,,bearer.a.b.c", "token=%zz&;ticket", "session=\"c\"; session=")
	f.Add("", "bearer.\n", "=&&=token", "")
	f.Fuzz(func(t *testing.T, authorization, protocols, query, cookie string) {
		r := httptest.NewRequest("GET", "/ws", nil)
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Sec-WebSocket-Protocol", protocols)
		r.Header.Set("Cookie", cookie)
		r.URL.RawQuery = query
		offers, bearer := parseSubprotocols(r.Header)
		for _, offer := range offers {
			if strings.HasPrefix(offer, bearerPrefix) || strings.Contains(offer, ",") || offer == "" {
				t.Errorf("%q became the offer %q", protocols, offer)
			}
		}
		got, err := credentialRules{everySource, "session"}.find(r, bearer, true)
		if (got == credential{}) != (got.token == "") || len(got.token) > maxTokenBytes || (err != nil && got.token != "") {
			t.Errorf("got %+v, %v", got, err)
		}
		if got.source == TokenCookie {
			t.Error("a cookie counted without an Origin")
		}
		if id, err := anonymous(r, got.token); err != nil || id.User != "" {
			t.Error("anonymous refused")
		}
	})
}

// A value that the server would take as a token must not be in what it logs.
func FuzzMaskURL(f *testing.F) {
	f.Add("token=verysecret")
	f.Add("a=b&%74icket=verysecret&x")
	f.Add("a=b;token=verysecret")
	f.Fuzz(func(t *testing.T, query string) {
		u := &url.URL{Path: "/ws", RawQuery: query}
		got := maskURL(u)
		for _, name := range []string{"token", "ticket"} {
			for _, value := range u.Query()[name] {
				if len(value) > 8 && strings.Contains(got, url.QueryEscape(value)) && strings.Count(query, url.QueryEscape(value)) == 1 {
					t.Errorf("%q is logged as %q", query, got)
				}
			}
		}
	})
}

func FuzzDecodeBearer(f *testing.F) {
	f.Add("cw")
	f.Add("a.b.c")
	f.Add("c\nw")
	f.Fuzz(func(t *testing.T, bearer string) {
		token, err := decodeBearer(bearer)
		if err != nil || strings.Contains(bearer, ".") {
			return
		}
		if again := base64.RawURLEncoding.EncodeToString([]byte(token)); again != bearer {
			t.Errorf("%q and %q are the same token", bearer, again)
		}
	})
}
