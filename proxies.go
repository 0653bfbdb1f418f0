package realtime

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the networks whose forwarding headers are believed. It is not
// changed after newProxies; nil trusts nobody.
type proxies struct{ trusted []netip.Prefix }

// newProxies reads networks ("10.0.0.0/8", "2001:db8::/32") and single
// addresses. An error names the entry.
func newProxies(cidrs []string) (*proxies, error) {
	p := new(proxies)
	for _, entry := range cidrs {
		prefix, err := netip.ParsePrefix(entry)
		if err != nil {
			addr, addrErr := netip.ParseAddr(entry)
			if addrErr != nil || addr.Zone() != "" {
				return nil, fmt.Errorf("realtime: trusted proxy %s is neither an address nor a network as 10.0.0.0/8", loggable(entry))
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("realtime: trusted proxy %s: write the IPv4 network itself", loggable(entry))
		}
		p.trusted = append(p.trusted, prefix.Masked())
	}
	return p, nil
}

// clientIP returns the address that r came from: its peer or, as long as that is
// a trusted proxy, whom it forwarded for. Of X-Forwarded-For, or of Forwarded
// (RFC 7239), the right-most address counts that is no trusted proxy, since
// everything left of it is the client's own claim. At what cannot be read the
// walk ends with the last trusted proxy.
//
// A proxy writes one of the two headers and lets a client's other one pass. If
// both are there and disagree neither is believed: the proxy's address counts.
//
// The result has no zone, IPv4 is plain. It is the zero Addr if RemoteAddr is no
// address, as on a Unix socket.
func (p *proxies) clientIP(r *http.Request) netip.Addr {
	peer := remoteAddr(r.RemoteAddr)
	if !p.trusts(peer) {
		return peer
	}
	byX, byStandard := r.Header.Values("X-Forwarded-For"), r.Header.Values("Forwarded")
	var client netip.Addr
	if len(byX) > 0 {
		client = p.walk(peer, strings.Split(strings.Join(byX, ","), ","))
	}
	if len(byStandard) > 0 {
		other := p.walk(peer, forwardedFor(byStandard))
		if len(byX) > 0 && other != client {
			return peer
		}
		client = other
	}
	if !client.IsValid() {
		return peer
	}
	return client
}

// walk goes from the peer to the left through the hops.
func (p *proxies) walk(peer netip.Addr, hops []string) netip.Addr {
	at := peer
	for i := len(hops) - 1; i >= 0 && p.trusts(at); i-- {
		next := remoteAddr(strings.Trim(hops[i], " \t"))
		if !next.IsValid() {
			break
		}
		at = next
	}
	return at
}

func (p *proxies) trusts(addr netip.Addr) bool {
	if p == nil || !addr.IsValid() {
		return false
	}
	for _, prefix := range p.trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// remoteAddr reads an address with or without a port, IPv6 with or without
// brackets. The zero Addr means that s is none.
func remoteAddr(s string) netip.Addr {
	if withPort, err := netip.ParseAddrPort(s); err == nil { // first: it is what net/http gives
		return withPort.Addr().Unmap().WithZone("")
	}
	addr, err := netip.ParseAddr(s)
	if err != nil && strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		addr, _ = netip.ParseAddr(s[1 : len(s)-1])
		if !addr.Is6() {
			return netip.Addr{}
		}
	}
	return addr.Unmap().WithZone("")
}

// forwardedFor returns the "for" of each element in order, "" for one that has
// none. If any line is not of RFC 7239's grammar it returns nothing: an unclosed
// quote of the client's could otherwise swallow what the proxy wrote after it.
func forwardedFor(lines []string) []string {
	var hops []string
	for _, line := range lines {
		hop, seen := "", false
		for rest := line; ; {
			name, value, after, ok := forwardedPair(rest)
			if !ok || strings.EqualFold(name, "for") && seen {
				return nil
			}
			if strings.EqualFold(name, "for") {
				hop, seen = value, true
			}
			if after == "" || after[0] == ',' {
				hops = append(hops, hop)
				hop, seen = "", false
			}
			if after == "" {
				break
			}
			rest = after[1:]
		}
	}
	return hops
}

// forwardedPair cuts name=value off the front of s. after is empty or begins
// with the separator.
func forwardedPair(s string) (name, value, after string, ok bool) {
	name, s, ok = strings.Cut(strings.TrimLeft(s, " \t"), "=")
	if !ok || !isToken(name) {
		return "", "", "", false
	}
	if strings.HasPrefix(s, `"`) {
		value, s, ok = strings.Cut(s[1:], `"`)
		if !ok || strings.Contains(value, `\`) { // no address needs an escape
			return "", "", "", false
		}
	} else {
		end := strings.IndexAny(s, ",; \t")
		if end < 0 {
			end = len(s)
		}
		if value, s = s[:end], s[end:]; !isToken(value) {
			return "", "", "", false
		}
	}
	s = strings.TrimLeft(s, " \t")
	if s != "" && s[0] != ',' && s[0] != ';' {
		return "", "", "", false
	}
	return name, value, s, true
}

// isToken follows RFC 9110 section 5.6.2, and lets pass the colon that proxies
// write in unquoted values with a port.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~:", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// addrText is how an address stands in logs and limits.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}
