package realtime

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scopes of tokens for documents (document.md section 4.1).
const (
	scopeRead    = "doc:read"
	scopeWrite   = "doc:write"
	scopeSummary = "summary:write"
)

// maxClientBytes bounds what a client may say of itself: it is kept, and told to all
// who connect.
const maxClientBytes = 16 << 10

// request is a connect_document as it came.
type request struct {
	tenant, document json.RawMessage
	token            string
	client           json.RawMessage
	mode             string
	versions         json.RawMessage
	features         json.RawMessage
	lastSeen         int64 // -1 for none
}

// readRequest reads a connect_document; the error is one of the first three rows of
// the table in document.md section 3.3 that come after the first.
func readRequest(data []byte) (r request, e *Error) {
	r.lastSeen = -1
	var mode json.RawMessage
	fields := scanObject(data, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "tenantId":
			r.tenant = fields.value
		case "id":
			r.document = fields.value
		case "token":
			r.token = idOf(fields.value)
		case "client":
			r.client = fields.value
		case "mode":
			mode = fields.value
		case "versions":
			r.versions = fields.value
		case "supportedFeatures":
			r.features = fields.value
		case "lastSeenSequenceNumber":
			if n, ok := wholeNumber(fields.value); ok && n >= 0 {
				r.lastSeen = n
			}
		}
	}
	r.mode = idOf(mode)
	var missing []string
	for _, f := range []struct {
		name  string
		value []byte
	}{{"tenantId", r.tenant}, {"id", r.document}, {"client", r.client}, {"mode", mode}} {
		if f.value == nil || isNull(f.value) {
			missing = append(missing, f.name)
		}
	}
	switch {
	case len(missing) > 0:
		return r, documentError("missing_fields", 400, "Missing required fields: "+strings.Join(missing, ", "))
	case !isString(r.tenant):
		return r, invalidRequest("tenantId")
	case !isString(r.document):
		return r, invalidRequest("id")
	case r.client[0] != '{' || len(r.client) > maxClientBytes:
		return r, invalidRequest("client")
	case r.mode != modeRead && r.mode != modeWrite:
		return r, invalidRequest("mode")
	}
	return r, nil
}

func invalidRequest(field string) *Error {
	return documentError("invalid_request", 400, "Invalid connect_document: "+field)
}

// allow checks the token of a request for a document, and returns who it is and in
// which mode it may connect: rows 4 to 10 of the table.
func (r *request) allow(rules *documentRules, id DocumentID) (*Identity, string, *Error) {
	if idOf(r.tenant) != id.Tenant || idOf(r.document) != id.Document {
		return nil, "", documentError("topic_mismatch", 400, "Tenant/document ID mismatch with topic")
	}
	if r.token == "" {
		return nil, "", documentError("missing_token", 401, "Missing authentication token")
	}
	who, err := rules.tenants.Verify(id.Tenant, r.token)
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = tokenError(CodeInvalidToken, "Invalid token: malformed")
		}
		return nil, "", documentError(e.Code, 401, e.Text)
	}
	var document string
	claims, err := parseClaims(who.Claims)
	if err == nil {
		err = claims.text("documentId", &document)
	}
	mode := r.mode
	if mode == modeWrite && rules.downgrade && !who.HasScope(scopeWrite) {
		mode = modeRead
	}
	switch {
	case who.Tenant != id.Tenant:
		return nil, "", documentError("tenant_mismatch", 403, "Token not valid for this tenant")
	case err != nil || document != id.Document:
		return nil, "", documentError("document_mismatch", 403, "Token not valid for this document")
	case !who.HasScope(scopeRead):
		return nil, "", documentError("missing_scope", 403, "Token missing required scope: doc:read")
	case mode == modeWrite && !who.HasScope(scopeWrite):
		return nil, "", documentError("write_scope_required", 403, "Write mode requires doc:write scope")
	}
	return who, mode, nil
}

// describe makes the client object (document.md section 3.5): what the client says of
// itself, overruled by its token. ok is false if that is no object.
func (r *request) describe(who *Identity, mode string, now time.Time) (json.RawMessage, bool) {
	client, ok := readObject(r.client)
	if !ok {
		return nil, false
	}
	client.fill("details", `{"capabilities":{"interactive":true}}`)
	client.fill("permission", `[]`)
	user, _ := readObject(client.get("user"))
	claims, _ := readObject(who.Claims)
	known, _ := readObject(claims.get("user"))
	for _, f := range known {
		user.set(f.key, f.value)
	}
	user.set("id", appendQuoted(nil, who.User))
	scopes, err := json.Marshal(append([]string{}, who.Scopes...))
	if err != nil {
		return nil, false
	}
	client.set("mode", appendQuoted(nil, mode))
	client.set("user", user.appendTo(nil))
	client.set("scopes", scopes)
	client.set("timestamp", fmt.Append(nil, now.UnixMilli()))
	return client.appendTo(nil), true
}

// claimsOf returns the claims that a client is told: its token's, ver filled in.
func claimsOf(who *Identity) json.RawMessage {
	claims, ok := readObject(who.Claims)
	if !ok || !isJSON(who.Claims) {
		return json.RawMessage("{}")
	}
	claims.fill("ver", `"1.0"`)
	return claims.appendTo(nil)
}

// serverVersions are the versions of the protocol, in the order of preference.
var serverVersions = []string{"0.1.0", "1.0.0"}

// version is the first of the server's that stands in the client's list, literally
// and with a caret (document.md section 3.8).
func (r *request) version() string {
	var offered []string
	list := scanArray(r.versions, maxNesting)
	for list.next() {
		if !isString(list.value) {
			offered = nil
			break
		}
		offered = append(offered, idOf(list.value))
	}
	for _, v := range serverVersions {
		if slices.Contains(offered, "^"+v) {
			return v
		}
	}
	return serverVersions[0]
}

// agreed are the features that the server and the client have.
func (r *request) agreed() []byte {
	features, _ := readObject(r.features)
	return fmt.Appendf(nil, `{"submit_signals_v2":%t}`, string(features.get("submit_signals_v2")) != "false")
}

// newClientID returns a random UUID (RFC 9562 section 5.4).
func newClientID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
