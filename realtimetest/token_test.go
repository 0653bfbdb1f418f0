package realtimetest_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func TestTenantTokensHaveTheScopesOfTheirNames(t *testing.T) {
	secret := []byte("secret")
	tenants := realtime.NewTenants()
	if err := tenants.Register("acme", secret); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token string
		want  []string
	}{
		{realtimetest.FullAccessToken(secret, "acme", "doc1", "u1"), []string{"doc:read", "doc:write", "summary:write"}},
		{realtimetest.ReadOnlyToken(secret, "acme", "doc1", "u1"), []string{"doc:read"}},
		{realtimetest.ReadOnlyToken(secret, "acme", "doc1", "u1", realtimetest.Claim("scopes", []string{"x"})), []string{"x"}},
	} {
		id, err := tenants.Verify("acme", c.token)
		if err != nil || !slices.Equal(id.Scopes, c.want) {
			t.Errorf("got %+v, %v, want scopes %q", id, err, c.want)
		}
	}
}

func ExampleToken() {
	secret := []byte("a secret of at least thirty-two bytes")
	auth, err := realtime.JWT(realtime.HS256("", secret))
	if err != nil {
		panic(err)
	}
	request := httptest.NewRequest("GET", "/ws", nil)
	id, _ := auth(request, realtimetest.Token(secret, "u1"))
	fmt.Println(id.User)

	_, err = auth(request, realtimetest.Token(secret, "u1", realtimetest.Lifetime(-time.Minute)))
	fmt.Println(errors.Is(err, realtime.ReasonTokenExpired))
	// Output:
	// u1
	// true
}
