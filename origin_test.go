package realtime

import (
	"crypto/tls"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// page is a handshake from a page of origin to host.
func page(host string, origin ...string) *http.Request {
	return &http.Request{Host: host, Header: http.Header{"Origin": origin}}
}

func TestOriginIsComparedWithTheList(t *testing.T) {
	allowed := []string{
		"https://app.example.com", "http://localhost:5173", "HTTPS://Upper.Example.Com:8443", "https://explicit.example.com:443",
		"https://*.wild.example", "https://*.eu.*.wild.example", "http://localhost.test:*", "http://[::1]:3000",
		"https://xn--bcher-kva.example", "https://kelvin.example", "https://dot.example.", "capacitor://localhost", "https://*.ports.example:*",
	}
	for _, c := range []struct {
		origin string
		want   bool
	}{
		{"https://app.example.com", true},
		{"https://APP.example.COM", true},
		{"HTTPS://app.example.com", true},
		{"https://app.example.com:443", true},
		{"https://app.example.com:444", false},
		{"https://app.example.com:0443", false},
		{"https://app.example.com:", false},
		{"https://app.example.com:99999", false},
		{"https://app.example.com:+443", false},
		{"http://app.example.com", false},
		{"http://app.example.com:443", false},
		{"https://app.example.com.", false},
		{"https://app.example.com..", false},
		{"https://app.example.com/", false},
		{"https://app.example.com/path", false},
		{"https://app.example.com?q", false},
		{"https://app.example.com#f", false},
		{"https://app.example.com\\@evil.com", false},
		{"https://user@app.example.com", false},
		{"https://user:443@app.example.com", false},
		{"https://evil.com@app.example.com", false},
		{"https://app.example.com@evil.com", false},
		{"https://app.example.com.evil.com", false},
		{"https://evilapp.example.com", false},
		{"https://example.com", false},
		{"https://app.example.com https://evil.com", false},
		{" https://app.example.com", false},
		{"https://app.example.com\x00", false},
		{"https://", false},
		{"https:///", false},
		{"://app.example.com", false},
		{"app.example.com", false},
		{"//app.example.com", false},
		{"", false},
		{"null", false},
		{"NULL", false},
		{"*", false},
		{"http://localhost:5173", true},
		{"http://localhost", false},
		{"http://localhost:80", false},
		{"https://localhost:5173", false},
		{"https://upper.example.com:8443", true},
		{"https://upper.example.com", false},
		{"https://explicit.example.com", true},
		{"https://a.wild.example", true},
		{"https://a.wild.example:443", true},
		{"https://a.wild.example:8443", false},
		{"https://wild.example", false},
		{"https://.wild.example", false},
		{"https://a.b.wild.example", false},
		{"https://*.wild.example", false},
		{"https://evilwild.example", false},
		{"https://a.eu.b.wild.example", true},
		{"https://a.us.b.wild.example", false},
		{"http://localhost.test", true},
		{"http://localhost.test:1", true},
		{"http://localhost.test:65535", true},
		{"http://localhost.test:0", false},
		{"http://localhost.test:65536", false},
		{"http://localhost.test:*", false},
		{"http://[::1]:3000", true},
		{"http://[0:0:0:0:0:0:0:1]:3000", true},
		{"http://[::1]", false},
		{"http://::1:3000", false},
		{"http://[::1%25lo]:3000", false},
		{"http://[::1:3000", false},
		{"http://[127.0.0.1]:3000", false},
		{"https://xn--bcher-kva.example", true},
		{"https://bücher.example", false},
		{"https://KELVIN.example", true},
		{"https://\u212aelvin.example", false}, // the Kelvin sign
		{"https://dot.example.", true},
		{"https://dot.example", false},
		{"capacitor://localhost", true},
		{"capacitor://localhost:80", false},
		{"https://a.ports.example:9", true},
	} {
		o, err := newOrigins(allowed)
		if err != nil {
			t.Fatal(err)
		}
		present, err := o.check(page("app.example.com", c.origin))
		if got := err == nil; got != c.want || !present {
			t.Errorf("%q: allowed %v, present %v; want %v, true (%v)", c.origin, got, present, c.want, err)
		}
		if err != nil && !errors.Is(err, ReasonOriginNotAllowed) {
			t.Errorf("%q: the error does not wrap origin_not_allowed: %v", c.origin, err)
		}
	}
}

func TestOriginWithoutAListMustBeTheHost(t *testing.T) {
	for _, c := range []struct {
		host, origin string
		tls          bool
		want         bool
	}{
		{"app.example.com", "https://app.example.com", true, true},
		{"app.example.com", "https://app.example.com", false, true}, // a proxy ended TLS
		{"app.example.com", "http://app.example.com", false, true},
		{"app.example.com", "http://app.example.com", true, false}, // 80 is not 443
		{"app.example.com:443", "https://app.example.com", false, true},
		{"app.example.com:443", "http://app.example.com", false, false},
		{"app.example.com:80", "http://app.example.com", false, true},
		{"app.example.com:8080", "http://app.example.com:8080", false, true},
		{"app.example.com:8080", "http://app.example.com", false, false},
		{"app.example.com", "http://app.example.com:8080", false, false},
		{"app.example.com", "http://app.example.com:443", false, false},
		{"App.Example.Com", "https://app.example.com", false, true},
		{"app.example.com", "https://evil.com", false, false},
		{"app.example.com", "https://app.example.com.evil.com", false, false},
		{"app.example.com", "https://sub.app.example.com", false, false},
		{"app.example.com", "null", false, false},
		{"app.example.com.", "https://app.example.com", false, false},
		{"[::1]:9", "http://[::1]:9", false, true},
		{"[::1]", "http://[::1]", false, true},
		{"127.0.0.1:9", "http://127.0.0.1:9", false, true},
		{"localhost", "capacitor://localhost", false, false},
		{"", "https://", false, false},
		{"", "https://app.example.com", false, false},
		{"*", "https://app.example.com", false, false},
		{"app.example.com@evil.com", "https://evil.com", false, false},
	} {
		o, err := newOrigins(nil)
		if err != nil {
			t.Fatal(err)
		}
		r := page(c.host, c.origin)
		if c.tls {
			r.TLS = new(tls.ConnectionState)
		}
		if _, err := o.check(r); (err == nil) != c.want {
			t.Errorf("Host %q (TLS %v), Origin %q: %v, want allowed %v", c.host, c.tls, c.origin, err, c.want)
		}
	}
}

func TestOriginWildcardsThatAreSpelledOut(t *testing.T) {
	for _, c := range []struct {
		allowed []string
		origin  string
		want    bool
	}{
		{[]string{"*"}, "https://any.example", true},
		{[]string{"*"}, "null", false},
		{[]string{"*"}, "", false},
		{[]string{"*"}, "https://a b", false},
		{[]string{"*", "null"}, "null", true},
		{[]string{"null"}, "null", true},
		{[]string{"null"}, "https://own.example", false}, // a list without the own host
	} {
		o, err := newOrigins(c.allowed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.check(page("own.example", c.origin)); (err == nil) != c.want {
			t.Errorf("%q against %q: %v, want allowed %v", c.origin, c.allowed, err, c.want)
		}
	}
}

func TestRequestWithoutOriginPassesButIsToldApart(t *testing.T) {
	o, _ := newOrigins([]string{"https://app.example.com"})
	if present, err := o.check(page("app.example.com")); present || err != nil {
		t.Errorf("no Origin: present %v, %v; want false, nil", present, err)
	}
	two := page("app.example.com", "https://app.example.com", "https://app.example.com")
	for _, allowed := range [][]string{nil, {"https://app.example.com"}, {"*", "null"}} {
		o, _ := newOrigins(allowed)
		if present, err := o.check(two); !present || err == nil {
			t.Errorf("two Origins against %q: present %v, %v; want true and an error", allowed, present, err)
		}
	}
}

func TestBadOriginEntriesAreNamed(t *testing.T) {
	for _, entry := range []string{
		"", "example.com", "https://", "https://example.com/", "https://example.com/path", "https://u@example.com",
		"https://app-*.example.com", "https://*", "https://example.*", "*://example.com", "https://**.example.com", "https://bücher.example",
		"https://example.com:https", "https://example.com:0", "https://a..b", "https://[::1", "NULL", "https://a b",
	} {
		_, err := newOrigins([]string{"https://good.example", entry})
		if err == nil {
			t.Errorf("%q: accepted, want an error", entry)
		} else if want := strconv.QuoteToASCII(entry); !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error %q does not name the entry", entry, err)
		}
	}
}

func TestOriginErrorPrintsTheEntryToAdd(t *testing.T) {
	o, _ := newOrigins([]string{"https://app.example.com"})
	for origin, want := range map[string]string{
		"HTTPS://Other.example:443": `WithOrigins("https://other.example")`,
		"http://localhost:5173":     `WithOrigins("http://localhost:5173")`,
		"null":                      `WithOrigins("null")`,
		"tauri://localhost":         `WithOrigins("tauri://localhost")`,
	} {
		_, err := o.check(page("app.example.com", origin))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want it to contain %s", origin, err, want)
		}
	}
	_, err := o.check(page("h", "https://a\r\nlevel=ERROR \x1b[31mü"+strings.Repeat("x", 1<<16)))
	if text := err.Error(); len(text) > 1000 || strings.ContainsAny(text, "\r\n\x1b") {
		t.Errorf("error of %d bytes with what the peer sent unescaped: %.200q", len(text), text)
	}
}

// FuzzOriginCheck compares the check with regular expressions that were written
// by hand from the same list.
func FuzzOriginCheck(f *testing.F) {
	for _, s := range []string{
		"https://app.example.com", "http://localhost:5173", "https://a.wild.example", "https://a.b.wild.example", "null", "",
		"https://app.example.com.evil.com", "https://user@app.example.com", "http://[::1]:3000", "HTTPS://APP.EXAMPLE.COM:443", "https://app.example.com:0443",
	} {
		f.Add(s)
	}
	o, err := newOrigins([]string{"https://app.example.com", "http://localhost:*", "https://*.wild.example"})
	if err != nil {
		f.Fatal(err)
	}
	naive := regexp.MustCompile(`(?i)^(?:https://app\.example\.com(?::443)?|http://localhost(?::([1-9][0-9]{0,4}))?|https://[a-z0-9_-]{1,63}\.wild\.example(?::443)?)$`)
	f.Fuzz(func(t *testing.T, header string) {
		match := naive.FindStringSubmatch(header)
		want := match != nil
		for i := range len(header) {
			want = want && header[i] < 0x80 // (?i) folds letters beyond ASCII, hosts do not
		}
		if want && match[1] != "" {
			n, _ := strconv.Atoi(match[1])
			want = n <= 65535
		}
		_, err := o.check(page("h", header))
		if got := err == nil; got != want {
			t.Fatalf("%q: allowed %v, want %v (%v)", header, got, want, err)
		}
		if err != nil && len(err.Error()) > 3000 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
		parsed, err := parseOrigin(header, false)
		if err != nil {
			return
		}
		again, err := parseOrigin(parsed.String(), false)
		if err != nil || again != parsed {
			t.Fatalf("%q is written %q and then read as %v (%v)", header, parsed.String(), again, err)
		}
	})
}
