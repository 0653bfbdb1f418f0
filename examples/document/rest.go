package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/seed-58bc6ac1/realtime"
)

// The scopes of tokens (document.md section 4.1). None implies another.
const (
	scopeRead    = "doc:read"
	scopeWrite   = "doc:write"
	scopeSummary = "summary:write"
)

// maxBody bounds the body of a request, in bytes: the snapshot of a large document.
const maxBody = 32 << 20

// restError is the answer to a request that is not granted. The client reads its text.
type restError struct {
	status int
	text   string
}

func (e *restError) Error() string { return e.text }

func refuse(status int, text string) error { return &restError{status, text} }

// call is an authorized request.
type call struct {
	*http.Request
	tenant    string // of the path and the token
	tokensDoc string // the document that the token is for
}

// doorman decides which requests the REST API serves.
type doorman struct {
	tenants *realtime.Tenants
	maxBody int64
	log     *slog.Logger
}

// needs returns a handler that answers what f returns as JSON, for requests with a
// token for the {tenant} of the path, for its {document} if it has one, and with
// the scopes.
func (d doorman) needs(f func(*call) (status int, body any, err error), scopes ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, d.maxBody)
		c, err := d.admit(r, scopes)
		if err != nil {
			d.writeError(w, r, err)
			return
		}
		status, body, err := f(c)
		if err != nil {
			d.writeError(w, r, err)
			return
		}
		if stream, ok := body.(http.HandlerFunc); ok {
			stream(w, r)
			return
		}
		writeJSON(w, status, body)
	}
}

// admit makes the checks of document.md section 12.2, in the order of section 4.3.
func (d doorman) admit(r *http.Request, scopes []string) (*call, error) {
	token, err := bearer(r.Header.Get("Authorization"))
	if err != nil {
		return nil, err
	}
	tenant := r.PathValue("tenant")
	id, err := d.tenants.Verify(tenant, token)
	if err != nil {
		return nil, refuse(http.StatusUnauthorized, tokenText(err))
	}
	if id.Tenant != tenant {
		return nil, refuse(http.StatusForbidden, "Token not valid for this tenant")
	}
	var claims struct{ DocumentID string }
	if err := json.Unmarshal(id.Claims, &claims); err != nil {
		return nil, err
	}
	c := &call{r, tenant, claims.DocumentID}
	if document := r.PathValue("document"); document != "" {
		if err := c.mustBeFor(document); err != nil {
			return nil, err
		}
	}
	missing := slices.DeleteFunc(slices.Clone(scopes), id.HasScope)
	if len(missing) > 0 {
		return nil, refuse(http.StatusForbidden, "Missing required scopes: "+strings.Join(missing, ", "))
	}
	return c, nil
}

// mustBeFor refuses unless the token is for the document.
func (c *call) mustBeFor(document string) error {
	if c.tokensDoc != document {
		return refuse(http.StatusForbidden, "Token not valid for this document")
	}
	return nil
}

// bearer returns the token of an Authorization header.
func bearer(header string) (string, error) {
	if header == "" {
		return "", refuse(http.StatusUnauthorized, "Missing Authorization header")
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", refuse(http.StatusUnauthorized, "Invalid Authorization header format. Expected: Bearer <token>")
	}
	return token, nil
}

// tokenText is what the client is told of a token that was not good.
func tokenText(err error) string {
	if told, ok := errors.AsType[*realtime.Error](err); ok {
		switch told.Code {
		case realtime.CodeUnknownTenant, realtime.CodeInvalidSignature, string(realtime.ReasonTokenExpired):
			return told.Text
		}
	}
	return "Invalid token format"
}

// decode reads the body, which must be one JSON value that fits into to.
func (c *call) decode(to any) error {
	body, err := io.ReadAll(c.Body)
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return refuse(http.StatusRequestEntityTooLarge, "Request body too large")
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "Invalid request body")
	}
	if err := json.Unmarshal(body, to); err != nil {
		return refuse(http.StatusBadRequest, "Invalid JSON")
	}
	return nil
}

// url returns the address of a path of this server, as the client reaches it.
func (c *call) url(path string) string {
	scheme := "http"
	if c.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + c.Host + path
}

func (d doorman) writeError(w http.ResponseWriter, r *http.Request, err error) {
	told, ok := errors.AsType[*restError](err)
	if !ok {
		d.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		told = &restError{http.StatusInternalServerError, "Internal server error"}
	}
	writeJSON(w, told.status, map[string]string{"error": told.text})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// An error here is the client's going away, which needs no answer.
	_ = json.NewEncoder(w).Encode(value)
}

// cors lets pages of any origin ask. It gives them nothing: a token is not sent by
// the browser on its own, as a cookie is, so a page must have one.
func cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		if r.Method != http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		h.Set("Access-Control-Max-Age", "7200")
		w.WriteHeader(http.StatusNoContent)
	})
}
