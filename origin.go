package realtime

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// origins decides which pages may connect (envelope.md section 1). A browser
// sends its cookies to any server that a page names, and says in Origin which
// page that was; this check is all that stands between a foreign page and the
// cookie's session. It is not changed after newOrigins.
type origins struct {
	list []origin // empty: only the server's own host
	any  bool     // "*" was listed
	null bool     // "null" was listed
}

// origin is a scheme, host and port in one spelling: lower case, the scheme's
// default port filled in, IPv6 in brackets and shortened. In an entry of a list
// a label of the host may be "*", and so may the port.
type origin struct{ scheme, host, port string }

// newOrigins reads the entries of WithOrigins:
//
//   - "https://app.example.com", "http://localhost:5173": exactly this scheme,
//     host and port
//   - "https://*.example.com": each "*" is exactly one label, so neither
//     example.com itself nor a.b.example.com
//   - "http://localhost:*": any port
//   - "//example.com", "//example.com:81", "//*.example.com": Phoenix's forms, any
//     scheme, and any port if none is given; here "*." is any number of labels,
//     none included
//   - "*": any origin but "null"
//   - "null": pages without an origin, as sandboxed frames and local files are
//
// Without entries a page must come from the host and port that it connects to.
// An error names the entry.
func newOrigins(allowed []string) (*origins, error) {
	o := new(origins)
	for _, entry := range allowed {
		switch entry {
		case "*":
			o.any = true
		case "null":
			o.null = true
		default:
			parsed, err := parseEntry(entry)
			if err != nil {
				return nil, fmt.Errorf("realtime: origin %s: %w", loggable(entry), err)
			}
			o.list = append(o.list, parsed)
		}
	}
	return o, nil
}

// check returns an error that wraps [ReasonOriginNotAllowed] unless the page
// that sent r may connect. The error is for the log: it prints the entry that
// would let the page in. present is false when r has no Origin, as requests have
// that come from no browser; they pass, but must not be trusted for a cookie.
func (o *origins) check(r *http.Request) (present bool, err error) {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return false, nil
	}
	if len(values) > 1 {
		return true, fmt.Errorf("%w: %d Origin headers", ReasonOriginNotAllowed, len(values))
	}
	if values[0] == "null" {
		if o.null {
			return true, nil
		}
		return true, fmt.Errorf(`%w: a sandboxed frame or a local file; to let all of these in add WithOrigins("null")`, ReasonOriginNotAllowed)
	}
	page, err := parseOrigin(values[0], false)
	if err != nil {
		return true, fmt.Errorf("%w: Origin %s: %v", ReasonOriginNotAllowed, loggable(values[0]), err)
	}
	if !o.allow(page, r) {
		return true, fmt.Errorf("%w: to let this page in add WithOrigins(%s)", ReasonOriginNotAllowed, loggable(page.String()))
	}
	return true, nil
}

func (o *origins) allow(page origin, r *http.Request) bool {
	if o.any {
		return true
	}
	if len(o.list) == 0 && !o.null {
		return page.servedBy(r)
	}
	for _, entry := range o.list {
		if entry.matches(page) {
			return true
		}
	}
	return false
}

// servedBy reports whether the page's host and port are those of r's Host.
//
// A Host without a port means the default port of a scheme that only the client
// knows: behind a proxy that ends TLS an https page arrives in a plain request.
// So the page's scheme decides, unless this server ended the TLS itself. An
// http page of the same host passes behind such a proxy; a list pins the scheme.
func (page origin) servedBy(r *http.Request) bool {
	if page.scheme != "http" && page.scheme != "https" {
		return false
	}
	scheme := page.scheme
	if r.TLS != nil {
		scheme = "https"
	}
	own, err := parseOrigin(scheme+"://"+r.Host, false)
	return err == nil && own.host == page.host && own.port == page.port
}

// matches reports whether page is the entry, or one that the entry's wildcards
// stand for.
func (entry origin) matches(page origin) bool {
	if entry.scheme == "" {
		within, wild := strings.CutPrefix(entry.host, "*.")
		return (entry.port == "" || entry.port == "*" || entry.port == page.port) &&
			(page.host == within || wild && strings.HasSuffix(page.host, "."+within))
	}
	if entry.scheme != page.scheme || entry.port != page.port && entry.port != "*" {
		return false
	}
	if !strings.Contains(entry.host, "*") {
		return entry.host == page.host
	}
	want, got := strings.Split(entry.host, "."), strings.Split(page.host, ".")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && (want[i] != "*" || got[i] == "") {
			return false
		}
	}
	return true
}

// String returns the origin as a browser writes it: without the default port.
func (page origin) String() string {
	if page.port == defaultPort(page.scheme) {
		return page.scheme + "://" + page.host
	}
	return page.scheme + "://" + page.host + ":" + page.port
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return "" // the schemes of apps and extensions have no ports
}

// parseEntry reads an entry of a list. Phoenix's forms have no scheme.
func parseEntry(s string) (origin, error) {
	if !strings.HasPrefix(s, "//") {
		return parseOrigin(s, true)
	}
	entry, err := parseOrigin("any:"+s, true)
	if within := strings.TrimPrefix(entry.host, "*."); err == nil && strings.Contains(within, "*") {
		return origin{}, errors.New(`after // only the first label may be "*"`)
	}
	entry.scheme = ""
	return entry, err
}

// parseOrigin reads scheme://host or scheme://host:port and nothing beyond. It
// is stricter than net/url on purpose: what a browser never writes is refused,
// not interpreted. wild allows "*" as a label of the host and as the port.
func parseOrigin(s string, wild bool) (origin, error) {
	for i := range len(s) {
		if s[i] >= 0x80 { // before ToLower, which makes an ASCII k of the Kelvin sign
			return origin{}, errors.New("not ASCII; write names as browsers send them, in punycode")
		}
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return origin{}, errors.New("not of the form scheme://host or scheme://host:port")
	}
	scheme = strings.ToLower(scheme)
	if !isScheme(scheme) {
		return origin{}, errors.New("the scheme is not one")
	}
	host, port, hasPort := rest, "", false
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		host, port, hasPort = rest[:i], rest[i+1:], true
	}
	host, err := parseHost(host, wild)
	if err != nil {
		return origin{}, err
	}
	if !hasPort {
		port = defaultPort(scheme)
	} else if !isPort(port) && (!wild || port != "*") {
		return origin{}, errors.New("the port is not a number from 1 to 65535")
	}
	return origin{scheme, host, port}, nil
}

// isScheme follows RFC 3986 section 3.1; the bound keeps log lines short.
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 32
}

// isPort refuses the leading zeros and signs that strconv would pass.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '0'
}

// parseHost returns a host in its one spelling. A trailing dot stays: to a
// browser it makes another origin.
func parseHost(s string, wild bool) (string, error) {
	if strings.HasPrefix(s, "[") {
		addr, err := netip.ParseAddr(strings.TrimSuffix(s[1:], "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" || !strings.HasSuffix(s, "]") {
			return "", errors.New("the host is not an IPv6 address in brackets")
		}
		return "[" + addr.String() + "]", nil
	}
	if len(s) == 0 || len(s) > 253 {
		return "", errors.New("the host is empty or longer than 253 bytes")
	}
	s = strings.ToLower(s)
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	for i, label := range labels {
		if label == "*" && wild {
			if i == len(labels)-1 {
				return "", errors.New(`the host ends in a wildcard; "*" alone allows every origin`)
			}
			continue
		}
		if !isLabel(label) {
			return "", fmt.Errorf("%s in the host is not a label of ASCII letters, digits, - and _ (* only as a whole label of an entry)", loggable(label))
		}
	}
	return s, nil
}

func isLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 63
}

// loggable quotes what a peer sent, so that it can neither forge a log line nor
// flood it.
func loggable(s string) string {
	const most = 320 // more than any scheme, host and port together
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
