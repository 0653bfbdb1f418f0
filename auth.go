package realtime

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// Identity is who a connection speaks for. It is not changed after the
// authenticator returned it; a refreshed token brings a new one.
type Identity struct {
	User    string          // "" means anonymous
	Session string          // for Disconnect by session; "" if the token names none
	TokenID string          // for Disconnect by token; the jti claim of a JWT
	Tenant  string          // "" without tenants
	Scopes  []string        // what the token allows, in the words of the host
	Expires time.Time       // zero means never
	Claims  json.RawMessage // the token's payload as it came, nil without a token
}

// HasScope reports whether the identity's token carries scope.
func (id *Identity) HasScope(scope string) bool { return slices.Contains(id.Scopes, scope) }

// Authenticator turns a token into an identity. It is called at the handshake,
// with the request, and for a token that comes in a message, with a request that
// holds only what outlives the handshake: the URL's path and RemoteAddr. token
// is "" if the client brought none.
//
// It may block for as long as the request's context allows. An error that holds
// a [Reason] or an [*Error] decides what the client is told; any other error
// counts as [ReasonTokenInvalid], or [ReasonUnauthenticated] if there was no
// token. A fault that is not the client's should wrap [ReasonInternal].
type Authenticator func(r *http.Request, token string) (*Identity, error)
