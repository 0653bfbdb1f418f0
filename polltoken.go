package realtime

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"time"
)

// pollTokenLife is how long the token of a session is good (phoenix.md appendix
// A).
const pollTokenLife = 14 * 24 * time.Hour

// pollID names a long-polling session.
type pollID [16]byte

func newPollID() (id pollID) {
	rand.Read(id[:]) // never fails
	return id
}

// pollKey signs the tokens of the sessions of one mount. What it has not signed
// is refused before it is looked up.
type pollKey [sha256.Size]byte

func newPollKey() (k pollKey) {
	rand.Read(k[:]) // never fails
	return k
}

// The parts of a token before its base64url: the session's id, when it was made,
// and the HMAC-SHA256 of both.
const (
	pollHead  = len(pollID{}) + 8
	pollBytes = pollHead + sha256.Size
)

// sign returns the token of a session that is made at now.
func (k pollKey) sign(id pollID, now time.Time) string {
	head := binary.BigEndian.AppendUint64(id[:], uint64(now.Unix()))
	return base64.RawURLEncoding.EncodeToString(k.sealed(head))
}

// sealed returns the whole token for its head.
func (k pollKey) sealed(head []byte) []byte {
	mac := hmac.New(sha256.New, k[:])
	mac.Write(head)
	return mac.Sum(head[:pollHead:pollHead])
}

// verify returns the id in a token of this key that is not too old.
func (k pollKey) verify(token string, now time.Time) (id pollID, ok bool) {
	if len(token) != base64.RawURLEncoding.EncodedLen(pollBytes) {
		return id, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != pollBytes || !hmac.Equal(b, k.sealed(b[:pollHead])) {
		return id, false
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(b[len(id):pollHead])), 0)
	return pollID(b[:len(id)]), now.Sub(made) < pollTokenLife
}

// pollToken returns the token of a session that r brings, "" if none. In the query
// it is the last one: the application's own params, which come before, may have a
// token, too.
func pollToken(r *http.Request) string {
	if token := r.Header.Get("X-Phoenix-Longpoll-Token"); token != "" {
		return token
	}
	if tokens := r.URL.Query()["token"]; len(tokens) > 0 {
		return tokens[len(tokens)-1]
	}
	return ""
}
