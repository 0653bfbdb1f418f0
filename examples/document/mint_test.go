package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"time"
)

// The tenant acme, its secrets, and the tokens that the specification prints.
const (
	secretOne = "first-secret"
	secretTwo = "second-secret"

	vectorA = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJkb2N1bWVudElkIjoiZG9jMSIsInNjb3BlcyI6WyJkb2M6cmVhZCIsImRvYzp3cml0ZSJdLCJ0ZW5hbnRJZCI6ImFjbWUiLCJ1c2VyIjp7ImlkIjoidTEifSwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjQxMDI0NDQ4MDAsInZlciI6IjEuMCJ9.qU4yux5oykkJQyWxO4QNbftu_TZAbCn1SryY1Tc3rAo"
	vectorB = "eyJhbGciOiJIUzI1NiJ9.eyJkb2N1bWVudElkIjoiZG9jMSIsInNjb3BlcyI6WyJkb2M6cmVhZCIsImRvYzp3cml0ZSJdLCJ0ZW5hbnRJZCI6ImFjbWUiLCJ1c2VyIjp7ImlkIjoidTEifSwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjQxMDI0NDQ4MDAsInZlciI6IjEuMCJ9.ikxVywsWSAYljTdrbvIl9yEaWEr-hmdzCgf2AxhI47Q"
	vectorC = "eyJhbGciOiJub25lIn0.eyJkb2N1bWVudElkIjoiZG9jMSIsInNjb3BlcyI6WyJkb2M6cmVhZCIsImRvYzp3cml0ZSJdLCJ0ZW5hbnRJZCI6ImFjbWUiLCJ1c2VyIjp7ImlkIjoidTEifSwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjQxMDI0NDQ4MDAsInZlciI6IjEuMCJ9."
	vectorD = "eyJhbGciOiJIUzI1NiJ9.eyJkb2N1bWVudElkIjoiZG9jMSIsInNjb3BlcyI6WyJkb2M6cmVhZCIsImRvYzp3cml0ZSJdLCJ0ZW5hbnRJZCI6ImFjbWUiLCJ1c2VyIjp7ImlkIjoidTEifSwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjQxMDI0NDQ4MDAsInZlciI6IjEuMCJ9.GqYFsud83YwIOYQQyMuNzlXGEae54QfIMENomFmAt08"
	vectorE = "eyJhbGciOiJIUzI1NiJ9.eyJkb2N1bWVudElkIjoiZG9jMSIsInNjb3BlcyI6WyJkb2M6cmVhZCIsImRvYzp3cml0ZSJdLCJ0ZW5hbnRJZCI6ImFjbWUiLCJ1c2VyIjp7ImlkIjoidTEifSwiaWF0IjoxNzAwMDAwMDAwLCJ2ZXIiOiIxLjAifQ.AooZf7GZNWJy-8unEHjNeJ90t8wgUxnqyaKc7TS--yc"
)

// fields are the claims of a token or the fields of a request.
type fields map[string]any

// with returns a copy in which some fields are others. A nil removes one.
func (f fields) with(changes fields) fields {
	changed := maps.Clone(f)
	for name, value := range changes {
		if changed[name] = value; value == nil {
			delete(changed, name)
		}
	}
	return changed
}

func (f fields) String() string { return compact(f) }

// compact writes a value as JSON.
func compact(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // written in the test
	}
	return string(text)
}

// claims are those of a token for everything in a document of acme.
func claims(document string, scopes ...string) fields {
	if scopes == nil {
		scopes = []string{"doc:read", "doc:write", "summary:write"}
	}
	now := time.Now().Unix()
	return fields{
		"documentId": document, "tenantId": "acme", "scopes": scopes,
		"user": fields{"id": "u1", "name": "User One"},
		"iat":  now, "exp": now + 3600, "ver": "1.0",
	}
}

// mint signs claims with HS256.
func mint(secret string, claims fields) string {
	return sealed(secret, `{"alg":"HS256"}`, claims.String())
}

// tokenFor returns a token for a document of acme, with all scopes unless they
// are named.
func tokenFor(document string, scopes ...string) string {
	return mint(secretOne, claims(document, scopes...))
}

// sealed makes a token of any two texts, signed with HMAC-SHA256.
func sealed(secret, header, payload string) string {
	text := unsigned(header, payload)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// unsigned returns the two first parts of a token.
func unsigned(header, payload string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
}
