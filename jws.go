package realtime

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxTokenBytes bounds a token before anything is done with it (document.md
// section 4.3). Real tokens are below 2 KiB; proxies stop at 8 KiB of headers.
const maxTokenBytes = 8 << 10

// jws is a token taken apart and not yet trusted. It is taken apart here and not
// by the JWT library because the library decodes the claims before it checks the
// signature and is lax in places that the rules of document.md section 4.4 name;
// the signatures themselves are the library's work ([jws.signedBy]).
type jws struct {
	header    claims
	few       [4]claim // where header is, if it has no more
	alg       string   // from the header, "" if there is none
	signed    string   // the bytes under the signature
	payload   []byte   // a JSON object, not looked into
	signature []byte   // nil if undecodable
}

var errMalformed = errors.New("malformed")

// parseToken takes a token apart. Header and payload must be JSON objects in
// strict base64url; a signature that is not base64url counts as none.
func parseToken(token string) (*jws, error) {
	if len(token) > maxTokenBytes {
		return nil, fmt.Errorf("longer than %d bytes", maxTokenBytes)
	}
	head, rest, _ := strings.Cut(token, ".")
	body, sign, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(sign, ".") {
		return nil, errMalformed
	}
	header, err := decodePart(head)
	if err != nil {
		return nil, errMalformed
	}
	payload, err := decodePart(body)
	if err != nil || !utf8.Valid(payload) || !isObject(payload) {
		return nil, errMalformed
	}
	t := &jws{signed: token[:len(head)+1+len(body)], payload: payload}
	if t.header, err = appendClaims(t.few[:0], header); err != nil {
		return nil, errMalformed
	}
	if t.header.text("alg", &t.alg) != nil {
		t.alg = "" // fits no key
	}
	t.signature, _ = decodePart(sign)
	return t, nil
}

// critical says whether the header names extensions that must be understood
// (RFC 7515 section 4.1.11). None are here.
func (t *jws) critical() bool {
	return t.header.get("crit") != nil
}

// decodePart decodes base64url without padding, and only the one spelling that
// an encoder produces: no line breaks, no stray bits in the last character.
func decodePart(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, errMalformed
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, errMalformed // the library's error quotes from the token
	}
	return decoded, nil
}

func isObject(b []byte) bool {
	members := scanObject(b, maxNesting)
	for members.next() {
	}
	return members.complete()
}

// claims are the members of a payload, or of a header, while it is being checked.
// Their names are matched exactly, which a struct's fields would not do. They do
// not outlive the check: a connection keeps the [Identity] only.
type claims []claim

type claim struct {
	name  string
	value json.RawMessage
}

func parseClaims(payload []byte) (claims, error) { return appendClaims(nil, payload) }

// appendClaims is parseClaims into c, which is empty.
func appendClaims(c claims, payload []byte) (claims, error) {
	members := scanObject(payload, maxNesting)
	for members.next() {
		c = append(c, claim{string(members.key), members.value})
	}
	if !members.complete() || !utf8.Valid(payload) {
		return nil, errMalformed
	}
	return c, nil
}

// get returns the value of a claim, nil if it is absent. Of several the last one
// counts (RFC 7519 section 4).
func (c claims) get(name string) json.RawMessage {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i].name == name {
			return c[i].value
		}
	}
	return nil
}

// has says whether the claim is there; null counts as absent.
func (c claims) has(name string) bool {
	raw := c.get(name)
	return raw != nil && !isNull(raw)
}

// text reads a string into to and leaves to alone if the claim is absent.
func (c claims) text(name string, to *string) error {
	if !c.has(name) {
		return nil
	}
	raw, whole := c.get(name), false
	if isString(raw) {
		*to, whole = unquote(raw)
	}
	if !whole {
		return fmt.Errorf("%s claim is not a string", name)
	}
	return nil
}

// nested reads a string that is a member of an object. It must be there.
func (c claims) nested(name, member string, to *string) error {
	object, err := parseClaims(c.get(name))
	if err != nil || !object.has(member) {
		return fmt.Errorf("%s claim is not an object with %s", name, member)
	}
	return object.text(member, to)
}

// user reads the claim that names the user. It must be there: an empty name
// means anonymous.
func (c claims) user(name string) (string, error) {
	var user string
	if c.text(name, &user) == nil && user != "" {
		return user, nil
	}
	digits := string(c.get(name))
	if _, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return digits, nil // so that 7 and "7" are one user
	}
	return "", fmt.Errorf("no user in the %s claim", name)
}

// list reads a string or an array of strings; nil if the claim is absent.
func (c claims) list(name string) ([]string, error) {
	if !c.has(name) {
		return nil, nil
	}
	var one string
	if c.text(name, &one) == nil {
		return []string{one}, nil
	}
	return c.strings(name)
}

// strings reads an array of strings and nothing else.
func (c claims) strings(name string) ([]string, error) {
	var list []*string // pointers tell null, which is no string, from ""
	if !c.has(name) || json.Unmarshal(c.get(name), &list) != nil {
		return nil, fmt.Errorf("%s claim is not an array of strings", name)
	}
	all := make([]string, len(list))
	for i, one := range list {
		if one == nil {
			return nil, fmt.Errorf("%s claim holds null", name)
		}
		all[i] = *one
	}
	return all, nil
}

// scopes reads the first of the claims that issuers use for them. A string
// holds several, with spaces between them.
func (c claims) scopes() ([]string, error) {
	for _, name := range []string{"scope", "scopes", "scp"} {
		if !c.has(name) {
			continue
		}
		var words string
		if c.text(name, &words) == nil {
			return strings.Fields(words), nil
		}
		return c.strings(name)
	}
	return nil, nil
}

// maxSeconds is the last second that RFC 3339 can write, the year 9999. Beyond
// it arithmetic with times would overflow, so later claims mean this second and
// those before 1970 mean 1970.
const maxSeconds = 253402300799

// time reads a NumericDate (RFC 7519 section 2): seconds since 1970, a fraction
// allowed. ok is false if the claim is absent.
func (c claims) time(name string) (t time.Time, ok bool, err error) {
	if !c.has(name) {
		return time.Time{}, false, nil
	}
	seconds, err := strconv.ParseFloat(string(c.get(name)), 64) // of the JSON values only numbers parse
	if err != nil {
		return time.Time{}, false, fmt.Errorf("%s claim is not a number", name)
	}
	whole, fraction := math.Modf(min(max(seconds, 0), maxSeconds))
	return time.Unix(int64(whole), int64(fraction*1e9)), true, nil
}
