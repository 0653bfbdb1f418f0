package realtime

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func forwarded(peer string, x, standard []string) *http.Request {
	r := &http.Request{RemoteAddr: peer, Header: http.Header{}}
	if x != nil {
		r.Header["X-Forwarded-For"] = x
	}
	if standard != nil {
		r.Header["Forwarded"] = standard
	}
	return r
}

func TestClientAddressIsTheRightMostThatIsNoProxy(t *testing.T) {
	p, err := newProxies([]string{"10.0.0.0/8", "192.0.2.7", "2001:db8:aa::/48"})
	if err != nil {
		t.Fatal(err)
	}
	list := func(lines ...string) []string { return lines }
	for _, c := range []struct {
		name, peer  string
		x, standard []string
		want        string
	}{
		{"no proxy", "198.51.100.1:5", nil, nil, "198.51.100.1"},
		{"an untrusted peer claims", "198.51.100.1:5", list("203.0.113.9"), list("for=203.0.113.9"), "198.51.100.1"},
		{"a proxy that says nothing", "10.0.0.1:5", nil, nil, "10.0.0.1"},
		{"an empty header", "10.0.0.1:5", list(""), nil, "10.0.0.1"},
		{"one hop", "10.0.0.1:5", list("203.0.113.9"), nil, "203.0.113.9"},
		{"a single trusted address", "192.0.2.7:5", list("203.0.113.9"), nil, "203.0.113.9"},
		{"its neighbour", "192.0.2.8:5", list("203.0.113.9"), nil, "192.0.2.8"},
		{"mapped peer", "[::ffff:10.0.0.1]:5", list("203.0.113.9"), nil, "203.0.113.9"},
		{"two hops", "10.0.0.1:5", list("203.0.113.9, 10.0.0.2"), nil, "203.0.113.9"},
		{"the client's own claim", "10.0.0.1:5", list("1.1.1.1, 203.0.113.9"), nil, "203.0.113.9"},
		{"a claim of a proxy's address", "10.0.0.1:5", list("10.0.0.9, 203.0.113.9, 10.0.0.2"), nil, "203.0.113.9"},
		{"several lines", "10.0.0.1:5", list("1.1.1.1", "203.0.113.9", "10.0.0.2"), nil, "203.0.113.9"},
		{"only proxies", "10.0.0.1:5", list("10.0.0.3,10.0.0.2"), nil, "10.0.0.3"},
		{"with a port", "10.0.0.1:5", list("203.0.113.9:4711"), nil, "203.0.113.9"},
		{"IPv6", "[2001:db8:aa::1]:5", list("2001:db8:bb::9"), nil, "2001:db8:bb::9"},
		{"IPv6 in brackets", "10.0.0.1:5", list("[2001:db8:bb::9]"), nil, "2001:db8:bb::9"},
		{"IPv6 with a port", "10.0.0.1:5", list("[2001:db8:bb::9]:80"), nil, "2001:db8:bb::9"},
		{"mapped hop", "10.0.0.1:5", list("::ffff:203.0.113.9"), nil, "203.0.113.9"},
		{"a zone", "10.0.0.1:5", list("fe80::1%eth0"), nil, "fe80::1"},
		{"IPv4 in brackets", "10.0.0.1:5", list("[203.0.113.9]"), nil, "10.0.0.1"},
		{"garbage", "10.0.0.1:5", list("203.0.113.9, rubbish"), nil, "10.0.0.1"},
		{"garbage behind a proxy", "10.0.0.1:5", list("203.0.113.9, , 10.0.0.2"), nil, "10.0.0.2"},
		{"peer is no address", "@", list("203.0.113.9"), nil, ""},

		{"standard", "10.0.0.1:5", nil, list("for=203.0.113.9"), "203.0.113.9"},
		{"standard, all of it", "10.0.0.1:5", nil, list(`for=1.1.1.1, For="203.0.113.9:80" ; proto=https;by=10.0.0.2,for=10.0.0.2`), "203.0.113.9"},
		{"standard, IPv6", "10.0.0.1:5", nil, list(`for="[2001:db8:bb::9]:4711"`), "2001:db8:bb::9"},
		{"standard, several lines", "10.0.0.1:5", nil, list("for=1.1.1.1", "for=203.0.113.9"), "203.0.113.9"},
		{"standard, unknown", "10.0.0.1:5", nil, list("for=203.0.113.9, for=unknown"), "10.0.0.1"},
		{"standard, hidden", "10.0.0.1:5", nil, list("for=203.0.113.9, for=_hidden, for=10.0.0.2"), "10.0.0.2"},
		{"standard, no for", "10.0.0.1:5", nil, list("for=203.0.113.9, proto=https"), "10.0.0.1"},
		{"standard, two fors", "10.0.0.1:5", nil, list("for=203.0.113.9;for=1.1.1.1"), "10.0.0.1"},
		{"standard, an open quote", "10.0.0.1:5", nil, list(`for=1.1.1.1;by=", for=203.0.113.9`), "10.0.0.1"},
		{"standard, a quote that swallows", "10.0.0.1:5", nil, list(`for=1.1.1.1;by=", for="[2001:db8:bb::9]"`), "10.0.0.1"},
		{"standard, empty", "10.0.0.1:5", nil, list(""), "10.0.0.1"},
		{"standard, trailing comma", "10.0.0.1:5", nil, list("for=203.0.113.9,"), "10.0.0.1"},

		{"both agree", "10.0.0.1:5", list("203.0.113.9"), list("for=203.0.113.9"), "203.0.113.9"},
		{"both, one smuggled", "10.0.0.1:5", list("203.0.113.9"), list("for=1.1.1.1"), "10.0.0.1"},
		{"both, one garbage", "10.0.0.1:5", list("203.0.113.9"), list("rubbish"), "10.0.0.1"},
	} {
		got := p.clientIP(forwarded(c.peer, c.x, c.standard))
		if want, _ := netip.ParseAddr(c.want); got != want {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
	var nobody *proxies
	if got := nobody.clientIP(forwarded("10.0.0.1:5", []string{"203.0.113.9"}, nil)); got.String() != "10.0.0.1" {
		t.Errorf("without trusted proxies: %v, want the peer", got)
	}
}

func TestBadProxyEntriesAreNamed(t *testing.T) {
	for _, entry := range []string{"", "proxy.example", "10.0.0.0/33", "10.0.0.1:80", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		if _, err := newProxies([]string{"10.0.0.0/8", entry}); err == nil || !strings.Contains(err.Error(), loggable(entry)) {
			t.Errorf("%q: error %v, want one that names the entry", entry, err)
		}
	}
}

// FuzzClientAddress holds what no header may change: an untrusted peer is
// itself, and what a proxy appended last cannot be outdone by what a client
// wrote before it.
func FuzzClientAddress(f *testing.F) {
	for _, s := range []string{"", "1.1.1.1", "for=1.1.1.1", `for="1.1.1.1`, `by="`, `for="[::1]:9";by=x`, "10.0.0.9", ",", `for=1.1.1.1;by=\"`} {
		f.Add(s)
	}
	p, err := newProxies([]string{"10.0.0.0/8"})
	if err != nil {
		f.Fatal(err)
	}
	proxy, client := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::9")
	f.Fuzz(func(t *testing.T, claim string) {
		for _, peer := range []string{"198.51.100.1:5", "10.0.0.1:5"} {
			got := p.clientIP(forwarded(peer, []string{claim}, []string{claim}))
			if peer[0] == '1' && peer[1] == '9' && got.String() != "198.51.100.1" {
				t.Fatalf("%q: an untrusted peer became %v", claim, got)
			}
			if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
				t.Fatalf("%q: %v is no plain address", claim, got)
			}
		}
		if got := p.clientIP(forwarded("10.0.0.1:5", []string{claim + ", 2001:db8::9"}, nil)); got != client {
			t.Fatalf("X-Forwarded-For %q before the client's address: %v, want %v", claim, got, client)
		}
		for _, appended := range []string{`, for="[2001:db8::9]"`, `, for="[2001:db8::9]:80";proto=https`} {
			got := p.clientIP(forwarded("10.0.0.1:5", nil, []string{claim + appended}))
			if got != client && got != proxy {
				t.Fatalf("Forwarded %q: %v, want %v or %v", claim+appended, got, client, proxy)
			}
		}
	})
}
