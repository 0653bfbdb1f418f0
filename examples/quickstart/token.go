package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The key of the demo's tokens. Everybody can read it, so nothing that matters
// may ever trust it.
const (
	keyID  = "demo"
	secret = "quickstart-demo-secret-known-to-everybody"
)

// Bounds of what GET /token hands out.
const (
	tokenLife    = time.Hour
	maxTokenLife = 24 * time.Hour
	maxUserBytes = 64
)

// mint returns a token for user that expires after life, which may be negative
// for one that already has.
func mint(user string, life time.Duration) (string, error) {
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   user,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(life)),
	})
	token.Header["kid"] = keyID
	return token.SignedString([]byte(secret))
}

// serveToken answers GET /token?user=NAME with {"token":…}. ttl, a Go duration
// between -24h and 24h, sets its life: with -1m it has expired already, for
// those who want to see that refused.
func serveToken(w http.ResponseWriter, r *http.Request) {
	user := r.URL.Query().Get("user")
	if user == "" || len(user) > maxUserBytes {
		http.Error(w, "user must have 1 to 64 bytes", http.StatusBadRequest)
		return
	}
	life := tokenLife
	if text := r.URL.Query().Get("ttl"); text != "" {
		var err error
		if life, err = time.ParseDuration(text); err != nil || life.Abs() > maxTokenLife {
			http.Error(w, "ttl must be a duration of at most 24h", http.StatusBadRequest)
			return
		}
	}
	token, err := mint(user, life)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// An error here is the client's going away, which needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}
