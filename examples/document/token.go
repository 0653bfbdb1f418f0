package main

import (
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The tenant that a server without -tenant has. Everybody can read its secret, so
// nothing that matters may ever trust it.
const (
	devTenant = "fluid"
	devSecret = "dev-tenant-secret-key"
)

// Bounds of what GET /token hands out.
const (
	tokenLife    = time.Hour
	maxUserBytes = 64
)

// devToken returns a token for the development tenant, in the form of document.md
// section 4.1.
func devToken(document, user string, scopes []string, life time.Duration) (string, error) {
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"documentId": document, "tenantId": devTenant, "scopes": scopes,
		"user": map[string]string{"id": user, "name": user},
		"iat":  now.Unix(), "exp": now.Add(life).Unix(), "ver": "1.0",
	}).SignedString([]byte(devSecret))
}

// serveToken answers GET /token?document=&user= with {"tenant":…,"token":…} for the
// page. With ?access=read the token only reads.
func serveToken(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	document, user := query.Get("document"), query.Get("user")
	if document == "" || len(document) > maxTopic || user == "" || len(user) > maxUserBytes {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "document and user are required"})
		return
	}
	scopes := []string{scopeRead, scopeWrite, scopeSummary}
	if query.Get("access") == "read" {
		scopes = scopes[:1]
	}
	token, err := devToken(document, user, scopes, tokenLife)
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "Internal server error"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"tenant": devTenant, "token": token})
}
