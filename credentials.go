package realtime

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// TokenSource is a set of places where a client may put its token. They are
// tried in the order of the constants, and the first that holds one decides: a
// bad token is not rescued by the next place (envelope.md section 1).
type TokenSource uint8

// The places.
const (
	TokenHeader      TokenSource = 1 << iota // Authorization: Bearer
	TokenSubprotocol                         // bearer.<unpadded base64url> or bearer.<JWT> in Sec-WebSocket-Protocol
	TokenTicket                              // ?ticket=, a one-time ticket
	TokenQuery                               // ?token=; URLs end up in logs and histories, so tickets are better
	TokenCookie                              // counts only on a request whose Origin was checked
	TokenMessage                             // an auth message after the handshake
)

// defaultTokenSources are all that carry a token without a known leak.
const defaultTokenSources = TokenHeader | TokenSubprotocol | TokenTicket | TokenMessage

// has says whether any of sources is in the set.
func (s TokenSource) has(sources TokenSource) bool { return s&sources != 0 }

// credentialRules say where a mount looks for tokens.
type credentialRules struct {
	sources TokenSource
	cookie  string // the cookie's name, with TokenCookie
}

// credential is a token or ticket and where it was; the zero value is none.
type credential struct {
	source TokenSource
	token  string
}

// find returns the credential that r brings, the zero value if it brings none.
// bearer is what parseSubprotocols took out of the offers. originChecked says
// that r has an Origin and that it was found on the list. The error holds
// [ReasonTokenInvalid]: there is a credential, but it cannot be one.
func (c credentialRules) find(r *http.Request, bearer string, originChecked bool) (credential, error) {
	if token := bearerHeader(r.Header); token != "" && c.sources.has(TokenHeader) {
		return boundCredential(TokenHeader, token)
	}
	if bearer != "" && c.sources.has(TokenSubprotocol) {
		token, err := decodeBearer(bearer)
		if err != nil {
			return credential{}, err
		}
		return boundCredential(TokenSubprotocol, token)
	}
	if r.URL.RawQuery != "" && c.sources.has(TokenTicket|TokenQuery) {
		query := r.URL.Query()
		if ticket := firstFull(query["ticket"]); ticket != "" && c.sources.has(TokenTicket) {
			return boundCredential(TokenTicket, ticket)
		}
		if token := firstFull(query["token"]); token != "" && c.sources.has(TokenQuery) {
			return boundCredential(TokenQuery, token)
		}
	}
	// Without an Origin nobody knows which page made the browser send its
	// cookies; the header is looked at again since so much hangs on it.
	if c.sources.has(TokenCookie) && originChecked && r.Header.Get("Origin") != "" {
		for _, cookie := range r.CookiesNamed(c.cookie) {
			if cookie.Value != "" {
				return boundCredential(TokenCookie, cookie.Value)
			}
		}
	}
	return credential{}, nil
}

// boundCredential keeps overlong tokens from every authenticator.
func boundCredential(source TokenSource, token string) (credential, error) {
	if len(token) > maxTokenBytes {
		return credential{}, invalid(errors.New("token is too long"))
	}
	return credential{source, token}, nil
}

// bearerHeader returns the first token of an Authorization header with the
// scheme Bearer (RFC 6750 section 2.1; schemes have no case), else "".
func bearerHeader(h http.Header) string {
	for _, line := range h["Authorization"] {
		scheme, token, _ := strings.Cut(strings.Trim(line, " \t"), " ")
		token = strings.Trim(token, " \t")
		if strings.EqualFold(scheme, "Bearer") && token != "" {
			return token
		}
	}
	return ""
}

func firstFull(values []string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// bearerPrefix begins an item of Sec-WebSocket-Protocol that carries a token:
// browsers can set no other header of a handshake.
const bearerPrefix = "bearer."

// parseSubprotocols returns the protocols that a client offers, in its order,
// and the rest of the first bearer item that is not empty. Bearer items are no
// offers, even where tokens are not taken from them: what is not among the
// offers cannot be echoed.
func parseSubprotocols(h http.Header) (offers []string, bearer string) {
	for _, line := range h["Sec-Websocket-Protocol"] {
		for item := range strings.SplitSeq(line, ",") {
			item = strings.Trim(item, " \t")
			token, isBearer := strings.CutPrefix(item, bearerPrefix)
			switch {
			case isBearer && bearer == "":
				bearer = token
			case !isBearer && item != "":
				offers = append(offers, item)
			}
		}
	}
	return offers, bearer
}

// decodeBearer returns the token of a bearer item: as it is if it has a dot,
// like a JWT, which base64url has not, else decoded.
func decodeBearer(bearer string) (string, error) {
	if strings.Contains(bearer, ".") {
		return bearer, nil
	}
	if base64.RawURLEncoding.DecodedLen(len(bearer)) > maxTokenBytes {
		return "", invalid(errors.New("token is too long"))
	}
	token, err := decodePart(bearer)
	if err != nil {
		return "", invalid(errors.New("bearer item of Sec-WebSocket-Protocol is not base64url"))
	}
	return string(token), nil
}

// masked replaces a secret in a log line.
const masked = "***"

// secretParams are the query parameters that carry credentials, in lower case:
// ours, those of RFC 6750 and OAuth, and the key of Supabase's clients.
var secretParams = map[string]bool{
	"token": true, "ticket": true, "password": true, "access_token": true,
	"refresh_token": true, "id_token": true, "apikey": true, "api_key": true,
	"jwt": true, "auth": true, "authorization": true, "secret": true,
}

// maskURL returns the path and the query of u, fit for a log line: values of
// secret parameters are masked, as is everything that is not plainly key=value.
// User, password and fragment are left out.
func maskURL(u *url.URL) string {
	path := u.EscapedPath()
	if u.RawQuery == "" {
		return path
	}
	var b strings.Builder
	b.WriteString(path)
	between := byte('?')
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		b.WriteByte(between)
		b.WriteString(maskPair(pair))
		between = '&'
	}
	return b.String()
}

func maskPair(pair string) string {
	key, value, _ := strings.Cut(pair, "=")
	name, err := url.QueryUnescape(key)
	if err != nil || (value == "" && !strings.HasSuffix(pair, "=")) || strings.Contains(pair, ";") {
		return masked // a bare word may be a token; some servers part pairs at semicolons
	}
	plain, err := url.QueryUnescape(value)
	if err != nil || secretParams[strings.ToLower(strings.TrimSpace(name))] || looksSecret(plain) {
		return key + "=" + masked
	}
	return pair
}

// looksSecret says whether a value may hold a URL with parameters of its own, or
// a JWT, which begins with the base64url of {".
func looksSecret(value string) bool {
	return strings.Contains(value, "=") || strings.Contains(value, "eyJ")
}

// String returns the name of a single source, as in metrics; "none" for none.
func (s TokenSource) String() string {
	switch s {
	case TokenHeader:
		return "header"
	case TokenSubprotocol:
		return "subprotocol"
	case TokenTicket:
		return "ticket"
	case TokenQuery:
		return "query"
	case TokenCookie:
		return "cookie"
	case TokenMessage:
		return "message"
	}
	return "none"
}
