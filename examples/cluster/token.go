package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The key of the demo's tokens, for connections and for documents. Everybody can read
// it, so nothing that matters may ever trust it.
const (
	keyID  = "demo"
	tenant = "cluster"
	secret = "cluster-demo-secret-known-to-everybody"
)

// Bounds of what GET /token hands out.
const (
	tokenLife    = 24 * time.Hour
	maxNameBytes = 64
)

// mint returns a token for a user that is good for connecting and, with document, one
// for that document.
func mint(user, document string) (string, error) {
	now := time.Now()
	claims := jwt.MapClaims{"sub": user, "iat": now.Unix(), "exp": now.Add(tokenLife).Unix()}
	if document != "" {
		claims["tenantId"], claims["documentId"] = tenant, document
		claims["scopes"] = []string{"doc:read", "doc:write"}
		claims["user"] = map[string]string{"id": user, "name": user}
		claims["ver"] = "1.0"
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["kid"] = keyID
	return token.SignedString([]byte(secret))
}

// serveToken answers GET /token?user=NAME with {"token":…}, and with &document=NAME
// with a token for that document.
func serveToken(w http.ResponseWriter, r *http.Request) {
	user, document := r.URL.Query().Get("user"), r.URL.Query().Get("document")
	if user == "" || len(user) > maxNameBytes || len(document) > maxNameBytes {
		http.Error(w, "user must have 1 to 64 bytes, document at most 64", http.StatusBadRequest)
		return
	}
	token, err := mint(user, document)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// An error here is the client's going away, which needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}
